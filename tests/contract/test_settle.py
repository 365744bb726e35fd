"""settle: {'OK', job or false, slices} | {'AGAIN', job or false, slices} | {'STALE', false, 0}"""

from __future__ import annotations

from itertools import pairwise

from nbflow.model.definition import FlowSpec
from nbflow.model.events import id_key
from nbflow.store.connect import Store
from tests.contract.everything import everything
from tests.graphs import any_of, chain, collect, each, first, flow, keep, mapped, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine, many, one, silent


def started(store: Store, spec: FlowSpec) -> tuple[Machine, Claimed]:
    """A run whose first task is held."""
    machine = Machine(store, spec)
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    return machine, task


def claimed(machine: Machine) -> Claimed:
    task = machine.claim()
    assert task is not None
    return task


def test_a_settle_hands_over_the_next_task(store: Store):
    machine, task = started(store, chain(2))
    status, following = machine.settle(task, silent("step:s0", '{"n":1}'), want=True)
    assert status == "OK"
    assert following is not None
    assert (following.task, following.payloads) == ("s1", ['{"n":1}'])
    assert store.text.smembers("rq:worker:w:executions") == {f"{following.job}:{following.lease}"}
    assert machine.told()[-3:] == ["step.completed s0", "step.queued s1", "step.started s1"]


def test_a_settle_that_wants_nothing_queues_and_wakes(store: Store):
    machine, task = started(store, chain(2))
    store.client.delete(store.keys.wake("default"))
    assert machine.settle(task, silent("step:s0")) == ("OK", None)
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == ["r1__s1__attempt-1"]
    assert store.client.llen(store.keys.wake("default")) == 1
    assert store.text.hget("rq:worker:w", "state") == "idle"


def test_a_task_that_waits_is_taken_before_a_new_one(store: Store):
    machine, task = started(store, flow(step("a"), step("b"), step("c", first("step:a"))))
    _, following = machine.settle(task, silent("step:a"), want=True)
    assert following is not None
    assert following.task == "b"


def test_a_settle_said_again_changes_nothing_and_tells_what_is_held(store: Store):
    machine, task = started(store, chain(3))
    _, following = machine.settle(task, silent("step:s0"), want=True)
    before = everything(store)
    machine.leases -= 1
    assert machine.settle(task, silent("step:s0"), want=True) == ("AGAIN", following)
    assert everything(store) == before


def test_a_settle_by_a_lease_that_is_not_held_changes_nothing(store: Store):
    machine, task = started(store, chain(2))
    before = everything(store)
    task.lease += 7
    assert machine.settle(task, silent("step:s0"), want=True) == ("AGAIN", None)
    assert everything(store) == before


def test_a_worker_that_was_given_up_is_told_so(store: Store):
    machine, task = started(store, chain(2))
    store.run_script("giveback", worker="w", cause="killed")
    before = everything(store)
    assert machine.settle(task, silent("step:s0"), want=True) == ("STALE", None)
    assert everything(store) == before


def test_a_task_of_a_canceled_run_that_is_not_removed_yet_does_not_count(store: Store):
    """The lease ends with the cancel itself, not with the slice that removes the task."""
    machine, task = started(store, chain(2))
    store.client.hset(store.keys.run("r1"), "status", "canceled")
    events = len(machine.events())
    assert machine.settle(task, silent("step:s0")) == ("AGAIN", None)
    assert len(machine.events()) == events
    assert store.client.llen(store.keys.rq_queue("default")) == 0


def test_suspended_rq_hands_over_nothing(store: Store):
    machine, task = started(store, chain(2))
    store.client.set("rq:suspended", 1)
    assert machine.settle(task, silent("step:s0"), want=True) == ("OK", None)
    assert store.text.lrange(store.keys.rq_queue("default"), 0, -1) == ["r1__s1__attempt-1"]
    store.client.delete("rq:suspended")
    assert claimed(machine).task == "s1"


