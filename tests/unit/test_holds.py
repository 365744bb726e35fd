"""What may be written in `hold=` and `hold_emits=`, and what is said of the rest when the cell runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbflow import Approval, Flow, OnEvent, Retry, Schedule, Time, Webhook, received
from nbflow.errors import DefinitionError
from tests.bad_input import refused

anything: Any = 5


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: OnEvent("order paid"), "names no topic"),
        (lambda: OnEvent("t", match=anything), "is no dict"),
        (lambda: OnEvent("t", match={"a..b": 1}), "no dotted field"),
        (lambda: OnEvent("t", match={"a": received("")}), "no dotted field"),
        (lambda: OnEvent("t", match={"a": [1]}), "cannot be compared"),
        (lambda: OnEvent("t", match={"a": 2**53 + 1}), "cannot be compared"),
        (lambda: OnEvent("t", match={"a": float("nan")}), "cannot be compared"),
        (lambda: OnEvent("t", lookback="25h"), "more than 24 hours"),
        (lambda: Time("-1s"), "cannot be"),
        (lambda: Schedule("0 0 30 2 *"), "never fires"),
        (lambda: Schedule("0 0 * * *", "Europe/Vien"), "Did you mean 'Europe/Vienna'"),
        (lambda: Approval(timeout="soon"), "cannot be 'soon'"),
        (lambda: Approval(on_timeout=anything), "is not known"),
        (lambda: Approval(message=anything), "is no text"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(made: Callable[[], Any], said: str) -> None:
    with refused(DefinitionError, said):
        made()


@pytest.mark.parametrize(
    ("hold", "said"),
    [
        (5, "is no await"),
        (Approval(on_timeout="retry"), "the step has no retry="),
        (Approval(7), "makes no form"),
        (Webhook(notify=5), "is neither a topic nor a step"),
    ],
)
def test_a_step_cannot_be_held_by_it(hold: Any, said: str) -> None:
    flow = Flow("held-in-vain")
    with refused(DefinitionError, said):
        flow.entry(hold=hold, name="wait")(_body)
    assert flow.steps() == []


def test_numbers_of_any_size_that_both_sides_know_are_matched() -> None:
    event = OnEvent("t", match={"a": 2**53, "b.c": None, "d": received("id")}, timeout="1h", on_timeout="retry")
    assert [name for name, _ in event.matches] == ["a", "b.c", "d"]
    flow = Flow("held-well")
    flow.entry(hold=event, retry=Retry(2), name="wait")(_body)
    assert flow.spec().step("wait").hold == event


def _body() -> int:
    return 1
