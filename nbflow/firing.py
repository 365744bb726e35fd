"""The process that starts what is due: `python -m nbflow.firing`, by a supervisor, which is too light to know code, secrets
and time zones.

It reads lines of JSON: first the secrets, then what the server offers, schedules as `flow:name`, firings of triggers as
`*id`. It ends when its input
ends, and by itself after a while without work. Nothing is lost with it: what it did not decide is offered again.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator

from nbflow.app import Nbflow
from nbflow.errors import NbflowError
from nbflow.model.plain import block

__all__ = ["fire", "main"]

PATIENCE_S = 60.0


def main() -> int:
    """Until the input ends, or nothing came for a minute."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the supervisor, which closes the input
    lines = _lines(sys.stdin.fileno())
    os.environ |= json.loads(next(lines, "{}"))
    with Nbflow() as nbflow:
        for line in lines:
            fire(nbflow, json.loads(line))
    return 0


def fire(nbflow: Nbflow, offers: list[str]) -> None:
    """Decide these. One that cannot be started is told, and hinders no other."""
    for offer in offers:
        if offer.startswith("*"):
            _fire_event(nbflow, offer[1:])
            continue
        flow, _, name = offer.partition(":")
        try:
            nbflow.planned.fire(flow, name)
        except NbflowError as error:
            _tell(f"schedule {name!r} of flow {flow!r}", error)


def _fire_event(nbflow: Nbflow, event: str) -> None:
    try:
        for pulled in nbflow.subscribed.fire(event):
            if pulled.error is not None:
                _tell(f"trigger {pulled.trigger!r} of flow {pulled.flow!r}", pulled.error)
    except NbflowError as error:
        _tell(f"event {event[:8]}", error)


def _tell(what: str, error: NbflowError) -> None:
    print(f"nbflow: {what}: {block(error)}", file=sys.stderr, flush=True)


def _lines(source: int) -> Iterator[str]:
    """Whole lines, as they come; no more after an end of file, or when none came for a while."""
    kept = b""
    while select.select([source], [], [], PATIENCE_S)[0]:
        piece = os.read(source, 65536)
        if not piece:
            return
        *whole, kept = (kept + piece).split(b"\n")
        yield from (line.decode() for line in whole)


if __name__ == "__main__":
    sys.exit(main())
