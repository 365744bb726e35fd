"""Paused queues: nothing of them is claimed or handed over, the other queues go on, and nothing is lost."""

from __future__ import annotations

import pytest

from nbflow.engine import queues
from nbflow.errors import DefinitionError
from nbflow.store.connect import Store
from nbflow.store.index import Index
from tests.contract.everything import everything
from tests.contract.test_counts import commands, counted, warm
from tests.graphs import chain, first, flow, step
from tests.leaks import leaks
from tests.machine import Machine, silent


def test_a_paused_queue_gives_nothing(store: Store):
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch()
    queues.pause(store, "default")
    before = everything(store)
    assert machine.claim() is None
    assert everything(store) == before, "the tokens stay too"
    assert leaks(store) == []


def test_the_other_queues_go_on(store: Store):
    machine = Machine(store, flow(step("a", queue="one"), step("b", queue="two")))
    machine.birth("w")
    machine.launch()
    queues.pause(store, "one")
    task = machine.claim()
    assert task is not None
    assert task.task == "b"
    assert machine.claim() is None
    queues.resume(store, "one")
    assert machine.claim() is not None


def test_a_settle_hands_over_nothing_of_a_paused_queue(store: Store):
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    queues.pause(store, "default")
    assert machine.settle(task, silent("step:s0"), want=True) == ("OK", None)
    assert machine.told()[-1] == "step.queued s1"
    assert store.text.hget("rq:worker:w", "state") == "idle"
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == ["r1__s1__attempt-1"]


def test_a_settle_goes_on_with_a_queue_that_is_not_paused(store: Store):
    machine = Machine(
        store, flow(step("a", queue="one"), step("b", first("step:a"), queue="one"), step("c", queue="two"))
    )
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    queues.pause(store, "one")
    _, got = machine.settle(task, silent("step:a"), want=True)
    assert got is not None
    assert got.task == "c"


def test_resuming_wakes_a_worker_for_each_task_up_to_64(store: Store):
    machine = Machine(store, flow(*(step(f"s{i}") for i in range(80))))
    queues.pause(store, "default")
    machine.launch()
    store.client.delete(store.keys.wake("default"))
    queues.resume(store, "default")
    assert store.client.llen(store.keys.wake("default")) == 64
    queues.resume(store, "default")
    assert store.client.llen(store.keys.wake("default")) == 64


def test_a_queue_that_is_not_paused_is_resumed_without_effect(store: Store):
    Machine(store, chain(1)).launch()
    before = everything(store)
    queues.resume(store, "default")
    assert everything(store) == before


def test_suspended_rq_stops_the_queues_that_are_not_paused_too(store: Store):
    machine = Machine(store, flow(step("a", queue="one"), step("b", queue="two")))
    machine.birth("w")
    machine.launch()
    queues.pause(store, "one")
    store.client.set("rq:suspended", 1)
    assert machine.claim() is None
    store.client.delete("rq:suspended")
    assert machine.claim() is not None


def test_the_index_shows_it_and_counts_those_with_a_priority(store: Store):
    machine = Machine(store, chain(1))
    for i in range(3):
        machine.launch(f"r{i}", priority="5")
    machine.launch("r3")
    queues.pause(store, "default")
    queues.pause(store, "later")
    rows = {row.name: (row.waiting, row.paused) for row in Index(store).queues()}
    assert rows == {"default": (4, True), "later": (0, True)}


@pytest.mark.parametrize("name", ["", "a b", "a:b", "*", "x" * 101])
def test_what_is_no_name_of_a_queue_is_refused(store: Store, name: str):
    for change in (queues.pause, queues.resume):
        with pytest.raises(DefinitionError, match="A queue cannot be called"):
            change(store, name)
    assert list(store.client.scan_iter()) == []


def test_where_no_queue_is_paused_a_hop_costs_no_command_more(store: Store):
    """The question is the one after `rq suspend`, with two keys."""
    warm(store)
    machine = Machine(store, chain(3))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    before = commands(store)
    _, task = machine.settle(task, silent("step:s0"), want=True)
    cost = counted(store, before)
    assert task is not None
    assert cost["exists"] == 2, "suspended or paused, and whether slices are left"
    assert cost.get("zrange", 0) == 0, "a hand-over asks nothing about priorities"