def test_events_of_a_script_lie_in_their_order(store: Store):
    """The end of the step, emit in order of calls, step.queued in plan order, step.skipped, step.started of the next."""
    spec = flow(
        step("a", emits=("y", "x", "z")),
        step("c", first("x")),
        step("b", first("y")),
        step("d", each("z")),
        step("e", collect("step:d")),
    )
    machine, task = started(store, spec)
    machine.settle(task, [*one("x", '"first"'), *one("y", '"second"')], want=True)
    assert machine.told()[3:] == [
        "step.completed a",
        "emit a",
        "emit a",
        "step.queued c",
        "step.queued b",
        "step.skipped d",
        "step.skipped e",
        "step.started c",
    ]
    ids = [event.id for event in machine.events()]
    assert all(id_key(a) < id_key(b) for a, b in pairwise(ids))


def test_the_end_of_the_run_comes_last(store: Store):
    machine, task = started(store, flow(step("a", emits=("x", "y")), step("b", first("x"))))
    machine.settle(task)
    assert machine.told()[3:] == ["step.completed a", "step.skipped b", "flow.completed"]


def test_event_data_is_what_the_contract_says(store: Store):
    spec = flow(step("a", emits=("x",)), step("b", each("x"), has_key=True), step("c", collect("step:b")))
    machine, task = started(store, spec)
    machine.settle(
        task, ["b", "key", "", 2, "0", "red", "1", "blue", *many("x", ["10", "20"])], data='{"result":5,"duration":1.5}'
    )
    *_, done, emitted, red, blue = machine.events()
    assert (done.type, done.task, done.attempt, done.data) == ("step.completed", "a", 1, {"result": 5, "duration": 1.5})
    assert (emitted.type, emitted.data) == ("emit", {"name": "x", "count": 2, "payload": [10, 20]})
    assert (red.task, red.data) == ("b[0]", {"queue": "default", "because": ["x"], "key": "red"})
    assert (blue.task, blue.data) == ("b[1]", {"queue": "default", "because": ["x"], "key": "blue"})
    claimed(machine)
    assert (machine.events()[-1].type, machine.events()[-1].data) == ("step.started", {"worker": "w", "input": 10})


def test_an_emission_of_a_mapped_task_tells_its_index(store: Store):
    machine, task = started(store, flow(step("a"), step("b", each("each:a"), emits=("x",)), step("c", collect("x"))))
    machine.settle(task, ["each:a", "silent", "", 1, "0", "1"])
    machine.settle(claimed(machine), one("x", '{"n":1}', "0"))
    emitted = next(event for event in machine.events() if event.type == "emit")
    assert emitted.data == {"name": "x", "payload": {"n": 1}, "index": "0"}


def test_a_completed_run_names_its_leaves(store: Store):
    machine, task = started(
        store, flow(step("a"), step("b", first("step:a")), step("c", first("step:a")), step("d", first("failed:a")))
    )
    machine.settle(task, silent("step:a"))
    machine.settle(claimed(machine))
    machine.settle(claimed(machine))
    end = machine.events()[-1]
    assert end.type == "flow.completed"
    assert (end.data["leaves"], set(end.data)) == (["b", "c"], {"leaves", "duration"})
    assert store.text.zrange(store.keys.runs("completed"), 0, -1) == ["r1"]
    assert leaks(store) == []


def test_a_flow_may_name_its_result(store: Store):
    machine, task = started(store, flow(step("a"), step("b", first("step:a")), result="a"))
    machine.settle(task, silent("step:a"))
    machine.settle(claimed(machine))
    assert machine.events()[-1].data["leaves"] == ["a"]


def test_a_failed_run_tells_the_first_unhandled_failure(store: Store):
    machine, task = started(store, flow(step("a"), step("b", first("step:a"))))
    machine.settle(task, outcome="failed", data='{"error":"ValueError: \\"bad\\"","traceback":"…","reason":"error"}')
    failed, skipped, end = machine.events()[-3:]
    assert (failed.type, failed.data["error"]) == ("step.failed", 'ValueError: "bad"')
    assert (skipped.type, skipped.task, skipped.data) == ("step.skipped", "b", {"reason": "short"})
    assert end.type == "flow.failed"
    assert end.data.pop("duration") >= 0
    assert end.data == {"failedStep": "a", "reason": "step", "task": "a", "error": 'ValueError: "bad"'}
    assert leaks(store) == []


