"""Features that meet in one task: what is taken over, held, limited, declined, canceled, scheduled."""

from __future__ import annotations

from dataclasses import replace

from nbflow.model.awaits import Approval
from nbflow.model.policy import Concurrency
from nbflow.store.connect import Store
from tests.contract.test_fire import NEXT, Clockwork
from tests.contract.test_stage import Kept, entry, staged
from tests.graphs import each, first, flow, step
from tests.leaks import leaks
from tests.machine import Machine, silent
from tests.waits import resolve


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


def test_an_occurrence_that_cancels_the_run_before_takes_its_slot(store: Store):
    clock = Clockwork(store, replace(flow(step("a")), concurrency=Concurrency(1)))
    clock.machine.birth("w")
    clock.machine.birth("v")
    for n in (1, 2):
        assert clock.fire(f"r{n}", n * NEXT, overlap="cancel_running")[0] == b"OK"
        task = clock.machine.claim("w" if n == 1 else "v")
        assert task is not None
        assert task.run == f"r{n}"
    assert clock.machine.claim("w") is None
    assert clock.status("r1") == "canceled"
    assert leaks(store) == []


def test_a_run_of_which_a_task_is_held_goes_on_as_far_as_its_schedule_is_concerned(store: Store):
    clock = Clockwork(store, flow(replace(step("a"), hold=Approval())))
    clock.machine.birth("w")
    clock.fire("r1")
    assert clock.fire("r2", 2 * NEXT) == [b"SKIPPED", b"r1"]
    assert clock.fire("r3", 3 * NEXT, overlap="queue") == [b"OK", b"r3"]
    assert resolve(store) == [b"OK"]
    task = clock.machine.claim()
    assert task is not None
    clock.machine.settle(task)
    clock.tick()
    assert clock.machine.told("r3")[-1] == "await.registered a"
    assert leaks(store) == []


def test_what_is_declined_is_canceled_by_the_next_occurrence_as_well(store: Store):
    clock = Clockwork(store, replace(flow(step("a")), concurrency=Concurrency(1)))
    clock.machine.birth("w")
    clock.fire("r1", overlap="cancel_running")
    task = clock.machine.claim()
    assert task is not None
    clock.machine.settle(task, outcome="declined", data='{"lacks":"x","again":60000}')
    clock.fire("r2", 2 * NEXT, overlap="cancel_running")
    assert not store.client.exists("nbflow:declined")
    clock.machine.birth("v")
    after = clock.machine.claim("v")
    assert after is not None
    assert after.run == "r2"
    assert leaks(store) == []


def test_a_held_task_comes_to_the_line_of_its_limit_when_it_was_answered(store: Store):
    """Who was answered first comes first, however long each was held."""
    held = flow(replace(step("a"), hold=Approval(), concurrency=Concurrency(1)))
    machine = Machine(store, held)
    for worker in ("u", "v", "w"):
        machine.birth(worker)
    for run in ("r1", "r2", "r3"):
        machine.launch(run)
    assert machine.claim("u") is None
    for run in ("r3", "r2", "r1"):
        named = {"job": f"{run}__a__attempt-1", "position": "before", "data": "1", "by": "{}", "nonce": "n"}
        assert store.run_script("resolve", id=run, **named) == [b"OK"]
    task = machine.claim("u")
    assert machine.claim("v") is None
    came: list[str] = []
    while task is not None:
        came.append(task.run)
        _, task = machine.settle(task, want=True)
    assert came == ["r3", "r2", "r1"]
    assert leaks(store) == []


def test_a_result_that_is_held_holds_no_slot(store: Store):
    machine = Machine(store, flow(replace(step("a"), hold_emits=Approval(), concurrency=Concurrency(1))))
    machine.birth("w")
    machine.launch("r1")
    machine.launch("r2")
    task = machine.claim()
    assert task is not None
    after = machine.settle(task, want=True)[1]
    assert after is not None
    assert (after.run, machine.told("r1")[-1]) == ("r2", "await.registered a")
    assert resolve(store, position="after") == [b"OK"]
    assert machine.run_field("status", "r1") == "completed"
    assert store.client.scard("nbflow:limit:c:f:a") == 1
    assert leaks(store) == []
