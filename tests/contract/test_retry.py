"""An attempt that is followed by another: settled as `retry`, put off in the due-set, queued by a tick."""

from __future__ import annotations

import json

from nbflow.model.definition import FlowSpec, StepSpec
from nbflow.model.policy import Retry
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Claimed, Machine, silent


def _again(delay_ms: int, attempt: int = 2) -> str:
    data = {"error": "E: boom", "traceback": "", "reason": "error", "delay": delay_ms, "nextAttempt": attempt}
    return json.dumps(data | {"maxAttempts": 3})


def _claimed(machine: Machine) -> Claimed:
    task = machine.claim()
    assert task is not None
    return task


def _begin(store: Store) -> tuple[Machine, Claimed]:
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch()
    return machine, _claimed(machine)


def test_a_retry_waits_in_the_due_set_and_is_queued_when_it_is_due(store: Store) -> None:
    machine, task = _begin(store)
    assert machine.settle(task, outcome="retry", data=_again(60_000)) == ("OK", None)
    assert machine.told()[-1] == "step.retry s0"
    assert machine.run_field("N") == "1"
    assert store.client.llen(store.keys.rq_queue("default")) == 0
    gone, due_ms, _ = store.run_script("tick")
    assert gone == []
    assert 59_000 < int(due_ms) <= 60_000
    store.client.zadd(store.keys.timers(), {f"retry {'r1__s0__attempt-2'}": 1})
    assert store.run_script("tick") == [[], b"", []]
    queued = machine.events()[-1]
    assert (queued.type, queued.attempt, queued.data) == ("step.queued", 2, {"queue": "default", "because": ["retry"]})
    again = _claimed(machine)
    assert (again.task, again.attempt, again.payloads) == ("s0", 2, task.payloads)
    machine.settle(again, silent("step:s0"))
    machine.settle(_claimed(machine))
    assert machine.run_field("status") == "completed"
    assert leaks(store) == []


def test_a_retry_settled_twice_is_one_retry(store: Store) -> None:
    machine, task = _begin(store)
    machine.settle(task, outcome="retry", data=_again(60_000))
    before = everything(store)
    assert machine.settle(task, outcome="retry", data=_again(60_000)) == ("AGAIN", None)
    assert everything(store) == before


def test_a_cancel_takes_the_attempt_that_waits_as_well(store: Store) -> None:
    machine, task = _begin(store)
    machine.settle(task, outcome="retry", data=_again(60_000))
    store.run_script("cancel", id="r1", reason='""', by="{}")
    assert machine.told()[-2:] == ["flow.cancel", "step.canceled s0"]
    assert machine.events()[-1].attempt == 2
    assert not store.client.exists(store.keys.timers())
    assert leaks(store) == []


def test_what_is_not_counted_comes_back_as_the_same_attempt(store: Store) -> None:
    machine, task = _begin(store)
    machine.settle(task, outcome="retry", data=_again(0, attempt=1))
    store.run_script("tick")
    assert _claimed(machine).attempt == 1


def test_a_step_that_had_to_be_killed_for_its_timeout_follows_its_policy(store: Store) -> None:
    """The worker could say nothing any more; the script knows the policy from the plan."""
    flow = FlowSpec("f", (StepSpec("s", retry=Retry(2, backoff=30.0), timeout_s=1.0),))
    machine = Machine(store, flow)
    machine.birth("w")
    machine.launch()
    _claimed(machine)
    store.run_script("giveback", worker="w", cause="timeout: killed by SIGKILL")
    retry = machine.events()[-1]
    assert (retry.type, retry.data["reason"], retry.data["delay"], retry.data["nextAttempt"]) == (
        "step.retry", "timeout", 30_000, 2,
    )  # fmt: skip
    store.client.zadd(store.keys.timers(), {"retry r1__s__attempt-2": 1})
    store.run_script("tick")
    machine.birth("w")
    _claimed(machine)
    store.run_script("giveback", worker="w", cause="timeout: killed by SIGKILL")
    assert machine.told()[-2:] == ["step.failed s", "flow.failed"]
    assert machine.events()[-2].data["reason"] == "timeout"
    assert leaks(store) == []
