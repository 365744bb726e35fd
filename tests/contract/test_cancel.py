"""cancel: {'OK', worker, lease, ...} | {'ENDED', status} | {'UNKNOWN'}"""

from __future__ import annotations

import json
from collections import Counter

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, each, flow, mapped, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine


def cancel(store: Store, run: str = "r1") -> list[bytes]:
    return store.run_script("cancel", id=run, reason='"enough"', by='{"user":"ann"}')


def spread(store: Store, count: int) -> Machine:
    machine = Machine(store, mapped())
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    group = ["each:a", "silent", "", count]
    for i in range(count):
        group += [str(i), str(i)]
    machine.settle(task, group)
    machine.slice_all()
    return machine


def claimed(machine: Machine) -> Claimed:
    task = machine.claim()
    assert task is not None
    return task


def test_a_cancel_ends_the_run_and_names_whom_to_interrupt(store: Store):
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch()
    task = claimed(machine)
    assert cancel(store) == [b"OK", b"w", str(task.lease).encode()]
    ended, gone = machine.events()[-2:]
    assert ended.type == "flow.cancel"
    assert ended.data.pop("duration") >= 0
    assert ended.data == {"reason": "enough", "by": {"user": "ann"}, "previousStatus": "running"}
    assert (gone.type, gone.task, gone.attempt, gone.data) == ("step.canceled", "s0", 1, {"reason": "run"})
    assert machine.run_field("status") == "canceled"
    assert store.text.zrange(store.keys.runs("canceled"), 0, -1) == ["r1"]
    assert leaks(store) == []


def test_a_run_that_is_over_cannot_be_canceled(store: Store):
    machine = Machine(store, chain(1))
    machine.birth("w")
    machine.launch()
    machine.settle(claimed(machine))
    before = everything(store)
    assert cancel(store) == [b"ENDED", b"completed"]
    assert everything(store) == before
    machine.launch("r2")
    assert cancel(store, "r2") == [b"OK"]
    assert cancel(store, "r2") == [b"ENDED", b"canceled"]


def test_a_run_that_is_not_known_cannot_be_canceled(store: Store):
    assert cancel(store) == [b"UNKNOWN"]
    assert list(store.client.scan_iter()) == []


def test_each_unfinished_task_of_many_is_canceled_once(store: Store):
    machine = spread(store, 1200)
    running = [claimed(machine), claimed(machine)]
    cancel(store)
    machine.slice_all()
    canceled = Counter(event.task for event in machine.events() if event.type == "step.canceled")
    assert canceled == Counter({f"b[{i}]": 1 for i in range(1200)})
    assert [event.type for event in machine.events()[-1200:]] == ["step.canceled"] * 1200
    assert [machine.settle(task) for task in running] == [("AGAIN", None)] * 2
    assert machine.claim() is None
    assert leaks(store) == []


def test_a_slice_removes_at_most_five_hundred(store: Store):
    machine = spread(store, 1200)
    counts: list[int] = []
    cancel(store)
    while store.client.exists("nbflow:slices"):
        counts.append(
            machine.told().count("flow.cancel") and sum(line.startswith("step.canceled") for line in machine.told())
        )
        store.run_script("slice")
    assert counts == [500, 1000]


def test_nothing_counts_between_the_slices(store: Store):
    """From the cancel on no task starts and no result counts, whichever slice removes it."""
    machine = spread(store, 1200)
    running = claimed(machine)
    store.client.srem("nbflow:open:r1", running.job)  # so that the first slice cannot meet it
    cancel(store)
    store.client.sadd("nbflow:open:r1", running.job)
    events = len(machine.events())
    assert machine.settle(running, ["step:b", "silent", "", 1, "0", "1"]) == ("AGAIN", None)
    while machine.claim() is None and store.client.llen(store.keys.rq_queue("default")):
        pass
    assert len(machine.events()) == events
    machine.slice_all()
    assert machine.told().count(f"step.canceled {running.task}") == 1
    assert leaks(store) == []


def test_a_running_task_that_a_later_slice_meets_is_interrupted(store: Store):
    machine = spread(store, 600)
    running = claimed(machine)
    store.client.srem("nbflow:open:r1", running.job)
    assert cancel(store) == [b"OK"]
    store.client.sadd("nbflow:open:r1", running.job)
    with store.text.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("rq:pubsub:w")
        heard.get_message(timeout=5)
        machine.slice_all()
        order = heard.get_message(timeout=5) or heard.get_message(timeout=5)
    assert order is not None
    assert json.loads(order["data"]) == {"command": "stop-job", "lease": running.lease}


def test_other_runs_go_on(store: Store):
    machine = Machine(store, flow(step("a"), step("b", each("each:a"))))
    machine.birth("w")
    machine.launch("r1")
    machine.launch("r2")
    cancel(store, "r1")
    task = claimed(machine)
    assert task.run == "r2"
    assert machine.settle(task, ["each:a", "silent", "", 0])[0] == "OK"
    assert machine.run_field("status", "r2") == "completed"


def test_a_long_queue_is_not_searched_and_its_worker_passes_over(store: Store):
    machine = spread(store, 1001)
    cancel(store)
    machine.slice_all()
    machine.launch("r2")
    assert store.client.llen(store.keys.rq_queue("default")) == 1002
    assert [machine.claim(), machine.claim()] == [None, None]
    assert claimed(machine).run == "r2"
