"""Flows under test, without a server: `flow.test(...)` runs one in this process; `flow.trial(...)` also in other orders,
with crashes, and with other bodies for steps."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbflow import Context, Flow, Retry, any_of
from nbflow.errors import InputInvalid, RunEnded, StepFailure
from tests.sums import sums

Make = Callable[..., Flow]


@pytest.fixture
def make_flow() -> Make:
    """Makes flows of a name that no other test has."""
    return lambda **options: Flow(f"t{uuid.uuid4().hex[:10]}", **options)


def test_a_flow_is_run_in_this_process_and_gives_a_run(make_flow: Make) -> None:
    run = sums(make_flow()).test(n=4)
    assert run.status == "completed"
    assert run.result == 12
    assert run["double"]["n3"] == 6
    assert run.input == {"n": 4}


def test_the_handle_has_all_the_looks_of_a_run(make_flow: Make) -> None:
    run = sums(make_flow()).test()
    assert list(run.tasks["status"]) == ["completed"] * 5
    assert list(run.events["type"])[:3] == ["flow.start", "step.queued", "step.started"]
    assert [event.type for event in run.follow()][-1] == "flow.completed"
    assert run.wait() is run
    assert "image/svg+xml" in run._repr_mimebundle_() or "text/html" in run._repr_mimebundle_()
    with pytest.raises(RunEnded):
        run.cancel()


async def _awaited(run: Any) -> Any:
    return [event.type async for event in run.follow()][-1], (await run).result


def test_it_can_be_awaited_like_any_run(make_flow: Make) -> None:
    import asyncio

    assert asyncio.run(_awaited(sums(make_flow()).test())) == ("flow.completed", 6)


def test_what_steps_print_log_and_note_is_the_runs(make_flow: Make, capsys: pytest.CaptureFixture[str]) -> None:
    flow = make_flow()

    @flow.entry
    def tells(ctx: Context) -> None:
        print("printed")
        logging.getLogger("mine").warning("logged")
        ctx.log.info("said", rows=3)
        ctx.metric("loss", 0.5)
        ctx.state.incr("calls")
        ctx.artifact("table", {"a": 1})
        print("no end of line", end="")

    run = flow.test()
    logs = run.logs
    assert list(logs["message"]) == ["printed", "logged", "said", "no end of line"]
    assert list(logs["source"]) == ["stdout", "logging", "step", "stdout"]
    assert list(run.metrics["value"]) == [0.5]
    assert run.state == {"calls": 1}
    assert run.artifact("table") == {"a": 1}
    assert capsys.readouterr().out == ""


def test_an_input_that_does_not_fit_is_said_before_anything_runs(make_flow: Make) -> None:
    with pytest.raises(InputInvalid, match="many"):
        sums(make_flow()).test(n="many")


def test_a_failure_is_told_as_on_workers(make_flow: Make) -> None:
    flow = make_flow()

    @flow.entry
    def breaks(n: int) -> float:
        return 1 / n

    run = flow.test(0)
    assert run.status == "failed"
    with pytest.raises(StepFailure, match="division by zero"):
        _ = run.result
    assert "return 1 / n" in run.attempts["traceback"][0]


def test_steps_share_nothing_but_what_they_hand_on(make_flow: Make) -> None:
    """The code is packed as for a launch: a list of this test is copied into it, and stays empty here."""
    flow, seen = make_flow(), list[int]()

    @flow.entry
    def notes() -> int:
        seen.append(1)
        return len(seen)

    assert flow.test().result == 1
    assert seen == []


def test_delays_are_not_waited_for(make_flow: Make) -> None:
    flow = make_flow()

    @flow.entry(retry=Retry(3, backoff="20m"))
    def flaky(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    run = flow.test()
    assert run.result == 3
    assert run.view.end["duration"] == 3600 * 1000  # 20 minutes, then 40


def test_a_deadline_is_one_of_the_clock_that_jumps(make_flow: Make) -> None:
    flow = make_flow(deadline="1h")

    @flow.entry
    def waits() -> None:
        raise Retry.later("2h")

    run = flow.test()
    assert (run.status, run.view.end["reason"]) == ("failed", "deadline")
    assert run.view.tasks["waits"].status == "canceled"


def test_a_step_gets_another_body(make_flow: Make) -> None:
    flow = sums(make_flow())
    assert flow.trial().replace("double", lambda n: 100 + 0 * n).run(n=2).result == 200
    assert flow.test(n=2).result == 2


def test_a_task_whose_worker_died_is_executed_again(make_flow: Make) -> None:
    flow = make_flow()

    @flow.entry
    def counts(ctx: Context) -> float:
        return ctx.state.incr("executions")

    before = flow.trial().crash("counts", when="before").run()
    after = flow.trial().crash("counts", when="after").run()
    assert (before.result, after.result) == (1, 2)  # what was done before the crash is done
    assert list(after.attempts["recovered"]) == [1]


def test_a_task_that_loses_its_worker_four_times_fails(make_flow: Make) -> None:
    run = sums(make_flow()).trial().crash("double[1]", times=4).run()
    assert run.status == "failed"
    assert run.view.tasks["double[1]"].attempts[0].reason == "lost"
    assert run.view.steps["total"].status == "skipped"


def test_a_seed_decides_the_order_and_the_same_seed_the_same(make_flow: Make) -> None:
    flow = sums(make_flow())

    def order(seed: int) -> list[str]:
        return [event.task for event in flow.trial(seed=seed).run(n=6).follow() if event.type == "step.completed"]

    assert order(5) == order(5)
    assert len({tuple(order(seed)) for seed in range(10)}) > 1


def test_a_flow_that_depends_on_the_order_of_its_tasks_is_found(make_flow: Make) -> None:
    flow = make_flow()

    @flow.entry(emits=["a", "b"])
    def split(ctx: Context) -> None:
        ctx.emit("a", "a")
        ctx.emit("b", "b")

    @flow.step("a")
    def left(a: str) -> str:
        return a

    @flow.step("b")
    def right(b: str) -> str:
        return b

    @flow.step(any_of(left, right))
    def first(what: tuple[str, str]) -> str:
        return what[1]

    with pytest.raises(AssertionError, match=r"seed=\d+"):
        flow.trial().interleavings(50)
    assert sums(make_flow()).trial(crashes=0.2).interleavings(50, n=5).result == 20


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_hypothesis_draws_the_order_and_makes_it_small(draw: random.Random) -> None:
    run = sums(Flow("drawn")).trial(seed=draw, crashes=0.3).run(n=3)
    assert run.result == 6
