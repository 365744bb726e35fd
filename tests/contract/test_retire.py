"""retire: 1 | 0; delete: {'OK'} | {'MORE'} | {'LIVE', status} | {'UNKNOWN'}"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nbflow.model.definition import FlowSpec
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, collect, each, flow, step
from tests.leaks import leaks
from tests.machine import Machine, many, silent

WIDE = flow(step("a"), step("b", each("each:a")), step("c", collect("step:b")))


def ended(store: Store, run: str = "r1", spec: FlowSpec | None = None, **launch: Any) -> Machine:
    machine = Machine(store, spec or chain(1))
    machine.birth("w")
    machine.launch(run, **launch)
    while (task := machine.claim()) is not None:
        machine.settle(task, silent(f"step:{task.task}"))
        machine.slice_all()
    assert machine.run_field("status", run) == "completed"
    return machine


def delete(store: Store, run: str = "r1") -> list[str]:
    return [part.decode() for part in store.run_script("delete", id=run)]


def retire_all(store: Store) -> int:
    slices = 1
    while store.run_script("retire"):
        slices += 1
    return slices


def of_runs(store: Store) -> list[str]:
    """Keys that are neither a worker's, nor a queue's, nor the format's."""
    return sorted(key for key in store.text.scan_iter() if key.startswith("nbflow:") and ":wake:" not in key)


def test_a_deleted_run_is_out_of_sight_at_once_and_gone_when_its_slices_are_done(store: Store):
    ended(store, key="k")
    assert delete(store) == ["OK"]
    assert not store.client.exists(store.keys.run("r1"), store.keys.flow_runs("f"), store.keys.runs("completed"))
    assert not store.client.exists(store.keys.flows(), "nbflow:key:f:k")
    assert leaks(store) == []
    assert retire_all(store) == 1
    assert set(of_runs(store)) <= {"nbflow:queues"}


def test_a_run_that_lives_is_not_deleted(store: Store):
    machine = Machine(store, chain(1))
    machine.launch()
    before = everything(store)
    assert delete(store) == ["LIVE", "running"]
    assert everything(store) == before


def test_a_run_that_is_not_there_is_unknown(store: Store):
    assert delete(store) == ["UNKNOWN"]
    ended(store)
    delete(store)
    assert delete(store) == ["UNKNOWN"], "a deleted run as well"


def test_a_run_deleted_right_after_its_cancel_leaves_no_task(store: Store):
    machine = Machine(store, WIDE)
    machine.birth("w")
    machine.launch()
    first = machine.claim()
    assert first is not None
    machine.settle(first, many("each:a", [str(i) for i in range(1300)]))
    machine.slice_all()
    held = machine.claim()
    assert held is not None
    store.run_script("cancel", id="r1", reason='""', by="{}")
    assert [delete(store) for _ in range(3)] == [["MORE"], ["OK"], ["UNKNOWN"]]
    assert not store.client.exists("nbflow:slices")
    assert machine.settle(held)[0] == "AGAIN", "what still ran counts for nothing"
    append: dict[str, Any] = {"from": 0, "to": 9, "max": 100}
    said = store.run_script(
        "append", "log", "{}", worker="w", job=held.job, lease=held.lease, run="r1", task=held.task, attempt=1, **append
    )
    assert said == [b"LOST"], "and writes nothing"
    retire_all(store)
    assert leaks(store) == []
    assert set(of_runs(store)) <= {"nbflow:queues"}
    assert not list(store.client.scan_iter("rq:job:*"))


def test_a_run_goes_when_its_retention_is_over(store: Store):
    ended(store, spec=replace(chain(1), retention_s=3600.0))
    due = store.client.zscore(store.keys.retire(), "r1")
    assert due == int(store.text.hget(store.keys.run("r1"), "ended") or 0) + 3_600_000
    assert store.run_script("retire") == 0
    assert store.client.exists(store.keys.run("r1"))
    store.client.zadd(store.keys.retire(), {"r1": 1})
    assert store.run_script("retire") == 0
    assert set(of_runs(store)) <= {"nbflow:queues"}


@pytest.mark.parametrize("kept", [None, float("inf")])
def test_a_run_without_retention_is_kept(store: Store, kept: float | None):
    ended(store, spec=replace(chain(1), retention_s=kept))
    assert not store.client.exists(store.keys.retire())


