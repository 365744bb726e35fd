"""Runs that end before their time: at the first failure, at a deadline, at too many tasks; and canceled ones."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from nbflow import Context, each, failed
from nbflow.errors import RunEnded, StepFailure
from nbflow.watch.run import Run
from tests.site import Site, wait_until


def _two_branches(site: Site, **options: object) -> tuple[object, object]:
    flow = site.flow(**options)

    @flow.entry(emits=["left", "right"])
    def split(folder: Path, ctx: Context) -> None:
        ctx.emit("left", folder)
        ctx.emit("right", folder)

    @flow.step("left")
    def slow(folder: Path) -> None:
        (folder / "begun").touch()
        try:
            time.sleep(60)
        finally:
            (folder / "cleaned").touch()

    @flow.step("right")
    def breaks(folder: Path) -> None:
        while not (folder / "begun").exists():
            time.sleep(0.01)
        raise ValueError("enough")

    return flow, breaks


def _statuses(run: Run) -> dict[str, str]:
    return {task.task: task.status for task in run.view.tasks.values()}


def test_on_failure_cancel_ends_the_run_at_the_first_failure(site: Site, tmp_path: Path) -> None:
    flow, _ = _two_branches(site, on_failure="cancel")
    run = flow.start(folder=tmp_path).wait(20, progress=False)  # type: ignore[attr-defined]
    assert run.status == "failed"
    with pytest.raises(StepFailure, match="enough"):
        _ = run.result
    wait_until((tmp_path / "cleaned").exists)
    assert _statuses(run) == {"split": "completed", "slow": "canceled", "breaks": "failed"}


def test_a_failure_that_somebody_answers_for_does_not_end_the_run(site: Site) -> None:
    flow = site.flow(on_failure="cancel")

    @flow.entry
    def breaks() -> None:
        raise ValueError("handled")

    @flow.step(failed(breaks))
    def excuse(failure: dict[str, object]) -> object:
        return failure["error"]

    run = flow.start().wait(20, progress=False)
    assert run.status == "completed"
    assert run.result == "ValueError: handled"


def test_a_run_that_passes_its_deadline_fails_with_that_reason(site: Site) -> None:
    flow = site.flow(deadline="1s")

    @flow.entry
    def slow() -> None:
        time.sleep(60)

    run = flow.start().wait(20, progress=False)
    assert run.status == "failed"
    assert run.view.end["reason"] == "deadline"
    wait_until(lambda: _statuses(run) == {"slow": "canceled"}, what=lambda: _statuses(run))


def test_a_run_that_ends_in_time_leaves_no_deadline_behind(site: Site) -> None:
    flow = site.flow(deadline="1h")

    @flow.entry
    def quick() -> int:
        return 1

    run = flow.start().wait(20, progress=False)
    assert run.status == "completed"
    timers = site.nbflow.store.text.zrange(site.nbflow.store.keys.timers(), 0, -1)
    assert f"deadline {run.id}" not in timers  # type: ignore[operator]


def test_a_map_that_grows_without_end_is_stopped(site: Site) -> None:
    flow = site.flow(max_tasks=20)

    @flow.entry(emits=["more"])
    def begin(ctx: Context) -> None:
        ctx.emit("more", 0)

    @flow.step(each("more"), emits=["more"])
    def breed(n: int, ctx: Context) -> None:
        ctx.emit("more", n + 1)
        ctx.emit("more", n + 1)

    run = flow.start().wait(20, progress=False)
    assert run.status == "failed"
    assert run.view.end["reason"] == "max_tasks"
    with pytest.raises(StepFailure, match="number of tasks"):
        _ = run.result


def test_a_canceled_step_is_interrupted_and_cleans_up(site: Site, tmp_path: Path) -> None:
    flow, cleaned, begun = site.flow(), tmp_path / "cleaned", tmp_path / "begun"

    @flow.entry
    def slow(begun: Path, cleaned: Path, ctx: Context) -> None:
        begun.touch()
        try:
            time.sleep(60)
        finally:
            ctx.log.info("cleaning up")
            cleaned.touch()

    @flow.step(slow)
    def never(n: None) -> None: ...

    run = flow.start(begun=begun, cleaned=cleaned)
    wait_until(begun.exists)
    run.cancel("no longer needed")
    assert run.status == "canceled"
    wait_until(cleaned.exists)
    counts = Counter(event.type for event in run.follow(timeout=20))
    assert counts["step.canceled"] == 1
    assert counts["step.completed"] == 0
    assert run.view.end["reason"] == "no longer needed"
    with pytest.raises(RunEnded):
        run.cancel()
    with pytest.raises(RunEnded):
        _ = run.result
