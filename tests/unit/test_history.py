"""What became of a run up to an event: where a line may be drawn, and where it may not."""

from __future__ import annotations

import pytest

from nbflow.model.events import Event
from nbflow.model.history import history

EVENTS = [
    Event("1-0", "flow.start", "r", "f", data={"fingerprints": {"a": "old"}}),
    Event("2-0", "step.completed", "r", "f", "a", 1, {"result": 1}),
    Event("2-1", "emit", "r", "f", "a", 1, {"name": "t", "payload": 7}),
    Event("2-2", "step.completed", "r", "f", "b", 1, {"result": 2}),
    Event("3-0", "state", "r", "f", "c", 1, {"operation": "set", "key": "k", "value": 3}),
]


@pytest.mark.parametrize("at", ["2-0", "2-1"])
def test_a_line_between_an_end_and_what_it_emitted_takes_both(at: str) -> None:
    """Law: the events of one script count as one."""
    told = history("r", EVENTS, at)
    assert told.found
    assert [(call.topic, call.payload) for call in told.ends["a"].calls] == [("t", 7)]
    assert told.ends.keys() == {"a"}
    assert told.view.state == {}


def test_without_a_line_all_counts_and_a_line_that_is_not_there_is_told() -> None:
    told = history("r", EVENTS)
    assert (list(told.ends), told.view.state, told.ends["a"].fingerprint) == (["a", "b"], {"k": 3}, "old")
    assert not history("r", EVENTS, "9-9").found


def test_a_run_that_goes_on_begins_with_the_state_that_it_was_given() -> None:
    start = Event("1-0", "flow.start", "r", "f", data={"state": {"k": 1, "other": 2}})
    assert history("r", [start, *EVENTS[1:]]).view.state == {"k": 3, "other": 2}
