"""Priorities: which of the waiting tasks of a queue comes next, whoever asks. RQ's list has the next one at its head."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbflow.model.definition import StepSpec
from nbflow.store.connect import Store
from tests.contract.test_counts import commands, counted, warm
from tests.graphs import chain, each, first, flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, silent

MOST_COMMANDS_A_CLAIM = 15
"""Of a claim where no job has a priority: one more than without priorities."""


def ranked(name: str, priority: int, **options: object) -> StepSpec:
    return replace(step(name, **options), priority=priority)  # pyright: ignore[reportArgumentType]


def waiting(store: Store, *entries: StepSpec) -> Machine:
    machine = Machine(store, flow(*entries))
    machine.birth("w")
    machine.launch()
    return machine


def all_claimed(machine: Machine) -> list[str]:
    tasks: list[str] = []
    while (task := machine.claim()) is not None:
        tasks.append(task.task)
    return tasks


def stock_pops(store: Store, machine: Machine) -> list[str]:
    """As RQ's own worker takes jobs: from the head of the list, and the job then asks to be adopted."""
    tasks: list[str] = []
    store.client.sadd("rq:workers", "rq:worker:stock")
    store.client.hset("rq:worker:stock", "queues", "default")
    while (job := store.text.lpop(store.keys.rq_queue("default"))) is not None:
        machine.leases += 1
        reply = store.run_script("adopt", worker="stock", job=job, lease=machine.leases)
        assert reply
        tasks.append(reply[2].decode())
    return tasks


LADDER = (
    ranked("zero1", 0),
    ranked("low", -10),
    ranked("high", 10),
    ranked("zero2", 0),
    ranked("lowest", -100),
    ranked("top", 100),
    ranked("high2", 10),
)
ORDER = ["top", "high", "high2", "zero1", "zero2", "low", "lowest"]


def test_higher_comes_first_and_of_equals_the_older(store: Store):
    machine = waiting(store, *LADDER)
    assert all_claimed(machine) == ORDER
    assert leaks(store) == []
    assert store.client.zcard(store.keys.priorities("default")) == 0


def test_the_head_of_rqs_list_is_the_next_for_a_stock_worker_too(store: Store):
    assert stock_pops(store, waiting(store, *LADDER)) == ORDER


def test_where_tasks_wait_rqs_list_is_not_empty(store: Store):
    """RQ's workers block on the list, and our direct hand-over asks whether it is empty."""
    machine = waiting(store, ranked("a", -1), ranked("b", 5), ranked("c", -1))
    while (left := 3 - machine.leases) > 0:
        listed = store.client.llen(store.keys.rq_queue("default"))
        assert 1 <= int(str(listed)) <= left
        machine.claim()
    assert store.client.llen(store.keys.rq_queue("default")) == 0
    assert store.text.smembers("rq:queues") == {"rq:queue:default"}


def test_what_comes_later_with_a_higher_priority_comes_before(store: Store):
    machine = waiting(store, ranked("a", 1), ranked("b", 1))
    urgent = Machine(store, flow(ranked("u", 2), ranked("zero", 0), name="other"))
    urgent.launch("r2")
    assert all_claimed(machine) == ["u", "a", "b", "zero"]


def test_a_task_of_negative_priority_yields_to_what_comes_after_it(store: Store):
    machine = waiting(store, ranked("low", -1), ranked("low2", -1))
    Machine(store, flow(step("z"), step("z2"), name="other")).launch("r2")
    assert all_claimed(machine) == ["z", "z2", "low", "low2"]


def test_an_equal_of_negative_priority_does_not_yield(store: Store):
    machine = waiting(store, ranked("low", -1))
    Machine(store, flow(ranked("low2", -1), ranked("low3", -2), name="other")).launch("r2")
    assert all_claimed(machine) == ["low", "low2", "low3"]


def test_a_job_of_rqs_own_holds_no_low_priority_back(store: Store):
    """It waits for a worker of its own kind, maybe for ever."""
    store.client.hset("rq:job:stranger", mapping={"status": "queued", "origin": "default"})
    store.client.rpush(store.keys.rq_queue("default"), "stranger")
    machine = waiting(store, ranked("low", -1), ranked("low2", -2), ranked("high", 1), step("zero"))
    assert all_claimed(machine) == ["high", "zero", "low", "low2"]
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == ["stranger"]


def test_the_priority_of_a_run_is_that_of_all_its_tasks(store: Store):
    machine = Machine(store, flow(ranked("a", 50), step("b")))
    machine.birth("w")
    machine.launch("r1", priority="-5")
    Machine(store, flow(ranked("c", -1), name="other")).launch("r2")
    assert all_claimed(machine) == ["c", "a", "b"]


def test_a_run_of_priority_zero_is_as_usual(store: Store):
    machine = Machine(store, flow(ranked("a", 50), step("b")))
    machine.birth("w")
    machine.launch("r1", priority="0")
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == ["r1__a__attempt-1", "r1__b__attempt-1"]
    assert not store.client.exists("nbflow:prio")


