"""Features that meet in one task: what is taken over, held, limited, declined, canceled, scheduled."""

from __future__ import annotations

from dataclasses import replace

from nbflow.model.awaits import Approval
from nbflow.store.connect import Store
from tests.contract.test_stage import Kept, entry, staged
from tests.graphs import each, first, flow, step
from tests.machine import Machine, silent


def test_what_a_held_step_made_is_taken_over_and_nobody_is_asked(store: Store):
    held = flow(replace(step("a"), hold=Approval()), replace(step("b", first("step:a")), hold=Approval()))
    kept, machine = Kept({"input": "{}", "y:b:1": "step:a", "p:step:a": "1"}), Machine(store, held)
    ends = [entry(machine, name, i, silent(f"step:{name}"), kept) for i, name in enumerate("ab")]
    machine = staged(store, held, *ends)
    machine.launch("r1", fields=("reuse", "2"))
    assert machine.told() == ["flow.start", "step.completed a", "step.completed b", "flow.completed"]


def test_who_is_told_of_a_wait_is_told_before_the_next_end_is_taken_over(store: Store):
    """As in a run that takes over nothing: so the numbers of emissions of one topic come out the same."""
    asks = flow(replace(step("a"), hold=Approval(notify="told")), step("b", emits=("told",)), step("c", each("told")))
    kept, machine = Kept({"input": "{}"}), Machine(store, asks)
    machine = staged(store, asks, entry(machine, "b", 0, ["told", "one", "", 1, "0", "1"], kept))
    machine.launch("r1", fields=("reuse", "1"))
    assert machine.told()[1:] == [
        "await.registered a", "emit a", "step.queued c[0]", "step.completed b", "emit b", "step.queued c[1]",
    ]  # fmt: skip
