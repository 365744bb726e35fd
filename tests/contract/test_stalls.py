"""tick: `flow.stalled` when no task of a run could go on for the flow's time, `flow.recovered` when one can again; each once,
whoever ticks how often."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from nbflow.model.definition import FlowSpec
from nbflow.model.view import View, reduce
from nbflow.store.connect import Store
from nbflow.store.obstacles import Obstacles
from tests.graphs import chain, flow, step
from tests.leaks import leaks
from tests.machine import Machine
from tests.site import wait_until

STALLS = "nbflow:stalls"


def launched(store: Store, spec: FlowSpec | None = None, *, after_s: float = 0.001, **options: Any) -> Machine:
    machine = Machine(store, replace(spec or chain(2), stall_after_s=after_s))
    machine.launch("r1", **options)
    return machine


def lives(store: Store, machine: Machine, worker: str = "w") -> None:
    machine.birth(worker)
    store.client.sadd("rq:workers:default", store.keys.rq_worker(worker))
    store.client.zadd(store.keys.workers(), {worker: int(time.time() * 1000) + 600_000})


def ticked(store: Store, times: int = 3) -> None:
    """Several ticks, each when a look is due and the time of the run is over."""
    now_ms = Obstacles(store).now_ms
    for _ in range(times):
        end = now_ms() + 2
        wait_until(lambda end=end: now_ms() > end)
        store.client.zadd(STALLS, {"r1": 1}, xx=True)
        store.run_script("tick")


def said(machine: Machine) -> list[str]:
    events = [event for event in machine.events() if event.type in ("flow.stalled", "flow.recovered")]
    return [f"{event.type.removeprefix('flow.')} {event.data['cause']} {event.data['queue']}" for event in events]


def test_a_run_that_nobody_serves_is_stalled_once_and_recovers_once(store: Store) -> None:
    machine = launched(store)
    ticked(store)
    assert said(machine) == ["stalled no_worker default"]
    lives(store, machine)
    ticked(store)
    assert said(machine) == ["stalled no_worker default", "recovered no_worker default"]
    store.client.sadd(store.keys.paused(), "default")
    ticked(store)
    assert said(machine)[2:] == ["stalled paused default"]
    view = View("r1")
    for event in machine.events():
        reduce(view, event)
    assert view.stalled == {"cause": "paused", "queue": "default"}


@pytest.mark.parametrize("cause", ["suspended", "paused", "no_worker", "cannot_open"])
def test_each_cause_is_named(store: Store, cause: str) -> None:
    machine = launched(store)
    if cause != "no_worker":
        lives(store, machine)
    if cause == "suspended":
        store.client.set("rq:suspended", 1)
    if cause == "paused":
        store.client.sadd(store.keys.paused(), "default")
    if cause == "cannot_open":
        task = machine.claim("w")
        assert task is not None
        machine.settle(task, outcome="declined", data='{"lacks":"polars","again":300000}')
    ticked(store)
    assert said(machine) == [f"stalled {cause} default"]
    told = Obstacles(store).stalled("r1")
    assert told is not None
    assert told.cause == cause


def test_within_its_time_a_run_is_not_stalled_and_an_event_begins_it_anew(store: Store) -> None:
    machine = launched(store, after_s=60)
    due = store.client.zscore(STALLS, "r1")
    ticked(store)
    assert said(machine) == []
    assert float(str(store.client.zscore(STALLS, "r1"))) >= float(str(due))


def test_a_look_that_finds_a_task_that_can_go_on_begins_the_time_anew(store: Store) -> None:
    machine = launched(store, after_s=60)
    lives(store, machine)
    ticked(store, 1)
    free = int(machine.run_field("free"))
    assert abs(free - Obstacles(store).now_ms()) < 60_000
    store.client.sadd(store.keys.paused(), "default")
    store.client.hset(store.keys.run("r1"), "free", free + 600_000)
    ticked(store)
    assert said(machine) == []
    assert Obstacles(store).stalled("r1") is None, "readers see it alike"


def test_what_runs_waits_or_is_delayed_is_not_stalled(store: Store) -> None:
    machine = launched(store, flow(step("a"), step("b", queue="elsewhere")))
    lives(store, machine)
    machine.queues = ["default"]
    assert machine.claim("w") is not None
    ticked(store)
    assert said(machine) == [], "one task that goes on is enough"
    store.client.flushall()
    machine = launched(store, delay="3600000")
    ticked(store)
    assert said(machine) == []


def test_an_end_ends_it_and_nothing_is_left(store: Store) -> None:
    machine = launched(store)
    ticked(store)
    assert store.client.zrange(STALLS, 0, -1) == [b"r1"]
    store.run_script("cancel", id="r1", reason='""', by="{}")
    machine.slice_all()
    assert not store.client.exists(STALLS)
    store.client.zadd(STALLS, {"r1": 1, "gone": 1})
    store.run_script("tick")
    assert not store.client.exists(STALLS), "what an older release left, or a deleted run"
    assert said(machine) == ["stalled no_worker default"]
    assert leaks(store) == []


def test_a_tick_looks_at_a_hundred_runs(store: Store) -> None:
    store.client.zadd(STALLS, {f"gone{i}": i for i in range(150)})
    store.run_script("tick")
    assert store.client.zcard(STALLS) == 50
