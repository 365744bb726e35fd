"""One task costs one script call, and what a call costs does not grow with the flow."""

from __future__ import annotations

from typing import Any

import pytest

from nbflow.model.definition import FlowSpec
from nbflow.store.connect import Store
from tests.graphs import chain, collect, each, first, flow, step
from tests.machine import Claimed, Machine, one, silent

MOST_COMMANDS_A_HOP = 30
"""Redis commands of one settle of a plain hop: fence, end of the step, its result kept, the next task made and leased,
three events with their notices."""

MOST_COMMANDS_A_BRANCH = 80
"""The same for the settle that ends a run in which one step was not reached."""


def commands(store: Store) -> dict[str, int]:
    stats: dict[str, Any] = store.client.info("commandstats")  # pyright: ignore[reportAssignmentType]
    return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in stats.items()}


def counted(store: Store, before: dict[str, int]) -> dict[str, int]:
    changed = {name: calls - before.get(name, 0) for name, calls in commands(store).items()}
    return {
        name: calls for name, calls in changed.items() if calls and name not in ("info", "evalsha", "config|resetstat")
    }


def warm(store: Store) -> None:
    """The scripts are known to the server, so that no call is made twice."""
    for script in store.scripts.values():
        store.client.script_load(script.text)


def entry_of(machine: Machine) -> Claimed:
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    return task


def test_a_chain_of_ten_costs_twelve_script_calls(store: Store):
    """One launch, one claim, ten settles that each bring the next task along."""
    warm(store)
    machine = Machine(store, chain(10))
    before = commands(store)
    task: Claimed | None = entry_of(machine)
    settles = 0
    while task is not None:
        _, task = machine.settle(task, silent(f"step:{task.task}"), want=True)
        settles += 1
    assert settles == 10
    assert commands(store)["evalsha"] - before.get("evalsha", 0) == 12
    assert machine.run_field("status") == "completed"


def cost_of_a_hop(store: Store, length: int) -> dict[str, int]:
    """The commands of the fourth settle of a chain."""
    store.client.flushdb()
    machine = Machine(store, chain(length))
    task: Claimed | None = entry_of(machine)
    for _ in range(3):
        assert task is not None
        _, task = machine.settle(task, silent(f"step:{task.task}"), want=True)
    assert task is not None
    before = commands(store)
    machine.settle(task, silent(f"step:{task.task}"), want=True)
    return counted(store, before)


def test_a_plain_hop_costs_the_same_in_a_small_and_in_a_large_flow(store: Store):
    warm(store)
    small, large = cost_of_a_hop(store, 10), cost_of_a_hop(store, 300)
    assert small == large
    assert sum(small.values()) <= MOST_COMMANDS_A_HOP, small


@pytest.mark.parametrize("elements", [3, 300])
def test_a_task_of_a_map_costs_the_same_in_a_small_and_in_a_large_map(store: Store, elements: int):
    warm(store)
    machine = Machine(store, flow(step("a"), step("b", each("each:a")), step("c", collect("step:b"))))
    group = ["each:a", "silent", "", elements]
    for i in range(elements):
        group += [str(i), "1"]
    _, task = machine.settle(entry_of(machine), group, want=True)
    assert task is not None
    before = commands(store)
    machine.settle(task, silent("step:b", index="0"), want=True)
    assert sum(counted(store, before).values()) <= 44


def test_an_end_without_skips_does_not_look_at_the_other_steps(store: Store):
    warm(store)
    costs: list[dict[str, int]] = []
    for length in (10, 100):
        store.client.flushdb()
        machine = Machine(store, chain(length))
        task: Claimed | None = entry_of(machine)
        for _ in range(length - 1):
            assert task is not None
            _, task = machine.settle(task, silent(f"step:{task.task}"), want=True)
        assert task is not None
        before = commands(store)
        machine.settle(task, one("x"), want=True)
        costs.append(counted(store, before))
    assert costs[0] == costs[1]


def branching(length: int) -> FlowSpec:
    """The entry takes one of two branches: a chain, or `other`."""
    steps = [step(f"s{i}", first("y" if i == 1 else f"step:s{i - 1}")) for i in range(1, length)]
    return flow(step("s0", emits=("x", "y")), step("other", first("x")), *steps)


def test_a_branch_not_taken_costs_the_same_in_a_small_and_in_a_large_flow(store: Store):
    """At the end only the steps without tasks are looked at, and those right before them."""
    warm(store)
    costs: list[dict[str, int]] = []
    for length in (5, 200):
        store.client.flushdb()
        machine = Machine(store, branching(length))
        _, task = machine.settle(entry_of(machine), one("y"), want=True)
        for _ in range(length - 2):
            assert task is not None
            _, task = machine.settle(task, silent(f"step:{task.task}"), want=True)
        assert task is not None
        before = commands(store)
        machine.settle(task, want=True)
        costs.append(counted(store, before))
        assert machine.told()[-2:] == ["step.skipped other", "flow.completed"]
    assert costs[0] == costs[1]
    assert sum(costs[0].values()) <= MOST_COMMANDS_A_BRANCH, costs[0]
