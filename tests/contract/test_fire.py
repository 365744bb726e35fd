"""fire: {'OK', id} | {'SKIPPED', run} | {'KEY', run, same|other} | {'PAST', next} | {'GONE'} | {'MISSING', what} | {'AGAIN', id} |
{'FULL', percent}; and the scripts that keep schedules: schedule, unschedule, suspend, miss, and the offers of tick."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nbflow.model.definition import FlowSpec
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Machine

NEXT = 1_000_000


class Clockwork:
    """A schedule `s` of the flow `f`, fired by hand."""

    def __init__(self, store: Store, flow: FlowSpec | None = None) -> None:
        self.store, self.machine = store, Machine(store, flow or chain(1))
        record = "0" * 64 + json.dumps({"plan": self.machine.plan.digest, "bundle": "b"})
        store.run_script(
            "publish", flow="f", last=0, plan=self.machine.plan.digest, bundle="b", record=record, most=100
        )
        self.declare()

    def declare(self, record: str = "r", timing: str = "t", following: int = NEXT) -> list[Any]:
        return self.store.run_script("schedule", flow="f", schedule="s", record=record, timing=timing, next=following)

    def fire(self, run: str, due: int = NEXT, *, overlap: str = "skip", rev: int = 1, **more: Any) -> list[Any]:
        start = '{"input":{}}'
        named: dict[str, Any] = {
            "flow": "f", "plan": self.machine.plan.digest, "bundle": "b", "sig": "s", "input": "{}", "inputdigest": "d",
            "start": start, "key": f"s@{due}", "tags": "[]", "queue": "", "priority": "", "delay": "", "by": "{}",
        } | more  # fmt: skip
        return self.store.run_script(
            "fire",
            "trigger",
            "{}",
            schedule="s",
            rev=rev,
            due=due,
            following=due + NEXT,
            overlap=overlap,
            id=run,
            **named,
        )

    def field(self, name: str) -> str | None:
        return self.store.text.hget(self.store.keys.schedule("f", "s"), name)  # pyright: ignore[reportReturnType]

    def look_at(self) -> float | None:
        return self.store.text.zscore(self.store.keys.schedules(), "f:s")  # pyright: ignore[reportReturnType]

    def end(self, run: str) -> None:
        self.store.run_script("cancel", id=run, reason='""', by="{}")

    def status(self, run: str) -> str | None:
        return self.machine.run_field("status", run)

    def begun(self, run: str) -> bool:
        return any(told.startswith("step.queued") for told in self.machine.told(run))

    def tick(self) -> None:
        self.store.run_script("tick")

    def begins_after(self, run: str, before: str) -> None:
        """It begins when that one ends, and not earlier; and nothing is left behind."""
        self.tick()
        assert not self.begun(run)
        self.end(before)
        self.tick()
        assert self.begun(run)
        assert leaks(self.store) == []


@pytest.fixture
def clock(store: Store) -> Clockwork:
    return Clockwork(store)


def refused(clock: Clockwork, reply: list[Any], expected: list[Any], before: Any) -> None:
    assert reply == expected
    assert everything(clock.store) == before


# -- declaring ----------------------------------------------------------------------------------------------------------


def test_a_schedule_needs_a_published_flow(store: Store):
    reply = store.run_script("schedule", flow="f", schedule="s", record="r", timing="t", next=1)
    assert reply == [b"MISSING"]
    assert everything(store) == {}


def test_declaring_again_changes_nothing(clock: Clockwork):
    before = everything(clock.store)
    assert clock.declare(following=5) == [b"SAME", str(NEXT).encode()]
    assert everything(clock.store) == before
    assert leaks(clock.store) == []


def test_what_is_due_stays_where_the_times_stay(clock: Clockwork):
    assert clock.declare("other input", following=5) == [b"CHANGED", str(NEXT).encode()]
    assert clock.look_at() == NEXT
    assert clock.declare("other times", "t2", following=5) == [b"CHANGED", b"5"]
    assert clock.look_at() == 5


def test_a_schedule_that_is_removed_leaves_nothing(clock: Clockwork):
    assert clock.store.run_script("unschedule", flow="f", schedule="s") == 1
    assert clock.store.run_script("unschedule", flow="f", schedule="s") == 0
    assert clock.store.run_script("unpublish", flow="f") == [b"OK", 1]
    assert everything(clock.store) == {}


def test_a_paused_schedule_is_nobody_s_and_stays_paused_when_it_changes(clock: Clockwork):
    assert clock.store.run_script("suspend", flow="f", schedule="s", paused=1) == [b"OK", str(NEXT).encode()]
    assert clock.look_at() == float("inf")
    clock.declare("other input")
    assert clock.look_at() == float("inf")
    assert clock.fire("r1", rev=2) == [b"PAST", str(NEXT).encode()]
    clock.store.run_script("suspend", flow="f", schedule="s", paused=0)
    assert clock.look_at() == NEXT
    assert clock.store.run_script("suspend", flow="f", schedule="no", paused=0) == [b"GONE"]


# -- firing -------------------------------------------------------------------------------------------------------------


def test_an_occurrence_is_a_run_and_the_next_one_is_waited_for(clock: Clockwork):
    assert clock.fire("r1") == [b"OK", b"r1"]
    assert clock.machine.told("r1") == ["flow.start", "step.queued s0"]
    assert (clock.field("run"), clock.field("last"), clock.field("started")) == ("r1", str(NEXT), "1")
    assert (clock.field("next"), clock.look_at()) == (str(2 * NEXT), 2 * NEXT)
    assert clock.machine.run_field("trigger", "r1") == "{}"
    assert leaks(clock.store) == []


def test_of_many_who_fire_an_occurrence_one_does(clock: Clockwork):
    clock.fire("r1")
    before = everything(clock.store)
    refused(clock, clock.fire("r2"), [b"PAST", str(2 * NEXT).encode()], before)


def test_who_read_an_older_form_of_the_schedule_looks_again(clock: Clockwork):
    clock.declare("other input")
    before = everything(clock.store)
    refused(clock, clock.fire("r1", rev=1), [b"PAST", str(NEXT).encode()], before)
    assert clock.fire("r1", rev=2)[0] == b"OK"


def test_a_schedule_that_is_gone_starts_nothing(clock: Clockwork):
    clock.store.run_script("unschedule", flow="f", schedule="s")
    before = everything(clock.store)
    refused(clock, clock.fire("r1"), [b"GONE"], before)


@pytest.mark.parametrize("what", ["plan", "bundle"])
def test_an_occurrence_whose_code_is_missing_is_due_still(clock: Clockwork, what: str):
    clock.store.client.delete(clock.store.keys.plan(clock.machine.plan.digest) if what == "plan" else "nbflow:bundle:b")
    before = everything(clock.store)
    refused(clock, clock.fire("r1"), [b"MISSING", what.encode()], before)


def test_an_occurrence_waits_while_the_server_is_full(clock: Clockwork):
    info: dict[str, Any] = clock.store.client.info("memory")  # pyright: ignore[reportAssignmentType]
    clock.store.client.config_set("maxmemory", int(info["used_memory"] * 1.05))
    try:
        reply = clock.fire("r1")
    finally:
        clock.store.client.config_set("maxmemory", 0)
    assert reply[0] == b"FULL"
    assert clock.field("next") == str(NEXT)
    assert clock.fire("r1")[0] == b"OK"


def test_an_occurrence_that_was_started_by_its_key_counts_as_started(clock: Clockwork):
    clock.machine.launch("r1", key=f"s@{NEXT}")
    assert clock.fire("r2", inputdigest="{}") == [b"KEY", b"r1", b"same"]
    assert clock.field("next") == str(2 * NEXT)
    assert clock.status("r2") is None


# -- overlap ------------------------------------------------------------------------------------------------------------


def test_skip_leaves_an_occurrence_out_while_the_run_before_goes_on(clock: Clockwork):
    clock.fire("r1")
    assert clock.fire("r2", 2 * NEXT) == [b"SKIPPED", b"r1"]
    assert (clock.field("skipped"), clock.field("next"), clock.status("r2")) == ("1", str(3 * NEXT), None)
    clock.end("r1")
    assert clock.fire("r3", 3 * NEXT) == [b"OK", b"r3"]


def test_allow_starts_beside_the_run_before(clock: Clockwork):
    clock.fire("r1", overlap="allow")
    clock.fire("r2", 2 * NEXT, overlap="allow")
    assert clock.begun("r1")
    assert clock.begun("r2")


def test_cancel_running_ends_the_run_before_in_the_same_breath(clock: Clockwork):
    clock.machine.birth("w")
    clock.fire("r1", overlap="cancel_running")
    clock.machine.claim()
    assert clock.fire("r2", 2 * NEXT, overlap="cancel_running") == [b"OK", b"r2"]
    assert clock.machine.told("r1")[-2:] == ["flow.cancel", "step.canceled s0"]
    assert clock.begun("r2")
    assert leaks(clock.store) == []


def test_queue_lets_runs_wait_behind_each_other(clock: Clockwork):
    for n in (1, 2, 3):
        assert clock.fire(f"r{n}", n * NEXT, overlap="queue")[0] == b"OK"
    start = clock.machine.events("r2")[0]
    assert (start.data["after"], "dueAt" in start.data) == ("r1", True)
    assert clock.begun("r1")
    clock.begins_after("r2", "r1")
    clock.begins_after("r3", "r2")
    clock.end("r3")
    clock.tick()
    assert leaks(clock.store) == []


def test_a_run_that_is_canceled_while_it_waits_hands_on_its_place(clock: Clockwork):
    for n in (1, 2, 3):
        clock.fire(f"r{n}", n * NEXT, overlap="queue")
    clock.end("r2")
    assert clock.machine.events("r2")[-1].data["previousStatus"] == "awaiting"
    clock.begins_after("r3", "r1")


def test_the_last_of_a_line_that_is_canceled_is_not_waited_for(clock: Clockwork):
    """Else the next occurrence would find that the run before has ended, and start beside the first."""
    for n in (1, 2):
        clock.fire(f"r{n}", n * NEXT, overlap="queue")
    clock.end("r2")
    clock.fire("r3", 3 * NEXT, overlap="queue")
    clock.begins_after("r3", "r1")


def test_a_run_that_waits_has_its_deadline_from_its_turn_on(store: Store):
    clock = Clockwork(store, replace(chain(1), deadline_s=60.0))
    for n in (1, 2):
        clock.fire(f"r{n}", n * NEXT, overlap="queue")
    assert store.text.zrange(store.keys.timers(), 0, -1) == ["deadline r1"]
    clock.end("r1")
    clock.tick()
    assert store.text.zrange(store.keys.timers(), 0, -1) == ["deadline r2"]


# -- missing and offering -----------------------------------------------------------------------------------------------


def miss(clock: Clockwork, due: int = NEXT, rev: int = 1, schedule: str = "s") -> list[Any]:
    return clock.store.run_script("miss", flow="f", schedule=schedule, rev=rev, due=due, following=9 * NEXT)


def test_what_is_missed_is_counted_and_starts_nothing(clock: Clockwork):
    assert miss(clock) == [b"OK"]
    assert (clock.field("missed"), clock.field("next"), clock.look_at()) == ("1", str(9 * NEXT), 9 * NEXT)
    before = everything(clock.store)
    refused(clock, miss(clock), [b"PAST", str(9 * NEXT).encode()], before)
    refused(clock, miss(clock, schedule="no"), [b"GONE"], before)


def test_what_is_due_is_offered_to_one_who_asks_and_later_to_another(clock: Clockwork):
    """The offer is no claim: who dies with it costs ten seconds, and no occurrence."""
    assert len(clock.store.run_script("tick")) == 3
    assert clock.store.run_script("tick", "schedules")[3] == [b"f:s"]
    assert clock.store.run_script("tick", "schedules")[3] == []
    assert clock.field("next") == str(NEXT)
    clock.store.client.zadd(clock.store.keys.schedules(), {"f:s": 0})  # ten seconds later
    assert clock.store.run_script("tick", "schedules")[3] == [b"f:s"]
    assert leaks(clock.store) == []


def test_what_is_to_come_is_not_offered(clock: Clockwork):
    clock.declare("r2", "t2", following=2**52)
    assert clock.store.run_script("tick", "schedules")[3] == []
