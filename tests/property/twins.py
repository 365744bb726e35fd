"""A run in the scripts and in the model at once, which may take over ends of other runs: they must agree after each end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from nbflow.define.plan import Plan
from nbflow.engine.reuse import Outcome
from nbflow.model.definition import FlowSpec
from nbflow.model.ids import split_task
from nbflow.store.connect import Store
from nbflow.testing.cache import Cache, KeptEnds
from nbflow.testing.decisions import Decisions, Task
from nbflow.testing.graph import Graph
from nbflow.testing.takeover import DecidedRun, Takeover, groups
from nbflow.worker.task import Ending
from tests.leaks import leaks
from tests.machine import Claimed
from tests.property.random_flows import Deed, Deeds
from tests.property.stand_in_worker import StandIn

__all__ = ["Twins"]

TAKEN = {"reused", "cached"}
MOST_TAKEN = 1000
"""A cycle that feeds itself from what is kept goes round until the run has as many tasks as it may: that is not drawn."""


class Twins:
    """One run in the scripts and in the model at once. `ends` are those that are kept for other runs, `now_ms` is the
    model's time."""

    def __init__(
        self,
        store: Store,
        flow: FlowSpec,
        run: str,
        outcomes: Mapping[str, Outcome],
        *,
        ends: KeptEnds | None = None,
        now_ms: int = 0,
    ) -> None:
        self.store, self.flow, self.run = store, flow, run
        self.worker = StandIn(store, flow)
        self.plan: Plan = self.worker.machine.plan
        self.decisions = Decisions(Graph(flow))
        self.names: dict[str, str] = {}
        self.kept = DecidedRun(self.decisions, self.entry, "{}", self.names)
        self.takeover = Takeover(outcomes, cache=Cache(run, ends or KeptEnds(), lambda: now_ms))
        self.taken: list[str] = []
        self.held: dict[str, Claimed] = {}
        self.executed: list[str] = []
        self.queued: set[str] = set()
        fields = ("reuse", str(len(outcomes))) if outcomes else ()
        assert self.worker.machine.launch(run, fields=fields) == [b"OK", run.encode()]
        self._ready(self.decisions.launch())

    def entry(self, step: str) -> dict[str, Any] | None:
        text = self.plan.table.get(f"step:{step}")
        return json.loads(text) if text else None

    def _ready(self, tasks: list[Task]) -> None:
        """In the model: what is taken over ends at once, in its order, and the rest is queued."""
        self._queue(tasks)
        while following := self.takeover.next():
            task, outcome = following
            self.taken.append(str(task))
            if len(self.taken) > MOST_TAKEN:
                reject()
            self._emit(outcome.emits)
            self._queue(self.decisions.complete(task))
        self._claim()

    def _queue(self, tasks: list[Task]) -> None:
        self.queued |= {str(task) for task in tasks if not self.takeover.takes(task, self.entry, self.kept)}

    def _emit(self, emits: list[Any]) -> None:
        for topic, mode, _, pairs in groups(emits):
            if mode == "key":
                self.names |= {f"{topic}[{index}]": name for index, name in pairs.items()}
            else:
                self.decisions.emit(topic, pairs)

    def _claim(self) -> None:
        """The scripts queue the same tasks as the model."""
        new = self.worker.claim_all()
        self.executed += [task.task for task in new]
        self.held |= {task.task: task for task in new}
        assert self.held.keys() == self.queued
        assert self.queued == {str(task) for task in self.decisions.outstanding}

    def end(self, name: str, deed: Deed) -> None:
        claimed = self.held.pop(name)
        self.queued.discard(name)
        ended: Ending = self.worker.ending(claimed, deed)
        self.worker.end(claimed, ended)
        task = Task(*split_task(name))
        if not deed.fails:
            self.takeover.keep(task, self.entry, self.kept, json.loads(ended.data), ended.emits)
        self._emit(ended.emits)
        self._ready(self.decisions.fail(task) if deed.fails else self.decisions.complete(task))

    def play(self, deeds: Deeds, data: st.DataObject, *, most: int = 1000, fails: bool = True) -> None:
        """Up to so many ends, in any order."""
        while self.held and most:
            name = data.draw(st.sampled_from(sorted(self.held)))
            deed = deeds.next(Task(*split_task(name)))
            while deed.fails and not fails:
                deed = deeds.next(Task(*split_task(name)))
            self.end(name, deed)
            most -= 1

    def compare_ends(self) -> None:
        """The same end, the same steps skipped, the same emissions by index."""
        machine, decisions = self.worker.machine, self.decisions
        *_, end = events = machine.events(self.run)
        assert {event.task for event in events if event.type == "step.skipped"} == decisions.skipped.keys()
        assert sorted(event.task for event in events if event.data.keys() & TAKEN) == sorted(self.taken)
        if decisions.failed_step is None:
            assert (end.type, end.data["leaves"]) == ("flow.completed", decisions.leaves)
        else:
            assert (end.type, end.data["failedStep"]) == ("flow.failed", decisions.failed_step)
        for topic in json.loads(self.plan.table["kept"]):
            if not topic.startswith("@"):
                kept = self.store.text.hgetall(self.store.keys.emits(self.run, topic))
                assert (kept or {}) == ({} if "keep" not in self._topic(topic) else decisions.topics[topic].emitted)
        assert leaks(self.store) == []

    def _topic(self, topic: str) -> dict[str, Any]:
        return json.loads(self.plan.table[f"on:{topic}"])
