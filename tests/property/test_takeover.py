"""Runs that go on from earlier ones: the scripts and the model must take over the same ends, execute the same tasks, and
end the same. Random flows, failures, cancels and changes of the flow in between.

More examples: `--hypothesis-profile=proof`, or `NBFLOW_TEST_EXAMPLES=5000`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.define.plan import Plan, compile_plan
from nbflow.engine.earlier import StoredRun
from nbflow.engine.reuse import EarlierRun, Outcome, Rewriter
from nbflow.engine.staged import Past, stage
from nbflow.model.codec import Codec
from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, spread_topic, step_topic
from nbflow.model.history import History, history
from nbflow.model.ids import split_task
from nbflow.store.connect import Store
from nbflow.store.log import RunLog
from nbflow.testing.decisions import Decisions, Task
from nbflow.testing.graph import Graph
from nbflow.testing.takeover import DecidedRun, Takeover, groups
from nbflow.worker.task import Ending
from tests.leaks import leaks
from tests.machine import Claimed
from tests.property.profiles import examples
from tests.property.random_flows import Deed, Deeds, flows
from tests.property.sliced import sliced
from tests.property.stand_in_worker import StandIn, key_of

pytestmark = pytest.mark.timeout(1800)  # of a proof; a usual run takes seconds


class _Twins:
    """One run in the scripts and in the model at once."""

    def __init__(self, store: Store, flow: FlowSpec, run: str, outcomes: dict[str, Outcome]) -> None:
        self.store, self.flow, self.run = store, flow, run
        self.worker = StandIn(store, flow)
        self.plan: Plan = self.worker.machine.plan
        self.decisions = Decisions(Graph(flow))
        self.names: dict[str, str] = {}
        self.kept = DecidedRun(self.decisions, self.entry, "{}", self.names)
        self.takeover = Takeover(outcomes)
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
        self._emit(ended.emits)
        task = Task(*split_task(name))
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


class _Line:
    """A run, and one that goes on from it."""

    def __init__(self, store: Store, flow: FlowSpec, data: st.DataObject) -> None:
        store.client.flushall()
        self.store, self.flow, self.data = store, flow, data

    def first(self, *, fails: bool = True, cancels: bool = True) -> _Twins:
        twins = _Twins(self.store, self.flow, "r1", {})
        most = self.data.draw(st.sampled_from([1000, 1000, 1, 3, 6])) if cancels else 1000
        twins.play(Deeds(self.flow, self.data), self.data, most=most, fails=fails)
        if twins.held:
            self.store.run_script("cancel", id="r1", reason='""', by="{}")
            twins.worker.machine.slice_all()
        return twins

    def second(self, first: _Twins, flow: FlowSpec, forgotten: frozenset[str]) -> _Twins:
        told = history("r1", RunLog(self.store).read("r1"))
        in_store = self._outcomes(StoredRun(self.store, "r1"), told, flow, forgotten)
        first.kept.text = "{}"
        assert in_store == self._outcomes(first.kept, told, flow, forgotten)
        stage(self.store, "r2", Past("r1", {}, {task: outcome.text() for task, outcome in in_store.items()}))
        return _Twins(self.store, flow, "r2", in_store)

    @staticmethod
    def _outcomes(earlier: EarlierRun, told: History, flow: FlowSpec, forgotten: frozenset[str]) -> dict[str, Outcome]:
        keys = {step.name: key_of for step in flow.steps if step.has_key}
        rewriter = Rewriter(flow, earlier, Codec(), keys, frozenset())
        kept = (end for end in told.ends.values() if end.step not in forgotten)
        made = {end.task: rewriter.outcome(end) for end in kept}
        return {task: outcome for task, outcome in made.items() if outcome is not None}


def _changed(flow: FlowSpec, data: st.DataObject) -> FlowSpec:
    """The flow after some cell was edited: one step more, elements named, or none of it."""
    how = data.draw(st.sampled_from(["same", "same", "more", "keys", "fewer"]))
    steps = list(flow.steps)
    if how == "more":
        at = data.draw(st.sampled_from(steps))
        form = data.draw(st.sampled_from([Form.FIRST, Form.EACH, Form.COLLECT]))
        spread = form is Form.EACH and not at.is_mapped
        steps.append(StepSpec("extra", (Term(form, (spread_topic(at.name) if spread else step_topic(at.name),)),)))
    if how == "keys":
        steps = [StepSpec(s.name, s.terms, s.emits, has_key=s.is_mapped and not s.has_key) for s in steps]
    if how == "fewer" and len(steps) > 1:
        last = steps.pop()
        own = {step_topic(last.name), spread_topic(last.name), f"failed:{last.name}", *last.emits}
        steps = [step for step in steps if not own.intersection(t for term in step.terms for t in term.topics)]
    return FlowSpec(flow.name, tuple(steps))


def _check_both(store: Store, flow: FlowSpec, data: st.DataObject) -> None:
    line = _Line(store, flow, data)
    first = line.first()
    changed = _changed(flow, data)
    forgotten = frozenset(step.name for step in changed.steps if data.draw(st.sampled_from([False] * 5 + [True])))
    second = line.second(first, changed, forgotten)
    second.play(Deeds(changed, data), data)
    second.compare_ends()


def _check_nothing_again(store: Store, flow: FlowSpec, data: st.DataObject) -> None:
    line = _Line(store, flow, data)
    first = line.first(fails=False, cancels=False)
    second = line.second(first, flow, frozenset())
    assert second.executed == []
    second.compare_ends()
    assert second.decisions.leaves == first.decisions.leaves
    assert {name: topic.emitted for name, topic in second.decisions.topics.items()} == {
        name: topic.emitted for name, topic in first.decisions.topics.items()
    }


@examples(120)
@given(flows(), st.data())
def test_scripts_and_model_take_over_the_same(valkey_store: Store, flow: FlowSpec, data: st.DataObject):
    _check_both(valkey_store, flow, data)


@examples(40)
@given(flows(), st.data())
def test_a_run_that_completed_is_taken_over_whole(valkey_store: Store, flow: FlowSpec, data: st.DataObject):
    """Also where it matters which emission came first, or which number the script gave it: nothing is executed."""
    _check_nothing_again(valkey_store, flow, data)


@pytest.fixture
def sliced_store(valkey_store: Store) -> Store:
    """A store whose scripts do very little at a time."""
    return sliced(valkey_store)


@examples(50)
@given(flows(), st.data())
def test_what_is_taken_over_in_slices_is_taken_over_the_same(sliced_store: Store, flow: FlowSpec, data: st.DataObject):
    _check_both(sliced_store, flow, data)


def test_the_plan_of_a_changed_flow_is_another():
    """Else the tests above would change nothing."""
    flow = FlowSpec("f", (StepSpec("a", ()),))
    more = FlowSpec("f", (*flow.steps, StepSpec("b", (Term(Form.FIRST, ("step:a",)),))))
    assert compile_plan(flow).digest != compile_plan(more).digest
