"""append: {'OK', to} | {'AT', offset} | {'LOST'}"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from nbflow.errors import StoreError
from nbflow.model.events import id_key
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Claimed, Machine, silent


def working(store: Store) -> tuple[Machine, Claimed]:
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    return machine, task


def append(store: Store, task: Claimed, start: int, end: int, *entries: str, most: int = 1000) -> list[Any]:
    named = {
        "worker": task.worker,
        "job": task.job,
        "lease": task.lease,
        "run": task.run,
        "task": task.task,
        "attempt": 1,
    }
    bounds: dict[str, Any] = {"from": start, "to": end, "max": most}
    return store.run_script("append", *entries, **named, **bounds)


def kinds(machine: Machine) -> list[str]:
    return [event.type for event in machine.events()]


def test_what_a_task_says_is_written_and_told(store: Store):
    machine, task = working(store)
    assert append(
        store, task, 0, 90, "log", '{"message":"hello"}', "progress", '{"done":1}', "metric", '{"name":"x"}'
    ) == [b"OK", 90]
    log, progress, metric = machine.events()[-3:]
    assert (log.type, log.task, log.attempt, log.data) == ("log", "s0", 1, {"message": "hello"})
    assert (progress.type, metric.type) == ("progress", "metric")
    assert store.client.xlen(store.keys.log("r1")) == 3
    assert leaks(store) == []


def test_an_artifact_lies_in_the_stream_that_lives_as_long_as_the_run(store: Store):
    machine, task = working(store)
    append(store, task, 0, 10, "artifact", '{"name":"figure"}')
    assert kinds(machine)[-1] == "artifact"
    assert not store.client.exists(store.keys.log("r1"))


@pytest.mark.parametrize("kind", ["flow.completed", "step.failed", "emit", "state", "trimmed", ""])
def test_of_other_types_nothing_is_taken(store: Store, kind: str):
    """Law: what a run's own events tell happened with them, in the script that wrote both."""
    _, task = working(store)
    before = everything(store)
    with pytest.raises(StoreError, match="append takes no event"):
        append(store, task, 0, 90, "log", "{}", kind, '{"leaves":[]}')
    assert everything(store) == before


def test_what_was_sent_before_changes_nothing(store: Store):
    machine, task = working(store)
    append(store, task, 0, 90, "log", "{}")
    before = everything(store)
    assert append(store, task, 0, 90, "log", "{}") == [b"AT", 90]
    assert everything(store) == before
    assert append(store, task, 90, 120, "log", "{}") == [b"OK", 120]
    assert kinds(machine).count("log") == 2


def test_a_lost_execution_writes_nothing(store: Store):
    machine, task = working(store)
    store.run_script("giveback", worker="w", cause="")
    before = everything(store)
    assert append(store, task, 0, 90, "log", "{}") == [b"LOST"]
    assert everything(store) == before
    machine.birth("v")
    again = machine.claim("v")
    assert again is not None
    assert append(store, again, 0, 5, "log", "{}") == [b"OK", 5], "the next execution begins its own record"


def test_an_ended_task_writes_nothing(store: Store):
    machine, task = working(store)
    machine.settle(task)
    before = everything(store)
    assert append(store, task, 0, 90, "log", "{}") == [b"LOST"]
    assert everything(store) == before


def test_of_a_canceled_run_only_logs_follow(store: Store):
    machine, task = working(store)
    store.run_script("cancel", id="r1", reason='""', by="{}")
    assert append(store, task, 0, 90, "log", "{}", "progress", "{}", "artifact", "{}") == [b"OK", 90]
    assert kinds(machine)[-3:] == ["flow.cancel", "step.canceled", "log"]


def test_of_a_canceled_run_only_logs_follow_before_its_slice_too(store: Store):
    machine, task = working(store)
    store.client.hset(store.keys.run("r1"), "status", "canceled")
    assert append(store, task, 0, 90, "artifact", "{}", "metric", "{}", "log", "{}") == [b"OK", 90]
    assert kinds(machine)[-2:] == ["step.started", "log"]


def test_both_streams_share_one_growing_sequence_within_a_millisecond(store: Store):
    """A log, an event, a log: the server's clock stands behind the last id all the time, so all share its millisecond."""
    machine, task = working(store)
    future = id_key(machine.events()[-1].id)[0] + 3_600_000
    store.client.xadd(
        store.keys.stream("r1"), {"type": "state", "task": "s0", "attempt": 1, "data": "{}"}, id=f"{future}-0"
    )
    append(store, task, 0, 1, "log", "{}", "log", "{}")
    store.run_script(
        "state",
        worker="w",
        job=task.job,
        lease=task.lease,
        run="r1",
        task="s0",
        attempt=1,
        operation="set",
        stays="",
        was="",
        nonce=0,
        key="k",
        value="1",
    )
    append(store, task, 1, 2, "log", "{}")
    machine.settle(task, silent("step:s0"))
    entries: list[Any] = []
    for stream in (store.keys.stream("r1"), store.keys.log("r1")):
        page: Any = store.text.xrange(stream, f"{future}-0")
        entries += page
    written = [(id_key(name), fields["type"]) for name, fields in sorted(entries, key=lambda entry: id_key(entry[0]))]
    assert [number for number, _ in written] == [(future, n) for n in range(7)]
    assert [kind for _, kind in written] == ["state", "log", "log", "state", "log", "step.completed", "step.queued"]


def test_ids_grow_in_real_time_too(store: Store):
    machine, task = working(store)
    for i in range(50):
        append(store, task, i, i + 1, "log", f'{{"i":{i}}}')
        store.run_script(
            "state",
            worker="w",
            job=task.job,
            lease=task.lease,
            run="r1",
            task="s0",
            attempt=1,
            operation="incr",
            stays="",
            was="",
            nonce=i,
            key="k",
            value="1",
        )
    said = [event for event in machine.events() if event.type in ("log", "state")]
    assert [event.type for event in said] == ["log", "state"] * 50
    assert all(id_key(a.id) < id_key(b.id) for a, b in pairwise(said))


def test_logs_are_bounded_and_events_are_not(store: Store):
    machine, task = working(store)
    for i in range(10):
        append(store, task, i, i + 1, *["log", "{}"] * 100, most=200)
    assert 200 <= int(str(store.client.xlen(store.keys.log("r1")))) <= 300
    assert kinds(machine)[:3] == ["flow.start", "step.queued", "step.started"]
