"""Concurrency and Rate in the scripts: who is put aside, who is called, and when a slot is free again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nbflow.model.definition import FlowSpec, StepSpec
from nbflow.model.policy import Concurrency, Rate
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.contract.test_counts import commands, counted, warm
from tests.graphs import chain, each, first, flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, silent


def limited(name: str = "a", n: int = 1, key: str | None = None, **options: Any) -> StepSpec:
    return replace(step(name, **options), concurrency=Concurrency(n, key))


def launched(store: Store, *steps: StepSpec, runs: int = 1, value: str = "{}") -> Machine:
    machine = Machine(store, flow(*steps))
    for i in range(runs):
        machine.launch(f"r{i}", value)
    return machine


def claim(machine: Machine, worker: str) -> Claimed | None:
    machine.birth(worker)
    return machine.claim(worker)


def must(task: Claimed | None) -> Claimed:
    assert task is not None
    return task


def slots(store: Store, limit: str = "c:f:a") -> set[str]:
    return store.text.smembers(f"nbflow:limit:{limit}")  # pyright: ignore[reportReturnType]


def test_a_task_over_its_limit_is_put_aside_and_does_not_block_its_queue(store: Store):
    machine = launched(store, limited(), step("b"), runs=2)
    assert [must(claim(machine, w)).job for w in ("u", "v", "w")] == [
        "r0__a__attempt-1", "r0__b__attempt-1", "r1__b__attempt-1",
    ]  # fmt: skip
    assert claim(machine, "x") is None
    assert store.text.zrange("nbflow:aside:c:f:a:default", 0, -1) == ["r1__a__attempt-1"]
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == []
    assert leaks(store) == []


def test_a_lease_is_a_slot_over_all_runs_of_the_flow(store: Store):
    machine = launched(store, limited(n=2), runs=5)
    tasks = [claim(machine, f"w{i}") for i in range(5)]
    assert [task and task.run for task in tasks] == ["r0", "r1", None, None, None]
    assert slots(store) == {f"{task.job}:{task.lease}" for task in tasks if task}


def test_another_flow_has_its_own_limit(store: Store):
    launched(store, limited())
    other = Machine(store, flow(limited(), name="g"))
    other.launch("r9")
    assert [must(claim(other, w)).run for w in ("v", "w")] == ["r0", "r9"]


@pytest.mark.parametrize("outcome", ["completed", "failed", "retry"])
def test_the_end_of_a_task_calls_the_next_and_its_worker_takes_it(store: Store, outcome: str):
    machine = launched(store, limited(), runs=3)
    task = must(claim(machine, "w"))
    assert claim(machine, "v") is None
    data = '{"error":"E","delay":60000,"nextAttempt":2}' if outcome == "retry" else ""
    status, after = machine.settle(task, outcome=outcome, data=data, want=True)
    assert (status, must(after).run) == ("OK", "r1")
    assert slots(store) == {f"{must(after).job}:{must(after).lease}"}
    assert leaks(store) == []


def test_a_settle_said_again_frees_nothing_twice(store: Store):
    machine = launched(store, limited(), runs=3)
    task = must(claim(machine, "w"))
    after = must(machine.settle(task, want=True)[1])
    before = everything(store)
    machine.leases -= 1
    assert machine.settle(task, want=True) == ("AGAIN", after)
    assert everything(store) == before


def test_a_dead_worker_gives_its_slot_back_and_its_task_goes_first(store: Store):
    machine = launched(store, limited(), runs=3)
    must(claim(machine, "w"))
    assert claim(machine, "v") is None
    store.run_script("giveback", worker="w", cause="signal 9")
    assert must(claim(machine, "u")).run == "r0"
    assert claim(machine, "x") is None
    assert leaks(store) == []


def test_a_worker_whose_lease_ran_out_gives_its_slot_back(store: Store):
    machine = launched(store, limited(), runs=2)
    must(claim(machine, "w"))
    store.client.zadd(store.keys.workers(), {"w": 1})
    store.run_script("tick")
    assert slots(store) == set()
    assert must(claim(machine, "v")).run == "r0"


def test_a_canceled_run_gives_its_slots_back_and_leaves_the_lines(store: Store):
    machine = launched(store, limited(), runs=3)
    must(claim(machine, "w"))
    assert claim(machine, "v") is None
    for run in ("r0", "r1"):
        store.run_script("cancel", id=run, reason='""', by="{}")
        machine.slice_all()
    assert leaks(store) == []
    assert must(claim(machine, "u")).run == "r2"


def test_a_late_result_of_a_canceled_run_frees_its_slot(store: Store):
    """Its slice has not come to it yet."""
    machine = launched(store, limited(), runs=2)
    task = must(claim(machine, "w"))
    store.client.hset(store.keys.run("r0"), "status", "canceled")
    assert machine.settle(task)[0] == "AGAIN"
    assert slots(store) == set()


def test_a_called_task_whose_run_is_canceled_hands_its_turn_on(store: Store):
    machine = launched(store, limited(), runs=3)
    task = must(claim(machine, "w"))
    assert claim(machine, "v") is None
    machine.settle(task)
    assert store.text.hget("nbflow:lines:c:f:a", "default") == "r1__a__attempt-1"
    store.run_script("cancel", id="r1", reason='""', by="{}")
    assert must(claim(machine, "u")).run == "r2"
    assert leaks(store) == []


def test_a_line_that_a_cancel_empties_is_forgotten_while_somebody_is_called_in_its_queue(store: Store):
    limit = Concurrency(1, key="k")
    one, other = (Machine(store, replace(flow(step(name)), concurrency=limit)) for name in ("a", "b"))
    for run in ("r0", "r1"):
        one.launch(run)
    other.launch("r2")
    task = must(claim(one, "w"))
    assert claim(one, "v") is None
    one.settle(task)
    store.run_script("cancel", id="r2", reason='""', by="{}")
    assert store.text.hgetall("nbflow:lines:c:f::~") == {"default/a": "r1__a__attempt-1"}
    assert leaks(store) == []
    assert must(claim(one, "u")).run == "r1"


def test_a_called_task_in_a_paused_queue_holds_up_nobody_elsewhere(store: Store):
    one = Machine(store, replace(flow(step("a", queue="one")), concurrency=Concurrency(1)))
    two = Machine(store, replace(flow(step("b", queue="two")), concurrency=Concurrency(1)))
    one.launch("r0")
    one.launch("r1")
    two.launch("r2")
    one.queues = ["one", "two"]
    task = must(claim(one, "w"))
    assert claim(one, "v") is None
    store.client.sadd(store.keys.paused(), "one")
    one.settle(task)
    assert must(claim(one, "u")).run == "r2"


def test_each_value_of_a_key_has_its_own_slots(store: Store):
    machine = Machine(store, flow(limited(key="customer.id")))
    for i, customer in enumerate([7, 7, "x y", "x y", None]):
        machine.launch(f"r{i}", json.dumps({"customer": {"id": customer}}))
    machine.launch("r5", "{}")
    tasks = [claim(machine, f"w{i}") for i in range(6)]
    assert [task and task.run for task in tasks] == ["r0", "r2", "r4", None, None, None]
    names = {key.rpartition(":")[2][:3] for key in store.text.scan_iter("nbflow:limit:*")}
    assert names == {"=7", "~", "#73"}


def test_a_key_is_found_in_the_element_of_a_map(store: Store):
    machine = Machine(store, flow(step("a"), replace(step("b", each("each:a")), concurrency=Concurrency(1, "a.who"))))
    machine.launch("r0")
    task = must(claim(machine, "w"))
    group: list[Any] = ["each:a", "silent", "", 3]
    for i, who in enumerate(("x", "x", "y")):
        group += [str(i), json.dumps({"$t": "record", "v": {"who": who}})]
    machine.settle(task, group)
    assert [must(claim(machine, w)).task for w in ("u", "v")] == ["b[0]", "b[2]"]
    assert claim(machine, "x") is None


def test_a_limit_of_the_flow_counts_all_its_steps(store: Store):
    machine = Machine(store, replace(flow(step("a"), step("b"), step("c")), concurrency=Concurrency(2)))
    machine.launch("r0")
    tasks = [claim(machine, f"w{i}") for i in range(3)]
    assert [task and task.task for task in tasks] == ["a", "b", None]
    assert machine.settle(must(tasks[0]), want=True)[1] is not None


def test_a_rate_counts_starts_and_tells_when_there_is_room(store: Store):
    machine = launched(store, replace(step("a"), rate=Rate(2, "1h")), runs=3)
    for worker in ("v", "w"):
        machine.settle(must(claim(machine, worker)))
    machine.birth("x")
    named = {"keys": [store.keys.rq_queue("default")], "worker": "x", "next": 9, "was": "idle"}
    got, slices, ms = store.run_script("claim", **named)
    assert (got, slices) == (None, 0)
    assert 3_590_000 < ms <= 3_600_000
    assert store.text.zrange(store.keys.timers(), 0, -1) == ["rate r:f:a"]
    for key in ("nbflow:limit:r:f:a", store.keys.timers()):
        for member in store.text.zrange(key, 0, -1):  # pyright: ignore[reportGeneralTypeIssues]
            store.client.zincrby(key, -3_600_000, str(member))
    store.run_script("tick")
    assert must(claim(machine, "y")).run == "r2"
    assert leaks(store) == []


def test_a_claim_that_puts_nobody_aside_names_no_time(store: Store):
    machine = launched(store, step("a"))
    machine.birth("w")
    named = {"keys": [store.keys.rq_queue("default")], "worker": "w", "next": 1, "was": "idle"}
    assert len(store.run_script("claim", **named)) == 2


def test_a_stock_worker_waits_with_its_task(store: Store):
    machine = launched(store, limited(), runs=2)
    task = must(claim(machine, "w"))
    machine.birth("stock")
    job = str(store.text.lpop(store.keys.rq_queue("default")))
    assert store.run_script("adopt", worker="stock", job=job, lease=1) == b"WAIT"
    machine.settle(task)
    assert store.run_script("adopt", worker="stock", job=job, lease=1)[1] == b"r1"
    assert slots(store) == {f"{job}:1"}


def test_a_plain_hop_knows_nothing_of_limits(store: Store):
    warm(store)
    machine = Machine(store, chain(3))
    machine.birth("w")
    machine.launch()
    task = must(machine.claim())
    before = commands(store)
    machine.settle(task, silent("step:s0"), want=True)
    cost = counted(store, before)
    assert not {"scard", "zcard", "incr", "hgetall", "smembers"} & cost.keys(), cost


@pytest.mark.parametrize("spec", [
    flow(limited()),
    replace(flow(limited(n=3)), concurrency=Concurrency(1)),
    replace(flow(limited(key="k")), concurrency=Concurrency(1)),
], ids=["a step", "step and flow", "step by key, and flow"])  # fmt: skip
def test_a_limited_hop_costs_the_same_however_many_wait(store: Store, spec: FlowSpec):
    warm(store)
    costs: list[int] = []
    for waiting in (10, 400):
        store.client.flushdb()
        machine = Machine(store, spec)
        for i in range(waiting):
            machine.launch(f"r{i}", json.dumps({"k": i}))
        task = must(claim(machine, "w"))
        assert claim(machine, "v") is None
        for _ in range(3):
            task = must(machine.settle(task, want=True)[1])
        before = commands(store)
        must(machine.settle(task, want=True)[1])
        costs.append(sum(counted(store, before).values()))
    assert costs[0] == costs[1]


def test_a_map_under_a_limit_is_put_aside_at_most_five_hundred_a_claim(store: Store):
    machine = Machine(store, flow(step("a"), replace(step("b", each("each:a")), concurrency=Concurrency(1))))
    machine.launch("r0")
    group: list[Any] = ["each:a", "silent", "", 1200]
    for i in range(1200):
        group += [str(i), "1"]
    machine.settle(must(claim(machine, "w")), group)
    machine.slice_all()
    assert must(claim(machine, "u")).task == "b[0]"
    store.client.delete(store.keys.wake("default"))
    assert claim(machine, "v") is None
    assert store.client.zcard("nbflow:aside:c:f:b:default") == 500
    assert store.client.llen(store.keys.wake("default")) == 1, "there may be more: somebody looks on"


def test_after_a_limited_step_the_next_one_follows(store: Store):
    machine = launched(store, limited(), step("b", first("step:a")))
    task = must(claim(machine, "w"))
    assert must(machine.settle(task, silent("step:a"), want=True)[1]).task == "b"
    assert slots(store) == set()
