"""launch: {'OK', id} | {'KEY', run, same|other} | {'MISSING', what} | {'AGAIN', id} | {'FULL', percent}"""

from __future__ import annotations

from typing import Any

import pytest

from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, collect, each, first, flow, step
from tests.leaks import leaks
from tests.machine import Machine


def test_a_launch_makes_the_run_its_first_event_and_its_entry_tasks(store: Store):
    machine = Machine(store, chain(2))
    assert machine.launch("r1", '{"n":1}') == [b"OK", b"r1"]
    start, queued = machine.events()
    assert (start.type, start.data) == ("flow.start", {"input": {"n": 1}, "bundle": "b"})
    assert (queued.type, queued.task, queued.attempt, queued.data) == (
        "step.queued",
        "s0",
        1,
        {"queue": "default", "because": []},
    )
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == [queued.step_id]
    assert store.text.zrange(store.keys.runs("running"), 0, -1) == ["r1"]
    assert store.text.zrange(store.keys.flow_runs("f"), 0, -1) == ["r1"]
    assert store.text.smembers(store.keys.flows()) == {"f"}
    assert leaks(store) == []


def test_entries_are_queued_in_the_order_of_the_plan(store: Store):
    machine = Machine(store, flow(step("b"), step("a"), step("c")))
    machine.launch()
    assert machine.told() == ["flow.start", "step.queued b", "step.queued a", "step.queued c"]


def test_a_job_holds_data_only(store: Store):
    """What stock tools of RQ read is one constant; nothing in a job names code."""
    machine = Machine(store, chain(1))
    machine.launch()
    job: dict[str, str] = store.text.hgetall(store.keys.rq_job("r1__s0__attempt-1"))  # pyright: ignore[reportAssignmentType]
    assert {name: job[name] for name in ("run", "task", "attempt", "status", "origin")} == {
        "run": "r1",
        "task": "s0",
        "attempt": "1",
        "status": "queued",
        "origin": "default",
    }
    assert "nbflow.worker.stock" in job["data"]


def test_a_launch_said_again_changes_nothing(store: Store):
    machine = Machine(store, chain(2))
    machine.launch()
    before = everything(store)
    assert machine.launch() == [b"AGAIN", b"r1"]
    assert everything(store) == before


def test_a_key_returns_its_run_for_the_same_input(store: Store):
    machine = Machine(store, chain(1))
    machine.launch("r1", "{}", key="daily:1")
    before = everything(store)
    assert machine.launch("r2", "{}", key="daily:1") == [b"KEY", b"r1", b"same"]
    assert machine.launch("r2", '{"n":2}', key="daily:1") == [b"KEY", b"r1", b"other"]
    assert everything(store) == before


def test_a_key_is_kept_whatever_became_of_its_run(store: Store):
    machine = Machine(store, chain(1))
    machine.birth("w")
    machine.launch("r1", "{}", key="k")
    task = machine.claim()
    assert task is not None
    machine.settle(task, outcome="failed")
    assert machine.launch("r2", "{}", key="k") == [b"KEY", b"r1", b"same"]


def test_a_key_belongs_to_its_flow(store: Store):
    Machine(store, flow(step("a"), name="one")).launch("r1", "{}", key="k")
    assert Machine(store, flow(step("a"), name="two")).launch("r2", '{"n":2}', key="k") == [b"OK", b"r2"]


def test_a_key_lives_as_long_as_its_run(store: Store):
    machine = Machine(store, chain(1))
    machine.launch("r1", "{}", key="k")
    store.client.delete(store.keys.run("r1"))
    assert machine.launch("r2", '{"n":2}', key="k") == [b"OK", b"r2"]


@pytest.mark.parametrize("what", ["plan", "bundle"])
def test_what_is_missing_is_named_and_nothing_is_written(store: Store, what: str):
    machine = Machine(store, chain(1))
    store.client.delete({"plan": store.keys.plan(machine.plan.digest), "bundle": store.keys.bundle("b")}[what])
    before = everything(store)
    assert machine.launch() == [b"MISSING", what.encode()]
    assert everything(store) == before


def test_a_full_server_takes_no_new_run(store: Store):
    """At 90 % of maxmemory launches are refused; what runs goes on."""
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch("r1")
    info: dict[str, Any] = store.client.info("memory")  # pyright: ignore[reportAssignmentType]
    store.client.config_set("maxmemory", int(info["used_memory"] * 1.05))
    try:
        word, percent = machine.launch("r2")
        task = machine.claim()
        assert task is not None
        assert machine.settle(task)[0] == "OK"
    finally:
        store.client.config_set("maxmemory", 0)
    assert word == b"FULL"
    assert 90 <= percent <= 110
    assert machine.run_field("status", "r2") is None


def test_a_run_may_name_the_queue_of_all_its_tasks(store: Store):
    machine = Machine(store, flow(step("a", queue="slow"), step("b", first("step:a"))))
    store.run_script(
        "launch", id="r1", flow="f", plan=machine.plan.digest, bundle="b", sig="", input="{}", inputdigest="", start="{}",
        key="", tags="[]", queue="special", priority="", delay="", by="{}",
    )  # fmt: skip
    assert store.text.lrange(store.keys.rq_queue("special"), 0, -1) == ["r1__a__attempt-1"]
    assert machine.events()[-1].data == {"queue": "special", "because": []}


def test_what_nobody_emits_skips_its_subscribers_at_once(store: Store):
    machine = Machine(store, flow(step("a"), step("b", each("t")), step("c", collect("step:b"))))
    machine.launch()
    assert machine.told() == ["flow.start", "step.queued a", "step.skipped b", "step.skipped c"]
    assert machine.events()[-1].data == {"reason": "not_taken"}


def test_a_cycle_that_nothing_feeds_is_skipped_at_once(store: Store):
    machine = Machine(
        store, flow(step("a", emits=("t",)), step("b", each("u"), emits=("u", "t")), step("c", collect("t")))
    )
    machine.birth("w")
    machine.launch()
    assert machine.told() == ["flow.start", "step.queued a", "step.skipped b"]
    task = machine.claim()
    assert task is not None
    machine.settle(task, ["t", "one", "", 1, "0", "1"])
    assert machine.told()[-1] == "step.queued c"


def test_an_idle_worker_is_woken_for_each_task(store: Store):
    Machine(store, flow(step("a"), step("b"))).launch()
    assert store.client.llen(store.keys.wake("default")) == 2


def test_every_launch_counts_as_an_owner_of_its_code(store: Store):
    machine = Machine(store, chain(1))
    machine.launch("r1")
    machine.launch("r2")
    assert store.text.hgetall("nbflow:owners") == {f"plan:{machine.plan.digest}": "2", "bundle:b": "2"}
