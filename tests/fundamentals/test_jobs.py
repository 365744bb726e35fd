"""Jobs: functions that run on workers one by one, without a flow around them. And how a start is put off or put first.

Read after `test_forms.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from nbflow import Retry, job
from nbflow.define import registry
from nbflow.errors import KeyTaken, StepFailure
from tests.site import Site, wait_until


@pytest.fixture(autouse=True)
def fresh_names() -> Iterator[None]:
    """Jobs are named after their functions, which are defined here again and again."""
    yield
    registry.reset()


def test_a_job_is_enqueued_with_its_arguments(site: Site):
    @job
    def area(width: int, height: int = 10) -> int:
        return width * height

    assert area(2, 3) == 6, "it is the function that it was"
    assert area.enqueue(2, 3).wait(20, progress=False).result == 6
    assert area.enqueue(4).wait(20, progress=False).result == 40
    assert area.enqueue(height=5, width=1).wait(20, progress=False).result == 5


def test_its_run_is_a_run_like_any_other(site: Site):
    @job
    def hello(name: str) -> str:
        print(f"greeting {name}")
        return f"hello {name}"

    run = hello.enqueue("you").wait(20, progress=False)
    assert run.flow == "hello"
    assert run.input == {"name": "you"}
    assert run["hello"] == "hello you"
    assert list(run.logs["message"]) == ["greeting you"]
    assert [event for event in run.events["type"] if event != "log"] == [
        "flow.start", "step.queued", "step.started", "step.completed", "flow.completed",
    ]  # fmt: skip


def test_a_job_is_tried_again_by_its_policy(site: Site):
    @job(retry=Retry(3, backoff=0.01))
    def flaky() -> int:
        from nbflow import current

        if current().attempt < 3:
            raise ConnectionError("not yet")
        return current().attempt

    assert flaky.enqueue().wait(20, progress=False).result == 3


def test_a_failure_is_told_by_the_result(site: Site):
    @job
    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(StepFailure, match="ValueError: no"):
        _ = broken.enqueue().wait(20, progress=False).result


def test_a_start_may_be_delayed(site: Site):
    """The run exists at once and says when it is due. `15m`, seconds, a timedelta, or a moment."""

    @job
    def later() -> float:
        return time.time()

    begin = time.time()
    run = later.enqueue(delay=timedelta(milliseconds=300))
    assert run.status == "awaiting"
    due = datetime.fromisoformat(run.events["data"].iloc[0]["dueAt"])
    assert due.timestamp() == pytest.approx(begin + 0.3, abs=0.2)
    assert run.wait(20, progress=False).result >= begin + 0.3
    at = later.enqueue(delay=datetime.now(UTC) + timedelta(hours=1))
    assert at.status == "awaiting"
    at.cancel("no need")
    assert at.status == "canceled"


def test_a_key_makes_two_starts_one_run(site: Site):
    @job
    def report(day: str) -> str:
        return day

    first = report.enqueue("monday", key="2026-W48")
    assert report.enqueue("monday", key="2026-W48").id == first.id
    with pytest.raises(KeyTaken, match="has another input"):
        report.enqueue("tuesday", key="2026-W48")


def test_parameters_win_over_options_of_the_same_name(site: Site):
    """`enqueue(key=…)` is the function's where it has such a parameter; `options(...)` is always the option."""

    @job
    def lookup(key: str, delay: float = 0.0) -> tuple[str, float]:
        return key, delay

    run = lookup.options(key="once").enqueue(key="a", delay=2.5)
    assert run.wait(20, progress=False).result == ("a", 2.5)
    assert lookup.options(key="once").enqueue("a", 2.5).id == run.id


def test_higher_priorities_come_first(site: Site):
    """While the queue is paused, everything waits: what is urgent is done first, what can wait last."""

    @job(queue="ranked")
    def note(name: str) -> int:
        return time.monotonic_ns()

    worker = site.start_workers(1, queues="ranked")
    site.nbflow.pause("ranked")
    try:
        runs = [note.enqueue("usual"), note.enqueue("idle", priority=-10), note.enqueue("urgent", priority=10)]
        rows = site.nbflow.index.queues
        wait_until(lambda: [row.workers for row in rows() if row.name == "ranked"] == [1], what=worker.log.read_text)
        assert [list(run.tasks["status"]) for run in runs] == [["queued"]] * 3
        site.nbflow.resume("ranked")
        began = {run.input["name"]: run.wait(20, progress=False).result for run in runs}
    finally:
        worker.stop()
    assert sorted(began, key=began.__getitem__) == ["urgent", "usual", "idle"]


def test_a_flow_can_be_started_many_times_at_once(site: Site):
    @job
    def square(n: int) -> int:
        return n * n

    runs = square.flow.start_many([{"n": n} for n in range(20)])
    assert [run.wait(20, progress=False).result for run in runs] == [n * n for n in range(20)]
