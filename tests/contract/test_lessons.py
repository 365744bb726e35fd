"""What went wrong in an engine before this one, each in its smallest form (`docs/reliability.md` has the list)."""

from __future__ import annotations

import json
from dataclasses import replace

from nbflow.model.awaits import Approval
from nbflow.store.connect import Store
from nbflow.store.index import Index
from nbflow.store.obstacles import Obstacles
from tests.graphs import collect, each, first, flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, many, one

HOURS = 400_000_000
"""Milliseconds: more than a hundred of them."""


def must(task: Claimed | None) -> Claimed:
    assert task is not None
    return task


def test_topics_of_which_one_begins_with_the_other_are_two(store: Store):
    spec = flow(
        step("take", emits=("order", "order.paid")),
        step("ship", first("order"), first("order.paid")),
        step("thank", first("order.paid")),
    )
    machine = Machine(store, spec)
    machine.launch()
    machine.settle(must(machine.claim()), [*one("order.paid", '"007"'), *one("order", '{"paid": null, "n": "7"}')])
    ready = {task.task: task.payloads for task in (must(machine.claim()), must(machine.claim()))}
    assert ready == {"ship": ['{"paid": null, "n": "7"}', '"007"'], "thank": ['"007"']}


def test_a_payload_with_names_of_ours_is_a_payload(store: Store):
    """Law: what users send lies beside what we keep, and never in its place."""
    odd = '{"flowId": "x", "flow": "g", "run": "r9", "status": "failed", "input": 1, "trigger": {"name": "t"}, "N": 0}'
    machine = Machine(store, flow(step("a"), step("b", first("step:a"))))
    machine.launch(value=odd)
    machine.settle(must(machine.claim()), one("step:a", odd))
    task = must(machine.claim())
    assert (task.run, task.task, task.payloads) == ("r1", "b", [odd])
    assert machine.events()[0].data["input"] == json.loads(odd)
    assert machine.run_field("status") == "running"
    assert Index(store).run("r1").flow == "f"


def test_a_step_that_failed_for_good_starts_no_second_time(store: Store):
    """Law: neither when others complete after it, nor when nothing of its job is left."""
    spec = flow(step("a"), step("b", first("step:a")), step("c", first("step:a")), step("d", first("step:c")))
    machine = Machine(store, spec)
    machine.launch()
    machine.settle(must(machine.claim()), one("step:a"))
    b, c = must(machine.claim()), must(machine.claim())
    machine.settle(b, outcome="failed")
    assert not store.client.exists(store.keys.rq_job(b.job))
    machine.settle(c, one("step:c"))
    machine.settle(must(machine.claim()))
    assert machine.claim() is None
    assert machine.told().count("step.queued b") == 1
    assert machine.events()[-1].type == "flow.failed"


def test_a_run_that_waits_is_not_stalled_however_long_it_waits(store: Store):
    machine = Machine(store, flow(replace(step("a"), hold=Approval(timeout="100h")), step("b", first("step:a"))))
    machine.launch()
    for field in ("started", "since"):
        if store.text.hexists(store.keys.run("r1"), field):
            store.client.hincrby(store.keys.run("r1"), field, -HOURS // 4)
    assert Obstacles(store).stalled("r1") is None
    store.run_script("tick")
    assert machine.told() == ["flow.start", "await.registered a"]


def test_flows_beyond_the_hundredth_count_as_the_first(store: Store):
    """Law: nothing is counted apart from what is there, so no count can drift or begin anew."""
    for number in range(120):
        machine = Machine(store, replace(flow(step("a")), name=f"f{number:03}"))
        for run in range(1 + number % 2):
            machine.launch(f"r{number}-{run}")
    Store(store.url).check()  # what a process does when it starts
    rows = Index(store).flows()
    assert [(row.name, row.runs) for row in rows] == [(f"f{number:03}", 1 + number % 2) for number in range(120)]
    assert leaks(store) == []


def test_one_task_too_many_ends_the_run_and_leaves_nothing(store: Store):
    """Law: a map of more elements than a flow may have tasks is refused whole: none of them starts."""
    spec = replace(flow(step("a"), step("b", each("each:a")), step("c", collect("step:b"))), max_tasks=100_000)
    machine = Machine(store, spec)
    machine.birth("w")
    machine.launch()
    machine.settle(must(machine.claim()), many("each:a", ["1"] * 100_001))
    machine.slice_all()
    end = machine.events()[-1]
    assert (end.type, end.data["reason"]) == ("flow.failed", "max_tasks")
    assert machine.claim() is None
    assert not [event for event in machine.events() if event.task.startswith("b")]
    assert leaks(store) == []
