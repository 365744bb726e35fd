"""Held tasks: registered, resolved once, timed out, cleaned away. Each reply of `resolve`, `emit` and `reckon`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nbflow.model.awaits import Approval, Await, OnEvent, Schedule, Time, Webhook
from nbflow.model.definition import FlowSpec, StepSpec
from nbflow.model.ids import step_id
from nbflow.model.policy import Retry
from nbflow.store.connect import Store
from tests.graphs import each, first, flow, step
from tests.leaks import leaks
from tests.machine import Machine, many, silent
from tests.waits import emit, end, held, held_after, pass_time, resolve, started, tick


def test_a_held_task_is_in_no_queue_and_no_worker_gets_it(store: Store):
    machine = started(store, held(Approval()))
    assert machine.claim() is None
    assert store.client.llen(store.keys.rq_queue("default")) == 0
    assert machine.told() == ["flow.start", "await.registered a"]
    assert store.text.hget(store.keys.rq_job(step_id("r1", "a", 1)), "status") == "deferred"
    assert leaks(store) == []


def test_an_answer_lets_it_go_on_and_is_handed_to_it(store: Store):
    machine = started(store, held(Approval()))
    assert resolve(store, data={"ok": True}) == [b"OK"]
    assert machine.told()[2:] == ["await.resolved a", "step.queued a"]
    resolved = machine.events()[2].data
    assert resolved == {"position": "before", "data": {"ok": True}, "by": {"user": "u"}}
    task = machine.claim()
    assert task is not None
    assert json.loads(task.payloads[-1] or "") == {"ok": True}
    machine.settle(task, silent("step:a"))
    end(machine, "b")


def test_the_answer_is_the_same_for_all_attempts(store: Store):
    machine = started(store, held(Approval()))
    resolve(store, data=7)
    task = machine.claim()
    assert task is not None
    machine.settle(task, outcome="retry", data='{"delay":0,"nextAttempt":2}')
    tick(store)
    again = machine.claim()
    assert again is not None
    assert (again.attempt, again.payloads[-1]) == (2, "7")


def test_of_two_answers_one_counts_and_the_other_is_told(store: Store):
    machine = started(store, held(Approval()))
    assert resolve(store, data=1) == [b"OK"]
    assert resolve(store, data=2, nonce="other") == [b"GONE"]
    assert [event.data["data"] for event in machine.events() if event.type == "await.resolved"] == [1]


def test_the_same_answer_said_twice_is_one(store: Store):
    """The reply of the first may have got lost."""
    machine = started(store, held(Approval()))
    assert resolve(store, data=1) == resolve(store, data=1) == [b"OK"]
    assert machine.told().count("await.resolved a") == 1


def test_an_answer_to_nothing_changes_nothing(store: Store):
    machine = started(store, held(Approval()))
    before = machine.told()
    assert resolve(store, "b") == [b"GONE"]
    assert resolve(store, position="after") == [b"GONE"]
    assert resolve(store, attempt=2) == [b"GONE"]
    assert resolve(store, id="r2") == [b"UNKNOWN"]
    assert machine.told() == before


def test_an_answer_after_the_end_is_told_so(store: Store):
    machine = started(store, held(Approval()))
    store.run_script("cancel", id="r1", reason='""', by="{}")
    assert resolve(store) == [b"ENDED", b"canceled"]
    assert machine.told()[-2:] == ["flow.cancel", "step.canceled a"]
    assert leaks(store) == []


@pytest.mark.parametrize("hold", [Time(60), OnEvent("paid"), Approval(timeout=60), Schedule("0 0 1 1 *")])
@pytest.mark.parametrize("position", ["before", "after"])
def test_cancel_takes_a_held_task_out_of_wherever_it_waits(store: Store, hold: Await, position: str):
    machine = started(store, held(hold) if position == "before" else held_after(hold))
    if position == "after":
        task = machine.claim()
        assert task is not None
        machine.settle(task, silent("step:a"))
    store.run_script("cancel", id="r1", reason='""', by="{}")
    assert machine.told()[-2:] == ["flow.cancel", "step.canceled a"]
    assert store.client.zcard(store.keys.timers()) == 0
    assert not store.client.exists(f"{store.keys.namespace}:waits:paid")
    assert leaks(store) == []


def test_a_time_ends_by_itself(store: Store):
    machine = started(store, held(Time(60)))
    assert "dueAt" in machine.events()[1].data
    _, due_ms, _ = tick(store)
    assert 59_000 < due_ms <= 60_000
    pass_time(store, 60_000)
    tick(store)
    assert machine.told()[2:] == ["await.resolved a", "step.queued a"]
    end(machine, "a", "b")


def test_what_is_held_after_its_attempt_counts_when_it_is_resolved(store: Store):
    machine = started(store, held_after(Approval()))
    task = machine.claim()
    assert task is not None
    machine.settle(task, silent("step:a", "5"), data='{"result":5,"duration":1.0}')
    assert machine.told()[3:] == ["await.registered a"]
    assert machine.events()[3].data["held"] == {"result": 5, "duration": 1.0}
    assert machine.claim() is None
    assert store.client.scard(f"{store.keys.rq_worker('w')}:executions") == 0
    assert resolve(store, position="after") == [b"OK"]
    assert machine.told()[4:] == ["await.resolved a", "step.completed a", "step.queued b"]
    end(machine, "b")


def test_many_emissions_are_held_and_applied_in_their_order(store: Store):
    spec = flow(replace(step("a", emits=("t",)), hold_emits=Time(1)), step("b", each("t")))
    machine = started(store, spec)
    task = machine.claim()
    assert task is not None
    machine.settle(task, many("t", [str(i) for i in range(5000)]))
    pass_time(store, 1000)
    tick(store)
    assert machine.events()[6].data["count"] == 5000
    machine.slice_all()
    assert machine.told().count("step.queued b[4999]") == 1


def test_a_timeout_fails_the_task_for_good(store: Store):
    machine = started(store, held(Approval(timeout=60), retry=Retry(3)))
    assert "timeoutAt" in machine.events()[1].data
    pass_time(store, 60_000)
    tick(store)
    assert machine.told()[2:4] == ["await.timeout a", "step.failed a"]
    assert machine.events()[2].data == {"position": "before", "action": "fail"}
    assert machine.events()[3].data["reason"] == "await_timeout"
    assert machine.run_field("status") == "failed"
    assert resolve(store) == [b"ENDED", b"failed"]
    assert leaks(store) == []


def test_a_timeout_may_let_it_go_on_without_an_answer(store: Store):
    machine = started(store, held(Approval(timeout=60, on_timeout="continue")))
    pass_time(store, 60_000)
    tick(store)
    assert resolve(store) == [b"GONE"]
    task = machine.claim()
    assert task is not None
    assert task.payloads[-1] == "null"


def test_a_timeout_may_be_a_failed_attempt_and_the_next_one_asks_anew(store: Store):
    machine = started(store, held(Approval(timeout=60, on_timeout="retry"), retry=Retry(2, backoff=5)))
    pass_time(store, 60_000)
    tick(store)
    assert machine.told()[2:] == ["await.timeout a", "step.retry a"]
    assert machine.events()[3].data["delay"] == 5000
    assert resolve(store) == [b"GONE"]
    pass_time(store, 5000)
    tick(store)
    assert machine.told()[4:] == ["await.registered a"]
    assert machine.claim() is None
    pass_time(store, 60_000)
    tick(store)
    assert machine.told()[5:7] == ["await.timeout a", "step.failed a"]
    assert machine.events()[5].data["action"] == "fail"


def test_a_timeout_of_the_second_question_leaves_the_answer_to_the_first(store: Store):
    """`hold` is asked once, for all attempts; `hold_emits` after each that completes."""
    spec = held(Approval(), hold_emits=Approval(timeout=60, on_timeout="retry"), retry=Retry(2, backoff=0))
    machine = started(store, spec)
    resolve(store, data=7)
    task = machine.claim()
    assert task is not None
    machine.settle(task, silent("step:a"))
    pass_time(store, 60_000)
    tick(store)
    tick(store)
    again = machine.claim()
    assert again is not None
    assert (again.attempt, again.payloads[-1]) == (2, "7")
    machine.settle(again, silent("step:a"))
    assert resolve(store, position="after", attempt=2, nonce="m") == [b"OK"]
    end(machine, "b")


def test_a_schedule_is_reckoned_by_who_ticks_and_waits_for_that(store: Store):
    machine = started(store, held(Schedule("0 2 * * *", "Europe/Vienna")))
    job = step_id("r1", "a", 1)
    _, _, asked = tick(store)
    ((name, since, cron, tz),) = asked
    assert (name.decode(), cron, tz) == (job, b"0 2 * * *", b"Europe/Vienna")
    assert machine.events()[1].data | {"cron": "0 2 * * *", "tz": "Europe/Vienna"} == machine.events()[1].data
    assert store.run_script("reckon", job=job, since=since, at=int(since) + 3_600_000) == 1
    assert store.run_script("reckon", job=job, since=since, at=int(since) + 9_999_999) == 0
    assert tick(store)[2] == []
    pass_time(store, 3_600_000)
    tick(store)
    end(machine, "a", "b")


def test_a_schedule_that_nobody_reckoned_is_asked_for_again(store: Store):
    started(store, held(Schedule("0 2 * * *")))
    assert len(tick(store)[2]) == 1
    assert tick(store)[2] == []
    pass_time(store, 5000)
    assert len(tick(store)[2]) == 1


def test_a_timeout_before_the_occurrence_comes_first(store: Store):
    machine = started(store, held(Schedule("0 2 * * *", timeout=60)))
    ((name, since, _, _),) = tick(store)[2]
    store.run_script("reckon", job=name, since=since, at=int(since) + 3_600_000)
    pass_time(store, 60_000)
    tick(store)
    assert machine.told()[2:4] == ["await.timeout a", "step.failed a"]


def test_what_was_not_asked_for_is_not_reckoned(store: Store):
    started(store, held(Time(60)))
    assert store.run_script("reckon", job=step_id("r1", "a", 1), since="0", at=1) == 0
    assert store.run_script("reckon", job="nobody", since="0", at=1) == 0


def test_who_is_to_be_told_is_told_by_an_emission(store: Store):
    spec = flow(
        replace(step("a"), hold=Approval(message="Pay?", notify="asked")),
        step("tell", each("asked")),
        step("b", first("step:a")),
    )
    machine = started(store, spec, '{"total":300}')
    assert machine.told()[1:] == ["await.registered a", "emit a", "step.queued tell[0]"]
    task = machine.claim()
    assert task is not None
    told = json.loads(task.payloads[0] or "")
    registered = machine.events()[1].data
    assert told == {"run": "r1", "task": "a", "attempt": 1, **registered}
    assert registered["message"] == "Pay?"
    assert registered["input"] == {"total": 300}
    machine.settle(task, silent("step:tell"))
    resolve(store)
    end(machine, "a", "b")
    assert machine.events()[-1].data["leaves"] == ["b"], "who is only told of a wait makes no result"


def test_each_question_of_a_retry_is_told(store: Store):
    hold = Webhook(timeout=60, on_timeout="retry", notify="asked")
    spec = flow(replace(step("a"), hold=hold, retry=Retry(2, backoff=0)), step("tell", each("asked")))
    machine = started(store, spec)
    pass_time(store, 60_000)
    tick(store)
    tick(store)
    assert [text for text in machine.told() if text.startswith("step.queued")] == [
        "step.queued tell[0]",
        "step.queued tell[1]",
    ]
    tokens = {event.data["token"] for event in machine.events() if event.type == "await.registered"}
    assert len(tokens) == 2


def test_a_held_step_of_a_map_holds_each_task_on_its_own(store: Store):
    spec = flow(step("a"), replace(step("b", each("each:a")), hold=Approval()))
    machine = started(store, spec)
    task = machine.claim()
    assert task is not None
    machine.settle(task, ["each:a", "silent", "", 2, "0", "1", "1", "2"])
    assert resolve(store, "b[1]") == [b"OK"]
    got = machine.claim()
    assert got is not None
    assert got.task == "b[1]"
    assert machine.claim() is None


def test_a_held_task_keeps_its_priority_and_its_queue(store: Store):
    spec = flow(replace(step("a", queue="slow"), hold=Approval(), priority=5), replace(step("c", queue="slow")))
    machine = started(store, spec)
    resolve(store)
    got = machine.claim()
    assert got is not None
    assert (got.task, got.queue) == ("a", "slow")


def test_a_run_whose_start_is_delayed_asks_when_it_begins(store: Store):
    machine = Machine(store, held(Approval()))
    machine.launch(delay="1000")
    assert machine.told() == ["flow.start"]
    pass_time(store, 1000)
    tick(store)
    assert machine.told()[1:] == ["await.registered a"]


def test_a_deadline_ends_a_run_that_waits(store: Store):
    spec = FlowSpec("f", (StepSpec("a", hold=OnEvent("t")),), deadline_s=60.0)
    machine = started(store, spec)
    pass_time(store, 60_000)
    tick(store)
    assert machine.told()[2:] == ["flow.failed", "step.canceled a"]
    assert emit(store, "t", 1) == [0, 0]
    assert leaks(store) == []


def test_a_run_that_is_deleted_leaves_nothing_of_its_answers(store: Store):
    machine = started(store, held(Approval()))
    resolve(store)
    end(machine, "a", "b")
    store.run_script("delete", id="r1")
    while store.run_script("retire"):
        pass
    assert not list(store.client.scan_iter(f"{store.keys.namespace}:resolved:*"))
    assert leaks(store) == []
