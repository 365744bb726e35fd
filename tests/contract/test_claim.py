"""claim: {job or false, slices 0|1}"""

from __future__ import annotations

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, each, first, flow, step
from tests.leaks import leaks
from tests.machine import Machine, silent


def launched(store: Store, *, length: int = 2) -> Machine:
    machine = Machine(store, chain(length))
    machine.birth("w")
    machine.launch()
    return machine


def test_a_claim_gives_the_task_with_a_lease(store: Store):
    machine = launched(store)
    task = machine.claim()
    assert task is not None
    assert (task.job, task.run, task.task, task.attempt, task.queue) == ("r1__s0__attempt-1", "r1", "s0", 1, "default")
    assert store.text.smembers("rq:worker:w:executions") == {f"{task.job}:1"}
    assert store.text.hget("rq:worker:w", "state") == "busy"
    assert store.text.hmget(store.keys.rq_job(task.job), "status", "worker_name", "lease") == ["started", "w", "1"]
    assert machine.told()[-1] == "step.started s0"
    assert leaks(store) == []


def test_nothing_waits_and_nothing_is_given(store: Store):
    machine = launched(store)
    machine.claim()
    assert store.client.llen(store.keys.wake("default")) == 1
    assert machine.claim() is None
    assert store.client.llen(store.keys.wake("default")) == 0, "no token for an empty queue"


def test_a_busy_worker_that_finds_nothing_is_idle(store: Store):
    machine = launched(store)
    machine.claim()
    assert machine.claim(was="busy") is None
    assert store.text.hget("rq:worker:w", "state") == "idle"


def test_a_claim_says_whether_slices_are_left(store: Store):
    launched(store)
    named = {"keys": [store.keys.rq_queue("default")], "worker": "w", "was": "idle"}
    assert store.run_script("claim", next=1, **named)[1] == 0
    store.client.rpush("nbflow:slices", "r1 *cancel")
    assert store.run_script("claim", next=2, **named) == [None, 1]


def test_a_claim_said_again_gives_the_same_task(store: Store):
    machine = launched(store)
    task = machine.claim()
    before = everything(store)
    machine.leases -= 1
    assert machine.claim(was="again") == task
    assert everything(store) == before


def test_a_claim_said_again_whose_first_never_arrived_claims(store: Store):
    task = launched(store).claim(was="again")
    assert task is not None
    assert task.task == "s0"


def test_queues_are_served_in_the_order_of_the_worker(store: Store):
    machine = Machine(store, flow(step("a", queue="low"), step("b", queue="high")))
    machine.birth("w")
    machine.launch()
    machine.queues = ["high", "low"]
    tasks = [machine.claim(), machine.claim()]
    assert [task.task for task in tasks if task] == ["b", "a"]


def test_suspended_rq_gives_nothing(store: Store):
    machine = launched(store)
    store.client.set("rq:suspended", 1)
    before = everything(store)
    assert machine.claim() is None
    assert everything(store) == before


def test_jobs_that_were_canceled_are_passed_over(store: Store):
    machine = launched(store)
    store.client.lpush(store.keys.rq_queue("default"), "r0__x__attempt-1", "r0__y__attempt-1")
    task = machine.claim()
    assert task is not None
    assert task.task == "s0"


def test_five_hundred_canceled_jobs_are_enough_for_one_claim_and_the_next_comes_at_once(store: Store):
    machine = launched(store)
    store.client.lpush(store.keys.rq_queue("default"), *(f"r0__x-{i}__attempt-1" for i in range(700)))
    store.client.delete(store.keys.wake("default"))
    assert machine.claim() is None
    assert store.client.llen(store.keys.wake("default")) == 1, "or an idle worker would wait beside a task"
    assert machine.claim() is not None


def test_a_task_of_a_canceled_run_does_not_start(store: Store):
    """Its slice has not removed it yet."""
    machine = launched(store)
    store.client.hset(store.keys.run("r1"), "status", "canceled")
    assert machine.claim() is None
    assert machine.told()[-1] == "step.queued s0"


def test_a_short_input_is_shown_in_the_event(store: Store):
    machine = Machine(store, flow(step("a"), step("b"), step("c", first("step:a"), first("step:b"))))
    machine.birth("w")
    machine.launch("r1", '{"n":1}')
    for payload in ('{"x":1}', "[2]"):
        task = machine.claim()
        assert task is not None
        machine.settle(task, silent(f"step:{task.task}", payload))
    machine.claim()
    shown = {event.task: event.data for event in machine.events() if event.type == "step.started"}
    assert shown == {
        "a": {"worker": "w", "input": {"n": 1}},
        "b": {"worker": "w", "input": {"n": 1}},
        "c": {"worker": "w", "input": [{"x": 1}, [2]]},
    }


def test_a_long_input_is_not_shown(store: Store):
    machine = launched(store)
    task = machine.claim()
    assert task is not None
    machine.settle(task, silent("step:s0", '"' + "x" * 300 + '"'), want=True)
    assert machine.events()[-1].data == {"worker": "w"}


def test_an_element_is_handed_over_with_its_key(store: Store):
    machine = Machine(store, flow(step("a"), step("b", each("each:a"), has_key=True)))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    machine.settle(task, ["b", "key", "", 1, "0", "red", "each:a", "silent", "", 1, "0", "7"])
    reply, _ = store.run_script("claim", keys=[store.keys.rq_queue("default")], worker="w", next=9, was="idle")
    assert [reply[2], reply[5], reply[15]] == [b"b[0]", b"red", b"7"]
