"""lose: BACK · AGAIN · STALE"""

from __future__ import annotations

from dataclasses import replace

from nbflow.model.definition import StepSpec
from nbflow.model.policy import Concurrency, Retry
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine


def launched(store: Store, *steps: StepSpec) -> tuple[Machine, Claimed]:
    machine = Machine(store, flow(*steps) if steps else chain(2))
    machine.birth("w")
    machine.launch()
    task = machine.claim("w")
    assert task is not None
    return machine, task


def lose(machine: Machine, task: Claimed, cause: str = "signal 11") -> str:
    return machine.store.run_script("lose", worker=task.worker, job=task.job, lease=task.lease, cause=cause).decode()


def test_a_task_goes_back_to_the_front_as_the_same_attempt_and_its_worker_stays(store: Store):
    machine, task = launched(store, step("a"), step("b"))
    assert lose(machine, task) == "BACK"
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == [task.job, "r1__b__attempt-1"]
    assert machine.events()[-1].data == {"queue": "default", "recovered": 1, "cause": "signal 11"}
    assert store.text.hgetall("rq:worker:w")["state"] == "idle"
    assert not store.client.exists("rq:worker:w:executions")
    again = machine.claim("w")
    assert again is not None
    assert (again.task, again.attempt) == ("a", 1)
    assert leaks(store) == []


def test_said_twice_it_changes_nothing(store: Store):
    machine, task = launched(store)
    lose(machine, task)
    before = everything(store)
    assert lose(machine, task) == "AGAIN"
    assert everything(store) == before


def test_other_tasks_of_the_worker_stay_with_it(store: Store):
    machine, task = launched(store, step("a"), step("b"))
    other = machine.claim("w")
    assert other is not None
    assert lose(machine, task) == "BACK"
    assert store.text.smembers("rq:worker:w:executions") == {f"{other.job}:{other.lease}"}
    assert machine.settle(other)[0] == "OK"


def test_a_late_result_is_refused(store: Store):
    machine, task = launched(store)
    lose(machine, task)
    before = everything(store)
    assert machine.settle(task) == ("AGAIN", None)
    assert everything(store) == before


def test_a_worker_that_was_given_up_is_told_so(store: Store):
    machine, task = launched(store)
    store.run_script("giveback", worker="w", cause="")
    before = everything(store)
    assert lose(machine, task) == "STALE"
    assert everything(store) == before


def test_after_three_recoveries_the_task_fails_as_lost(store: Store):
    machine, task = launched(store)
    for _ in range(3):
        lose(machine, task)
        again = machine.claim("w")
        assert again is not None
        task = again
    assert lose(machine, task) == "BACK"
    failed = next(event for event in machine.events() if event.type == "step.failed")
    assert failed.data == {
        "error": "its process died 4 times while it ran (last: signal 11)",
        "traceback": "",
        "reason": "lost",
    }
    assert machine.run_field("status") == "failed"
    assert leaks(store) == []


def test_a_process_that_had_to_be_killed_at_its_timeout_is_a_failed_attempt(store: Store):
    machine, task = launched(store, replace(step("a"), retry=Retry(2, backoff=0)))
    lose(machine, task, "timeout: killed by SIGKILL")
    retry = machine.events()[-1]
    assert (retry.type, retry.data["reason"], retry.data["nextAttempt"]) == ("step.retry", "timeout", 2)


def test_one_that_had_to_be_killed_when_it_was_stopped_fails_for_good(store: Store):
    machine, task = launched(store, replace(step("a"), retry=Retry(2)))
    lose(machine, task, "stopped: killed by SIGKILL")
    failed = next(event for event in machine.events() if event.type == "step.failed")
    assert failed.data["reason"] == "stopped"


def test_of_a_canceled_run_nothing_comes_back_and_the_slot_is_free(store: Store):
    machine, task = launched(store, replace(step("a"), concurrency=Concurrency(1)))
    (limit,) = list(store.text.scan_iter("nbflow:limit:*"))
    store.client.hset(store.keys.run("r1"), "status", "canceled")
    assert lose(machine, task) == "AGAIN"
    assert not store.client.exists(limit)
    assert machine.told()[-1] == "step.started a"


def test_a_claim_says_which_task_wants_a_process_of_its_own(store: Store):
    machine, task = launched(store, replace(step("a"), isolation="process"), step("b"))
    plain = machine.claim("w")
    assert plain is not None
    assert (task.is_apart, plain.is_apart) == (True, False)
