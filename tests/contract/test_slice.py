"""slice: 1 if more is left to do, 0 if not. Closing in slices is in test_settle.py, cancel in test_cancel.py."""

from __future__ import annotations

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import each, first, flow, mapped, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine


def spread(store: Store, count: int) -> tuple[Machine, Claimed | None]:
    """A map over so many elements, its first slice made by the settle."""
    machine = Machine(store, mapped())
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    group = ["each:a", "silent", "", count]
    for i in range(count):
        group += [str(i), str(i)]
    machine.settle(task, group)
    return machine, task


def queued(machine: Machine) -> list[str]:
    return [event.task for event in machine.events() if event.type == "step.queued" and event.task.startswith("b")]


def test_nothing_is_left_to_do(store: Store):
    before = everything(store)
    assert store.run_script("slice") == 0
    assert everything(store) == before


def test_a_map_is_made_in_slices_of_five_hundred_in_index_order(store: Store):
    machine, _ = spread(store, 1200)
    made = [len(queued(machine))]
    replies: list[int] = []
    while store.client.exists("nbflow:slices"):
        replies.append(store.run_script("slice"))
        made.append(len(queued(machine)))
    assert made == [500, 1000, 1200]
    assert replies == [1, 0]
    assert queued(machine) == [f"b[{i}]" for i in range(1200)]
    assert store.client.llen(store.keys.rq_queue("default")) == 1200
    assert leaks(store) == []


def test_exactly_five_hundred_need_no_slice(store: Store):
    machine, _ = spread(store, 500)
    assert len(queued(machine)) == 500
    assert not store.client.exists("nbflow:slices")


def test_what_is_counted_and_not_made_holds_the_run_open(store: Store):
    """All that exist end; the others are outstanding still."""
    machine, _ = spread(store, 501)
    while (task := machine.claim()) is not None:
        machine.settle(task)
    assert machine.run_field("status") == "running"
    assert store.run_script("slice") == 0
    last = machine.claim()
    assert last is not None
    machine.settle(last)
    assert machine.told()[-1] == "step.queued c"


def test_what_comes_while_a_map_is_made_is_made_after_it(store: Store):
    spec = flow(step("a", emits=("x",)), step("a2", emits=("x",)), step("b", each("x")))
    machine = Machine(store, spec)
    machine.birth("w")
    machine.launch()
    for task in [machine.claim(), machine.claim()]:
        assert task is not None
        group = ["x", "silent", "", 600]
        for i in range(600):
            group += [str(i), f'"{task.task}"']
        machine.settle(task, group)
    machine.slice_all()
    assert queued(machine) == [f"b[{i}]" for i in range(1200)]
    assert len(set(store.text.lrange(store.keys.rq_queue("default"), 0, -1))) == 1200


def test_two_maps_take_turns(store: Store):
    spec = flow(step("a"), step("b", each("each:a")), step("b2", each("each:a")), step("c", first("step:b2")))
    machine = Machine(store, spec)
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    group = ["each:a", "silent", "", 800]
    for i in range(800):
        group += [str(i), "1"]
    machine.settle(task, group)
    assert len(queued(machine)) == 500, "both together"
    machine.slice_all()
    assert sorted(queued(machine)) == sorted([f"b[{i}]" for i in range(800)] + [f"b2[{i}]" for i in range(800)])


def test_slices_of_a_canceled_run_make_nothing(store: Store):
    machine, _ = spread(store, 1200)
    store.run_script("cancel", id="r1", reason='""', by="{}")
    machine.slice_all()
    assert len(queued(machine)) == 500
    assert leaks(store) == []


def test_slices_of_a_run_that_is_gone_make_nothing(store: Store):
    store.client.rpush("nbflow:slices", "gone b", "gone *close", "gone *cancel")
    assert [store.run_script("slice") for _ in range(3)] == [1, 1, 0]
    assert list(store.client.scan_iter()) == []