def settled(machine: Machine, task: Claimed, name: str = "a") -> str:
    status, got = machine.settle(task, silent(f"step:{name}"), want=True)
    assert status == "OK"
    assert got is not None
    return got.task


def test_the_settling_worker_takes_the_best_of_what_it_made(store: Store):
    after = replace(step("c", first("step:a")), priority=9)
    machine = waiting(store, step("a"), step("b", first("step:a")), after)
    task = machine.claim()
    assert task is not None
    assert settled(machine, task) == "c"
    assert machine.told()[-3:] == ["step.queued b", "step.queued c", "step.started c"]


def test_a_task_with_a_priority_is_handed_over_where_nothing_waits(store: Store):
    machine = waiting(store, step("a"), replace(step("c", first("step:a")), priority=9))
    task = machine.claim()
    assert task is not None
    assert settled(machine, task) == "c"
    assert store.client.llen(store.keys.wake("default")) <= 1


def test_a_map_of_a_priority_keeps_the_order_of_its_indexes(store: Store):
    machine = waiting(store, step("a"), replace(step("b", each("each:a")), priority=3))
    task = machine.claim()
    assert task is not None
    group = ["each:a", "silent", "", 30]
    for i in range(30):
        group += [str(i), "1"]
    machine.settle(task, group)
    assert all_claimed(machine) == [f"b[{i}]" for i in range(30)]


@pytest.mark.parametrize("priority", [7, 0, -7])
def test_a_task_given_back_comes_before_its_equals(store: Store, priority: int):
    machine = waiting(store, ranked("a", priority), ranked("b", priority), ranked("top", 50))
    tasks = [machine.claim(), machine.claim()]
    assert [task.task for task in tasks if task] == ["top", "a"]
    store.run_script("giveback", worker="w", cause="killed")
    machine.birth("w")
    assert all_claimed(machine) == ["top", "a", "b"]
    assert leaks(store) == []


def test_what_is_given_back_does_not_hide_what_was_lifted(store: Store):
    """A task without priority that is given back goes before its equals, and behind those of a positive priority."""
    machine = waiting(store, step("a"), step("b"))
    assert machine.claim() is not None
    Machine(store, flow(ranked("h1", 5), ranked("h2", 5), name="other")).launch("r2")
    store.run_script("giveback", worker="w", cause="killed")
    machine.birth("w")
    assert all_claimed(machine) == ["h1", "h2", "a", "b"]


def test_a_retry_keeps_the_priority(store: Store):
    machine = waiting(store, ranked("a", 5))
    task = machine.claim()
    assert task is not None
    data = '{"error":"E","traceback":"","reason":"error","delay":0,"nextAttempt":2,"maxAttempts":3}'
    machine.settle(task, outcome="retry", data=data)
    Machine(store, flow(step("z"), name="other")).launch("r2")
    store.run_script("tick")
    assert all_claimed(machine) == ["a", "z"]


def test_a_cancel_removes_them_wherever_they_wait(store: Store):
    machine = waiting(store, *LADDER)
    Machine(store, flow(ranked("rest", -3), name="other")).launch("r2")
    store.run_script("cancel", id="r1", reason='""', by="{}")
    machine.slice_all()
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == ["r2__rest__attempt-1"], "the next one is lifted"
    assert store.client.zcard(store.keys.priorities("default")) == 0
    assert leaks(store) == []


def test_a_list_emptied_by_others_is_filled_again(store: Store):
    """`rq empty`, or a stock worker that died before it could say what it took."""
    machine = waiting(store, ranked("a", 5), ranked("b", 4))
    store.client.delete(store.keys.rq_queue("default"), store.keys.wake("default"))
    store.run_script("tick")
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == ["r1__b__attempt-1"]
    assert store.client.llen(store.keys.wake("default")) == 1
    assert all_claimed(machine) == ["b"]


def test_a_claim_finds_them_even_if_the_list_was_emptied(store: Store):
    machine = waiting(store, ranked("a", 5), ranked("b", -4))
    store.client.delete(store.keys.rq_queue("default"))
    assert all_claimed(machine) == ["b"]


def test_a_claim_where_nothing_has_a_priority_costs_one_command_more(store: Store):
    warm(store)
    machine = Machine(store, chain(1))
    machine.birth("w")
    machine.launch()
    before = commands(store)
    machine.claim()
    cost = counted(store, before)
    assert sum(cost.values()) == MOST_COMMANDS_A_CLAIM, dict(sorted(cost.items()))
    assert cost.get("zrange", 0) == 1


@pytest.mark.parametrize("count", [10, 2000])
def test_a_claim_costs_the_same_however_many_wait(store: Store, count: int):
    warm(store)
    machine = Machine(store, flow(ranked("a", 3)))
    machine.birth("w")
    for i in range(count):
        machine.launch(f"r{i}")
    before = commands(store)
    machine.claim()
    assert sum(counted(store, before).values()) <= MOST_COMMANDS_A_CLAIM + 5
    assert store.client.llen(store.keys.rq_queue("default")) == 1, "nothing is searched in a list"
