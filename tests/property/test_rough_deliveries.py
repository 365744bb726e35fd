"""The same agreement when things go wrong between any two script calls (`rough_race.py`), also of flows whose steps wait."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.awaits import Approval
from nbflow.model.definition import FlowSpec
from nbflow.model.ids import split_task, step_id
from nbflow.store.connect import Store
from tests.machine import Claimed
from tests.property.closing_model import Task
from tests.property.profiles import examples
from tests.property.random_flows import Deed, flows
from tests.property.rough_race import RoughRace
from tests.property.sliced import sliced

pytestmark = pytest.mark.timeout(6 * 3600)  # of a proof; a usual run takes seconds


class _WaitingRace(RoughRace):
    """Some steps are held before they are queued, and of some the result is held. The model knows nothing of that either:
    a task is ready when it was answered, and has ended when its result was."""

    def __init__(self, store: Store, flow: FlowSpec, data: st.DataObject) -> None:
        super().__init__(store, flow, data)
        self.asked: set[str] = set()
        self.ended: dict[str, tuple[Claimed, Deed]] = {}

    def _can_go_on(self) -> bool:
        return bool(self.held or self.asked or self.ended)

    def _step(self) -> None:
        name = self.data.draw(st.sampled_from(sorted({*self.held, *self.asked, *self.ended})))
        if name in self.asked:
            self.asked.remove(name)
            self._answer(name, "before")
            (claimed,) = self.worker.claim_all()
            assert claimed.task == name
            self.held[name] = claimed
        elif name in self.ended:
            claimed, deed = self.ended.pop(name)
            self._answer(name, "after", claimed.attempt)
            super()._follow(claimed, deed)
        else:
            self._go_on(self.held.pop(name))

    def _answer(self, name: str, position: str, attempt: int = 1) -> None:
        named = {
            "id": "r1",
            "job": step_id("r1", name, attempt),
            "position": position,
            "nonce": name,
            "by": "{}",
            "data": "1",
        }
        assert self.store.run_script("resolve", **named) == [b"OK"]

    def _follow(self, claimed: Claimed, deed: Deed) -> None:
        if self.flow.step(split_task(claimed.task)[0]).hold_emits is None or deed.fails:
            super()._follow(claimed, deed)
        else:
            assert self.worker.claim_all() == []
            self.ended[claimed.task] = (claimed, deed)

    def _take(self, ready: list[Task]) -> None:
        asked = {str(task) for task in ready if self.flow.step(task.step).hold is not None}
        self.asked |= asked
        new = {task.task: task for task in self.worker.claim_all()}
        assert new.keys() == {str(task) for task in ready} - asked
        self.held |= new
        outstanding = {str(task) for task in self.model.outstanding}
        assert {*self.held, *self.asked, *self.ended} == outstanding
        self._compare_closing()


@st.composite
def waiting_flows(draw: st.DrawFn) -> FlowSpec:
    spec = draw(flows(6))
    holds = {"": {}, "before": {"hold": Approval()}, "after": {"hold_emits": Approval()}}
    steps = [replace(step, **holds[draw(st.sampled_from(["", "before", "after"]))]) for step in spec.steps]
    return replace(spec, steps=tuple(steps))


@examples(50)
@given(flows(), st.data())
def test_what_goes_wrong_between_two_calls_changes_nothing(store: Store, flow: FlowSpec, data: st.DataObject):
    RoughRace(store, flow, data).run()


@pytest.fixture
def sliced_store(valkey_store: Store) -> Store:
    """A store whose scripts do very little at a time."""
    return sliced(valkey_store)


@examples(20)
@given(flows(), st.data())
def test_nor_between_two_slices(sliced_store: Store, flow: FlowSpec, data: st.DataObject):
    RoughRace(sliced_store, flow, data, sliced=True).run()


@examples(40)
@given(waiting_flows(), st.data())
def test_nor_where_steps_wait(valkey_store: Store, flow: FlowSpec, data: st.DataObject):
    _WaitingRace(valkey_store, flow, data).run()
