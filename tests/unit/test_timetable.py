"""Timetables: an interval or a cron expression, told from each other and checked where they are written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nbflow.errors import DefinitionError
from nbflow.model.cron import Cron
from nbflow.model.timetable import Every, Timetable, occurrences, timetable

DAY = 86_400_000


def test_intervals_are_multiples_since_1970():
    assert list(occurrences(Every(900_000), 0, 2_700_000)) == [900_000, 1_800_000, 2_700_000]
    assert Every(900_000).after_ms(899_999) == 900_000
    assert Every(900_000).after_ms(900_000) == 1_800_000


def test_occurrences_of_an_expression_are_those_after_the_first_moment_up_to_the_last():
    assert list(occurrences(Cron("@daily"), DAY, 3 * DAY)) == [2 * DAY, 3 * DAY]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("15m", Every(900_000)),
        (90, Every(90_000)),
        (1.5, Every(1_500)),
        (timedelta(hours=1), Every(3_600_000)),
        ("1h 30m", Every(5_400_000)),
        ("0  2 * * *", Cron("0 2 * * *")),
        ("@daily", Cron("@daily")),
    ],
)
def test_text_is_an_interval_or_an_expression(when: str | float | timedelta, expected: Timetable):
    assert timetable(when) == expected


@pytest.mark.parametrize(
    ("when", "tz", "said"),
    [
        ("0 0 30 2 *", None, "never fires"),
        ("60 * * * *", None, "bad minute"),
        ("* * *", None, "cannot be read"),
        ("", None, "cannot be read"),
        ("@dayly", None, "cannot be read"),
        ("0 2 * * *", "Europe/Wien", "Did you mean 'Europe/Vienna'"),
        ("0 2 * * *", "", "no time zone"),
        ("15m", "Europe/Vienna", "the same in every time zone"),
        ("-15m", None, "cannot be '-15m'"),
        (-1, None, "cannot be -1"),
        (0, None, "below 1 s"),
        ("500ms", None, "below 1 s"),
        (True, None, "cannot be True"),
        (float("nan"), None, "cannot be nan"),
        (None, None, "cannot be None"),
    ],
)
def test_what_never_fires_or_cannot_be_read_is_refused(when: str | float, tz: str | None, said: str):
    with pytest.raises(DefinitionError) as caught:
        timetable(when, tz)
    assert said in str(caught.value)
    assert caught.value.hint
