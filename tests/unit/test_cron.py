"""Cron in a time zone: the next occurrence after an instant, through all that clocks are put through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.errors import DefinitionError
from nbflow.model.cron import Cron, zone_of

VIENNA = zone_of("Europe/Vienna")


def occurrences(cron: Cron, after: datetime, number: int) -> list[str]:
    found: list[str] = []
    for _ in range(number):
        after = cron.after(after)
        found.append(after.astimezone(zone_of(cron.tz)).isoformat())
    return found


def test_the_next_one_is_after_the_instant_never_at_it():
    cron = Cron("0 2 * * *")
    assert cron.after(datetime(2026, 11, 24, 2, tzinfo=UTC)) == datetime(2026, 11, 25, 2, tzinfo=UTC)
    assert cron.after(datetime(2026, 11, 24, 1, 59, 59, 999999, tzinfo=UTC)) == datetime(2026, 11, 24, 2, tzinfo=UTC)


def test_a_time_of_day_stays_the_same_all_the_year():
    assert occurrences(Cron("0 2 1 */6 *", "Europe/Vienna"), datetime(2026, 1, 2, tzinfo=UTC), 2) == [
        "2026-07-01T02:00:00+02:00",
        "2027-01-01T02:00:00+01:00",
    ]


def test_a_time_that_a_day_does_not_have_comes_after_the_gap_and_once():
    before = datetime(2026, 3, 29, 0, 0, tzinfo=VIENNA)
    assert occurrences(Cron("30 2 * * *", "Europe/Vienna"), before, 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert occurrences(Cron("0,30 2 * * *", "Europe/Vienna"), before, 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]


def test_a_time_that_comes_twice_fires_once():
    before = datetime(2026, 10, 25, 0, 0, tzinfo=VIENNA)
    cron = Cron("30 2 * * *", "Europe/Vienna")
    assert occurrences(cron, before, 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    in_the_second_hour = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 again
    assert occurrences(cron, in_the_second_hour, 1) == ["2026-10-26T02:30:00+01:00"]


def test_every_half_hour_goes_on_through_both():
    for day in (datetime(2026, 3, 29, tzinfo=VIENNA), datetime(2026, 10, 25, tzinfo=VIENNA)):
        cron, at = Cron("*/30 * * * *", "Europe/Vienna"), day.astimezone(UTC)
        for _ in range(12):
            assert cron.after(at) - at == timedelta(minutes=30)
            at = cron.after(at)


def test_a_minute_of_every_hour_comes_twice_where_half_an_hour_does():
    """On Lord Howe Island, where clocks are put back from 2:00 to 1:30."""
    cron, at = Cron("30 * * * *", "Australia/Lord_Howe"), datetime(2026, 4, 4, 14, 0, tzinfo=UTC)
    due = [at := cron.after(at) for _ in range(3)]
    assert [one.strftime("%H:%M") for one in due] == ["14:30", "15:00", "16:00"]
    assert cron.after(datetime(2026, 4, 4, 14, 59, tzinfo=UTC)) == due[1]


def test_names_stand_for_expressions():
    assert Cron("@daily").after(datetime(2026, 1, 1, 5, tzinfo=UTC)) == datetime(2026, 1, 2, tzinfo=UTC)


@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 3 * * SUN", "0,30 1-3 * * *", "5 * * * *"]),
    st.sampled_from(["UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1)),  # noqa: DTZ001 - made aware below
)
def test_occurrences_only_grow(expression: str, tz: str, naive: datetime):
    """Law: the occurrence after an occurrence is later, and one that lies between is not left out."""
    cron, after = Cron(expression, tz), naive.replace(tzinfo=UTC)
    first = cron.after(after)
    assert after < first < cron.after(first)
    assert cron.after(after + (first - after) / 2) == first
    assert cron.after_ms(int(first.timestamp() * 1000)) == int(cron.after(first).timestamp() * 1000)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6 */8", "never fires"),
        ("0 0 32 1 *", "cannot be read: bad day-of-month"),
        ("0 0 * 2", "wrong number of fields"),
        ("61 * * * *", "bad minute"),
        ("", "wrong number of fields"),
        ("x" * 300, "at most 200"),
        (7, "is no text"),
    ],
)
def test_what_is_no_cron_or_never_fires_is_refused(expression: str, said: str):
    with pytest.raises(DefinitionError) as caught:
        Cron(expression)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["Europe/Wien", "../etc/passwd", "Europe", "", "Mars/Olympus", 7, None])
def test_an_unknown_zone_is_refused(name: str):
    with pytest.raises(DefinitionError, match="There is no time zone"):
        Cron("0 2 * * *", name)
