"""stage: 'OK' | 'AGAIN'; and what launch, slice and settle do with what was staged."""

from __future__ import annotations

import json
from typing import Any

from nbflow.model.definition import FlowSpec
from nbflow.model.receipt import receipt, sum_of
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, collect, each, first, flow, mapped, step
from tests.leaks import leaks
from tests.machine import Machine, silent


class Kept:
    """What an earlier run kept, as a test says it."""

    def __init__(self, fields: dict[str, str], emitted: dict[str, dict[str, str]] | None = None) -> None:
        self.fields, self.emitted = fields, emitted or {}

    def field(self, name: str) -> str | None:
        return self.fields.get(name)

    def payload(self, topic: str, index: str) -> str | None:
        return self.emitted.get(topic, {}).get(index)

    def sum(self, topic: str) -> str:
        return sum_of(self.emitted.get(topic, {}).items())


def entry(machine: Machine, task: str, rank: int, emits: list[Any], kept: Kept) -> list[str]:
    """One end, as it is staged."""
    name, _, index = task.rstrip("]").partition("[")
    digest = receipt(name, json.loads(machine.plan.table[f"step:{name}"]), index, kept)
    data = '{"result":1,"reused":{"run":"r0"}}'
    return [task, f"{rank} {digest} {json.dumps([data, emits])}"]


def staged(store: Store, flow: FlowSpec, *entries: list[str]) -> Machine:
    machine = Machine(store, flow)
    machine.birth("w")
    parts = [part for one in entries for part in one]
    assert store.run_script("stage", *parts, run="r1", what="reuse") == b"OK"
    assert leaks(store) == []
    return machine


def ends_of_a_chain(store: Store, length: int, ended: int) -> list[list[str]]:
    machine = Machine(store, chain(length))
    kept = Kept({"input": "{}", **{f"y:s{i + 1}:1": f"step:s{i}" for i in range(length)}})
    kept.fields |= {f"p:step:s{i}": "1" for i in range(length)}
    return [entry(machine, f"s{i}", i, silent(f"step:s{i}"), kept) for i in range(ended)]


def test_what_is_staged_goes_with_a_launch_that_does_not_come(store: Store):
    staged(store, chain(2), *ends_of_a_chain(store, 2, 1))
    store.run_script("stage", "d1", "d2", run="r1", what="own")
    store.run_script("stage", "n", "1", run="r1", what="state")
    assert store.text.hget("nbflow:owners", "artifact:d1") == "1"
    store.text.zadd(store.keys.retire(), {"r1": 0}, xx=True)
    while store.run_script("retire"):
        pass
    assert not [key for key in everything(store) if b":r1" in key]
    assert store.text.hget("nbflow:owners", "artifact:d1") is None
    assert leaks(store) == []


def test_nothing_is_staged_for_a_run_that_is_there(store: Store):
    machine = Machine(store, chain(1))
    machine.launch("r1")
    before = everything(store)
    assert store.run_script("stage", "s0", "0 0 []", run="r1", what="reuse") == b"AGAIN"
    assert everything(store) == before


def test_a_launch_without_all_that_was_staged_writes_nothing(store: Store):
    machine = staged(store, chain(2), *ends_of_a_chain(store, 2, 1))
    before = everything(store)
    assert machine.launch("r1", fields=("reuse", "2")) == [b"MISSING", b"past"]
    assert everything(store) == before
    assert machine.launch("r1", fields=("reuse", "1")) == [b"OK", b"r1"]
    assert machine.launch("r1", fields=("reuse", "1")) == [b"AGAIN", b"r1"]


def test_an_end_is_applied_as_a_settle_would_and_the_next_task_is_queued(store: Store):
    machine = staged(store, chain(3), *ends_of_a_chain(store, 3, 2))
    machine.launch("r1", fields=("reuse", "2"))
    assert machine.told() == ["flow.start", "step.completed s0", "step.completed s1", "step.queued s2"]
    task = machine.claim()
    assert task is not None
    assert (task.task, task.payloads) == ("s2", ["1"])
    machine.settle(task)
    assert machine.run_field("status") == "completed"
    assert leaks(store) == []


def test_a_task_that_would_receive_something_else_is_queued(store: Store):
    machine = staged(store, chain(3), *ends_of_a_chain(store, 3, 3))
    machine.launch("r1", '{"n":2}', fields=("reuse", "3"))
    assert machine.told() == ["flow.start", "step.queued s0"]
    task = machine.claim()
    assert task is not None
    machine.settle(task, silent("step:s0"))
    assert machine.told()[-3:] == ["step.completed s1", "step.completed s2", "flow.completed"]


