"""giveback: the jobs given back"""

from __future__ import annotations

import json

from nbflow.model.codec import Codec
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, collect, each, first, flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, silent


def lose(machine: Machine, times: int) -> Claimed:
    """The next task, whose worker dies so often."""
    task: Claimed | None = None
    for _ in range(times):
        machine.birth("w")
        task = machine.claim("w")
        assert task is not None
        assert machine.store.run_script("giveback", worker="w", cause="signal 9") == [task.job.encode()]
    assert task is not None
    return task


def launched(store: Store, *steps: object) -> Machine:
    machine = Machine(store, flow(*steps) if steps else chain(2))  # type: ignore[arg-type]
    machine.launch()
    return machine


def test_a_task_goes_back_to_the_front_as_the_same_attempt(store: Store):
    machine = launched(store, step("a"), step("b"), step("c"))
    task = lose(machine, 1)
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == [
        task.job,
        "r1__b__attempt-1",
        "r1__c__attempt-1",
    ]
    queued = machine.events()[-1]
    assert (queued.type, queued.task, queued.attempt) == ("step.queued", "a", 1)
    assert queued.data == {"queue": "default", "recovered": 1, "cause": "signal 9"}
    machine.birth("v")
    again = machine.claim("v")
    assert again is not None
    assert (again.task, again.attempt) == ("a", 1)
    assert machine.events()[-1].data == {"worker": "v", "input": {}, "recovered": 1}
    assert leaks(store) == []


def test_a_worker_that_held_nothing_ends_its_registration(store: Store):
    machine = Machine(store, chain(1))
    machine.birth("w")
    store.client.sadd("rq:workers:default", "rq:worker:w")
    store.client.zadd(store.keys.workers(), {"w": 1})
    assert store.run_script("giveback", worker="w", cause="") == []
    assert not store.client.exists("rq:worker:w", "rq:workers", "rq:workers:default", store.keys.workers())


def test_giving_back_twice_changes_nothing(store: Store):
    machine = launched(store)
    lose(machine, 1)
    before = everything(store)
    assert store.run_script("giveback", worker="w", cause="") == []
    assert everything(store) == before


def test_an_end_without_a_cause_names_none(store: Store):
    machine = launched(store)
    machine.birth("w")
    machine.claim("w")
    store.run_script("giveback", worker="w", cause="")
    assert machine.events()[-1].data == {"queue": "default", "recovered": 1}


def test_a_token_wakes_another_worker(store: Store):
    machine = launched(store)
    store.client.delete(store.keys.wake("default"))
    lose(machine, 1)
    assert int(str(store.client.llen(store.keys.wake("default")))) >= 1


def test_a_late_result_of_a_lost_execution_is_refused(store: Store):
    machine = launched(store)
    task = lose(machine, 1)
    before = everything(store)
    assert machine.settle(task) == ("STALE", None)
    machine.birth("v")
    machine.claim("v")
    before = everything(store)
    assert machine.settle(task) == ("STALE", None)
    assert everything(store) == before


def test_after_three_recoveries_the_task_fails_as_lost(store: Store):
    machine = launched(store)
    lose(machine, 3)
    assert machine.events()[-1].data["recovered"] == 3
    lose(machine, 1)
    failed, skipped, end = machine.events()[-3:]
    assert (failed.type, failed.task, failed.attempt) == ("step.failed", "s0", 1)
    assert failed.data == {
        "error": "the worker died 4 times while it ran (last: signal 9)",
        "traceback": "",
        "reason": "lost",
    }
    assert skipped.data == {"reason": "short"}
    assert (end.type, end.data["failedStep"], end.data["error"]) == ("flow.failed", "s0", failed.data["error"])
    assert leaks(store) == []


def test_a_lost_task_is_a_failure_to_those_who_subscribe_to_it(store: Store):
    machine = launched(store, step("a"), step("b", first("failed:a")))
    lose(machine, 4)
    machine.birth("v")
    handler = machine.claim("v")
    assert handler is not None
    assert json.loads(handler.payloads[0] or "") == {
        "error": "the worker died 4 times while it ran (last: signal 9)",
        "traceback": "",
        "attempt": 1,
        "index": None,
        "key": None,
        "input": None,
    }
    machine.settle(handler)
    assert machine.run_field("status") == "completed"


def test_a_lost_element_tells_its_index_and_key(store: Store):
    machine = launched(
        store,
        step("a"),
        step("b", each("each:a"), has_key=True),
        step("c", each("failed:b")),
        step("d", collect("step:b")),
    )
    machine.birth("w")
    entry = machine.claim("w")
    assert entry is not None
    machine.settle(entry, ["b", "key", "", 1, "0", 'the "one"', "each:a", "silent", "", 1, "0", "7"])
    lose(machine, 4)
    machine.birth("v")
    handler = machine.claim("v")
    assert handler is not None
    payload = json.loads(handler.payloads[0] or "")
    assert (handler.task, payload["index"], payload["key"]) == ("c[0]", 0, 'the "one"')


def test_an_index_below_the_first_level_is_a_tuple_as_ctx_index_is(store: Store):
    machine = launched(
        store, step("a"), step("b", each("each:a"), emits=("x",)), step("c", each("x")), step("d", each("failed:c"))
    )
    machine.birth("w")
    entry = machine.claim("w")
    assert entry is not None
    _, element = machine.settle(entry, ["each:a", "silent", "", 1, "0", "7"], want=True)
    assert element is not None
    machine.settle(element, ["x", "silent", "", 1, "0.1", "8"])
    lose(machine, 4)
    machine.birth("v")
    handler = machine.claim("v")
    assert handler is not None
    assert handler.task == "d[0.1]"
    assert Codec().decode(handler.payloads[0] or "")["index"] == (0, 1)


def test_a_task_of_a_canceled_run_does_not_come_back(store: Store):
    """Its slice has not removed it yet; after flow.cancel nothing is queued."""
    machine = launched(store)
    machine.birth("w")
    machine.claim("w")
    store.client.hset(store.keys.run("r1"), "status", "canceled")
    assert store.run_script("giveback", worker="w", cause="") == []
    assert store.client.llen(store.keys.rq_queue("default")) == 0
    assert machine.told()[-1] == "step.started s0"


def test_what_a_lost_task_leads_to_follows_at_once(store: Store):
    machine = launched(store, step("a"), step("b"), step("c", first("failed:b")))
    machine.birth("w")
    first_task = machine.claim("w")
    assert first_task is not None
    machine.settle(first_task, silent("step:a"))
    lose(machine, 4)
    assert machine.told()[-1] == "step.queued c"
