"""Events from outside of runs: whom they are given to, what a match compares, and looking back for them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nbflow.model.awaits import OnEvent, received
from nbflow.store.connect import Store
from tests.graphs import each, first, flow, step
from tests.leaks import leaks
from tests.machine import silent
from tests.waits import emit, end, held, held_after, started


def test_an_event_resolves_all_that_wait_for_it(store: Store):
    machine = started(store, held(OnEvent("paid", match={"order.id": 7})))
    assert emit(store, "paid", {"order": {"id": 8}}) == [0, 0]
    assert emit(store, "sold", {"order": {"id": 7}}, "e2") == [0, 0]
    assert emit(store, "paid", {"order": {"id": 7}}, "e3") == [1, 0]
    assert machine.events()[2].data["by"] == {"event": "paid"}
    task = machine.claim()
    assert task is not None
    assert json.loads(task.payloads[-1] or "") == {"order": {"id": 7}}
    machine.settle(task, silent("step:a"))
    end(machine, "b")


def test_the_same_event_said_twice_is_one(store: Store):
    machine = started(store, held(OnEvent("paid", lookback=60)))
    emit(store, "paid", 1)
    emit(store, "paid", 1)
    assert machine.told().count("await.resolved a") == 1
    assert store.client.xlen(f"{store.keys.namespace}:topic:paid") == 1


@pytest.mark.parametrize(
    ("match", "payload", "fits"),
    [
        (None, "anything", True),
        ({"a": "x"}, {"a": "x", "b": 1}, True),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a.b.c": 1}, {"a": {"b": {"c": 1}}}, True),
        ({"a.b": 1}, {"a": 1}, False),
        ({"a": 1}, [1], False),
        ({"a": 1}, "a", False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 2**53}, {"a": 2**53}, True),
        ({"a": 0.1}, {"a": 0.1}, True),
    ],
)
def test_a_match_compares_fields_and_values(store: Store, match: Any, payload: Any, fits: bool):
    started(store, held(OnEvent("t", match=match)))
    assert emit(store, "t", payload)[0] == fits


def test_a_match_may_compare_with_what_the_task_receives(store: Store):
    spec = flow(step("a"), replace(step("b", each("each:a")), hold=OnEvent("paid", match={"order": received("id")})))
    machine = started(store, spec)
    task = machine.claim()
    assert task is not None
    elements = ['{"id":1}', '{"id":2}', '{"no":3}']
    machine.settle(task, ["each:a", "silent", "", 3, "0", elements[0], "1", elements[1], "2", elements[2]])
    assert emit(store, "paid", {"order": 2}) == [1, 0]
    assert machine.told()[-1] == "step.queued b[1]"


def test_an_event_that_was_there_before_counts_within_the_look_back(store: Store):
    spec = held_after(OnEvent("paid", match={"n": 1}, lookback=60))
    machine = started(store, spec)
    emit(store, "paid", {"n": 0})
    emit(store, "paid", {"n": 1}, "e2")
    task = machine.claim()
    assert task is not None
    machine.settle(task, silent("step:a"))
    assert machine.told()[3:] == ["await.registered a", "await.resolved a", "step.completed a", "step.queued b"]
    end(machine, "b")


def test_a_hold_looks_back_before_it_waits(store: Store):
    spec = flow(step("a"), replace(step("b", first("step:a")), hold=OnEvent("paid", lookback=60)))
    machine = started(store, spec)
    emit(store, "paid", {"n": 1})
    task = machine.claim()
    assert task is not None
    machine.settle(task, silent("step:a"))
    assert machine.told()[-3:] == ["await.registered b", "await.resolved b", "step.queued b"]
    task = machine.claim()
    assert task is not None
    assert task.payloads[-1] == '{"n": 1}'


def test_an_event_that_is_older_than_the_look_back_does_not_count(store: Store):
    machine = started(store, held_after(OnEvent("paid", lookback=60)))
    log = f"{store.keys.namespace}:topic:paid"
    seconds, _ = store.client.time()  # pyright: ignore[reportGeneralTypeIssues]
    store.client.xadd(log, {"payload": "1"}, id=f"{(seconds - 61) * 1000}-0")
    task = machine.claim()
    assert task is not None
    machine.settle(task, silent("step:a"))
    assert machine.told()[-1] == "await.registered a"
    emit(store, "paid", 2)
    assert store.client.xlen(log) == 1, "what nobody can look back for goes"
    assert 0 < store.client.pttl(log) <= 60_000


def test_the_log_of_a_topic_is_bounded_and_there_only_if_somebody_looks_back(store: Store):
    emit(store, "paid", 1)
    assert not store.client.exists(f"{store.keys.namespace}:topic:paid")
    started(store, held(OnEvent("paid", match={"never": 1}, lookback=60)))
    for i in range(510):
        emit(store, "paid", i, f"e{i}")
    assert store.client.xlen(f"{store.keys.namespace}:topic:paid") == 500


def test_an_event_for_very_many_is_given_in_slices(store: Store):
    """In the order in which they came to wait; who comes later is not given it."""
    spec = flow(step("a"), replace(step("b", each("each:a")), hold=OnEvent("go")))
    machine = started(store, spec)
    task = machine.claim()
    assert task is not None
    flat = [part for i in range(250) for part in (str(i), "1")]
    machine.settle(task, ["each:a", "silent", "", 250, *flat])
    assert emit(store, "go", 1) == [100, 1]
    machine.launch("r2")
    late = machine.claim()
    while late is not None and late.run != "r2":
        late = machine.claim()
    assert late is not None
    machine.settle(late, ["each:a", "silent", "", 1, "0", "1"])
    machine.slice_all()
    assert [event.task for event in machine.events() if event.type == "await.resolved"] == [
        f"b[{i}]" for i in range(250)
    ]
    assert machine.told("r2")[-1] == "await.registered b[0]"
    assert leaks(store) == []
