"""`ctx.state` without a server, of a run in process and of a step in a debugger: what `state.lua`, `recall.lua` and
`parts/fades.lua` do, in plain Python."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from nbflow.worker.state import MOST_FADING, Change

__all__ = ["RunState"]

_NUMBER = re.compile(r"-?[\d.]+([eE][-+]?\d+)?")
_WHOLE = re.compile(r"-?\d+")

Tell = Callable[[dict[str, Any]], None]


class RunState:
    """The values as text, and when those go that go by themselves (infinity: with the end of the run)."""

    def __init__(self, values: Mapping[str, str], now_ms: Callable[[], int], tell: Tell) -> None:
        self._values, self._now_ms, self._tell = dict(values), now_ms, tell
        self._fades: dict[str, float] = {}

    def read(self, key: str | None) -> dict[str, str]:
        self.fade()
        return {name: text for name, text in self._values.items() if key in (None, name)}

    def change(self, change: Change, tell: Tell) -> tuple[str, str]:
        """What the script answers: a word, and the value."""
        self.fade()
        key, there = change.key, self._values.get(change.key, "")
        if change.operation == "delete":
            self._fades.pop(key, None)
            if self._values.pop(key, None) is not None:
                tell({"operation": "delete", "key": key})
            return "OK", ""
        if change.operation == "swap" and there != change.was:
            return "OTHER", there
        goes = change.stays not in ("", "as")
        if goes and len(self._fades) >= MOST_FADING and key not in self._fades:
            return "MANY", ""
        text = change.text
        if change.operation == "incr":
            if not _NUMBER.fullmatch(there or "0"):
                return "NUMBER", there
            text = _sum(there or "0", text)
            if not text:
                return "RANGE", there
        self._values[key] = text
        tell({"operation": "set", "key": key, "value": json.loads(text), **self._kept(change, goes=goes)})
        return "OK", text

    def _kept(self, change: Change, *, goes: bool) -> dict[str, Any]:
        if goes:
            self._fades[change.key] = math.inf if change.stays == "end" else self._now_ms() + int(change.stays)
        elif change.stays == "":
            self._fades.pop(change.key, None)
        due = self._fades.get(change.key)
        if due is None:
            return {}
        return {"cleanup": "on_end"} if due == math.inf else {"ttl": int(due) - self._now_ms()}

    def fade(self) -> None:
        """Those go whose time is over."""
        now_ms = self._now_ms()
        self._take([key for key in self._in_order() if self._fades[key] <= now_ms], "ttl")

    def end(self) -> None:
        """The run ends, and with it all that goes by itself."""
        self.fade()
        self._take(self._in_order(), "end")

    def _in_order(self) -> list[str]:
        return sorted(self._fades, key=lambda key: (self._fades[key], key.encode()))

    def _take(self, keys: Iterable[str], reason: str) -> None:
        for key in keys:
            del self._fades[key]
            del self._values[key]
            self._tell({"operation": "delete", "key": key, "reason": reason})


def _sum(was: str, by: str) -> str:
    """As the server adds: 0.1 and 0.2 are 0.3. (A server keeps 64 bits of a number with a fraction; here it is exact.) Empty if it
    is more than the server holds."""
    if _WHOLE.fullmatch(was) and _WHOLE.fullmatch(by):
        total = int(was) + int(by)
        return str(total) if all(-(2**63) <= n < 2**63 for n in (int(was), int(by), total)) else ""
    total = f"{Decimal(was) + Decimal(by):f}"
    if not math.isfinite(float(total)):
        return ""
    return total.rstrip("0").rstrip(".") if "." in total else total
