"""A worker that cannot open the code of a task gives it back: uncounted, to others, and not to itself again."""

from __future__ import annotations

import json
from dataclasses import replace

from nbflow.model.policy import Concurrency, Rate
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.contract.test_limits import claim, must
from tests.graphs import chain, first, flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, silent

DATA = json.dumps({"lacks": "a package is missing: 'polars'", "again": 300_000})


def launched(store: Store, runs: int = 1) -> Machine:
    machine = Machine(store, chain(2))
    for i in range(runs):
        machine.launch(f"r{i}")
    return machine


def decline(machine: Machine, task: Claimed, *, want: bool = True, data: str = DATA) -> Claimed | None:
    status, got = machine.settle(task, outcome="declined", data=data, want=want)
    assert status == "OK"
    return got


def test_the_task_goes_back_uncounted_and_says_who_lacks_what(store: Store):
    machine = launched(store)
    task = must(claim(machine, "w"))
    assert decline(machine, task) is None
    queued = machine.events("r0")[-1]
    assert (queued.type, queued.task, queued.attempt) == ("step.queued", "s0", 1)
    lacks = {"worker": "w", "lacks": "a package is missing: 'polars'"}
    assert queued.data == {"queue": "default", "declined": lacks}
    assert store.text.hget(store.keys.rq_job(task.job), "recovered") is None
    assert leaks(store) == []


def test_it_does_not_take_it_again_and_another_worker_does(store: Store):
    machine = launched(store)
    task = must(claim(machine, "w"))
    decline(machine, task)
    before = everything(store)
    store.client.delete(store.keys.wake("default"))
    assert machine.claim("w") is None
    before.pop(store.keys.wake("default").encode(), None)
    assert everything(store) == before, "it looks, and nothing changes: there is no loop"
    other = must(claim(machine, "v"))
    assert (other.job, other.attempt) == (task.job, 1)
    assert machine.settle(other, silent("step:s0"), want=True)[1] is not None
    assert leaks(store) == []


def test_of_the_same_code_it_takes_no_other_task_and_hands_them_on(store: Store):
    machine = launched(store, runs=4)
    decline(machine, must(claim(machine, "w")))
    machine.launch("r4")
    assert machine.claim("w") is None
    assert store.client.llen(store.keys.wake("default")) == 1, "somebody else is woken"
    assert [must(claim(machine, f"v{i}")).run for i in range(5)] == ["r0", "r1", "r2", "r3", "r4"]
    assert leaks(store) == []


def test_of_other_code_it_takes_what_comes(store: Store):
    machine = launched(store)
    decline(machine, must(claim(machine, "w")))
    store.client.hset(store.keys.run("r0"), "bundle", "c")
    store.client.hset("nbflow:owners", "bundle:c", 1)
    machine.launch("r1")
    store.client.hset(store.keys.run("r1"), "bundle", "d")
    assert must(machine.claim("w")).run == "r1"


def test_after_a_while_it_tries_again(store: Store):
    machine = launched(store)
    decline(machine, must(claim(machine, "w")), data='{"lacks":"x","again":0}')
    assert machine.claim("w") is not None


def test_when_it_is_gone_nothing_is_remembered(store: Store):
    machine = launched(store)
    decline(machine, must(claim(machine, "w")))
    store.run_script("giveback", worker="w", cause="")
    assert not store.client.exists("nbflow:lacking")
    assert must(claim(machine, "w")).run == "r0"
    assert not store.client.exists("nbflow:declined")


def test_a_canceled_run_takes_its_tasks_away(store: Store):
    machine = launched(store)
    decline(machine, must(claim(machine, "w")))
    store.run_script("cancel", id="r0", reason='""', by="{}")
    assert not store.client.exists("nbflow:declined")
    assert leaks(store) == []


def test_a_settle_said_again_declines_once(store: Store):
    machine = launched(store)
    task = must(claim(machine, "w"))
    decline(machine, task)
    before = everything(store)
    assert machine.settle(task, outcome="declined", data=DATA)[0] == "AGAIN"
    assert everything(store) == before


def test_it_holds_no_slot_and_was_no_start(store: Store):
    limited = replace(step("a"), concurrency=Concurrency(1), rate=Rate(1, "1h"))
    machine = Machine(store, flow(limited, step("b", first("step:a"))))
    machine.launch("r0")
    machine.launch("r1")
    decline(machine, must(claim(machine, "w")), want=False)
    assert must(claim(machine, "v")).run == "r0"
    assert claim(machine, "u") is None
    assert leaks(store) == []


def test_a_task_that_was_called_and_is_declined_hands_its_turn_on(store: Store):
    """Else the limit would have room, and a worker that can open the code of the next would wait in vain."""
    machine = Machine(store, flow(replace(step("a"), concurrency=Concurrency(1))))
    for run in ("r0", "r1", "r2"):
        machine.launch(run)
    store.client.hset(store.keys.run("r2"), "bundle", "d")
    store.client.hset("nbflow:owners", "bundle:d", 1)
    decline(machine, must(claim(machine, "w")), want=False)
    task = must(claim(machine, "v"))
    assert claim(machine, "u") is None
    machine.settle(task)
    assert must(machine.claim("w")).run == "r2"
    assert claim(machine, "x") is None


def test_where_nobody_lacks_anything_nobody_looks(store: Store):
    machine = launched(store)
    decline(machine, must(claim(machine, "w")))
    must(claim(machine, "v"))
    assert store.client.hkeys("nbflow:lacking") == [b"w"]
    store.run_script("giveback", worker="w", cause="")
    assert not store.client.exists("nbflow:lacking", "nbflow:declined")
