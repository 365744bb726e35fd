"""Trying again: policies, back-off, exceptions that count and that do not, timeouts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from nbflow import Context, GiveUp, Retry
from nbflow.errors import StepFailure
from nbflow.watch.run import Run
from tests.site import Site


def _types(run: Run, task: str) -> list[str]:
    return [event.type for event in run.follow() if event.task == task and event.type != "log"]


def test_a_step_is_tried_again_until_it_succeeds(site: Site) -> None:
    flow = site.flow()

    @flow.entry(retry=Retry(3, backoff=0.01))
    def flaky(ctx: Context) -> Any:
        if ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")
        return ctx.attempt, ctx.idempotency_key

    run = flow.start().wait(20, progress=False)
    assert run.result == (3, f"{run.id}:flaky:")
    assert _types(run, "flaky") == ["step.queued", "step.started", "step.retry"] * 2 + [
        "step.queued", "step.started", "step.completed",
    ]  # fmt: skip
    attempts = run.attempts
    assert list(attempts["status"]) == ["failed", "failed", "completed"]
    assert list(attempts["attempt"]) == [1, 2, 3]


def test_only_the_last_failure_is_a_failure_of_the_run(site: Site) -> None:
    flow = site.flow()

    @flow.entry(retry=Retry(2, backoff=0))
    def broken() -> None:
        raise ValueError("always")

    run = flow.start().wait(20, progress=False)
    with pytest.raises(StepFailure, match="always"):
        _ = run.result
    assert _types(run, "broken").count("step.failed") == 1
    retry = next(event for event in run.follow() if event.type == "step.retry")
    assert (retry.data["nextAttempt"], retry.data["maxAttempts"], retry.data["reason"]) == (2, 2, "error")


@pytest.mark.parametrize(
    ("policy", "tries"),
    [
        (Retry(3, backoff=0, on=(KeyError,)), 1),
        (Retry(3, backoff=0, on=(ValueError,)), 3),
        (Retry(3, backoff=0, unless=(ValueError,)), 1),
        (Retry(3, backoff=0, on=lambda error: "boom" in str(error)), 3),
    ],
    ids=["other type", "this type", "unless", "a function"],
)
def test_a_policy_says_which_exceptions_count(site: Site, policy: Retry, tries: int) -> None:
    flow = site.flow()

    @flow.entry(retry=policy)
    def broken() -> None:
        raise ValueError("boom")

    run = flow.start().wait(20, progress=False)
    assert len(run.attempts) == tries


def test_give_up_is_final_and_says_why(site: Site) -> None:
    flow = site.flow()

    @flow.entry(retry=Retry(5, backoff=0))
    def hopeless() -> None:
        raise GiveUp("the account is closed")

    run = flow.start().wait(20, progress=False)
    assert run.view.tasks["hopeless"].attempts[0].reason == "gave_up"
    assert len(run.attempts) == 1


def test_retry_later_needs_no_policy_and_is_not_counted(site: Site, tmp_path: Path) -> None:
    flow, flag = site.flow(), tmp_path / "flag"

    @flow.entry
    def polls(flag: Path, ctx: Context) -> int:
        if not flag.exists():
            flag.touch()
            raise Retry.later("20ms")
        return ctx.attempt

    run = flow.start(flag=flag).wait(20, progress=False)
    assert run.result == 1
    assert _types(run, "polls").count("step.started") == 2


def test_one_element_of_a_map_is_tried_again_alone(site: Site) -> None:
    from nbflow import collect, each

    flow = site.flow()

    @flow.entry
    def numbers() -> list[int]:
        return [0, 1, 2]

    @flow.step(each(numbers), key=lambda n: f"n{n}", retry=Retry(2, backoff=0.01))
    def once(n: int, ctx: Context) -> Any:
        if n == 1 and ctx.attempt == 1:
            raise ValueError("not yet")
        return n, ctx.key, ctx.attempt

    @flow.step(collect(once))
    def together(values: list[Any]) -> list[Any]:
        return values

    run = flow.start().wait(20, progress=False)
    assert run.result == [(0, "n0", 1), (1, "n1", 2), (2, "n2", 1)]


def test_a_timeout_interrupts_and_runs_what_is_final(site: Site, tmp_path: Path) -> None:
    flow, cleaned = site.flow(), tmp_path / "cleaned"

    @flow.entry(timeout="100ms")
    def slow(cleaned: Path) -> None:
        try:
            time.sleep(60)
        finally:
            cleaned.touch()

    run = flow.start(cleaned=cleaned).wait(20, progress=False)
    assert run.view.tasks["slow"].attempts[0].reason == "timeout"
    assert cleaned.exists()


def test_a_timeout_counts_for_the_policy(site: Site) -> None:
    flow = site.flow()

    @flow.entry(timeout=0.1, retry=Retry(2, backoff=0, on=(TimeoutError,)))
    def slow_once(ctx: Context) -> int:
        if ctx.attempt == 1:
            time.sleep(60)
        return ctx.attempt

    assert flow.start().wait(20, progress=False).result == 2


def test_what_python_cannot_interrupt_is_killed_and_counts_as_a_timeout(site: Site) -> None:
    flow = site.flow()

    @flow.entry(timeout=0.2, queue="in-c")
    def in_c() -> int:
        return sum(range(10**12))

    workers = site.start_workers(1, queues="in-c")
    try:
        run = flow.start().wait(40, progress=False)
        assert run.view.tasks["in_c"].attempts[0].reason == "timeout"
    finally:
        workers.stop()


def test_a_step_that_takes_its_time_within_the_timeout_is_left_alone(site: Site) -> None:
    flow = site.flow()

    @flow.entry(timeout="5s")
    def fine() -> str:
        time.sleep(0.05)
        return "fine"

    @flow.step(fine)
    def later(word: str) -> str:
        time.sleep(0.1)
        return word

    assert flow.start().wait(20, progress=False).result == "fine"
