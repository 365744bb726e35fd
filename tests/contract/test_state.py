"""state: {'OK', value} | {'LOST'} | {'NUMBER', value}"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Claimed, Machine


def working(store: Store) -> tuple[Machine, Claimed]:
    machine = Machine(store, chain(1))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    return machine, task


_nonces = itertools.count()


def change(
    store: Store, task: Claimed, operation: str, key: str, value: str = "", *, nonce: int | None = None
) -> list[Any]:
    return store.run_script(
        "state", worker=task.worker, job=task.job, lease=task.lease, run="r1", task=task.task, attempt=1,
        operation=operation, key=key, value=value, nonce=next(_nonces) if nonce is None else nonce,
    )  # fmt: skip


def test_a_value_is_set_at_once_with_its_event(store: Store):
    machine, task = working(store)
    assert change(store, task, "set", 'a "key"', '{"x":[1]}') == [b"OK", b'{"x":[1]}']
    assert store.text.hgetall(store.keys.state("r1")) == {'a "key"': '{"x":[1]}'}
    event = machine.events()[-1]
    assert (event.type, event.task, event.attempt) == ("state", "s0", 1)
    assert event.data == {"operation": "set", "key": 'a "key"', "value": {"x": [1]}}
    assert leaks(store) == []


def test_a_value_is_deleted(store: Store):
    machine, task = working(store)
    change(store, task, "set", "k", "1")
    assert change(store, task, "delete", "k") == [b"OK", b""]
    assert machine.events()[-1].data == {"operation": "delete", "key": "k"}
    assert not store.client.exists(store.keys.state("r1"))


def test_deleting_what_is_not_there_changes_nothing(store: Store):
    _, task = working(store)
    before = everything(store)
    assert change(store, task, "delete", "k") == [b"OK", b""]
    assert everything(store) == before


@pytest.mark.parametrize(
    ("was", "by", "becomes"),
    [
        (None, "1", b"1"),
        ("41", "1", b"42"),
        ("-3", "-2", b"-5"),
        ("1.5", "1", b"2.5"),
        ("1", "0.25", b"1.25"),
        ("1e2", "1", b"101"),
    ],
)
def test_a_number_is_incremented_in_one_step(store: Store, was: str | None, by: str, becomes: bytes):
    machine, task = working(store)
    if was is not None:
        change(store, task, "set", "n", was)
    assert change(store, task, "incr", "n", by) == [b"OK", becomes]
    assert machine.events()[-1].data == {"operation": "set", "key": "n", "value": float(becomes)}


@pytest.mark.parametrize("was", ['"1"', "[1]", "true", "null", "{}"])
def test_what_is_no_number_cannot_be_incremented(store: Store, was: str):
    _, task = working(store)
    change(store, task, "set", "k", was)
    before = everything(store)
    assert change(store, task, "incr", "k", "1") == [b"NUMBER", was.encode()]
    assert everything(store) == before


def test_a_lost_execution_changes_nothing(store: Store):
    _, task = working(store)
    store.run_script("giveback", worker="w", cause="")
    before = everything(store)
    assert change(store, task, "set", "k", "1") == [b"LOST"]
    assert everything(store) == before


def test_a_canceled_execution_changes_nothing_even_before_its_slice(store: Store):
    _, task = working(store)
    store.client.hset(store.keys.run("r1"), "status", "canceled")
    before = everything(store)
    assert change(store, task, "incr", "k", "1") == [b"LOST"]
    assert everything(store) == before


def test_a_change_stays_when_the_task_fails(store: Store):
    machine, task = working(store)
    change(store, task, "set", "k", "1")
    machine.settle(task, outcome="failed")
    assert store.text.hgetall(store.keys.state("r1")) == {"k": "1"}
    assert leaks(store) == []


def test_an_increment_said_twice_counts_once(store: Store):
    """The answer got lost, and the worker says the same again."""
    _, task = working(store)
    assert change(store, task, "incr", "n", "2", nonce=7) == [b"OK", b"2"]
    before = everything(store)
    assert change(store, task, "incr", "n", "2", nonce=7) == [b"OK", b"2"]
    assert everything(store) == before
    assert change(store, task, "incr", "n", "2", nonce=8) == [b"OK", b"4"]
