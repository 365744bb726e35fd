"""Waits: what a match compares is the same in the script and in plain Python; and of answers, events, timeouts and cancels,
in any order and said twice, exactly one ends a wait."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.awaits import Approval, OnEvent
from nbflow.model.matching import fits
from nbflow.store.connect import Store
from tests.leaks import leaks
from tests.property.profiles import examples
from tests.waits import emit, held, held_after, pass_time, resolve, started, tick

pytestmark = pytest.mark.timeout(1800)

VALUES = st.sampled_from([None, True, False, 0, 1, 1.5, "", "a", "1"])
PAYLOADS = st.recursive(VALUES, lambda inner: st.dictionaries(st.sampled_from("ab"), inner, max_size=2), max_leaves=4)
MATCHES = st.dictionaries(st.sampled_from(["a", "b", "a.a", "a.b"]), VALUES, max_size=2)


@examples(100)
@given(MATCHES, PAYLOADS)
def test_a_match_compares_the_same_in_the_script(valkey_store: Store, match: dict[str, Any], payload: Any):
    valkey_store.client.flushall()
    hold = OnEvent("t", match=match)
    started(valkey_store, held(hold))
    assert emit(valkey_store, "t", payload)[0] == fits(hold.matches, json.loads(json.dumps(payload)))


@examples(60)
@given(
    st.booleans(),
    st.lists(st.sampled_from(["answer", "again", "event", "timeout", "cancel", "by hand"]), min_size=1, max_size=5),
)
def test_exactly_one_ends_a_wait(valkey_store: Store, is_after: bool, acts: list[str]):
    valkey_store.client.flushall()
    hold = OnEvent("t", timeout=60) if "event" in acts else Approval(timeout=60)
    machine = started(valkey_store, held_after(hold) if is_after else held(hold))
    if is_after:
        task = machine.claim()
        assert task is not None
        machine.settle(task)
    position = "after" if is_after else "before"
    for number, act in enumerate(acts):
        if act in ("answer", "again"):
            nonce = "same" if act == "again" else str(number)
            resolve(valkey_store, position=position, data=number, nonce=nonce)
        elif act == "event":
            emit(valkey_store, "t", number, str(number))
        elif act == "timeout":
            pass_time(valkey_store, 60_000)
            tick(valkey_store)
        elif act == "by hand":
            told = {"run": "r1", "task": "a", "attempt": 1, "data": '{"result":1}', "nonce": str(number)}
            valkey_store.run_script("act", what="cancel" if number % 2 else "complete", **told)
        else:
            valkey_store.run_script("cancel", id="r1", reason='""', by="{}")
    told = [event.type for event in machine.events() if event.task == "a"]
    ended = [kind for kind in told if kind in ("await.resolved", "await.timeout")]
    expected = {"timeout": ["await.timeout"], "cancel": [], "by hand": []}.get(acts[0], ["await.resolved"])
    assert ended == expected
    assert told.count("step.completed") <= 1
    assert leaks(valkey_store) == []
