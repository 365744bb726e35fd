"""Filling the past of a schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nbflow.app import Nbflow
from nbflow.errors import CommandRefused
from nbflow.scheduling import Scheduled
from tests.bad_input import refused
from tests.scheduled import Clock, at, keys_of, nightly


def hourly(alone: Nbflow) -> Scheduled:
    return nightly().schedule("0 * * * *", name="s", overlap="allow")


def test_a_backfill_starts_what_was_not_started(alone: Nbflow):
    clock = Clock(alone, "2026-11-24T09:30")
    schedule = hourly(alone)
    clock.set("2026-11-24T10:00")
    alone.planned.fire("etl", "s")
    runs = schedule.backfill(at("2026-11-24T08:00"), at("2026-11-24T11:00"))
    assert keys_of(alone) == [f"s@2026-11-24T{hour:02}:00:00Z" for hour in (8, 9, 10)]
    assert schedule.last in runs
    assert [run.id for run in schedule.backfill(at("2026-11-24T08:00"), at("2026-11-24T11:00"))] == [
        run.id for run in runs
    ]
    assert schedule.next_at == at("2026-11-24T11:00")


def test_what_a_backfill_started_is_not_started_again_in_its_time(alone: Nbflow):
    clock = Clock(alone, "2026-11-24T09:30")
    schedule = hourly(alone)
    clock.set("2026-11-24T10:00")
    schedule.backfill(at("2026-11-24T10:00"))
    assert alone.planned.fire("etl", "s") == []
    assert len(keys_of(alone)) == 1
    assert schedule.next_at == at("2026-11-24T11:00")


def test_a_backfill_reaches_into_no_future_and_is_bounded(alone: Nbflow):
    Clock(alone, "2026-11-24T09:30")
    schedule = hourly(alone)
    assert schedule.backfill(at("2026-11-24T09:10"), at("2026-11-25T00:00")) == []
    with refused(CommandRefused, "Nothing lies between"):
        schedule.backfill(at("2026-11-24T09:10"), at("2026-11-24T09:10"))
    with refused(CommandRefused, "more than 1000 occurrences"):
        schedule.backfill(at("2026-01-01T00:00"), at("2026-11-24T09:10"))
    assert keys_of(alone) == []


def test_what_is_no_moment_is_refused(alone: Nbflow):
    schedule, wrong = hourly(alone), ("2026-11-24", datetime.min.replace(tzinfo=UTC), None)
    for moment in wrong:
        since: Any = moment
        with refused(CommandRefused, "is no moment since 1970", "Give a datetime"):
            schedule.backfill(since)
    assert keys_of(alone) == []
