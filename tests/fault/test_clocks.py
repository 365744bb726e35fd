"""Clocks of machines that are wrong. The server's alone counts: leases, retries, delays, holds, deadlines, retention."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nbflow import Concurrency, Context, Flow, Rate, Retry, Time
from tests.site import Site

pytestmark = pytest.mark.fault

HOUR_S = 3600
WRONG = """
import time
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + {s}
time.time_ns = lambda: right_ns() + {s} * 10**9
"""


def _timed(flow: Flow) -> None:
    """A delay of the start, a retry, a hold, a limit and a rate: whatever knows of time."""

    @flow.entry(retry=Retry(2, backoff=0.05))
    def again(ctx: Context) -> float:
        import time

        if ctx.attempt == 1:
            raise ValueError("once")
        ctx.log.info("again")
        ctx.state.set("n", 1)
        return time.time()

    @flow.step(again, hold=Time(0.05), concurrency=Concurrency(1), rate=Rate(5, "1s"))
    def held(at: float) -> float:
        return at


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_a_clock_that_is_wrong_by_an_hour_changes_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """The workers and their supervisor are wrong one way, the launcher the other way."""
    (tmp_path / "sitecustomize.py").write_text(WRONG.format(s=ahead_s))
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() - ahead_s)
    flow = site.flow(deadline="10m", queue="clocks")
    _timed(flow)
    workers = site.start_workers(1, queues="clocks", PYTHONPATH=str(tmp_path))
    try:
        run = flow.options(delay="50ms").start().wait(30, progress=False)
    finally:
        workers.stop()
    assert abs(run.result - right() - ahead_s) < 60, "the worker's clock was not wrong"
    assert len(run.attempts) == 3
    began, ended = right() - 60, right() + 60
    assert [event for event in run.follow() if not began < event.ts.timestamp() < ended] == []
    assert [row.id for row in site.nbflow.prune("30m", dry_run=True)] == []
    assert run.id in [row.id for row in site.nbflow.prune(0, flow=flow.name, dry_run=True)]
