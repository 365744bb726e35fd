"""Ends of tasks that are kept for other runs: what `parts/cache.lua` does, in plain Python. The model that it is proven
against."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from nbflow.engine.reuse import Outcome
from nbflow.model.encoder import to_json
from nbflow.model.receipt import Keeps, receipt
from nbflow.testing.decisions import Task

__all__ = ["Cache", "KeptEnds", "Named"]

_BEHIND = 2**45
"""As in `parts/cache.lua`."""

Entry = dict[str, Any]
"""A step in a plan table."""


class Named(Keeps, Protocol):
    """What a run keeps of its emissions, and what `key=` called its elements."""

    def name(self, task: str, /) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _KeptEnd:
    at_ms: int
    data: str
    emits: list[Any]
    place: str | None
    """The task and its name, where only that one may take it over."""


@dataclass(slots=True)
class KeptEnds:
    """What is kept, by digest. Several runs share it."""

    ends: dict[str, _KeptEnd] = field(default_factory=dict[str, _KeptEnd])


@dataclass(slots=True)
class Cache:
    """What one run finds and keeps. `is_anew`: it looks for nothing."""

    run: str
    kept_ends: KeptEnds
    now_ms: Callable[[], int]
    is_anew: bool = False
    misses: dict[Task, str] = field(default_factory=dict[Task, str])
    found: int = 0

    def find(self, task: Task, entry: Entry, kept: Named) -> Outcome | None:
        """The task's end, if one is kept."""
        if "cache" not in entry:
            return None
        name, most_ms = entry["cache"]
        digest = _digest(name, task, entry, kept)
        end = None if self.is_anew else self.kept_ends.ends.get(digest)
        if end is None or end.at_ms + most_ms <= self.now_ms() or end.place not in (None, _place(task, kept)):
            self.misses[task] = digest
            return None
        self.found += 1
        return Outcome(_BEHIND + self.found, digest, end.data, _moved(end.emits, "", task.index))

    def keep(self, task: Task, entry: Entry, kept: Named, data: dict[str, Any], emits: list[Any]) -> None:
        """A task completed that was executed."""
        digest = self.misses.pop(task, None)
        if digest is None or emits[1:2] != ["keep"]:
            return
        if "keeps" in entry and _digest(entry["cache"][0], task, entry, kept) != digest:
            return
        now_ms, rest = self.now_ms(), emits[4 + 2 * emits[3] :]
        at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = json.dumps(data | {"cached": {"run": self.run, "at": at}})
        place = _place(task, kept) if emits[2] else None
        self.kept_ends.ends[digest] = _KeptEnd(now_ms, told, _moved(rest, task.index, ""), place)


def _digest(name: str, task: Task, entry: Entry, kept: Keeps) -> str:
    text = f"{name} {receipt(task.step, entry, task.index, kept)}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _place(task: Task, kept: Named) -> str:
    return f"{task} {kept.name(str(task)) or ''}"


def _moved(emits: list[Any], from_: str, to: str) -> list[Any]:
    """The same emissions with the indexes of another task."""
    moved: list[Any] = json.loads(to_json(emits))
    at = 0
    while at < len(moved):
        for i in range(at + 4, at + 4 + 2 * moved[at + 3], 2):
            assert moved[i].startswith(from_), f"{moved[i]!r} is no index of the task {from_!r}"
            moved[i] = to + moved[i].removeprefix(from_)
        at += 4 + 2 * moved[at + 3]
    return moved
