"""Flows with a held step, and what ends its wait, for tests of the scripts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from nbflow.model.awaits import Await
from nbflow.model.definition import FlowSpec
from nbflow.model.ids import step_id
from nbflow.store.connect import Store
from tests.graphs import first, flow, step
from tests.leaks import leaks
from tests.machine import Machine, silent

__all__ = ["emit", "end", "held", "held_after", "pass_time", "resolve", "started", "tick"]


def held(hold: Await, **more: Any) -> FlowSpec:
    """`a`, which is held, and `b` after it."""
    return flow(replace(step("a"), hold=hold, **more), step("b", first("step:a")))


def held_after(hold: Await, **more: Any) -> FlowSpec:
    return flow(replace(step("a"), hold_emits=hold, **more), step("b", first("step:a")))


def started(store: Store, spec: FlowSpec, value: str = "{}") -> Machine:
    machine = Machine(store, spec)
    machine.birth("w")
    machine.launch(value=value)
    return machine


def resolve(store: Store, task: str = "a", position: str = "before", data: Any = None, **named: Any) -> list[bytes]:
    given = {"id": "r1", "by": '{"user":"u"}', "nonce": "n", "attempt": 1} | named
    job = step_id("r1", task, given.pop("attempt"))
    return store.run_script("resolve", job=job, position=position, data=json.dumps(data), **given)


def emit(store: Store, topic: str, payload: Any, nonce: str = "e1") -> list[int]:
    """What it says of those that wait."""
    return store.run_script("emit", topic=topic, payload=json.dumps(payload), nonce=nonce, sig="s")[:2]


def tick(store: Store) -> list[Any]:
    return store.run_script("tick")


def pass_time(store: Store, ms: int) -> None:
    """All that is due within that time is due now."""
    text: Any = store.text
    for entry, score in text.zrange(store.keys.timers(), 0, -1, withscores=True):
        text.zadd(store.keys.timers(), {entry: score - ms})


def end(machine: Machine, *names: str) -> None:
    """The tasks of these names come, complete and the run ends; nothing is left behind."""
    for name in names:
        task = machine.claim()
        assert task is not None
        assert task.task == name
        machine.settle(task, silent(f"step:{name}"))
    assert machine.run_field("status") == "completed"
    assert leaks(machine.store) == []
