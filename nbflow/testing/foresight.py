"""What a resume would take over and what it would execute, found by the model without executing anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from nbflow.define.flow import FlowDefinition
from nbflow.engine.again import Code, Origin, Taken, is_older, new_code, read_origin, take
from nbflow.engine.launch import Order
from nbflow.engine.options import Options
from nbflow.model.artifacts import StagedArtifacts
from nbflow.model.codec import Codec
from nbflow.model.ids import split_task
from nbflow.store.connect import Store
from nbflow.testing.decisions import Decisions, Task
from nbflow.testing.graph import Graph
from nbflow.testing.takeover import DecidedRun, Takeover, groups
from nbflow.watch.frames import PlanRow

__all__ = ["foresee", "foresee_stored"]

_UNFINISHED = {"failed": "failed", "canceled": "canceled"}


def foresee(origin: Origin, code: Code, *, changed: bool) -> list[PlanRow]:
    """A row a task, in the order of the flow's steps: `reuse`, `run`, or `depends` for one that is taken over if it will
    receive the same again."""
    taken = take(origin, code.spec, code.order.bundle.fingerprints, code.codec, code.keys, changed=changed)
    return list(_Foresight(origin, code, taken, changed=changed).rows())


def foresee_stored(
    store: Store,
    run_id: str,
    flow: FlowDefinition,
    order: Callable[[Options], tuple[Order, Codec]],
    *,
    changed: bool,
) -> list[PlanRow]:
    """The same of a run in a store. `order` packs the flow, and stores nothing."""
    origin = read_origin(store, run_id, "fork")
    return foresee(origin, new_code(origin, flow, *order(origin.options)), changed=changed)


class _Foresight:
    """The new run, up to where something would have to be executed."""

    def __init__(self, origin: Origin, code: Code, taken: Taken, *, changed: bool) -> None:
        self._origin, self._code, self._taken, self._changed = origin, code, taken, changed
        self._graph = Graph(code.spec)
        self._decisions, self._takeover = Decisions(self._graph), Takeover(taken.outcomes)
        self._names: dict[str, str] = {}
        self._kept = DecidedRun(self._decisions, self._entry, self._input(), self._names)
        self._reused: list[Task] = []
        self._queued: list[Task] = []
        self._play(self._decisions.launch())

    def _entry(self, step: str) -> dict[str, Any] | None:
        text = self._code.order.plan.table.get(f"step:{step}")
        return json.loads(text) if text else None

    def _input(self) -> str:
        """As a launch would write it; nothing is stored."""
        codec = self._code.codec
        staged = None if codec.artifacts is None else StagedArtifacts(codec.artifacts)
        return Codec(types=codec.types, signer=codec.signer, artifacts=staged).encode(dict(self._code.order.input))

    def _play(self, ready: list[Task]) -> None:
        self._sort(ready)
        while following := self._takeover.next():
            task, outcome = following
            self._reused.append(task)
            for topic, mode, _, pairs in groups(outcome.emits):
                if mode != "key":
                    self._decisions.emit(topic, pairs)
            self._sort(self._decisions.complete(task))

    def _sort(self, ready: list[Task]) -> None:
        self._queued += [task for task in ready if not self._takeover.takes(task, self._entry, self._kept)]

    def rows(self) -> Iterator[PlanRow]:
        known = {*map(str, self._reused), *map(str, self._queued)}
        for step in self._graph.specs:
            mine = [*_of(step, self._reused), *_of(step, self._queued)]
            yield from sorted((self._decided(task) for task in mine), key=lambda row: row.order)
            upstream = sorted(self._graph.before(step).intersection(task.step for task in self._queued))
            if not upstream:
                continue
            later = [task for task in self._origin.history.view.tasks if task not in known]
            rest = [task for task in later if split_task(task)[0] == step]
            yield from (self._later(task, upstream) for task in rest)
            if not mine and not rest:
                yield PlanRow(step, step, "", "run", "follows", tuple(upstream))

    def _decided(self, task: Task) -> PlanRow:
        name = str(task)
        if task not in self._queued:
            end = self._origin.history.ends[name]
            older = is_older(end, self._code.order.bundle.fingerprints)
            return PlanRow(name, task.step, task.index, "reuse", "older code" if older else "same")
        return PlanRow(name, task.step, task.index, "run", self._why(name, "input changed"))

    def _later(self, task: str, upstream: list[str]) -> PlanRow:
        step, index = split_task(task)
        if task in self._taken.outcomes:
            return PlanRow(task, step, index, "depends", "follows", tuple(upstream))
        return PlanRow(task, step, index, "run", self._why(task, "follows"), tuple(upstream))

    def _why(self, task: str, other: str) -> str:
        """Why a task is executed."""
        before = self._origin.history.view.tasks.get(task)
        end = self._origin.history.ends.get(task)
        if before is None:
            return "new"
        if end is None:
            return _UNFINISHED.get(before.status, "not completed")
        if self._changed and is_older(end, self._code.order.bundle.fingerprints):
            return "code changed"
        return other if task in self._taken.outcomes else "cannot be taken over"


def _of(step: str, tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.step == step]
