"""Runs in process that take over ends of tasks, of an earlier run that they go on from, and of any that kept some: what
`parts/reuse.lua` does, in plain Python. The model that it is proven against."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbflow.engine.reuse import Outcome
from nbflow.model.definition import Form
from nbflow.model.receipt import receipt, sum_of
from nbflow.testing.cache import Cache, Named
from nbflow.testing.decisions import Decisions, Task

__all__ = ["DecidedRun", "Takeover", "groups"]

Entry = Callable[[str], dict[str, Any] | None]
"""A step in a plan table."""


@dataclass(slots=True)
class DecidedRun:
    """What is kept of a run that the model decides, as `engine/earlier.py` tells it of one in a store."""

    decisions: Decisions
    step_entry: Entry
    text: str
    names: Mapping[str, str]
    """What `key=` called the elements, by task."""

    def field(self, name: str) -> str | None:
        kind, _, what = name.partition(":")
        if kind == "input":
            return self.text
        if kind == "p":
            return next(iter(self._emitted(what).values()), None)
        step, _, number = what.rpartition(":")
        facts = self.decisions.steps[step]
        others = [i for i, term in enumerate(facts.spec.terms) if term.form is not Form.EACH]
        return facts.satisfied.get(others[int(number) - 1])

    def payload(self, topic: str, index: str) -> str | None:
        return self._emitted(topic).get(index)

    def sum(self, topic: str) -> str:
        return sum_of(self._emitted(topic).items())

    def emitted(self, topic: str) -> dict[str, str] | None:
        return self._emitted(topic) or None

    def name(self, task: str) -> str | None:
        return self.names.get(task)

    def _emitted(self, topic: str) -> dict[str, str]:
        facts = self.decisions.topics.get(topic)
        return facts.emitted if facts is not None else {}


@dataclass(slots=True)
class Takeover:
    """What a run takes over: ends by task. `told` is added to `flow.start`; `line` is the first run of the line."""

    outcomes: Mapping[str, Outcome] = field(default_factory=dict[str, Outcome])
    state: Mapping[str, str] = field(default_factory=dict[str, str])
    told: Mapping[str, Any] = field(default_factory=dict[str, Any])
    line: str = ""
    cache: Cache | None = None
    _found: dict[Task, Outcome] = field(default_factory=dict[Task, Outcome])
    _waiting: list[tuple[int, Task]] = field(default_factory=list[tuple[int, Task]])

    def takes(self, task: Task, entry: Entry, kept: Named) -> bool:
        """Whether the task's end is taken over: it would receive what it received. Then it waits for its turn."""
        outcome = self.outcomes.get(str(task))
        found = entry(task.step)
        if found is None:
            return False
        if outcome is None or outcome.receipt != receipt(task.step, found, task.index, kept):
            outcome = self.cache.find(task, found, kept) if self.cache is not None else None
        if outcome is None:
            return False
        self._found[task] = outcome
        heapq.heappush(self._waiting, (outcome.rank, task))
        return True

    def keep(self, task: Task, entry: Entry, kept: Named, data: dict[str, Any], emits: list[Any]) -> None:
        """A task completed, and nothing that it emitted is applied yet: other runs may take its end over."""
        found = entry(task.step)
        if self.cache is not None and found is not None:
            self.cache.keep(task, found, kept, data, emits)

    def next(self) -> tuple[Task, Outcome] | None:
        """The next end: in the order in which they came in the earlier run."""
        if not self._waiting:
            return None
        _, task = heapq.heappop(self._waiting)
        return task, self._found.pop(task)


def groups(emits: list[Any]) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """The groups of an ending, but for what is said to the cache: topic, mode, text, payloads by index."""
    at = 0
    while at < len(emits):
        topic, mode, text, count = emits[at : at + 4]
        flat = emits[at + 4 : at + 4 + 2 * count]
        if mode != "keep":
            yield topic, mode, text, dict(zip(flat[::2], flat[1::2], strict=True))
        at += 4 + 2 * count
