"""Schedules on a clock that the tests move: declared, fired, caught up with, back-filled, by any number of processes."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

import nbflow as nf
from nbflow.app import Nbflow
from nbflow.engine.schedules import MOST_AT_ONCE
from nbflow.errors import (
    CommandRefused,
    DefinitionError,
    InputInvalid,
    SignatureMismatch,
    UnknownFlow,
    UnknownSchedule,
)
from nbflow.firing import fire
from nbflow.flow import LaunchDisabled, launches_disabled
from nbflow.model.artifacts import StagedArtifacts
from nbflow.model.schedules import Schedule
from nbflow.scheduling import MOST_ARTIFACTS, Scheduled, declare
from tests.bad_input import nothing_written, refused
from tests.killed import Killed, stopped_at
from tests.leaks import leaks
from tests.scheduled import Clock, at, keys_of, nightly
from tests.site import SECRET

NIGHTLY = "0 2 * * *"


# -- declaring ----------------------------------------------------------------------------------------------------------


def test_declaring_a_schedule_publishes_and_says_when_it_comes(alone: Nbflow):
    Clock(alone, "2026-11-24T12:00")
    schedule = nightly().schedule(NIGHTLY, tz="Europe/Vienna", name="nightly", input={"folder": "in"})
    assert (schedule.flow, schedule.name, schedule.next_at) == ("etl", "nightly", at("2026-11-25T01:00"))
    assert alone.published.newest("etl").number == 1
    (row,) = nf.schedules().to_dict("records")
    assert (row["when"], row["tz"], row["overlap"], row["catch_up"], row["started"]) == (
        NIGHTLY, "Europe/Vienna", "skip", "latest", 0,
    )  # fmt: skip
    assert schedule.last is None
    assert leaks(alone.store) == []


def test_running_the_cell_again_changes_nothing(alone: Nbflow):
    Clock(alone, "2026-11-24T12:00")
    nightly().schedule(NIGHTLY, input={"folder": "in"})
    before = alone.store.text.hgetall(alone.store.keys.schedule("etl", "default"))
    with nothing_written(alone):
        nightly().schedule(NIGHTLY, input={"folder": "in"})
    assert alone.store.text.hgetall(alone.store.keys.schedule("etl", "default")) == before


def test_a_changed_cell_changes_the_schedule_of_that_name(alone: Nbflow):
    clock = Clock(alone, "2026-11-24T12:00")
    schedule = nightly().schedule(NIGHTLY)
    clock.set("2026-11-24T13:00")
    nightly().schedule(NIGHTLY, input={"year": 2001}, overlap="queue")
    assert schedule.next_at == at("2026-11-25T02:00")
    nightly().schedule("45 * * * *", input={"year": 2001})
    assert schedule.next_at == at("2026-11-24T13:45")
    assert len(nf.schedules()) == 1


def test_several_schedules_of_a_flow_have_names(alone: Nbflow):
    flow = nightly()
    flow.schedule("15m", name="often")
    flow.schedule(timedelta(days=1), name="daily")
    assert list(nf.schedules("etl")["name"]) == ["daily", "often"]
    assert list(nf.schedules("other")["name"]) == []
    assert list(nf.schedules()["when"]) == ["1d", "15m"]


def test_code_that_is_not_the_published_one_is_a_warning(alone: Nbflow):
    nightly().schedule(NIGHTLY)
    with pytest.warns(UserWarning, match=r"starts version 1 .* flow\.publish\(\)"):
        nightly(n=2).schedule(NIGHTLY)
    nightly(n=2).publish()
    nightly(n=2).schedule(NIGHTLY)


def test_a_schedule_can_be_declared_by_the_name_of_its_flow(alone: Nbflow):
    nightly().publish()
    assert declare(alone, "etl", "1h", values={"year": 1999}).next_at is not None


@pytest.mark.parametrize(
    ("when", "options", "kind", "said"),
    [
        ("0 0 30 2 *", {}, DefinitionError, "never fires"),
        ("nonsense", {}, DefinitionError, "cannot be read"),
        ("-15m", {}, DefinitionError, "cannot be '-15m'"),
        ("10ms", {}, DefinitionError, "below 1 s"),
        (NIGHTLY, {"tz": "Europe/Wien"}, DefinitionError, "no time zone 'Europe/Wien'"),
        ("15m", {"tz": "Europe/Vienna"}, DefinitionError, "same in every time zone"),
        (NIGHTLY, {"overlap": "wait"}, DefinitionError, "overlap='wait'"),
        (NIGHTLY, {"catch_up": "some"}, DefinitionError, "catch_up='some'"),
        (NIGHTLY, {"name": "a:b"}, DefinitionError, "cannot be called 'a:b'"),
        (NIGHTLY, {"name": ""}, DefinitionError, "cannot be called ''"),
        (NIGHTLY, {"input": {"year": "soon"}}, InputInvalid, "'year'"),
        (NIGHTLY, {"input": {"yaer": 1}}, InputInvalid, "Did you mean 'year'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    alone: Nbflow, when: Any, options: dict[str, Any], kind: Any, said: str
):
    flow = nightly()
    with nothing_written(alone), refused(kind, said):
        flow.schedule(when, **options)


def test_a_large_input_is_an_artifact_of_the_schedule_and_of_its_runs(alone: Nbflow):
    """Law: it lives as long as anybody refers to it: the schedule as it is declared now, and each run."""
    clock, flow, store = Clock(alone, "2026-11-24T12:00"), nightly(), alone.store

    def declared(size: int) -> Scheduled:
        return flow.schedule(NIGHTLY, input={"folder": "x" * size})

    def kept() -> int:
        assert leaks(store) == []
        return len(list(store.client.scan_iter("nbflow:artifact:*")))

    for size in (70_000, 70_000, 80_000):
        schedule = declared(size)
        assert kept() == 1
    clock.set("2026-11-25T03:00")
    runs = [alone.run(run) for run in alone.planned.fire("etl", "default")]
    runs += schedule.backfill(at("2026-11-23T00:00"), at("2026-11-24T00:00"))
    assert [len(run.input["folder"]) for run in runs] == [80_000, 80_000]
    assert kept() == 1
    declared(90_000)
    assert kept() == 2
    schedule.remove()
    assert kept() == 1
    for run in runs:
        assert len(run.input["folder"]) == 80_000
        run.cancel().delete()
    assert kept() == 0


def test_what_cannot_be_declared_leaves_no_artifact(alone: Nbflow):
    flow = nf.Flow("frames")

    @flow.entry
    def take(frames: Any) -> None: ...

    flow.publish()
    staged = StagedArtifacts(alone.artifacts)
    staged.put("0" * 32, b"of a flow that was unpublished meanwhile", {})
    with nothing_written(alone), pytest.raises(UnknownFlow):
        alone.planned.declare(Schedule("nobody", "s", {"every": 60_000}), staged)
    with nothing_written(alone), refused(CommandRefused, f"has {MOST_ARTIFACTS + 1} frames and the like"):
        flow.schedule(NIGHTLY, input={"frames": [np.full(9_000, n) for n in range(MOST_ARTIFACTS + 1)]})


def test_a_flow_that_is_not_published_has_no_schedule_by_name(alone: Nbflow):
    with nothing_written(alone), refused(UnknownFlow, "No flow is published as 'etl'"):
        declare(alone, "etl", NIGHTLY)


def test_where_flows_are_only_read_none_is_scheduled(alone: Nbflow):
    with launches_disabled(), pytest.raises(LaunchDisabled):
        nightly().schedule(NIGHTLY)
    assert len(nf.schedules()) == 0


def test_a_published_flow_with_a_schedule_stays_published(alone: Nbflow):
    schedule = nightly().schedule(NIGHTLY)
    with refused(CommandRefused, "started by the schedule default"):
        alone.published.unpublish("etl")
    schedule.remove()
    assert alone.published.unpublish("etl") == 1
    assert leaks(alone.store) == []
    for act in (schedule.remove, schedule.pause, lambda: schedule.next_at):
        with refused(UnknownSchedule, "has no schedule 'default'"):
            act()


# -- firing -------------------------------------------------------------------------------------------------------------


def test_nothing_is_fired_before_its_time(alone: Nbflow):
    clock = Clock(alone, "2026-11-24T12:00")
    nightly().schedule(NIGHTLY)
    clock.set("2026-11-25T01:59:59.999")
    assert alone.planned.fire("etl", "default") == []
    clock.set("2026-11-25T02:00")
    (run,) = alone.planned.fire("etl", "default")
    assert alone.planned.fire("etl", "default") == []
    started = alone.run(run)
    assert started.version == 1
    assert started.view.start["trigger"] == {
        "type": "schedule", "name": "default", "scheduledAt": "2026-11-25T02:00:00Z",
    }  # fmt: skip
    assert keys_of(alone) == ["default@2026-11-25T02:00:00Z"]
    assert list(alone.runs("etl", tag="schedule:default")["id"]) == [run]


def test_the_newest_version_is_fired(alone: Nbflow):
    clock = Clock(alone, "2026-11-24T12:00")
    schedule = nightly().schedule(NIGHTLY)
    nightly(n=2).publish()
    clock.set("2026-11-25T02:00")
    alone.planned.fire("etl", "default")
    assert schedule.last is not None
    assert schedule.last.version == 2


def test_on_the_day_the_clocks_change_it_comes_once(alone: Nbflow):
    """2026-03-29 has no 02:30 in Vienna, and 2026-10-25 has two."""
    clock = Clock(alone, "2026-03-28T12:00")
    nightly().schedule("30 2 * * *", tz="Europe/Vienna", name="s", catch_up="all", overlap="allow")
    for text in ("2026-03-28T12:00", "2026-03-30T12:00"):
        clock.set(text)
        alone.planned.fire("etl", "s")
    assert keys_of(alone) == ["s@2026-03-29T01:00:00Z", "s@2026-03-30T00:30:00Z"]
    alone.planned.remove("etl", "s")
    clock.set("2026-10-24T12:00")
    nightly().schedule("30 2 * * *", tz="Europe/Vienna", name="t", overlap="allow", catch_up="all")
    for hours in range(48):
        clock.ms += 3_600_000 * (hours > 0)
        alone.planned.fire("etl", "t")
    assert [key for key in keys_of(alone) if key[0] == "t"] == ["t@2026-10-25T00:30:00Z", "t@2026-10-26T01:30:00Z"]


@pytest.mark.parametrize(
    ("catch_up", "expected", "missed"),
    [
        ("latest", ["28"], 0),
        ("all", ["25", "26", "27", "28"], 0),
        ("none", [], 1),
    ],
)
def test_what_nobody_looked_after_is_for_the_catch_up(alone: Nbflow, catch_up: Any, expected: list[str], missed: int):
    clock = Clock(alone, "2026-11-24T12:00")
    schedule = nightly().schedule(NIGHTLY, catch_up=catch_up, overlap="allow", name="s")
    clock.set("2026-11-28T09:00")
    alone.planned.fire("etl", "s")
    assert keys_of(alone) == [f"s@2026-11-{day}T02:00:00Z" for day in expected]
    assert schedule.next_at == at("2026-11-29T02:00")
    assert alone.planned.get("etl", "s").missed == missed


def test_a_long_past_is_caught_up_with_in_portions(alone: Nbflow):
    """So that one schedule does not keep the others waiting; what is left is due still, and offered again at once."""
    clock = Clock(alone, "2026-11-24T00:00")
    nightly().schedule("1m", catch_up="all", overlap="allow")
    clock.set("2026-11-24T02:00")
    assert len(alone.planned.fire("etl", "default")) == MOST_AT_ONCE
    assert len(alone.planned.fire("etl", "default")) == 120 - MOST_AT_ONCE
    assert len(set(keys_of(alone))) == 120


def test_a_paused_schedule_is_caught_up_with_when_it_goes_on(alone: Nbflow):
    clock = Clock(alone, "2026-11-24T12:00")
    schedule = nightly().schedule(NIGHTLY)
    schedule.pause()
    clock.set("2026-11-28T09:00")
    assert schedule.next_at is None
    assert list(nf.schedules()["paused"]) == [True]
    assert alone.planned.fire("etl", "default") == []
    schedule.resume()
    assert len(alone.planned.fire("etl", "default")) == 1
    assert keys_of(alone) == ["default@2026-11-28T02:00:00Z"]


def test_a_schedule_of_another_secret_is_not_fired_and_hinders_no_other(
    alone: Nbflow, capsys: pytest.CaptureFixture[str]
):
    clock = Clock(alone, "2026-11-24T12:00")
    nightly().schedule(NIGHTLY)
    nightly("good").schedule(NIGHTLY)
    key = alone.store.keys.schedule("etl", "default")
    record: Any = alone.store.text.hget(key, "record")
    alone.store.client.hset(key, "record", record.replace('"skip"', '"allow"'))
    clock.set("2026-11-25T02:00")
    fire(alone, ["etl:default", "gone:default", "good:default"])
    assert "The schedule 'default' of flow 'etl' was not signed" in capsys.readouterr().err
    assert (len(keys_of(alone)), len(keys_of(alone, "good"))) == (0, 1)
    with refused(SignatureMismatch, "was not signed with this secret"):
        nf.schedules()


# -- exactly once -------------------------------------------------------------------------------------------------------


def test_however_many_processes_watch_each_occurrence_is_started_once(alone: Nbflow):
    clock = Clock(alone, "2026-11-24T12:00")
    nightly(long=True).schedule("1m", catch_up="all", overlap="allow")
    clock.set("2026-11-24T12:30")
    others = [Nbflow(alone.store.url, secret=SECRET, project=alone.project.root) for _ in range(6)]
    found: list[list[Any]] = [[] for _ in others]
    gate = threading.Barrier(len(others))

    def watch(n: int) -> None:
        planned = clock.seen_by(others[n])
        gate.wait()
        found[n] = planned.fire("etl", "default")

    threads = [threading.Thread(target=watch, args=(n,)) for n in range(len(others))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    runs = [run for runs in found for run in runs]
    assert len(runs) == len(set(runs)) == 30
    assert len(set(keys_of(alone))) == len(keys_of(alone)) == 30
    assert alone.planned.get("etl", "default").started == 30
    assert leaks(alone.store) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", range(3))
def test_a_process_that_dies_between_two_calls_loses_and_doubles_no_occurrence(alone: Nbflow, call: int, when: str):
    """Its calls are two: the graph of the run, which is long here, and the occurrence. A third never comes."""
    clock = Clock(alone, "2026-11-24T12:00")
    nightly(long=True).schedule(NIGHTLY)
    clock.set("2026-11-25T02:00:01")
    with Nbflow(alone.store.url, secret=SECRET, project=alone.project.root) as other:
        planned = clock.seen_by(other)
        other.planned  # noqa: B018 - what connects has connected
        has_stopped = stopped_at(other.store, call, when)
        try:
            planned.fire("etl", "default")
        except Killed:
            pass
        assert has_stopped() == (call < 2)
    clock.set("2026-11-25T02:00:11")
    alone.planned.fire("etl", "default")
    assert keys_of(alone) == ["default@2026-11-25T02:00:00Z"]
    assert alone.planned.get("etl", "default").started == 1
    assert leaks(alone.store) == []
