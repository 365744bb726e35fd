"""The scripts and the model must agree: the same tasks in the same order, the same payloads to each, the same steps
skipped, the same end. Random flows, random failures, random order of settles.

20,000 examples: `--hypothesis-profile=proof`; or `NBFLOW_TEST_EXAMPLES=5000`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.definition import FlowSpec
from nbflow.store.connect import Store
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
