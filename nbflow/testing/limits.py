"""Concurrency and Rate in plain Python: who may start now. The scripts are held to it by
`tests/property/test_limits.py`; runs in process are limited by it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Limit", "Limits", "value_in"]


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a task: its name, the key's value in it; how many; and within which time, of a rate."""

    id: str
    n: int
    ms: int = 0


class Limits:
    """What holds a slot, and what started when. A slot is a lease and nothing else."""

    def __init__(self) -> None:
        self.held: dict[str, set[object]] = defaultdict(set)
        self.starts: dict[str, deque[int]] = defaultdict(deque)

    def due_ms(self, limits: Sequence[Limit], now_ms: int) -> int | None:
        """From when on a task with these limits may start as far as its rates go; None while a concurrency is used up."""
        if any(not limit.ms and len(self.held[limit.id]) >= limit.n for limit in limits):
            return None
        return max([now_ms, *(self._due(limit) for limit in limits if limit.ms)])

    def may_start(self, limits: Sequence[Limit], now_ms: int) -> bool:
        return self.due_ms(limits, now_ms) == now_ms

    def start(self, what: object, limits: Sequence[Limit], now_ms: int) -> None:
        """It has a lease now."""
        for limit in limits:
            if limit.ms:
                self.starts[limit.id].append(now_ms)
            else:
                self.held[limit.id].add(what)

    def end(self, what: object, limits: Sequence[Limit]) -> None:
        """Its lease has ended, however."""
        for limit in limits:
            self.held[limit.id].discard(what)

    def _due(self, limit: Limit) -> int:
        starts = self.starts[limit.id]
        return starts[-limit.n] + limit.ms if len(starts) >= limit.n else 0


def value_in(payload: str, path: Sequence[str]) -> str:
    """The value of a dotted field, as a name of a limit has it. Tagged nodes are walked through."""
    value, left = json.loads(payload), list(path)
    while isinstance(value, dict | list) and (left or (isinstance(value, dict) and "$t" in value)):
        value = value.get("v") if isinstance(value, dict) and "$t" in value else _part(value, left.pop(0))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]
    if left or value is None or isinstance(value, dict | list):
        return "~"
    text = str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else f"{value:.17g}"
    is_short = len(text) <= 64 and re.fullmatch(r"[A-Za-z0-9_.-]+", text)
    return f"={text}" if is_short else "#" + hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _part(value: Any, part: str) -> Any:
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return items[int(part)] if part.isdecimal() and int(part) < len(items) else None
    return value.get(part)