def test_a_run_of_which_all_is_taken_over_ends_in_its_launch(store: Store):
    machine = staged(store, chain(3), *ends_of_a_chain(store, 3, 3))
    machine.launch("r1", fields=("reuse", "3"))
    assert machine.told()[-1] == "flow.completed"
    assert machine.run_field("status") == "completed"
    assert leaks(store) == []


def test_ends_are_applied_in_their_old_order(store: Store):
    """Two steps emit one topic: which emission is the first, and the number 0, is that of the earlier run."""
    two = flow(step("a", emits=("t",)), step("b", emits=("t",)), step("c", first("t")))
    kept = Kept({"input": "{}"})
    machine = Machine(store, two)
    late = entry(machine, "a", 1, ["t", "one", "", 1, "0", '"of a"'], kept)
    early = entry(machine, "b", 0, ["t", "one", "", 1, "0", '"of b"'], kept)
    machine = staged(store, two, late, early)
    machine.launch("r1", fields=("reuse", "2"))
    task = machine.claim()
    assert task is not None
    assert (task.task, task.payloads) == ("c", ['"of b"'])


def test_a_map_of_thousands_is_taken_over_in_slices(store: Store):
    many, kept = 1200, Kept({"input": "{}", "y:c:1": "step:b"})
    payloads = {str(i): str(i) for i in range(many)}
    kept.emitted = {"each:a": payloads, "step:b": payloads}
    machine = Machine(store, mapped())
    flat = [part for pair in payloads.items() for part in pair]
    ends = [entry(machine, "a", 0, ["each:a", "silent", "", many, *flat], kept)]
    ends += [entry(machine, f"b[{i}]", i + 1, silent("step:b", str(i), str(i)), kept) for i in range(many)]
    ends += [entry(machine, "c", many + 1, silent("step:c"), kept)]
    machine = staged(store, mapped(), *ends)
    machine.launch("r1", fields=("reuse", str(many + 2)))
    assert store.client.llen(store.keys.wake("default")) > 0
    assert machine.slice_all() > 10
    assert machine.told()[-1] == "flow.completed"
    assert sum(line.startswith("step.completed b") for line in machine.told()) == many
    assert not any(line.startswith("step.queued") for line in machine.told())
    assert leaks(store) == []


def test_a_cancel_removes_what_was_not_taken_over_yet(store: Store):
    many, kept = 1200, Kept({"input": "{}"})
    kept.emitted = {"each:a": {str(i): "1" for i in range(many)}}
    machine = Machine(store, mapped())
    flat = [part for i in range(many) for part in (str(i), "1")]
    ends = [entry(machine, "a", 0, ["each:a", "silent", "", many, *flat], kept)]
    ends += [entry(machine, f"b[{i}]", i + 1, silent("step:b", "1", str(i)), kept) for i in range(many)]
    machine = staged(store, mapped(), *ends)
    machine.launch("r1", fields=("reuse", str(many + 1)))
    assert store.run_script("cancel", id="r1", reason='""', by="{}")[0] == b"OK"
    machine.slice_all()
    assert machine.run_field("status") == "canceled"
    assert leaks(store) == []


def test_what_a_gathering_task_received_is_told_by_a_sum(store: Store):
    """The same in whatever order the emissions came; another payload, or one more, is another sum."""
    some = sum_of([("0", "1"), ("1", "2")])
    assert some == sum_of([("1", "2"), ("0", "1")])
    assert len({some, sum_of([("0", "1")]), sum_of([("0", "2"), ("1", "1")]), sum_of([])}) == 4
    gathers = flow(step("a"), step("b", each("each:a")), step("c", collect("step:b")))
    kept = Kept({"input": "{}", "y:c:1": "step:b"}, {"step:b": {"0": "7", "1": "8"}})
    machine = staged(store, gathers, entry(Machine(store, gathers), "c", 9, silent("step:c"), kept))
    machine.launch("r1", fields=("reuse", "1"))
    task = machine.claim()
    assert task is not None
    machine.settle(task, ["each:a", "silent", "", 2, "0", "1", "1", "2"])
    tasks = [machine.claim(), machine.claim()]
    for one, payload in zip(reversed(tasks), ("8", "7"), strict=True):
        assert one is not None
        machine.settle(one, silent("step:b", payload, one.task[2:-1]))
    assert machine.told()[-2:] == ["step.completed c", "flow.completed"]
