"""Flows that start flows, in process: what a step hands over, gets back, and waits for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest

from nbflow import Approval, Context, Flow, Retry, Time, collect, each, failed, job
from nbflow.errors import CommandRefused, StepFailure


@dataclass
class Order:
    total: float


_numbers = itertools.count()


def new(**options: Any) -> Flow:
    """A flow of a name that no other test has."""
    return Flow(f"flow{next(_numbers)}", **options)


kid = Flow("kid")


def double(n: int) -> int:
    if n < 0:
        raise ValueError("negative")
    return 2 * n


def ones() -> list[int]:
    return [1, 2]


def tens(n: int) -> int:
    return 10 * n


def length(ones: list[int]) -> int:
    return len(ones)


def shout(text: str) -> str:
    return text.upper()


@pytest.fixture(autouse=True)
def _declared() -> None:
    """The flows that the others start, declared anew: other tests forget all that is declared."""
    Flow("kid").entry(double)
    many_leaves = Flow("many_leaves")
    many_leaves.entry(ones)
    many_leaves.step(each(ones))(tens)
    many_leaves.step("step:ones")(length)
    job(shout)


def test_a_step_completes_with_the_result_of_the_run_that_it_returns():
    flow = new()

    @flow.entry
    def begin(n: int, ctx: Context) -> Any:
        return ctx.start_flow(kid, {"n": n}, await_result=True)

    @flow.step(begin)
    def after(n: int) -> int:
        return n + 1

    run = flow.test(n=4)
    assert run.result == 9
    (child,) = run.children
    assert (child.flow, child.result, child.input) == ("kid", 8, {"n": 4})
    assert child.parent == run
    assert run.parent is None
    assert child.view.start["parent"] == {"run": run.id, "flow": flow.name, "task": "begin"}
    told = [event.type for event in run.follow() if event.task == "begin"]
    assert told == [
        "step.queued", "step.started", "await.registered", "child.started", "await.resolved", "step.queued",
        "step.started", "step.completed",
    ]  # fmt: skip


def test_many_results_come_as_they_are_told_for_people():
    flow = new()

    @flow.entry
    def begin(ctx: Context) -> Any:
        return ctx.start_flow("many_leaves", await_result=True)

    assert flow.test().result == {"tens": [10, 20], "length": 2}


def test_a_map_starts_a_run_for_each_element_by_its_one_value():
    flow = new()

    @flow.entry
    def numbers() -> list[int]:
        return [1, 2, 3]

    @flow.step(each(numbers), key=str)
    def one(n: int, ctx: Context) -> Any:
        return ctx.start_flow(kid, n, await_result=True)

    @flow.step(collect(one))
    def total(values: list[int]) -> int:
        return sum(values)

    assert flow.trial(seed=3, crashes=0.3).run().result == 12


def test_a_run_that_is_not_awaited_begins_with_the_completion():
    flow = new()

    @flow.entry(retry=Retry(2, backoff=0))
    def begin(ctx: Context) -> Any:
        started = ctx.start_flow(shout, {"text": "hi"})
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return started

    run = flow.test()
    (child,) = run.children
    assert run.result == child.id
    assert child.result == "HI"


def test_values_take_on_the_classes_of_the_flow_they_go_to():
    child, flow = new(), new()

    @child.entry
    def pay(order: Order) -> Order:
        assert isinstance(order, Order)
        return Order(order.total + 1)

    @flow.entry
    def begin(ctx: Context) -> Any:
        return ctx.start_flow(child, {"order": Order(2.0)}, await_result=True)

    @flow.step(begin)
    def after(order: Order) -> float:
        return order.total

    assert flow.test().result == 3.0


def test_what_is_emitted_beside_counts_with_the_result():
    flow = new()

    @flow.entry(emits=["said"])
    def begin(ctx: Context) -> Any:
        ctx.emit("said", "first")
        ctx.start_flow(shout, "x")
        return ctx.start_flow(kid, 1, await_result=True)

    @flow.step("said")
    def hears(said: str) -> str:
        return said

    @flow.step(begin)
    def takes(n: int) -> int:
        return n

    run = flow.test()
    assert run.result == {"hears": "first", "takes": 2}
    assert sorted(child.flow for child in run.children) == ["kid", "shout"]


def test_the_result_is_what_a_step_of_one_topic_emits():
    flow = new()

    @flow.entry(emits=["doubled"])
    def begin(ctx: Context) -> Any:
        return ctx.start_flow(kid, 1, await_result=True)

    @flow.step("doubled")
    def takes(n: int) -> int:
        return n

    assert flow.test().result == 2


def test_a_run_that_fails_is_a_failed_attempt_and_another_one_is_tried():
    flow = new()

    @flow.entry(retry=Retry(2, backoff=1))
    def begin(ctx: Context) -> Any:
        return ctx.start_flow(kid, 1 if ctx.attempt > 1 else -1, await_result=True)

    run = flow.test()
    assert run.result == 2
    assert [child.status for child in run.children] == ["failed", "completed"]
    assert run.attempts["reason"].tolist()[0] == "child"
    assert "negative" in run.attempts["error"].tolist()[0]


def test_a_failure_of_it_is_answered_for_like_any_other():
    flow = new()

    @flow.entry
    def begin(ctx: Context) -> Any:
        return ctx.start_flow(kid, -1, await_result=True)

    @flow.step(failed(begin))
    def excuse(failure: dict[str, Any]) -> str:
        return failure["error"]

    assert "which the step awaited, failed: ValueError: negative" in flow.test().result


def test_a_run_ends_with_the_one_that_started_it():
    child, flow = new(), new(deadline=60)

    @child.entry(hold=Time("1h"))
    def waits() -> int:
        return 1

    @flow.entry
    def begin(ctx: Context) -> Any:
        return ctx.start_flow(child, await_result=True)

    run = flow.test()
    assert run.status == "failed"
    (slow,) = run.children
    assert (slow.status, slow.view.end["by"]) == ("canceled", {"run": run.id})


def test_a_test_answers_the_runs_that_are_started_too():
    child, flow = new(), new()

    @child.entry(hold=Approval(bool))
    def approve(ctx: Context) -> Any:
        return ctx.resolved

    @flow.entry
    def begin(ctx: Context) -> Any:
        return ctx.start_flow(child, await_result=True)

    assert flow.trial().resolve("approve", True, after="1h").run().result is True


def test_a_flow_may_start_itself_at_most_32_levels_deep():
    flow = new()

    @flow.entry
    def begin(n: int, ctx: Context) -> Any:
        return n if n == 0 else ctx.start_flow(flow, n - 1, await_result=True)

    assert flow.test(3).result == 0
    with pytest.raises(StepFailure, match="at most 32 levels"):
        _ = flow.test(40).result


def test_what_goes_on_from_a_run_starts_anew_what_did_not_complete():
    flow = new()

    @flow.entry
    def begin(n: int, ctx: Context) -> Any:
        return ctx.start_flow(kid, n, await_result=True)

    @flow.step(begin)
    def fails(n: int, ctx: Context) -> Any:
        return ctx.start_flow(kid, -n, await_result=True)

    run = flow.test(1)
    again = run.resume()
    assert [child.input for child in run.children] == [{"n": 1}, {"n": -2}]
    assert [child.input for child in again.children] == [{"n": -2}]
    assert again.children[0].id != run.children[1].id


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda ctx: ctx.start_flow("nowhere"), "neither came along"),
        (lambda ctx: ctx.start_flow(7), "7 is no flow"),
        (lambda ctx: ctx.start_flow(kid, {"m": 1}), "has no input 'm'"),
        (lambda ctx: ctx.start_flow(kid, "many"), "does not take"),
        (lambda ctx: [ctx.start_flow(kid, 1, await_result=True)], "returns something else"),
        (lambda ctx: next(iter([ctx.start_flow(kid, i) for i in range(101)])), "more than 100 runs"),
    ],
)
def test_what_cannot_be_started_fails_the_step_and_starts_nothing(wrong: Any, said: str):
    flow = new()

    @flow.entry
    def begin(ctx: Context) -> Any:
        return wrong(ctx)

    run = flow.test()
    with pytest.raises(StepFailure, match=said):
        _ = run.result
    assert run.children == []


def test_what_only_a_run_ends_nobody_can_answer():
    flow = new()

    @flow.entry
    def begin(ctx: Context) -> Any:
        return ctx.start_flow(kid, 1, await_result=True)

    run = flow.test()
    at = next(event.id for event in run.follow() if event.type == "child.started")
    earlier = run.at(at)
    assert earlier.status == "awaiting"
    assert earlier.why("begin") == f"it waits for the run {run.children[0].id[:8]} of flow 'kid'"
    with pytest.raises(CommandRefused, match="for no answer"):
        earlier.resolve("begin")
