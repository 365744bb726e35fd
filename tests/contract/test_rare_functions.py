"""To enter a script is cheap: what happens all the time needs no function that is made only when it is needed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from nbflow import Flow, collect, each
from nbflow.model.definition import spread_topic, step_topic
from nbflow.store.connect import Store
from nbflow.store.scripts import NAMES
from tests.machine import Machine, silent

MADE = "RARE.__index = nil\n"


@pytest.fixture
def counted(store: Store) -> Store:
    """A store whose scripts count how often they make their rare functions."""
    for name in NAMES:
        script = store.scripts[name]
        text = script.text.replace(MADE, f"{MADE}redis.call('HINCRBY', 'made', '{name}', 1)\n", 1)
        assert text != script.text
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        store.scripts[name] = dataclasses.replace(script, text=text, sha=sha)
    return store


def flow_of(*, is_mapped: bool) -> Flow:
    flow = Flow(f"rare-{is_mapped}")

    @flow.entry
    def load() -> list[int]:
        return [1, 2, 3]

    if is_mapped:

        @flow.step(each(load))
        def one(load: int) -> int:
            return load

        @flow.step(collect(one))
        def last(one: list[int]) -> None: ...

    else:

        @flow.step(load)
        def then(load: list[int]) -> None: ...

        @flow.step([load, then])
        def both(load: list[int], then: None) -> None: ...

    return flow


def emits(step: str, index: str) -> list[Any]:
    spread = [spread_topic(step), "silent", "", 3, "0", "1", "1", "2", "2", "3"] if step == "load" else []
    return [*silent(step_topic(step), "1", index or "0"), *spread]


def play(machine: Machine, end: Callable[[str], dict[str, Any]] = lambda _: {}) -> None:
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    while task is not None:
        step, _, index = task.task.partition("[")
        _, task = machine.settle(task, emits(step, index[:-1]), want=True, **end(step))


@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_run_without_incidents_needs_none(counted: Store, is_mapped: bool) -> None:
    machine = Machine(counted, flow_of(is_mapped=is_mapped).spec())
    play(machine)
    assert machine.claim() is None
    assert machine.run_field("status") == "completed"
    assert machine.told().count("step.completed one[2]") == is_mapped
    assert counted.text.hgetall("made") == {}


def test_an_incident_makes_them_once_a_script(counted: Store) -> None:
    """Or this file shows nothing."""
    machine = Machine(counted, flow_of(is_mapped=False).spec())
    play(machine, lambda step: {"outcome": "failed"} if step == "then" else {})
    assert machine.run_field("status") == "failed"
    counted.run_script("giveback", worker="w", cause="")
    assert counted.text.hgetall("made") == {"settle": "1", "giveback": "1"}