def test_a_failure_that_somebody_answered_for_does_not_fail_the_run(store: Store):
    machine, task = started(store, flow(step("a"), step("b", first("failed:a"))))
    machine.settle(task, silent("failed:a", '{"error":"E"}'), outcome="failed")
    assert machine.run_field("status") == "running"
    machine.settle(claimed(machine))
    assert machine.run_field("status") == "completed"


def test_who_answers_and_fails_leaves_both_failures_open(store: Store):
    machine, task = started(store, flow(step("a"), step("b", first("failed:a"))))
    machine.settle(task, silent("failed:a", '{"error":"E"}'), outcome="failed")
    machine.settle(claimed(machine), outcome="failed")
    assert machine.events()[-1].data["failedStep"] == "a"


def test_a_collect_that_keeps_failures_answers_for_those_it_took_and_no_later_one(store: Store):
    """`m` is satisfied by the first `x`, so `c` may be over while `p` still has tasks; their failures are nobody's."""
    spec = flow(step("a"), step("p", each("each:a"), emits=("x",)), step("m", first("x")), step("c", keep("step:m")))
    machine, task = started(store, spec)
    machine.settle(task, ["each:a", "silent", "", 3, "0", "1", "1", "2", "2", "3"])
    failing, emitting, late = claimed(machine), claimed(machine), claimed(machine)
    machine.settle(failing, silent("failed:p", "{}", "0"), outcome="failed")
    machine.settle(emitting, one("x", "1", "1"))
    machine.settle(claimed(machine), silent("step:m"))
    collecting = claimed(machine)
    assert collecting.task == "c"
    machine.settle(collecting)
    machine.settle(late, silent("failed:p", "{}", "2"), outcome="failed")
    assert machine.events()[-1].data["failedStep"] == "p"


def test_what_keeps_failures_runs_and_completes_the_run(store: Store):
    spec = flow(step("a"), step("b", each("each:a")), step("c", keep("step:b")), step("d", collect("step:b")))
    machine, task = started(store, spec)
    machine.settle(task, ["each:a", "silent", "", 2, "0", "1", "1", "2"])
    machine.settle(claimed(machine), silent("failed:b", "{}", "0"), outcome="failed")
    machine.settle(claimed(machine), silent("step:b", "2", "1"))
    assert machine.told()[-2:] == ["step.queued c", "step.skipped d"]
    machine.settle(claimed(machine))
    assert machine.events()[-1].data["leaves"] == ["c"]


def test_an_empty_list_flows_through_steps_that_nobody_watches(store: Store):
    """`b` and `c` have no tasks and are not skipped; the result is an empty list."""
    machine, task = started(store, flow(step("a"), step("b", each("each:a")), step("c", each("step:b"))))
    machine.settle(task, ["each:a", "silent", "", 0])
    assert machine.told()[-2:] == ["step.completed a", "flow.completed"]
    assert machine.events()[-1].data["leaves"] == ["c"]


def test_an_empty_list_flows_through_a_step_whose_topic_was_closed_before(store: Store):
    """`b` is watched, as `d` waits for an end; `d` and `e` are watched by nobody, and close with the run."""
    spec = flow(
        step("a"), step("b", first("step:a")), step("d", each("each:b"), collect("step:a")), step("e", each("step:d"))
    )
    machine, task = started(store, spec)
    machine.settle(task, silent("step:a"))
    machine.settle(claimed(machine), ["each:b", "silent", "", 0])
    assert machine.events()[-1].data["leaves"] == ["e"]


def test_an_empty_list_reaches_a_collect(store: Store):
    machine, task = started(store, mapped())
    machine.settle(task, ["each:a", "silent", "", 0])
    collecting = claimed(machine)
    assert collecting.task == "c"
    assert store.client.exists(store.keys.emits("r1", "step:b")) == 0


def test_a_step_is_skipped_once_and_says_whether_something_failed(store: Store):
    spec = flow(step("a", emits=("x", "y")), step("b", first("x")), step("c", first("y")), step("d", first("step:b")))
    machine, task = started(store, spec)
    machine.settle(task, one("x"))
    machine.settle(claimed(machine), outcome="failed")
    reasons = {event.task: event.data for event in machine.events() if event.type == "step.skipped"}
    assert reasons == {"c": {"reason": "not_taken"}, "d": {"reason": "short"}}


