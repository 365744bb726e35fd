"""Retry policies and durations, without a clock."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.errors import DefinitionError
from nbflow.model.policy import Retry, RetryLater, seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1d", 86400.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_seconds_a_timedelta_or_text(value: Any, expected: float) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize(
    "value", [-1, "soon", "", "5", "-5s", True, None, float("nan"), float("inf"), timedelta(seconds=-1), "2y"]
)
def test_nonsense_is_no_duration(value: Any) -> None:
    with pytest.raises(DefinitionError, match="The wait cannot be"):
        seconds(value, "The wait")


def test_the_delay_doubles_up_to_its_most() -> None:
    policy = Retry(10, backoff=2.0, max_delay=30)
    assert [policy.delay_s(n) for n in (1, 2, 3, 4, 5, 9)] == [2, 4, 8, 16, 30, 30]


@given(st.integers(1, 100), st.floats(0, 1))
def test_jitter_takes_between_half_and_all(attempt: int, drawn: float) -> None:
    plain, jittered = Retry(1000, backoff=3.0), Retry(1000, backoff=3.0, jitter=True)
    assert plain.delay_s(attempt) / 2 <= jittered.delay_s(attempt, lambda: drawn) <= plain.delay_s(attempt)


@pytest.mark.parametrize("bad", [{"max_attempts": 0}, {"max_attempts": True}, {"backoff": -1}, {"max_delay": "never"}])
def test_a_policy_that_cannot_be_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        Retry(**bad)


def test_a_policy_counts_the_first_try() -> None:
    assert [Retry(3).wants(ValueError(), n) for n in (1, 2, 3)] == [True, True, False]


def test_retry_later_pickles() -> None:
    again = pickle.loads(pickle.dumps(Retry.later("5m")))
    assert isinstance(again, RetryLater)
    assert again.after_s == 300
