"""Runs that take over what other runs kept (`cache=`): the scripts and the model must find and keep the same ends, execute
the same tasks, and end the same. Random flows, failures, cancels, and time that passes in between.

More examples: `--hypothesis-profile=proof`, or `NBFLOW_TEST_EXAMPLES=5000`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.definition import FlowSpec
from nbflow.store.connect import Store
from nbflow.testing.cache import KeptEnds
from tests.leaks import leaks
from tests.property.profiles import examples
from tests.property.random_flows import Deeds, cached, flows
from tests.property.sliced import sliced
from tests.property.twins import Twins

pytestmark = pytest.mark.timeout(1800)  # of a proof; a usual run takes seconds

HOUR_MS = 3_600_000


def _check(store: Store, flow: FlowSpec, data: st.DataObject, *, in_order: bool = True) -> None:
    store.client.flushall()
    ends, now_ms, deeds = KeptEnds(), 0, Deeds(flow, data, most_tasks=60)
    for number in range(3):
        twins = Twins(store, flow, f"r{number}", {}, ends=ends, now_ms=now_ms)
        most = data.draw(st.sampled_from([1000, 1000, 1000, 4]))
        twins.play(deeds, data, most=most, fails=data.draw(st.booleans()))
        if twins.held:
            store.run_script("cancel", id=twins.run, reason='""', by="{}")
            twins.worker.machine.slice_all()
            assert leaks(store) == []
        else:
            twins.compare_ends()
        if in_order:
            told = [event.task for event in twins.worker.machine.events(twins.run) if "cached" in event.data]
            assert told == twins.taken
        if data.draw(st.sampled_from([False, False, True])):
            now_ms += HOUR_MS
            _pass_an_hour(store)
    assert len(ends.ends) == store.text.zcard(store.keys.cached())


def _pass_an_hour(store: Store) -> None:
    for digest in map(str, store.text.zrange(store.keys.cached(), 0, -1)):
        store.text.hincrby(store.keys.kept_end(digest), "at", -HOUR_MS)


@examples(60)
@given(flows().flatmap(cached), st.data())
def test_scripts_and_model_keep_and_find_the_same(valkey_store: Store, flow: FlowSpec, data: st.DataObject):
    _check(valkey_store, flow, data)


@pytest.fixture
def sliced_store(valkey_store: Store) -> Store:
    """A store whose scripts do very little at a time."""
    return sliced(valkey_store)


@examples(25)
@given(flows().flatmap(cached), st.data())
def test_what_is_found_in_slices_is_the_same(sliced_store: Store, flow: FlowSpec, data: st.DataObject):
    _check(sliced_store, flow, data, in_order=False)
