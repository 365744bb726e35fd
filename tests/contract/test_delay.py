"""A delayed start: the run exists at once, its entries are queued by the tick after it is due, by the server's clock."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime

import pytest

from nbflow.store.connect import Store
from nbflow.store.index import Index
from tests.contract.everything import everything
from tests.graphs import chain, collect, each, flow, step
from tests.leaks import leaks
from tests.machine import Machine

HOUR = "3600000"


def now_ms(store: Store) -> int:
    seconds, micros = store.client.time()  # pyright: ignore[reportGeneralTypeIssues]
    return seconds * 1000 + micros // 1000


def make_due(store: Store, run: str = "r1") -> None:
    """The hour is over."""
    store.client.zadd(store.keys.timers(), {f"start {run}": 1})


def test_a_delayed_run_exists_and_nothing_of_it_is_queued(store: Store):
    machine = Machine(store, chain(2))
    before = now_ms(store)
    assert machine.launch("r1", '{"n":1}', delay=HOUR) == [b"OK", b"r1"]
    due = store.client.zscore(store.keys.timers(), "start r1")
    assert isinstance(due, float)
    assert before + 3_600_000 <= due <= now_ms(store) + 3_600_000
    (start,) = machine.events()
    told = datetime.fromisoformat(start.data.pop("dueAt"))
    assert told.timestamp() * 1000 == pytest.approx(due, abs=0.5)
    assert start.data == {"input": {"n": 1}, "bundle": "b"}
    assert not store.client.exists(store.keys.rq_queue("default"), store.keys.wake("default"))
    assert leaks(store) == []


def test_when_it_is_due_its_entries_are_queued(store: Store):
    machine = Machine(store, flow(step("a"), step("b")))
    machine.birth("w")
    machine.launch(delay=HOUR)
    store.run_script("tick")
    assert machine.told() == ["flow.start"], "not yet"
    make_due(store)
    store.run_script("tick")
    assert machine.told() == ["flow.start", "step.queued a", "step.queued b"]
    assert store.client.llen(store.keys.wake("default")) == 2
    for task in [machine.claim(), machine.claim()]:
        assert task is not None
        machine.settle(task)
    assert machine.run_field("status") == "completed"
    assert leaks(store) == []


def test_what_can_never_be_reached_is_skipped_when_it_starts(store: Store):
    machine = Machine(store, flow(step("a"), step("b", each("t")), step("c", collect("step:b"))))
    machine.launch(delay=HOUR)
    assert machine.told() == ["flow.start"]
    make_due(store)
    store.run_script("tick")
    assert machine.told()[1:] == ["step.queued a", "step.skipped b", "step.skipped c"]


def test_a_start_that_comes_twice_starts_once(store: Store):
    machine = Machine(store, chain(1))
    machine.launch(delay=HOUR)
    for _ in range(2):
        make_due(store)
        store.run_script("tick")
    assert machine.told() == ["flow.start", "step.queued s0"]


def test_the_tick_says_how_long_it_is(store: Store):
    Machine(store, chain(1)).launch(delay="5000")
    gone, due_ms, _ = store.run_script("tick")
    assert gone == []
    assert 4000 < int(due_ms) <= 5000


def test_a_moment_may_be_given(store: Store):
    machine = Machine(store, chain(1))
    moment = now_ms(store) + 60_000
    machine.launch(delay=f"@{moment}")
    assert store.client.zscore(store.keys.timers(), "start r1") == moment


@pytest.mark.parametrize("delay", ["0", "@1", "@1700000000000"])
def test_a_moment_that_is_over_is_no_delay(store: Store, delay: str):
    machine = Machine(store, chain(1))
    machine.launch(delay=delay)
    assert machine.told() == ["flow.start", "step.queued s0"]
    assert "dueAt" not in machine.events()[0].data
    assert not store.client.exists(store.keys.timers())


def test_canceled_before_it_is_due_it_never_starts(store: Store):
    machine = Machine(store, chain(2))
    machine.launch(delay=HOUR)
    assert store.run_script("cancel", id="r1", reason='"no"', by="{}") == [b"OK"]
    assert not store.client.exists(store.keys.timers())
    make_due(store)
    store.run_script("tick")
    assert machine.told() == ["flow.start", "flow.cancel"]
    assert machine.events()[-1].data["previousStatus"] == "awaiting"
    assert leaks(store) == []


def test_its_key_is_taken_from_the_launch_on(store: Store):
    machine = Machine(store, chain(1))
    machine.launch("r1", key="k", delay=HOUR)
    before = everything(store)
    assert machine.launch("r2", key="k", delay=HOUR) == [b"KEY", b"r1", b"same"]
    assert everything(store) == before


def test_the_deadline_counts_from_the_launch(store: Store):
    machine = Machine(store, replace(chain(1), deadline_s=60.0))
    machine.launch(delay="30000")
    deadline, due = (store.client.zscore(store.keys.timers(), f"{what} r1") for what in ("deadline", "start"))
    assert isinstance(deadline, float)
    assert isinstance(due, float)
    assert deadline - due == 30_000


def test_it_is_awaiting_until_it_starts(store: Store):
    machine, index = Machine(store, chain(1)), Index(store)
    machine.launch("r1", delay=HOUR)
    machine.launch("r2")
    assert {row.id: row.status for row in index.runs()} == {"r1": "awaiting", "r2": "running"}
    assert [row.id for row in index.runs(status="awaiting")] == ["r1"]
    assert [row.id for row in index.runs(status="running")] == ["r2"]
    due = index.run("r1").due_ms
    assert due is not None
    assert due > time.time() * 1000
    make_due(store)
    store.run_script("tick")
    assert index.run("r1").status == "running"
    assert index.run("r1").due_ms is None


def test_the_queue_and_priority_of_the_run_hold_when_it_starts(store: Store):
    machine = Machine(store, chain(1))
    machine.launch(queue="slow", priority="4", delay=HOUR)
    make_due(store)
    store.run_script("tick")
    assert store.text.lrange(store.keys.rq_queue("slow"), 0, -1) == ["r1__s0__attempt-1"]
    assert store.text.hget(store.keys.rq_job("r1__s0__attempt-1"), "priority") == "4"
