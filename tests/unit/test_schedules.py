"""Whose turn it is at a due schedule, and what its record is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.errors import SignatureMismatch
from nbflow.model.schedules import LATE_MS, Schedule, Turn, turn_of
from nbflow.model.signing import Signer
from nbflow.model.timetable import occurrences
from nbflow.model.triggered import read_triggered

MINUTE = 60_000
HOURLY = Schedule("etl", "hourly", {"every": 60 * MINUTE})
HOUR = 60 * MINUTE
NOON = 490_000 * HOUR


def test_one_occurrence_that_has_just_come_is_started_whatever_the_catch_up():
    for catch_up in ("latest", "all", "none"):
        schedule = replace(HOURLY, catch_up=catch_up)
        assert turn_of(schedule, NOON, NOON + 900) == Turn(NOON, NOON + HOUR)


def test_of_several_that_nobody_looked_after_each_catch_up_takes_its_own():
    now = NOON + 5 * HOUR + MINUTE + 1
    assert turn_of(replace(HOURLY, catch_up="all"), NOON, now) == Turn(NOON, NOON + HOUR)
    assert turn_of(replace(HOURLY, catch_up="latest"), NOON, now) == Turn(NOON + 5 * HOUR, NOON + 6 * HOUR)
    assert turn_of(replace(HOURLY, catch_up="none"), NOON, now) == Turn(None, NOON + 6 * HOUR)


def test_none_starts_the_last_one_if_it_is_not_missed():
    assert turn_of(replace(HOURLY, catch_up="none"), NOON, NOON + 5 * HOUR + LATE_MS) == Turn(
        NOON + 5 * HOUR, NOON + 6 * HOUR
    )


CRONS = st.sampled_from(["* * * * *", "*/7 3 * * *", "30 2 * * *", "0 0 1 * *", "0 12 29 2 *", "* * * * * *"])


@given(CRONS, st.sampled_from(["UTC", "Europe/Vienna"]), st.integers(0, 2**40), st.integers(0, 10**7))
def test_latest_is_the_last_occurrence_up_to_now(cron: str, tz: str, since: int, late: int):
    schedule = Schedule("etl", "s", {"cron": cron, "tz": tz})
    table = schedule.timetable
    due = table.after_ms(since)
    now = due + (late if cron != "* * * * * *" else late % 100_000)
    turn = turn_of(schedule, due, now)
    assert turn.occurrence_ms == max(occurrences(table, due - 1, now))
    assert turn.next_ms == table.after_ms(now)


def test_a_year_of_seconds_is_no_work():
    every_second = Schedule("etl", "s", {"cron": "* * * * * *", "tz": "Europe/Vienna"})
    year = 365 * 24 * HOUR
    assert turn_of(every_second, NOON, NOON + year) == Turn(NOON + year, NOON + year + 1000)


def test_the_key_and_the_trigger_name_the_occurrence():
    assert HOURLY.key(1_764_000_000_000) == "hourly@2025-11-24T16:00:00Z"
    told = read_triggered(HOURLY.trigger(1_764_000_000_000))
    assert told is not None
    assert (told.type, told.name, str(told.scheduled_at)) == ("schedule", "hourly", "2025-11-24 16:00:00+00:00")
    assert read_triggered("") is None


def test_who_declares_it_does_not_change_it():
    assert HOURLY.is_same(replace(HOURLY, by={"user": "other"}))
    assert not HOURLY.is_same(replace(HOURLY, input='{"n":1}'))
    assert not HOURLY.is_same(replace(HOURLY, when={"every": HOUR + 1}))


def test_when_it_comes_is_told_as_it_is_written():
    assert HOURLY.told == ("1h", None)
    assert replace(HOURLY, when={"every": 5_400_500}).told == ("1h30m500ms", None)
    assert replace(HOURLY, when={"cron": "@daily", "tz": "Europe/Vienna"}).told == ("@daily", "Europe/Vienna")


@pytest.mark.parametrize("change", ["text", "signature", "place"])
def test_a_record_that_was_changed_is_refused(change: str):
    signer = Signer(b"a secret for tests only")
    record = HOURLY.signed(signer)
    assert Schedule.verified(record, "etl", "hourly", signer) == HOURLY
    forged = {"text": record.replace('"skip"', '"allow"'), "signature": "0" * 64 + record[64:], "place": record}[change]
    with pytest.raises(SignatureMismatch, match="schedule"):
        Schedule.verified(forged, "other" if change == "place" else "etl", "hourly", signer)
