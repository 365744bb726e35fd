"""Stalled, as readers see it without anybody who ticks: for a while no outstanding task could go on without somebody acting.
What is not stalled is a line each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nbflow.model.definition import FlowSpec
from nbflow.store.connect import Store
from nbflow.store.index import Index
from nbflow.store.obstacles import Obstacles
from tests.graphs import flow, step
from tests.machine import Claimed, Machine
from tests.site import wait_until


@pytest.fixture
def store(server: str) -> Iterator[Store]:
    store = Store(server)
    store.client.flushall()
    yield store
    store.close()


def launched(store: Store, spec: FlowSpec | None = None, **options: Any) -> Machine:
    machine = Machine(store, replace(spec or flow(step("a")), stall_after_s=0.001))
    machine.launch("r1", **options)
    return machine


def a_moment(store: Store) -> None:
    """The while is over that this run takes for stalled."""
    now_ms = Obstacles(store).now_ms
    end = now_ms() + 2
    wait_until(lambda: now_ms() > end)


def lives(store: Store, machine: Machine, worker: str = "w") -> None:
    machine.birth(worker)
    store.client.sadd("rq:workers:default", store.keys.rq_worker(worker))
    store.client.zadd(store.keys.workers(), {worker: int(time.time() * 1000) + 600_000})


def cause(store: Store) -> str | None:
    a_moment(store)
    told = Obstacles(store).stalled("r1")
    listed = [row.id for row in Index(store).runs(stalled=True)]
    assert listed == (["r1"] if told else [])
    assert [row.id for row in Index(store).runs(stalled=False)] == ([] if told else ["r1"])
    return told and told.cause


def must(task: Claimed | None) -> Claimed:
    assert task is not None
    return task


def test_nobody_serves_the_queue(store: Store) -> None:
    launched(store)
    assert cause(store) == "no_worker"


def test_the_queue_is_paused_or_rq_suspended(store: Store) -> None:
    lives(store, launched(store))
    store.client.sadd(store.keys.paused(), "default")
    assert cause(store) == "paused"
    store.client.set("rq:suspended", 1)
    assert cause(store) == "suspended"


def test_no_worker_can_open_the_code(store: Store) -> None:
    machine = launched(store)
    lives(store, machine)
    machine.settle(must(machine.claim("w")), outcome="declined", data='{"lacks":"polars","again":300000}')
    assert cause(store) == "cannot_open"
    lives(store, machine, "v")
    assert cause(store) is None, "another one may"


def test_a_lease_is_over_and_nobody_ticks(store: Store) -> None:
    machine = launched(store)
    lives(store, machine)
    must(machine.claim("w"))
    store.client.zadd(store.keys.workers(), {"w": 1})
    assert cause(store) == "lost"


def test_a_retry_is_overdue_and_nobody_ticks(store: Store) -> None:
    machine = launched(store)
    lives(store, machine)
    data = '{"error":"E","delay":60000,"nextAttempt":2}'
    machine.settle(must(machine.claim("w")), outcome="retry", data=data)
    assert cause(store) is None, "it is still to come"
    store.client.zadd(store.keys.timers(), {"retry r1__a__attempt-2": 1})
    assert cause(store) == "overdue"


def test_a_place_in_a_served_queue_and_a_live_lease_are_not_stalled(store: Store) -> None:
    machine = launched(store)
    lives(store, machine)
    assert cause(store) is None
    must(machine.claim("w"))
    assert cause(store) is None


def test_one_task_that_goes_on_is_enough(store: Store) -> None:
    machine = launched(store, flow(step("a"), step("b", queue="elsewhere")))
    lives(store, machine)
    assert cause(store) is None
    machine.queues = ["default"]
    must(machine.claim("w"))
    assert cause(store) is None


def test_a_delayed_start_is_not_stalled(store: Store) -> None:
    launched(store, delay="3600000")
    assert Obstacles(store).stalled("r1") is None


def test_within_the_time_of_the_flow_nothing_is_stalled(store: Store) -> None:
    Machine(store, flow(step("a"))).launch("r1")
    assert cause(store) is None


def test_an_ended_run_is_not_stalled(store: Store) -> None:
    machine = launched(store)
    store.run_script("cancel", id="r1", reason='""', by="{}")
    machine.slice_all()
    assert cause(store) is None