def test_records_of_a_long_task_go_with_it(store: Store):
    _, task = started(store, chain(1))
    store.run_script("beat", "w", 0, 0, str(task.lease), lease_ms=5000)
    store.run_script(
        "settle", keys=[store.keys.rq_queue("default")], worker="w", want="0", job=task.job, lease=task.lease, next=9,
        run="r1", task=task.task, attempt=1, queue="default", long="1", outcome="completed", data="{}",
    )  # fmt: skip
    assert leaks(store) == []
    assert store.client.zcard("rq:wip:default") == 0


def test_more_than_five_hundred_steps_become_ready_in_slices(store: Store):
    machine, task = started(store, flow(step("a"), *(step(f"b{i}", first("step:a")) for i in range(1200))))
    machine.settle(task, silent("step:a"))
    assert store.client.llen(store.keys.rq_queue("default")) == 500
    machine.slice_all()
    queued = [event.task for event in machine.events() if event.type == "step.queued"]
    assert queued == ["a", *(f"b{i}" for i in range(1200))]


def test_more_than_five_hundred_steps_are_skipped_in_slices(store: Store):
    """The run ends with the last slice, and not before."""
    length = 1200
    machine, task = started(store, chain(length))
    machine.settle(task, outcome="failed")
    assert machine.told().count("flow.failed") == 0
    counts = [0]
    while store.client.exists("nbflow:slices"):
        store.run_script("slice")
        counts.append(sum(line.startswith("step.skipped") for line in machine.told()))
    assert max(after - before for before, after in pairwise(counts)) <= 500
    assert len(counts) > 2
    told = machine.told()
    assert told[-1] == "flow.failed"
    assert sorted(told[4:-1]) == sorted(f"step.skipped s{i}" for i in range(1, length))
    assert leaks(store) == []


def test_a_wide_skip_before_a_collect_is_sliced_too(store: Store):
    """What waits for the closing of 1,200 steps starts when the last slice has closed them."""
    wide = [step(f"b{i}", first("x"), emits=("y",)) for i in range(1200)]
    spec = flow(step("a", emits=("x", "z")), step("o", first("z"), emits=("y",)), *wide, step("c", collect("y")))
    machine, task = started(store, spec)
    machine.settle(task, one("z"))
    machine.slice_all()
    machine.settle(claimed(machine), one("y"))
    machine.slice_all()
    assert claimed(machine).task == "c"


def test_a_cancel_ends_the_slices_of_a_skip(store: Store):
    machine, task = started(store, chain(1200))
    machine.settle(task, outcome="failed")
    store.run_script("cancel", id="r1", reason='""', by="{}")
    machine.slice_all()
    assert machine.told()[-1] == "flow.cancel"
    assert leaks(store) == []


def test_any_of_receives_the_topic_that_came(store: Store):
    machine, task = started(store, flow(step("a", emits=("x", "y")), step("b", any_of("x", "y"))))
    _, following = machine.settle(task, [*one("y", "2"), *one("x", "1")], want=True)
    assert following is not None
    assert following.payloads == ["y", "2"]
    assert machine.events()[-2].data["because"] == ["y"]


def test_an_empty_list_goes_all_round_a_cycle(store: Store):
    """`c` is reached by the empty map `m`, and `b` through `c`: neither is skipped, whichever was defined first."""
    spec = flow(
        step("a"),
        step("m", each("each:a"), emits=("y",)),
        step("b", each("x"), emits=("y",)),
        step("c", each("y"), emits=("x",)),
    )
    machine, task = started(store, spec)
    machine.settle(task, ["each:a", "silent", "", 0])
    assert machine.told()[-2:] == ["step.completed a", "flow.completed"]


def test_failing_in_a_cycle_makes_what_follows_short(store: Store):
    """The cycle is closed after what its last task closed, else its shortness would be lost."""
    spec = flow(
        step("a", emits=("x", "y")),
        step("f", first("x"), emits=("z",)),
        step("b", each("y"), first("z"), emits=("y", "w")),
        step("c", collect("w")),
    )
    machine, task = started(store, spec)
    machine.settle(task, [*one("x"), *one("y")])
    machine.settle(claimed(machine), outcome="failed")
    reasons = {event.task: event.data["reason"] for event in machine.events() if event.type == "step.skipped"}
    assert reasons == {"b": "short", "c": "short"}
