"""act: {'OK'} | {'ENDED', status} | {'UNKNOWN'} | {'GONE'} | {'QUEUED'} | {'HELD'}"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nbflow.model.awaits import Approval, OnEvent
from nbflow.model.policy import Concurrency, Rate, Retry
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import chain, flow, mapped, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, silent
from tests.waits import emit, held, held_after, pass_time, resolve, started, tick

CANCEL = '{"reason":"by_hand","by":{"user":"ann"}}'
RETRY = '{"error":"tried again by hand","traceback":"","reason":"by_hand","delay":0,"nextAttempt":2}'


def _begin(store: Store, length: int = 2) -> tuple[Machine, Claimed]:
    machine = Machine(store, chain(length))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    return machine, task


def _act(store: Store, what: str = "cancel", *emits: Any, attempt: int = 1, **named: str) -> list[bytes]:
    given = {"run": "r1", "task": "s0", "data": CANCEL, "nonce": "n"} | named
    return store.run_script("act", *emits, attempt=attempt, what=what, **given)


def test_a_running_task_is_canceled_and_its_worker_named(store: Store) -> None:
    machine, task = _begin(store)
    heard = store.blocking().pubsub()
    heard.subscribe("rq:pubsub:w")
    assert heard.get_message(timeout=5)
    assert machine.act(task, "cancel", CANCEL) == [b"OK"]
    order = heard.get_message(timeout=5)
    assert json.loads(order["data"]) == {"command": "stop-job", "lease": task.lease}  # pyright: ignore[reportOptionalSubscript]
    heard.close()  # pyright: ignore[reportUnknownMemberType]
    assert machine.told()[2:] == ["step.started s0", "step.canceled s0", "step.skipped s1", "flow.completed"]
    assert machine.events()[3].data == json.loads(CANCEL)
    before = everything(store)
    assert machine.settle(task, silent("step:s0")) == ("AGAIN", None)
    assert everything(store) == before
    assert leaks(store) == []


def test_a_queued_task_is_canceled_and_its_queue_is_empty_then(store: Store) -> None:
    machine = Machine(store, chain(2))
    machine.birth("w")
    machine.launch()
    assert _act(store) == [b"OK"]
    assert store.client.llen(store.keys.rq_queue("default")) == 0
    assert machine.claim() is None
    assert machine.run_field("status") == "completed"
    assert leaks(store) == []


def test_a_task_that_waits_for_its_next_attempt_is_canceled(store: Store) -> None:
    machine, task = _begin(store)
    machine.settle(task, outcome="retry", data=json.dumps({"delay": 60_000, "nextAttempt": 2, "error": "E"}))
    assert _act(store) == [b"GONE"]
    assert _act(store, attempt=2) == [b"OK"]
    assert store.client.zcard(store.keys.timers()) == 0
    assert machine.run_field("status") == "completed"
    assert leaks(store) == []


def test_a_running_task_is_tried_again_as_the_next_attempt(store: Store) -> None:
    machine, task = _begin(store)
    assert machine.act(task, "retry", RETRY) == [b"OK"]
    assert machine.settle(task, silent("step:s0")) == ("AGAIN", None)
    again = machine.claim()
    assert again is not None
    assert (again.task, again.attempt, again.payloads) == ("s0", 2, task.payloads)
    machine.settle(again, silent("step:s0"))
    assert machine.told()[3:6] == ["step.retry s0", "step.queued s0", "step.started s0"]


def test_a_back_off_is_cut_short(store: Store) -> None:
    machine, task = _begin(store)
    machine.settle(task, outcome="retry", data=json.dumps({"delay": 60_000, "nextAttempt": 2, "error": "E"}))
    assert _act(store, "retry", attempt=2, data=RETRY) == [b"OK"]
    again = machine.claim()
    assert again is not None
    assert again.attempt == 2
    assert store.client.zcard(store.keys.timers()) == 0


def test_a_task_that_waits_for_a_worker_is_not_tried_again(store: Store) -> None:
    machine = Machine(store, chain(1))
    machine.birth("w")
    machine.launch()
    before = everything(store)
    assert _act(store, "retry", data=RETRY) == [b"QUEUED"]
    assert everything(store) == before


def test_a_result_given_by_hand_is_a_completion(store: Store) -> None:
    machine, task = _begin(store)
    data = '{"result":7,"duration":0,"by":{"user":"ann"}}'
    assert machine.act(task, "complete", data, silent("step:s0", "7"))[0] == b"OK"
    following = machine.claim()
    assert following is not None
    assert (following.task, following.payloads) == ("s1", ["7"])
    machine.settle(following)
    assert machine.told()[3] == "step.completed s0"
    assert machine.run_field("status") == "completed"
    assert leaks(store) == []


def test_of_two_acts_one_counts(store: Store) -> None:
    machine, task = _begin(store)
    assert machine.act(task, "complete", '{"result":7}', silent("step:s0", "7"))[0] == b"OK"
    before = everything(store)
    assert machine.act(task, "cancel", CANCEL, nonce="another") == [b"GONE"]
    assert machine.act(task, "complete", '{"result":8}', silent("step:s0", "8"), "another") == [b"GONE"]
    assert everything(store) == before


def test_what_is_not_under_way_is_left_alone(store: Store) -> None:
    assert _act(store) == [b"UNKNOWN"]
    machine, task = _begin(store, 1)
    before = everything(store)
    assert _act(store, task="s9") == [b"GONE"]
    assert _act(store, attempt=3) == [b"GONE"]
    assert everything(store) == before
    machine.settle(task)
    assert _act(store) == [b"ENDED", b"completed"]


def test_an_act_whose_reply_was_lost_is_said_again(store: Store) -> None:
    """Law: the same act again changes nothing, also where another attempt is under way by then."""
    machine, task = _begin(store)
    assert machine.act(task, "retry", RETRY) == [b"OK"]
    again = machine.claim()
    assert again is not None
    before = everything(store)
    assert machine.act(task, "retry", RETRY) == [b"OK"]
    assert everything(store) == before


def _limited(store: Store, *, queues: int = 1) -> tuple[Machine, list[Claimed]]:
    """Three tasks of a step of which one may run at a time: the first is claimed, the others wait in line."""
    machine = Machine(store, flow(replace(step("s0"), concurrency=Concurrency(1))))
    for number in (1, 2, 3):
        machine.birth(f"w{number}")
        machine.launch(f"r{number}")
    first = machine.claim("w1")
    assert first is not None
    assert machine.claim("w2") is None
    return machine, [first]


@pytest.mark.parametrize("what", ["cancel", "complete", "retry"])
def test_what_a_running_task_held_of_its_limit_is_free_once(store: Store, what: str) -> None:
    machine, (task,) = _limited(store)
    assert machine.act(task, what, RETRY if what == "retry" else CANCEL, silent("step:s0")) == [b"OK"]
    assert machine.settle(task)[0] == "AGAIN"  # what it says later frees nothing again
    following = machine.claim("w2")
    assert following is not None
    assert following.run == "r2"
    assert machine.claim("w3") is None
    machine.settle(following)
    last = machine.claim("w3")
    assert last is not None
    assert last.run == "r3"
    assert leaks(store) == []


@pytest.mark.parametrize("number", [2, 3])
def test_a_task_in_a_limits_line_leaves_it(store: Store, number: int) -> None:
    """Law: whether it was called or waits behind, who comes after it is not held up."""
    machine, (task,) = _limited(store)
    machine.settle(task)  # the next is called
    assert _act(store, run=f"r{number}") == [b"OK"]
    following = machine.claim("w2")
    assert following is not None
    assert following.run == f"r{5 - number}"
    machine.settle(following)
    assert machine.claim("w3") is None
    assert {machine.run_field("status", f"r{n}") for n in (1, 2, 3)} == {"completed"}
    left = [key for kind in ("lines", "aside", "limit:c") for key in store.text.scan_iter(f"nbflow:{kind}:*")]
    assert left == []
    assert leaks(store) == []


def test_a_start_that_a_rate_counted_stays_counted(store: Store) -> None:
    machine = Machine(store, flow(replace(step("s0"), rate=Rate(1, "1h"))))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    machine.act(task, "retry", RETRY)
    assert machine.claim() is None


@pytest.mark.parametrize("what", ["cancel", "complete"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_held_task_waits_no_more(store: Store, what: str, is_after: bool) -> None:
    hold = OnEvent("paid", timeout="1h")
    machine = started(store, held_after(hold) if is_after else held(hold))
    if is_after:
        task = machine.claim()
        assert task is not None
        machine.settle(task, silent("step:a", "1"))
    assert _act(store, what, *silent("step:a", "9"), task="a") == [b"OK"]
    assert store.client.zcard(store.keys.timers()) == 0
    assert emit(store, "paid", {})[0] == 0
    told = [event.type for event in machine.events() if event.task == "a"]
    assert told[-1] == ("step.canceled" if what == "cancel" else "step.completed")
    assert "await.resolved" not in told
    assert leaks(store) == []


def test_what_was_held_after_an_attempt_is_given_up_for_another(store: Store) -> None:
    machine = started(store, held_after(Approval()))
    task = machine.claim()
    assert task is not None
    machine.settle(task, silent("step:a", "1"))
    assert machine.act(task, "retry", RETRY) == [b"OK"]
    again = machine.claim()
    assert again is not None
    assert again.attempt == 2
    assert resolve(store, position="after", data=1) == [b"GONE"]
    machine.settle(again, silent("step:a", "2"))
    assert machine.told()[-1] == "await.registered a"


def test_a_task_that_was_not_tried_yet_is_not_tried_again_past_its_hold(store: Store) -> None:
    started(store, held(Approval()))
    before = everything(store)
    assert _act(store, "retry", task="a", data=RETRY) == [b"HELD"]
    assert everything(store) == before


def test_a_hold_that_is_asked_again_later_is_asked_at_once(store: Store) -> None:
    """Law: a back-off that is cut short does not open what the hold= keeps closed."""
    hold = Approval(timeout="1m", on_timeout="retry")
    spec = held(hold)
    machine = started(
        store, replace(spec, steps=tuple(replace(one, retry=Retry(3, backoff="1h")) for one in spec.steps))
    )
    pass_time(store, 60_000)
    tick(store)
    assert _act(store, "retry", task="a", attempt=2, data=RETRY) == [b"OK"]
    assert machine.told()[-1] == "await.registered a"
    assert machine.claim() is None


def test_a_declined_task_is_declined_no_more(store: Store) -> None:
    machine, task = _begin(store)
    machine.settle(task, outcome="declined", data='{"lacks":"x","again":60000}')
    assert _act(store) == [b"OK"]
    assert not [*store.text.scan_iter("nbflow:declined*")]
    machine.birth("other")
    assert machine.claim("other") is None
    assert leaks(store) == []


def test_another_attempt_has_the_priority_of_its_step_and_stays_in_a_paused_queue(store: Store) -> None:
    machine = Machine(store, flow(replace(step("s0"), priority=5), step("s1")))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    assert task.task == "s0"
    store.client.sadd(store.keys.paused(), "default")
    assert machine.act(task, "retry", RETRY) == [b"OK"]
    assert machine.claim() is None
    store.client.delete(store.keys.paused())
    again = machine.claim()
    assert again is not None
    assert (again.task, again.attempt) == ("s0", 2)


def test_what_follows_a_result_given_by_hand_is_made_in_slices(store: Store) -> None:
    machine = Machine(store, mapped())
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    elements = [part for i in range(700) for part in (str(i), "1")]
    assert machine.act(task, "complete", '{"result":null}', ["each:a", "silent", "", 700, *elements]) == [b"OK"]
    step_name = next(one.name for one in machine.flow.steps if one.is_mapped)
    assert _act(store, task=f"{step_name}[600]", nonce="m") == [b"GONE"]
    assert _act(store, task=f"{step_name}[3]", nonce="m") == [b"OK"]
    machine.slice_all()
    assert store.client.scard(store.keys.open("r1")) == 699
    assert machine.told().count(f"step.canceled {step_name}[3]") == 1


def test_a_failure_after_a_cancel_by_hand_fails_the_run(store: Store) -> None:
    """Law: what a person canceled hides no failure of the same step."""
    machine = Machine(store, mapped())
    machine.birth("w")
    machine.launch()
    first = machine.claim()
    assert first is not None
    machine.settle(first, ["each:a", "silent", "", 2, "0", "1", "1", "1"])
    one, two = machine.claim(), machine.claim()
    assert one is not None
    assert two is not None
    machine.act(one, "cancel", CANCEL)
    machine.settle(two, outcome="failed")
    assert machine.events()[-1].type == "flow.failed"
    assert machine.events()[-1].data["task"] == two.task


def test_a_task_is_peeked_at_as_a_claim_hands_it_over(store: Store) -> None:
    machine, task = _begin(store)
    machine.settle(task, silent("step:s0", "7"))
    following = machine.claim()
    assert following is not None
    before = everything(store)
    reply = store.run_script("peek", run="r1", task="s1", attempt=1)
    assert [part.decode() for part in reply[:5]] == [following.job, "r1", "s1", "1", "default"]
    assert reply[15:] == [b"7"]
    assert everything(store) == before
    assert store.run_script("peek", run="r1", task="s9", attempt=1) is None
    assert store.run_script("peek", run="r2", task="s1", attempt=1) is None
