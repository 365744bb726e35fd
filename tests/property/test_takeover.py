"""Runs that go on from earlier ones: the scripts and the model must take over the same ends, execute the same tasks, and
end the same. Random flows, failures, cancels and changes of the flow in between.

More examples: `--hypothesis-profile=proof`, or `NBFLOW_TEST_EXAMPLES=5000`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.define.plan import compile_plan
from nbflow.engine.earlier import StoredRun
from nbflow.engine.reuse import EarlierRun, Outcome, Rewriter
from nbflow.engine.staged import Past, stage
from nbflow.model.codec import Codec
from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, spread_topic, step_topic
from nbflow.model.history import History, history
from nbflow.store.connect import Store
from nbflow.store.log import RunLog
from nbflow.testing.cache import KeptEnds
from tests.property.profiles import examples
from tests.property.random_flows import Deeds, cached, flows
from tests.property.sliced import sliced
from tests.property.stand_in_worker import key_of
from tests.property.twins import Twins

pytestmark = pytest.mark.timeout(1800)  # of a proof; a usual run takes seconds


class _Line:
    """A run, and one that goes on from it."""

    def __init__(self, store: Store, flow: FlowSpec, data: st.DataObject) -> None:
        store.client.flushall()
        self.store, self.flow, self.data, self.ends = store, flow, data, KeptEnds()

    def first(self, *, fails: bool = True, cancels: bool = True) -> Twins:
        twins = Twins(self.store, self.flow, "r1", {}, ends=self.ends)
        most = self.data.draw(st.sampled_from([1000, 1000, 1, 3, 6])) if cancels else 1000
        twins.play(Deeds(self.flow, self.data), self.data, most=most, fails=fails)
        if twins.held:
            self.store.run_script("cancel", id="r1", reason='""', by="{}")
            twins.worker.machine.slice_all()
        return twins

    def second(self, first: Twins, flow: FlowSpec, forgotten: frozenset[str]) -> Twins:
        told = history("r1", RunLog(self.store).read("r1"))
        in_store = self._outcomes(StoredRun(self.store, "r1"), told, flow, forgotten)
        first.kept.text = "{}"
        assert in_store == self._outcomes(first.kept, told, flow, forgotten)
        stage(self.store, "r2", Past("r1", {}, {task: outcome.text() for task, outcome in in_store.items()}))
        return Twins(self.store, flow, "r2", in_store, ends=self.ends)

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
        steps = [replace(s, has_key=s.is_mapped and not s.has_key) for s in steps]
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


@examples(80)
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


@examples(60)
@given(flows().flatmap(cached), st.data())
def test_what_is_found_besides_is_taken_over_behind_it(valkey_store: Store, flow: FlowSpec, data: st.DataObject):
    """Of a run that goes on from another, tasks that it has not may be kept for all runs."""
    _check_both(valkey_store, flow, data)


@examples(50)
@given(flows(), st.data())
def test_what_is_taken_over_in_slices_is_taken_over_the_same(sliced_store: Store, flow: FlowSpec, data: st.DataObject):
    _check_both(sliced_store, flow, data)


def test_the_plan_of_a_changed_flow_is_another():
    """Else the tests above would change nothing."""
    flow = FlowSpec("f", (StepSpec("a", ()),))
    more = FlowSpec("f", (*flow.steps, StepSpec("b", (Term(Form.FIRST, ("step:a",)),))))
    assert compile_plan(flow).digest != compile_plan(more).digest
