"""Deaths between two script calls, in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

__all__ = ["Killed", "stopped_at"]


class Killed(BaseException):
    pass


def stopped_at(store: Any, call: int, when: str) -> Callable[[], bool]:
    """Let the process end before its n-th script call, or after it, when the reply has not come. Whether it did."""
    said, count = store.run_script, itertools.count()
    stopped: list[int] = []

    def run_script(name: str, *rest: Any, **named: Any) -> Any:
        number = next(count)
        if number == call and when == "before":
            stopped.append(number)
            raise Killed
        reply = said(name, *rest, **named)
        if number == call:
            stopped.append(number)
            raise Killed
        return reply

    store.run_script = run_script
    return lambda: bool(stopped)
