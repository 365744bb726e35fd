"""The scripts and the model must agree: the same tasks in the same order, the same payloads to each, the same steps
skipped, the same end. Random flows, random failures, random order of settles.

20,000 examples on each server: `--hypothesis-profile=proof`; or `NBFLOW_TEST_EXAMPLES=5000`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.definition import FlowSpec
from nbflow.model.ids import split_task
from nbflow.store.connect import Store
from tests.machine import Claimed
from tests.property.closing_model import Task
from tests.property.profiles import examples
from tests.property.race import Race
from tests.property.random_flows import flows
from tests.property.sliced import sliced

pytestmark = pytest.mark.timeout(6 * 3600)  # of a proof; a usual run takes seconds


@examples(200)
@given(flows(), st.data())
def test_scripts_and_model_agree(store: Store, flow: FlowSpec, data: st.DataObject):
    Race(store, flow, data).run()


@pytest.fixture
def sliced_store(store: Store) -> Store:
    """A store whose scripts do very little at a time."""
    return sliced(store)


@examples(60)
@given(flows(), st.data())
def test_what_is_done_in_slices_is_done_the_same(sliced_store: Store, flow: FlowSpec, data: st.DataObject):
    """With at most two jobs and three closings a script, and the rest in slices, nothing comes out differently."""
    Race(sliced_store, flow, data, sliced=True).run()


class _ByHand(Race):
    """Somebody acts on tasks that run, now and then."""

    def _settle(self, claimed: Claimed) -> None:
        act = self.data.draw(st.sampled_from(["", "", "", "", "cancel", "complete", "retry"]))
        if act == "cancel":
            self.worker.cancel(claimed)
            self._take(self.model.cancel(Task(*split_task(claimed.task))))
            return
        if act == "retry":
            self.held[claimed.task] = self.worker.retry(claimed)
            return
        deed = self.deeds.next(Task(*split_task(claimed.task)))
        if act == "complete" and not deed.fails:
            self.worker.complete_by_hand(claimed, deed)
        else:
            self.worker.settle(claimed, deed)
        self._follow(claimed, deed)


@examples(60)
@given(flows(), st.data())
def test_what_is_done_by_hand_follows_the_model(valkey_store: Store, flow: FlowSpec, data: st.DataObject):
    """Law: a canceled task is missing and is no failure, a given result is a result, another attempt changes nothing."""
    _ByHand(valkey_store, flow, data).run()
