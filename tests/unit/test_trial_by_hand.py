"""What a person does to single tasks, in runs in process."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from nbflow import Approval, Concurrency, Context, Flow, Retry, collect, each
from nbflow.errors import CommandRefused, DefinitionError


@pytest.fixture
def flow() -> Flow:
    return Flow(f"t{uuid.uuid4().hex[:10]}")


def _mapped(flow: Flow) -> Flow:
    """`numbers`, `double[0]`…`double[2]` called n0…n2, of which the second fails twice, `total`."""

    @flow.entry
    def numbers() -> list[int]:
        return [1, 2, 3]

    @flow.step(each(numbers), key=lambda n: f"n{n - 1}", retry=Retry(3, backoff="1h"))
    def double(n: int, ctx: Context) -> int:
        if n == 2 and ctx.attempt < 3:
            raise OSError
        return n * 2

    @flow.step(collect(double))
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return flow


@pytest.mark.parametrize("when", ["queued", "running", "retrying"])
def test_a_task_is_canceled_by_hand_and_is_missing(flow: Flow, when: Any) -> None:
    run = _mapped(flow).trial().cancel("double[n1]", when=when).run()
    assert (run.status, run.result) == ("completed", None)
    assert run.view.tasks["double[1]"].status == "canceled"
    assert run.view.steps["total"].skipped == "short"
    assert [event.data["by"] for event in run.follow() if event.type == "step.canceled"] == [{"user": "the test"}]


@pytest.mark.parametrize("when", ["queued", "running", "retrying"])
def test_a_result_is_given_by_hand(flow: Flow, when: Any) -> None:
    run = _mapped(flow).trial(seed=3).complete("double[1]", 100, when=when).run()
    assert run.result == 108
    assert "by" in next(e for e in run.follow() if e.task == "double[1]" and e.type == "step.completed").data


def test_a_back_off_is_cut_short_and_what_runs_is_given_up(flow: Flow) -> None:
    run = _mapped(flow).trial().retry("double[1]", when="retrying", after="10m").run()
    view = run.view
    assert run.result == 12
    assert view.ended_ms is not None
    assert view.started_ms is not None
    assert view.ended_ms - view.started_ms == (10 + 60) * 60_000
    other = _mapped(flow).trial().retry("double").run()
    assert other.result == 12
    assert [a.attempt for a in other.view.tasks["double[0]"].attempts] == [1, 2]


def test_a_held_task_is_ended_by_hand(flow: Flow) -> None:
    @flow.entry(hold=Approval(), retry=Retry(2))
    def pay(total: int) -> int:
        return total

    @flow.step(pay, hold_emits=Approval(timeout="1d", on_timeout="fail"))
    def book(total: int, ctx: Context) -> int:
        return total * ctx.attempt

    trial = flow.trial().complete("pay", 7, when="awaiting", after="1h").retry("book", when="awaiting")
    run = trial.resolve("book", True, after="2h").run(1)
    assert run.result == 14
    assert run.view.tasks["pay"].awaiting == {}
    assert flow.trial().cancel("pay", when="awaiting").run(1).status == "completed"
    with pytest.raises(CommandRefused, match="was not tried yet"):
        flow.trial().retry("pay", when="awaiting").run(1)


def test_what_is_canceled_by_hand_is_no_failure(flow: Flow) -> None:
    """Law: nobody need answer for it, it ends no run, and it hides no failure that comes later."""
    flow = Flow(flow.name, on_failure="cancel")

    @flow.entry
    def numbers() -> list[int]:
        return [1, 2]

    @flow.step(each(numbers))
    def check(n: int) -> int:
        if n == 2:
            raise ValueError
        return n

    @flow.step(each(check))
    def after(n: int) -> int:
        return n

    run = flow.trial().cancel("check[0]").run()
    assert run.status == "failed"
    assert run.view.end["failedStep"] == "check"


def test_a_limits_slot_of_what_is_given_up_is_free(flow: Flow) -> None:
    @flow.entry
    def numbers() -> list[int]:
        return [1, 2, 3]

    @flow.step(each(numbers), concurrency=Concurrency(1))
    def one(n: int) -> int:
        return n

    trial = flow.trial(seed=1).cancel("one[0]", when="running").retry("one[1]").complete("one[2]", 9, when="running")
    assert trial.run().status == "completed"


def test_acts_that_cannot_be_are_refused(flow: Flow) -> None:
    trial = _mapped(flow).trial()
    with pytest.raises(DefinitionError, match="'double'"):
        trial.cancel("doubel[1]")
    with pytest.raises(CommandRefused, match=r"'queud'.*'queued'"):
        trial.cancel("double[1]", when="queud")  # pyright: ignore[reportArgumentType]
    with pytest.raises(CommandRefused, match="queued task"):
        trial.retry("double[1]", when="queued")
    with pytest.raises(CommandRefused, match="no result of the step 'double'"):
        trial.complete("double[1]", "four").run()


@pytest.mark.parametrize(
    ("what", "more", "result", "children"),
    [
        ("cancel", (), None, 1),
        ("complete", (100,), {"end": 101, "told": 100}, 1),
        ("retry", (), {"end": 7, "told": 2}, 2),
    ],
)
def test_a_task_that_awaits_a_run_is_acted_on(flow: Flow, what: str, more: Any, result: Any, children: int) -> None:
    """The run that it awaits goes on; what it emitted beside goes with its result."""
    child = Flow(f"{flow.name}-child")

    @child.entry
    def double(n: int) -> int:
        return 2 * n

    @flow.entry(emits=["beside"])
    def begin(ctx: Context) -> Any:
        ctx.emit("beside", ctx.attempt)
        return ctx.start_flow(child, 3, await_result=True)

    @flow.step(begin)
    def end(n: int) -> int:
        return n + 1

    @flow.step("beside")
    def told(attempt: int) -> int:
        return attempt

    run = getattr(flow.trial(), what)("begin", *more, when="awaiting").run()
    assert (run.status, [one.status for one in run.children]) == ("completed", ["completed"] * children)
    assert run.view.tasks["begin"].status == ("canceled" if what == "cancel" else "completed")
    assert run.result == result
