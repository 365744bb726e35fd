"""What settle keeps of ends for other runs, what launch, settle and slice take over of it, and when it goes (retire)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from nbflow.model.awaits import Time
from nbflow.model.definition import FlowSpec
from nbflow.model.policy import Concurrency, Retry
from nbflow.store.connect import Store
from tests.graphs import collect, each, first, flow, keep, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, many, one, silent

HOUR = 3600.0


def cached(spec: FlowSpec, *names: str) -> FlowSpec:
    """The flow, with `cache=` on these steps, or on all."""
    steps = (replace(s, cache_s=HOUR) if s.name in names or not names else s for s in spec.steps)
    return replace(spec, steps=tuple(steps))


CHAIN = cached(flow(step("a"), step("b", first("step:a")), step("c", first("step:b"))), "a", "b")
MAP = cached(flow(step("a"), step("b", each("each:a")), step("c", collect("step:b"))), "b", "c")


def kept(*artifacts: str, place: str = "") -> list[Any]:
    """What a worker says before its emissions: it may be kept."""
    return ["", "keep", place, len(artifacts), *(part for digest in artifacts for part in (digest, ""))]


def opened(store: Store, spec: FlowSpec) -> Machine:
    machine = Machine(store, spec)
    machine.birth("w")
    return machine


def play(machine: Machine, run: str, value: str = "{}", *artifacts: str, **launch: Any) -> list[str]:
    """Do a run in which each step returns its own name; which tasks were executed."""
    machine.launch(run, value, **launch)
    executed: list[str] = []
    machine.slice_all()
    while (task := machine.claim()) is not None:
        executed.append(task.task)
        machine.settle(task, [*kept(*artifacts), *result_of(machine, task)])
        machine.slice_all()
    assert machine.run_field("status", run) == "completed"
    assert leaks(machine.store) == []
    return executed


def result_of(machine: Machine, task: Claimed) -> list[Any]:
    name, _, index = task.task.rstrip("]").partition("[")
    if name == "a" and "on:each:a" in machine.plan.table:
        return silent_list(["1", "2"])
    return silent(f"step:{name}", f'"of {name}"', index or "0")


def silent_list(payloads: list[str]) -> list[Any]:
    group = many("each:a", payloads)
    return ["each:a", "silent", "", *group[3:]]


def claimed(machine: Machine) -> Claimed:
    task = machine.claim()
    assert task is not None
    return task


def test_the_same_again_is_taken_over_from_another_run_and_not_queued(store: Store):
    machine = opened(store, CHAIN)
    assert play(machine, "r1") == ["a", "b", "c"]
    assert play(machine, "r2") == ["c"]
    told = machine.told("r2")
    assert told[:4] == ["flow.start", "step.completed a", "step.completed b", "step.queued c"]
    data = machine.events("r2")[1].data
    assert data["result"] is None
    assert data["cached"]["run"] == "r1"
    assert data["cached"]["at"].endswith("Z")


def test_another_input_or_another_code_is_executed(store: Store):
    machine = opened(store, CHAIN)
    play(machine, "r1")
    assert play(machine, "r2", '{"n":2}') == ["a", "c"], "what b receives is the same"
    other = json.loads(machine.plan.table["step:b"]) | {"cache": ["another", 3_600_000]}
    machine.plan.table["step:b"] = json.dumps(other)
    object.__setattr__(machine.plan, "digest", "edited")
    machine.upload()
    assert play(machine, "r3") == ["b", "c"]


def test_a_run_of_which_all_is_kept_ends_in_its_launch(store: Store):
    machine = opened(store, cached(CHAIN))
    play(machine, "r1")
    machine.launch("r2")
    assert machine.told("r2")[-1] == "flow.completed"
    assert leaks(store) == []


def test_an_element_is_taken_over_wherever_it_stands(store: Store):
    machine = opened(store, MAP)
    play(machine, "r1")
    machine.launch("r2")
    task = claimed(machine)
    machine.settle(task, silent_list(["3", "1", "2"]))
    machine.slice_all()
    assert machine.told("r2")[4:] == ["step.queued b[0]", "step.completed b[1]", "step.completed b[2]"]
    assert store.text.hgetall(store.keys.emits("r2", "step:b")) == {"1": '"of b"', "2": '"of b"'}


def test_an_element_whose_step_looked_at_its_place_is_taken_over_there_only(store: Store):
    machine = opened(store, MAP)
    machine.launch("r1")
    machine.settle(claimed(machine), silent_list(["1", "2"]))
    for _ in range(2):
        task = claimed(machine)
        machine.settle(task, [*kept(place="1"), *silent("step:b", "9", task.task[2:-1])])
    machine.settle(claimed(machine), silent("step:c"))
    machine.launch("r2")
    machine.settle(claimed(machine), silent_list(["1", "1", "2"]))
    machine.slice_all()
    assert machine.told("r2")[4:] == ["step.queued b[1]", "step.queued b[2]", "step.completed b[0]"]


def test_indexes_below_the_element_move_with_it(store: Store):
    spec = cached(flow(step("a"), step("b", each("each:a"), emits=("t",)), step("c", each("t"))), "b")
    machine = opened(store, spec)
    machine.launch("r1")
    machine.settle(claimed(machine), silent_list(["1"]))
    machine.settle(claimed(machine), [*kept(), *many("t", ["7", "8"], prefix="0.")])
    while (task := machine.claim()) is not None:
        machine.settle(task)
    machine.launch("r2")
    machine.settle(claimed(machine), silent_list(["0", "1"]))
    machine.slice_all()
    assert [line for line in machine.told("r2") if "queued c" in line] == ["step.queued c[1.0]", "step.queued c[1.1]"]


def test_what_the_worker_does_not_offer_is_not_kept(store: Store):
    machine = opened(store, CHAIN)
    machine.launch("r1")
    for name in "abc":
        machine.settle(claimed(machine), silent(f"step:{name}"))
    assert not store.client.exists(store.keys.cached())
    assert leaks(store) == []
    assert play(machine, "r2") == ["a", "b", "c"]


def test_a_failure_is_not_kept_and_the_attempt_that_completes_is(store: Store):
    spec = cached(flow(replace(step("a"), retry=Retry(2, backoff=0))))
    machine = opened(store, spec)
    machine.launch("r1")
    machine.settle(claimed(machine), outcome="retry", data='{"error":"E","delay":0,"nextAttempt":2}')
    assert not store.client.exists(store.keys.cached())
    store.run_script("tick")
    task = claimed(machine)
    assert task.attempt == 2
    machine.settle(task, [*kept(), *silent("step:a")])
    machine.launch("r2")
    assert machine.told("r2") == ["flow.start", "step.completed a", "flow.completed"]
    machine.launch("r3", '{"n":1}')
    machine.settle(claimed(machine), outcome="failed")
    machine.launch("r4", '{"n":1}')
    assert machine.told("r4") == ["flow.start", "step.queued a"]


def test_a_result_that_a_person_gives_is_not_kept(store: Store):
    machine = opened(store, cached(flow(step("a"))))
    machine.launch("r1")
    machine.act(claimed(machine), "complete", '{"result":1}', [*kept(), *silent("step:a")])
    assert machine.run_field("status") == "completed"
    assert not store.client.exists(store.keys.cached())
    assert leaks(store) == []


def test_what_is_older_than_the_step_wants_is_executed_and_kept_anew(store: Store):
    machine = opened(store, CHAIN)
    play(machine, "r1")
    for digest in digests(store):
        store.text.hincrby(store.keys.kept_end(digest), "at", -3_600_000)
    assert play(machine, "r2") == ["a", "b", "c"]
    assert store.text.zcard(store.keys.cached()) == 2
    assert play(machine, "r3") == ["c"]
    assert machine.events("r3")[1].data["cached"]["run"] == "r2"


def test_a_run_that_wants_all_anew_executes_all_and_renews_what_is_kept(store: Store):
    machine = opened(store, CHAIN)
    play(machine, "r1")
    assert play(machine, "r2", fields=("anew", "1")) == ["a", "b", "c"]
    play(machine, "r3")
    assert machine.events("r3")[1].data["cached"]["run"] == "r2"


def test_a_kept_end_owns_its_artifacts_and_so_does_who_takes_it_over(store: Store):
    digest = "d" * 32
    machine = opened(store, cached(flow(step("a"))))
    machine.launch("r1")
    assert store.run_script("own", b"bytes", run="r1", digest=digest, how="run") == b"OK"
    machine.settle(claimed(machine), [*kept(digest), *silent("step:a")])
    machine.launch("r2")
    assert store.text.hget(store.keys.owners(), f"artifact:{digest}") == "3"
    for run in ("r1", "r2"):
        store.run_script("delete", id=run)
    retire_all(store)
    assert store.client.exists(store.keys.artifact(digest))
    machine.upload()
    machine.launch("r3")
    assert machine.told("r3")[1] == "step.completed a"
    store.run_script("delete", id="r3")
    retire_all(store)
    assert leaks(store) == []
    over(store)
    retire_all(store)
    assert not store.client.exists(store.keys.artifact(digest), store.keys.cached())
    assert leaks(store) == []


def over(store: Store) -> None:
    """The time of all that is kept is over."""
    for digest in digests(store):
        store.text.zadd(store.keys.cached(), {digest: 0})


def digests(store: Store) -> list[str]:
    return [str(digest) for digest in store.text.zrange(store.keys.cached(), 0, -1)]


def retire_all(store: Store) -> int:
    slices = 1
    while store.run_script("retire"):
        slices += 1
    return slices


def test_thousands_are_taken_over_in_slices_and_go_in_slices(store: Store):
    machine, payloads = opened(store, MAP), [str(i) for i in range(1100)]
    for run in ("r1", "r2"):
        machine.launch(run)
        machine.settle(claimed(machine), silent_list(payloads))
        machine.slice_all()
        while (task := machine.claim()) is not None:
            index = task.task[2:-1]
            machine.settle(task, [*kept(), *silent(f"step:{task.task[0]}", index or '"c"', index or "0")])
    assert sum(line.startswith("step.completed b") for line in machine.told("r2")) == 1100
    assert [line for line in machine.told("r2") if "queued" in line] == ["step.queued a"]
    assert store.text.hgetall(store.keys.emits("r2", "step:b")) == {text: text for text in payloads}
    assert machine.told("r2")[-1] == "flow.completed"
    over(store)
    assert retire_all(store) == 3
    assert leaks(store) == []


def test_a_task_that_is_taken_over_takes_no_place_of_a_limit_and_is_not_asked_about(store: Store):
    spec = cached(
        flow(replace(step("a"), hold=Time(0.001), concurrency=Concurrency(1)), step("b", first("step:a"))), "a"
    )
    machine = opened(store, spec)
    machine.launch("r1")
    while (task := machine.claim()) is None:
        store.run_script("tick")
    machine.settle(task, [*kept(), *silent("step:a")])
    machine.launch("r2")
    assert machine.told("r2") == ["flow.start", "step.completed a", "step.queued b"]


def test_a_held_end_is_kept_when_it_counts(store: Store):
    spec = cached(flow(replace(step("a"), hold_emits=Time(0.001)), step("b", first("step:a"))), "a")
    machine = opened(store, spec)
    machine.launch("r1")
    machine.settle(claimed(machine), [*kept(), *silent("step:a")])
    assert not store.client.exists(store.keys.cached())
    while not store.client.exists(store.keys.cached()):
        store.run_script("tick")
    machine.launch("r2")
    assert machine.told("r2") == ["flow.start", "step.completed a", "step.queued b"]
    assert leaks(store) == []


def test_an_end_that_may_have_seen_a_later_failure_is_not_kept(store: Store):
    """`x` closes at the first element of `m`; another element fails while `k`, which takes failures, runs."""
    spec = cached(
        flow(step("a"), step("m", each("each:a"), emits=("t",)), step("x", first("t")), step("k", keep("step:x"))), "k"
    )
    machine = opened(store, spec)
    machine.launch("r1")
    machine.settle(claimed(machine), silent_list(["1", "2"]))
    ok, bad = claimed(machine), claimed(machine)
    machine.settle(ok, one("t", "1", "0"))
    machine.settle(claimed(machine), silent("step:x"))
    taker = claimed(machine)
    assert taker.task == "k"
    machine.settle(bad, silent("failed:m", '{"error":"E"}', "1"), outcome="failed")
    machine.settle(taker, [*kept(), *silent("step:k")])
    assert not store.client.exists(store.keys.cached())
