"""Features that meet in one task: what is taken over, held, limited, declined, canceled, scheduled."""

from __future__ import annotations

from dataclasses import replace

from nbflow.model.awaits import Approval
from nbflow.store.connect import Store
from tests.contract.test_stage import Kept, entry, staged
from tests.graphs import first, flow, step
from tests.machine import Machine, silent


def test_what_a_held_step_made_is_taken_over_and_nobody_is_asked(store: Store):
    held = flow(replace(step("a"), hold=Approval()), replace(step("b", first("step:a")), hold=Approval()))
    kept, machine = Kept({"input": "{}", "y:b:1": "step:a", "p:step:a": "1"}), Machine(store, held)
    ends = [entry(machine, name, i, silent(f"step:{name}"), kept) for i, name in enumerate("ab")]
    machine = staged(store, held, *ends)
    machine.launch("r1", fields=("reuse", "2"))
    assert machine.told() == ["flow.start", "step.completed a", "step.completed b", "flow.completed"]
