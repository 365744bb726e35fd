"""Runs that a step starts: they begin with its completion, hold a task that awaits them, and end with the run that started them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nbflow.model.awaits import Approval
from nbflow.model.definition import FlowSpec
from nbflow.model.policy import Concurrency
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, each, first, flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, one, silent
from tests.waits import resolve

CHILD = flow(step("c"), name="kid")


class Family:
    """A run `r1` of a flow whose steps start runs of the flow `kid`, by hand."""

    def __init__(self, store: Store, spec: FlowSpec | None = None) -> None:
        self.store = store
        self.kid = Machine(store, CHILD)
        self.machine = Machine(store, spec or chain(2))
        self.machine.birth("w")
        self.machine.launch()

    def start(self, run: str, **more: Any) -> list[Any]:
        """The group of emissions that starts a run."""
        named = {
            "flow": "kid", "plan": self.kid.plan.digest, "bundle": "b", "sig": "s", "input": "{}", "inputdigest": "d",
            "start": '{"input":{}}', "by": "{}",
        } | more  # fmt: skip
        pairs = [part for pair in named.items() for part in pair]
        return [run, "start", "", len(named), *pairs]

    def claim(self) -> Claimed:
        task = self.machine.claim()
        assert task is not None
        return task

    def awaits(self, task: Claimed, run: str = "k1", *more: Any) -> None:
        data = {"kind": "child", "position": "child", "run": run, "flow": "kid"}
        emits = [*self.start(run), *more]
        assert self.machine.settle(task, emits, outcome="awaiting", data=json.dumps(data))[0] == "OK"

    def end_child(self, run: str = "k1") -> None:
        task = self.claim()
        assert (task.run, task.task) == (run, "c")
        self.machine.settle(task)

    def status(self, run: str) -> str | None:
        return self.machine.run_field("status", run)

    def children(self, run: str = "r1") -> list[str]:
        return self.store.text.zrange(f"nbflow:children:{run}", 0, -1)  # pyright: ignore[reportReturnType]

    def finish(self) -> None:
        while (task := self.machine.claim()) is not None:
            self.machine.settle(task, silent(f"step:{task.task}"), outcome="joined" if task.joins else "completed")
            self.machine.slice_all()
        assert self.status("r1") == "completed"
        assert leaks(self.store) == []


@pytest.fixture
def family(store: Store) -> Family:
    return Family(store)


# -- a start ------------------------------------------------------------------------------------------------------------


def test_a_start_counts_with_the_completion(family: Family):
    task = family.claim()
    assert family.machine.settle(task, [*family.start("k1"), *silent("step:s0")])[0] == "OK"
    assert family.machine.told()[-3:] == ["step.completed s0", "child.started s0", "step.queued s1"]
    assert family.machine.told("k1") == ["flow.start", "step.queued c"]
    assert family.children() == ["k1"]
    fields = ("parent", "parenttask", "depth", "awaiter")
    assert [family.machine.run_field(field, "k1") for field in fields] == ["r1", "s0", "1", None]
    family.finish()
    assert family.status("k1") == "completed"


def test_a_failed_attempt_starts_nothing(family: Family):
    family.machine.settle(family.claim(), outcome="failed")
    assert family.children() == []
    assert family.status("k1") is None


def test_a_settle_said_again_starts_nothing_twice(family: Family):
    task = family.claim()
    emits = [*family.start("k1"), *silent("step:s0")]
    family.machine.settle(task, emits)
    before = everything(family.store)
    assert family.machine.settle(task, emits)[0] == "AGAIN"
    assert everything(family.store) == before


def test_a_worker_that_dies_before_it_settles_neither_loses_nor_doubles_a_start(family: Family):
    family.claim()
    family.store.run_script("giveback", worker="w", cause="killed")
    assert family.status("k1") is None
    family.machine.birth("w")
    family.machine.settle(family.claim(), [*family.start("k1"), *silent("step:s0")])
    family.finish()
    assert family.children() == ["k1"]


def test_a_run_that_is_there_already_is_not_made_again(family: Family):
    family.kid.launch("k1", "{}")
    before = family.kid.told("k1")
    family.machine.settle(family.claim(), [*family.start("k1"), *silent("step:s0")])
    assert family.kid.told("k1") == before


def test_levels_are_counted(family: Family):
    family.machine.settle(family.claim(), [*family.start("k1"), *silent("step:s0")])
    tasks = [family.claim(), family.claim()]
    child = next(task for task in tasks if task.run == "k1")
    family.machine.settle(child, family.start("k2"))
    assert family.machine.run_field("depth", "k2") == "2"
    assert family.machine.run_field("parent", "k2") == "k1"


def test_what_a_start_owns_lives_as_long_as_its_run(family: Family):
    family.store.run_script("own", b"bytes", run="r1", digest="a" * 32, how="run")
    owns = f"{'a' * 32} plan:{family.kid.plan.digest} bundle:b"
    family.machine.settle(family.claim(), [*family.start("k1", owns=owns), *silent("step:s0")])
    family.finish()
    for run in ("r1", "k1"):
        assert family.store.client.exists(f"nbflow:artifact:{'a' * 32}")
        family.store.run_script("delete", id=run)
        family.store.run_script("retire")
        assert leaks(family.store) == []
    assert not family.store.client.exists(f"nbflow:artifact:{'a' * 32}")


def test_a_run_owns_the_code_that_it_may_start(family: Family):
    code = f"plan:{family.kid.plan.digest} bundle:b"
    family.machine.launch("r2", fields=("owns", code, "along", "x"))
    assert family.store.text.smembers("nbflow:owned:r2") == {f"plan:{family.kid.plan.digest}", "bundle:b"}
    assert family.store.client.ttl(f"nbflow:plan:{family.kid.plan.digest}") == -1
    assert leaks(family.store) == []
    before = everything(family.store)
    assert family.machine.launch("r3", fields=("owns", "plan:abc")) == [b"MISSING", b"plan:abc"]
    assert everything(family.store) == before


def test_code_can_be_owned_on_the_way(family: Family):
    own = {"run": "r1", "how": "run"}
    assert family.store.run_script("own", digest=f"plan:{family.kid.plan.digest}", **own) == b"OK"
    assert family.store.run_script("own", digest="bundle:gone", **own) == b"WANTED"
    family.finish()
    family.store.run_script("delete", id="r1")
    family.store.run_script("retire")
    assert leaks(family.store) == []


def test_code_that_somebody_took_away_is_no_start(family: Family):
    family.store.client.delete(f"nbflow:plan:{family.kid.plan.digest}")
    family.awaits(family.claim())
    family.machine.slice_all()
    assert family.status("k1") is None
    assert family.children() == []
    assert family.claim().joins == "k1"


# -- awaiting -----------------------------------------------------------------------------------------------------------


def test_a_task_that_awaits_a_run_goes_on_when_that_ends(family: Family):
    family.awaits(family.claim())
    assert family.machine.told()[-2:] == ["await.registered s0", "child.started s0"]
    assert family.store.client.scard("rq:worker:w:executions") == 0
    family.end_child()
    assert family.machine.claim() is None
    assert family.machine.slice_all() == 1
    told = family.machine.events()[-1]
    assert (told.type, told.data["because"]) == ("step.queued", ["child"])
    task = family.claim()
    assert (task.task, task.attempt, task.joins) == ("s0", 1, "k1")
    family.machine.settle(task, silent("step:s0", "5"), outcome="joined", data='{"result":5}')
    assert family.machine.told()[-2:] == ["step.completed s0", "step.queued s1"]
    assert family.claim().payloads == ["5"]


def test_what_else_was_emitted_counts_when_the_run_that_is_awaited_has_ended(store: Store):
    family = Family(store, flow(step("a", emits=("x",)), step("b", first("x")), step("d", first("step:a"))))
    family.awaits(family.claim(), "k1", *family.start("k2"), *one("x", "7"))
    assert family.status("k2") is None
    family.end_child()
    family.machine.slice_all()
    family.machine.settle(family.claim(), silent("step:a"), outcome="joined")
    told = ["step.completed a", "child.started a", "emit a", "step.queued b", "step.queued d"]
    assert [line for line in family.machine.told() if line.split()[0] not in ("await.resolved", "step.started")][
        -5:
    ] == told
    assert family.status("k2") == "running"
    family.finish()


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_a_run_that_does_not_complete_is_for_the_worker_to_tell(family: Family, end: str):
    family.awaits(family.claim(), "k1", *family.start("k2"))
    if end == "failed":
        family.machine.settle(family.claim(), outcome="failed")
    else:
        family.store.run_script("cancel", id="k1", reason='""', by="{}")
    family.machine.slice_all()
    assert family.machine.events()[-2].data == {"position": "child", "data": end, "by": {"run": "k1"}}
    task = family.claim()
    assert task.joins == "k1"
    data = '{"error":"E","traceback":"","reason":"child","delay":0,"nextAttempt":2,"maxAttempts":2}'
    family.machine.settle(task, outcome="retry", data=data)
    family.store.run_script("tick")
    again = family.claim()
    assert (again.task, again.attempt, again.joins) == ("s0", 2, "")
    assert leaks(family.store) == []
    family.machine.settle(again, silent("step:s0"))
    family.finish()


def test_a_worker_that_dies_while_it_takes_the_result_gives_it_back(family: Family):
    family.awaits(family.claim())
    family.end_child()
    family.machine.slice_all()
    family.claim()
    family.store.run_script("giveback", worker="w", cause="killed")
    family.machine.birth("w")
    assert family.claim().joins == "k1"


def test_a_result_is_held_as_any_other(store: Store):
    family = Family(store, flow(replace(step("a", emits=("x",)), hold_emits=Approval()), step("b", first("x"))))
    family.awaits(family.claim(), "k1", *one("x", "7"))
    family.end_child()
    family.machine.slice_all()
    family.machine.settle(family.claim(), outcome="joined")
    assert family.machine.told()[-1] == "await.registered a"
    assert resolve(store, "a", "after") == [b"OK"]
    family.finish()


def test_a_held_completion_holds_its_starts(store: Store):
    family = Family(store, flow(replace(step("a"), hold_emits=Approval())))
    family.machine.settle(family.claim(), family.start("k1"))
    assert family.status("k1") is None
    assert resolve(store, "a", "after") == [b"OK"]
    assert family.status("k1") == "running"
    family.finish()


@pytest.mark.parametrize(("run", "status"), [("k1", "running"), ("r1", "canceled")])
def test_a_word_of_an_end_that_comes_early_or_too_late_changes_nothing(family: Family, run: str, status: str):
    """Law: only a task of a run that goes on is put back, and only when what it awaits has ended."""
    task = family.claim()
    family.awaits(task)
    family.store.text.hset(family.store.keys.run("k1"), "status", "completed")
    family.store.text.hset(family.store.keys.run(run), "status", status)
    before = everything(family.store)
    family.store.text.rpush("nbflow:slices", f"*child {task.job}")
    family.machine.slice_all()
    assert everything(family.store) == before


def test_nobody_can_answer_for_a_run_that_is_awaited(family: Family):
    family.awaits(family.claim())
    assert resolve(family.store, "s0", "child") == [b"GONE"]


def test_it_needs_no_place_of_a_limit(store: Store):
    spec = flow(step("a"), replace(step("b", each("each:a")), concurrency=Concurrency(1)))
    family = Family(store, spec)
    family.machine.settle(family.claim(), ["each:a", "silent", "", 2, "0", "0", "1", "1"])
    family.awaits(family.claim())
    tasks = [family.claim(), family.claim()]  # the one of the limit, and the child's
    assert sorted(task.run for task in tasks) == ["k1", "r1"]
    family.machine.settle(next(task for task in tasks if task.run == "k1"))
    family.machine.slice_all()
    assert family.claim().joins == "k1"


@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("what", ["cancel", "complete", "retry"])
def test_what_is_done_by_hand_does_not_wait_for_the_run(store: Store, what: str, has_ended: bool):
    """Law: what it emitted beside goes with its result; the run that it awaited goes on, and its end puts nothing back."""
    family = Family(store, flow(step("a", emits=("x",)), step("b", first("x")), step("d", first("step:a"))))
    task = family.claim()
    family.awaits(task, "k1", *family.start("k2"), *one("x", "7"))
    if has_ended:
        family.end_child()
        family.machine.slice_all()
    emits = silent("step:a", "5") if what == "complete" else []
    expected = [b"QUEUED"] if (what, has_ended) == ("retry", True) else [b"OK"]
    assert family.machine.act(task, what, emits=emits) == expected
    assert family.status("k1") == ("completed" if has_ended else "running")
    if expected == [b"QUEUED"]:
        assert family.claim().joins == "k1"
        return
    assert family.status("k2") is None
    assert leaks(store) == []
    attempts: list[tuple[str, int]] = []
    while (again := family.machine.claim()) is not None:
        attempts.append((again.task, again.attempt))
        family.machine.settle(again, silent(f"step:{again.task}"))
        family.machine.slice_all()
    child = [] if has_ended else [("c", 1)]
    by_what = {"cancel": [], "complete": [("d", 1)], "retry": [("a", 2), ("d", 1)]}
    assert sorted(attempts) == sorted([*child, *by_what[what]])
    assert family.status("r1") == "completed"
    assert leaks(store) == []


# -- the end of the run that started it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("awaited", [False, True])
def test_a_cancel_reaches_what_was_started(family: Family, awaited: bool):
    if awaited:
        family.awaits(family.claim())
    else:
        family.machine.settle(family.claim(), [*family.start("k1"), *silent("step:s0")])
    family.store.run_script("cancel", id="r1", reason='""', by="{}")
    family.machine.slice_all()
    assert family.status("k1") == "canceled"
    assert family.kid.told("k1")[-2:] == ["flow.cancel", "step.canceled c"]
    assert family.kid.events("k1")[-2].data["by"] == {"run": "r1"}
    assert family.machine.claim() is None
    assert leaks(family.store) == []


def test_a_cancel_reaches_all_levels_and_however_many_there_are(family: Family):
    starts = [part for i in range(120) for part in family.start(f"k{i}")]
    family.machine.settle(family.claim(), [*starts, *silent("step:s0")])
    while (child := family.claim()).run == "r1":
        pass
    family.awaits(child, "grandchild")
    family.store.run_script("cancel", id="r1", reason='""', by="{}")
    family.machine.slice_all()
    assert {family.status(run) for run in [*family.children(), "grandchild"]} == {"canceled"}
    assert family.machine.claim() is None
    assert leaks(family.store) == []


def test_a_delete_comes_after_the_end_of_what_was_started(family: Family):
    family.machine.settle(family.claim(), [*family.start("k1"), *silent("step:s0")])
    family.store.run_script("cancel", id="r1", reason='""', by="{}")
    while family.store.run_script("delete", id="r1") == [b"MORE"]:
        pass
    family.machine.slice_all()
    assert family.status("k1") == "canceled"
    family.store.run_script("retire")
    assert leaks(family.store) == []


def test_what_was_started_outlives_a_run_that_completes(family: Family):
    family.machine.settle(family.claim(), [*family.start("k1"), *silent("step:s0")])
    tasks = [family.claim(), family.claim()]
    for task in tasks:
        if task.run == "r1":
            family.machine.settle(task)
    assert (family.status("r1"), family.status("k1")) == ("completed", "running")
    family.store.run_script("delete", id="r1")
    family.store.run_script("retire")
    family.machine.settle(next(task for task in tasks if task.run == "k1"))
    assert family.status("k1") == "completed"
    assert leaks(family.store) == []


def test_a_run_that_is_deleted_is_no_child_any_more(family: Family):
    family.machine.settle(family.claim(), [*family.start("k1"), *silent("step:s0")])
    family.finish()
    family.store.run_script("delete", id="k1")
    family.store.run_script("retire")
    assert family.children() == []
    assert leaks(family.store) == []


def test_a_run_that_ends_before_its_time_ends_what_it_started_just_then(store: Store):
    spec = replace(flow(step("a"), step("b", first("step:a")), step("d", each("each:a"))), max_tasks=1)
    family = Family(store, spec)
    family.machine.settle(family.claim(), [*family.start("k1"), "each:a", "silent", "", 2, "0", "0", "1", "1"])
    assert family.status("r1") == "failed"
    family.machine.slice_all()
    assert family.status("k1") == "canceled"
    assert leaks(store) == []