def test_canceled_and_failed_runs_have_their_retention_too(store: Store):
    machine = Machine(store, replace(chain(1), retention_s=60.0))
    machine.birth("w")
    machine.launch("r1")
    machine.launch("r2")
    task = machine.claim()
    assert task is not None
    machine.settle(task, outcome="failed")
    store.run_script("cancel", id="r2", reason='""', by="{}")
    assert store.client.zcard(store.keys.retire()) == 2


def test_a_run_that_lives_does_not_retire(store: Store):
    machine = Machine(store, chain(1))
    machine.launch()
    store.client.zadd(store.keys.retire(), {"r1": 1})
    assert store.run_script("retire") == 0
    assert machine.run_field("status") == "running"
    assert not store.client.exists(store.keys.retire())


def test_code_goes_with_the_last_run_of_it(store: Store):
    machine = ended(store, "r1")
    ended(store, "r2")
    plan = store.keys.plan(machine.plan.digest)
    delete(store, "r1")
    retire_all(store)
    assert store.client.exists(plan, store.keys.bundle("b")) == 2
    delete(store, "r2")
    retire_all(store)
    assert store.client.exists(plan, store.keys.bundle("b"), store.keys.owners()) == 0


def test_an_artifact_goes_with_the_last_run_of_it(store: Store):
    ended(store, "r1")
    ended(store, "r2")
    for run, digest in (("r1", "shared"), ("r2", "shared"), ("r1", "own")):
        store.run_script("own", b"blob", run=run, digest=digest, how="run")
    delete(store, "r1")
    retire_all(store)
    assert not store.client.exists(store.keys.artifact("own"))
    assert store.client.exists(store.keys.artifact("shared"))
    assert leaks(store) == []
    delete(store, "r2")
    retire_all(store)
    assert not store.client.exists(store.keys.artifact("shared"), store.keys.owners(), store.keys.dust())


def test_an_artifact_that_is_not_in_the_server_is_left_as_dust(store: Store):
    ended(store)
    store.run_script("own", run="r1", digest="far", how="run")
    delete(store)
    retire_all(store)
    assert store.text.hgetall(store.keys.dust()) == {"far": "r1"}


def test_a_large_run_goes_in_slices_and_owns_what_is_left_between_them(store: Store):
    """Law: after each slice every key has an owner, so that a crash there loses nothing and leaves nothing."""
    steps = [step("s0"), *(step(f"s{i}", collect(f"step:s{i - 1}")) for i in range(1, 400))]
    ended(store, spec=flow(*steps))
    for i in range(1700):
        store.run_script("own", b"x", run="r1", digest=f"d{i}", how="run")
    assert store.client.exists("nbflow:emits:r1:step:s7")
    delete(store)
    slices = 0
    while True:
        assert leaks(store) == []
        slices += 1
        if not store.run_script("retire"):
            break
    assert slices == 5, "1,700 artifacts and 798 keys of topics"
    assert set(of_runs(store)) <= {"nbflow:queues"}


def test_many_small_runs_go_in_one_slice(store: Store):
    machine = Machine(store, replace(chain(1), retention_s=1.0))
    machine.birth("w")
    for i in range(50):
        machine.launch(f"r{i}")
        task = machine.claim()
        assert task is not None
        machine.settle(task)
    for i in range(50):
        store.client.zadd(store.keys.retire(), {f"r{i}": i})
    assert retire_all(store) <= 4
    assert set(of_runs(store)) <= {"nbflow:queues"}


def test_the_end_of_a_run_is_told_to_those_who_watch_all_runs(store: Store):
    ended(store)
    ear = store.blocking().pubsub()
    ear.subscribe(store.keys.life_channel())
    assert ear.get_message(timeout=5)
    delete(store)
    told = ear.get_message(timeout=5)
    ear.close()
    assert told is not None
    assert json.loads(told["data"]) == {"run": "r1", "flow": "f", "type": "flow.deleted"}


def test_a_key_of_a_deleted_run_is_free(store: Store):
    machine = ended(store, key="k")
    delete(store)
    assert machine.launch("r2", '{"n":2}', key="k") == [b"OK", b"r2"]
    retire_all(store)
    assert store.text.get("nbflow:key:f:k") == "r2"
    assert leaks(store) == []
