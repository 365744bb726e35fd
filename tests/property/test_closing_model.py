"""The model is held to a brute-force definition after every settle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.definition import FlowSpec
from tests.property.closing_model import Model, Task
from tests.property.closing_oracle import check_at_the_end, check_closing
from tests.property.profiles import examples
from tests.property.random_flows import Deeds, flows

pytestmark = pytest.mark.timeout(6 * 3600)  # of a proof; a usual run takes seconds


@examples(300)
@given(flows(most=12), st.data())
def test_a_step_is_closed_exactly_when_no_task_of_it_can_follow(flow: FlowSpec, data: st.DataObject):
    """Acyclic parts exactly, cycles never too early; and when the last task ends, every step is closed."""
    model, deeds = Model(flow), Deeds(flow, data)
    model.launch()
    check_closing(model)
    while model.outstanding:
        _settle(model, deeds, data.draw(st.sampled_from([*model.outstanding])))
        check_closing(model)
    check_at_the_end(model)


def _settle(model: Model, deeds: Deeds, task: Task) -> None:
    deed = deeds.next(task)
    model.receives(task)
    if deed.fails:
        model.failed(task, "failure")
    else:
        model.completed(task, deed.result, deed.applied(model.flow.step(task.step)))
