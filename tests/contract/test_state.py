"""state: {'OK', value} | {'LOST'} | {'NUMBER', value} | {'RANGE', value} | {'OTHER', value} | {'MANY', n}; recall: {key, value, ...}"""

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
    store: Store,
    task: Claimed,
    operation: str,
    key: str,
    value: str = "",
    *,
    nonce: int | None = None,
    stays: str = "",
    was: str = "",
) -> list[Any]:
    return store.run_script(
        "state", worker=task.worker, job=task.job, lease=task.lease, run="r1", task=task.task, attempt=1,
        operation=operation, key=key, value=value, stays=stays, was=was, nonce=next(_nonces) if nonce is None else nonce,
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


@pytest.mark.parametrize(("was", "by"), [(str(2**63 - 1), "1"), ("1", "9" * 30)])
def test_a_sum_that_no_number_holds_changes_nothing(store: Store, was: str, by: str):
    _, task = working(store)
    change(store, task, "set", "n", was)
    before = everything(store)
    assert change(store, task, "incr", "n", by) == [b"RANGE", was.encode()]
    assert everything(store) == before


def test_a_swap_replaces_what_it_read_and_nothing_else(store: Store):
    machine, task = working(store)
    assert change(store, task, "swap", "k", "[1]", was="") == [b"OK", b"[1]"]
    assert change(store, task, "swap", "k", "[2]", was="[1]", nonce=7) == [b"OK", b"[2]"]
    before = everything(store)
    assert change(store, task, "swap", "k", "[2]", was="[1]", nonce=7) == [b"OK", b"[2]"], "said twice"
    assert change(store, task, "swap", "k", "[9]", was="[1]") == [b"OTHER", b"[2]"]
    assert change(store, task, "swap", "k", "[9]", was="") == [b"OTHER", b"[2]"]
    assert change(store, task, "swap", "none", "[9]", was="1") == [b"OTHER", b""]
    assert everything(store) == before
    assert machine.events()[-1].data == {"operation": "set", "key": "k", "value": [2]}


def fades(store: Store) -> dict[str, float]:
    found: Any = store.text.zrange("nbflow:fades:r1", 0, -1, withscores=True)
    return dict(found)


def passes(store: Store, *names: str) -> None:
    """The time of these values is over."""
    store.client.zadd("nbflow:fades:r1", dict.fromkeys(names, 1))
    store.client.zadd(store.keys.timers(), {"fade r1": 1})


def recalled(store: Store, key: str = "") -> dict[str, str]:
    flat = [part.decode() for part in store.run_script("recall", run="r1", key=key)]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_a_value_with_a_time_is_not_told_once_it_is_over_and_a_tick_takes_it_away(store: Store):
    machine, task = working(store)
    change(store, task, "set", "token", '"t"', stays="60000")
    change(store, task, "set", "later", "1", stays="600000")
    change(store, task, "set", "good", "1")
    assert machine.events()[-3].data == {"operation": "set", "key": "token", "value": "t", "ttl": 60000}
    assert recalled(store) == {"token": '"t"', "later": "1", "good": "1"}
    assert store.client.zscore(store.keys.timers(), "fade r1") == fades(store)["token"]
    passes(store, "token")
    assert recalled(store) == {"later": "1", "good": "1"}
    assert recalled(store, "token") == {}
    assert recalled(store, "good") == {"good": "1"}
    assert store.text.hexists(store.keys.state("r1"), "token"), "nobody ticked yet"
    store.run_script("tick")
    assert machine.events()[-1].data == {"operation": "delete", "key": "token", "reason": "ttl"}
    assert store.text.hkeys(store.keys.state("r1")) == ["later", "good"]
    assert store.client.zscore(store.keys.timers(), "fade r1") == fades(store)["later"]
    assert leaks(store) == []


def test_a_change_takes_away_first_what_is_over(store: Store):
    machine, task = working(store)
    change(store, task, "set", "n", "41", stays="60000")
    passes(store, "n")
    assert change(store, task, "incr", "n", "1", stays="as") == [b"OK", b"1"]
    assert [event.data.get("reason") for event in machine.events()[-2:]] == ["ttl", None]
    assert fades(store) == {}


def test_how_long_a_value_stays_is_replaced_by_a_set_and_kept_by_others(store: Store):
    machine, task = working(store)
    change(store, task, "set", "n", "1", stays="end")
    assert machine.events()[-1].data["cleanup"] == "on_end"
    change(store, task, "incr", "n", "1", stays="as")
    change(store, task, "swap", "n", "3", was="2", stays="as")
    assert machine.events()[-1].data == {"operation": "set", "key": "n", "value": 3, "cleanup": "on_end"}
    assert fades(store) == {"n": float("inf")}
    change(store, task, "set", "n", "4")
    assert fades(store) == {}
    change(store, task, "set", "n", "5", stays="60000")
    change(store, task, "delete", "n")
    assert fades(store) == {}
    assert not store.client.exists(store.keys.state("r1"))


@pytest.mark.parametrize("how", ["completed", "failed", "canceled"])
def test_with_the_end_of_the_run_goes_what_goes_by_itself(store: Store, how: str):
    machine, task = working(store)
    change(store, task, "set", "good", "1")
    change(store, task, "set", "b", "1", stays="60000")
    change(store, task, "set", "a", "1", stays="end")
    change(store, task, "set", "over", "1", stays="60000")
    passes(store, "over")
    if how == "canceled":
        store.run_script("cancel", id="r1", reason='""', by="{}")
        machine.slice_all()
    else:
        machine.settle(task, outcome=how)
    assert store.text.hgetall(store.keys.state("r1")) == {"good": "1"}
    gone = [(e.data["key"], e.data["reason"]) for e in machine.events() if e.data.get("reason") in ("ttl", "end")]
    assert gone == [("over", "ttl"), ("b", "end"), ("a", "end")]
    assert not store.client.exists("nbflow:fades:r1")
    assert leaks(store) == []


def test_five_hundred_values_go_by_themselves_at_once(store: Store):
    _, task = working(store)
    store.client.zadd("nbflow:fades:r1", {f"k{i}": float("inf") for i in range(500)})
    store.client.hset(store.keys.run("r1"), "fading", 1)
    before = everything(store)
    assert change(store, task, "set", "one more", "1", stays="end") == [b"MANY", 500]
    assert everything(store) == before
    assert change(store, task, "set", "k7", "1", stays="60000") == [b"OK", b"1"]
    assert change(store, task, "set", "good", "1") == [b"OK", b"1"]
