"""`isolation="process"`: what a step sees and says in a process of its own is what it sees and says anywhere, and nothing of
it is left."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import nbflow
from nbflow import Context, Retry, each, job
from nbflow.watch.run import Run
from tests.site import Site, wait_until


def ended(run: Run) -> Run:
    return run.wait(90, progress=False)


def workers_of(site: Site) -> set[int | None]:
    """Their pids."""
    wait_until(lambda: site.living() == 2)
    return {worker.pid for worker in site.nbflow.index.workers()}


def test_nothing_of_an_attempt_is_left_for_the_next(site: Site) -> None:
    """Law: globals, environment, folder, handlers, threads and memory are as the first found them; what is drawn is not."""
    flow = site.flow()

    @flow.entry
    def three() -> list[int]:
        return [0, 1, 2]

    @flow.step(each(three), isolation="process")
    def messy(n: int) -> dict[str, Any]:
        import json

        seen = {
            "module": hasattr(json, "left"),
            "variable": os.environ.get("LEFT"),
            "folder": os.getcwd(),  # noqa: PTH109
            "handler": signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL,
            "threads": threading.active_count(),
            "kept": hasattr(sys, "kept"),
        }
        json.left = sys.kept = bytearray(50 << 20)  # type: ignore[attr-defined]
        os.environ["LEFT"] = "1"
        os.chdir("/")
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        threading.Thread(target=time.sleep, args=(600,)).start()  # nobody waits for it
        return {"pid": os.getpid(), "seen": seen, "drawn": (random.random(), float(np.random.rand()))}  # noqa: NPY002

    run = ended(flow.start())
    assert run.error is None
    results = [run["messy"][n] for n in range(3)]
    assert len({result["pid"] for result in results}) == 3
    assert len({result["drawn"][0] for result in results}) == 3
    assert len({result["drawn"][1] for result in results}) == 3
    fresh = {
        "module": False, "variable": None, "folder": str(site.folder), "handler": True, "threads": 1, "kept": False,
    }  # fmt: skip
    assert [result["seen"] for result in results] == [fresh] * 3


def test_the_worker_lives_on_and_no_process_is_left(site: Site) -> None:
    flow = site.flow()

    @flow.entry(isolation="process")
    def alone() -> tuple[int, int]:
        return os.getpid(), os.getppid()

    before = workers_of(site)
    pids = [ended(flow.start()).result for _ in range(3)]
    assert len({pid for pid, _ in pids}) == 3
    assert not before & {pid for pair in pids for pid in pair}
    assert workers_of(site) == before
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid, _ in pids))


def test_the_threads_of_libraries_that_other_steps_used_are_not_in_it(site: Site) -> None:
    """In a fork of a process that used polars, polars waits for ever."""
    flow = site.flow()

    def seven() -> int:
        import polars as pl

        return pl.DataFrame({"a": [n % 7 for n in range(50_000)]}).group_by("a").len().height

    @flow.entry
    def in_the_worker(n: int) -> int:
        return seven()

    @flow.step(in_the_worker, isolation="process")
    def apart(n: int) -> int:
        return n + seven()

    runs = [flow.start(n=n) for n in range(4)]
    assert [ended(run).result for run in runs] == [14] * 4


def test_a_step_says_and_sees_there_what_it_says_and_sees_anywhere(site: Site) -> None:
    flow = site.flow()

    @flow.entry(isolation="process", emits=["odd", "frame"])
    def speaks(n: int, ctx: Context) -> None:
        import logging
        import warnings

        print("printed")
        os.system("echo from a program")
        logging.getLogger("mine").warning("logged")
        warnings.warn("warned", stacklevel=1)
        ctx.log.info("told", n=n)
        ctx.progress(n, 10)
        ctx.metric("loss", 0.5)
        nbflow.current().state.set("seen", ctx.input["n"])
        ctx.artifact("kept", np.arange(3))
        ctx.emit("odd", {n, 1.5, None})
        ctx.emit("frame", pd.DataFrame({"a": range(200_000)}))
        print("the end without a newline", end="")

    @flow.step("odd", isolation="process")
    async def later(odd: set[Any]) -> str:
        import asyncio

        await asyncio.sleep(0)
        return repr(odd)

    @flow.step("frame", isolation="process")
    def size(frame: pd.DataFrame) -> int:
        return frame["a"].to_numpy().sum().item()

    _spoke(ended(flow.start(n=7)))


def _spoke(run: Run) -> None:
    assert run.error is None
    assert run["later"] == repr({7, 1.5, None})
    assert run["size"] == sum(range(200_000))
    assert run.state == {"seen": 7}
    assert list(run.artifact("kept")) == [0, 1, 2]
    assert list(run.metrics["value"]) == [0.5]
    said = " | ".join(run.logs["message"])
    for word in ("printed", "from a program", "logged", "warned", "told", "the end without a newline"):
        assert word in said


def test_attempts_are_told_apart_and_have_one_idempotency_key(site: Site) -> None:
    flow = site.flow()

    @flow.entry(isolation="process", retry=Retry(3, backoff=0.01))
    def flaky(ctx: Context) -> int:
        ctx.log.info(ctx.idempotency_key)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    run = ended(flow.start())
    assert run.result == 3
    assert len(set(run.logs["message"])) == 1
    assert list(run.attempts["attempt"]) == [1, 2, 3]
    assert "not yet" in run.view.tasks["flaky"].attempts[0].error


def test_a_cancel_interrupts_it_and_its_finally_runs(site: Site, tmp_path: Path) -> None:
    flow = site.flow()

    @flow.entry(isolation="process")
    def endless(folder: Path) -> None:
        try:
            (folder / "begun").write_text(str(os.getpid()))
            while True:
                time.sleep(0.01)
        finally:
            (folder / "cleaned").touch()

    before = workers_of(site)
    run = flow.start(folder=tmp_path)
    wait_until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text())
    run.cancel()
    wait_until((tmp_path / "cleaned").exists)
    assert workers_of(site) == before
    assert ended(run).status == "canceled"


def test_a_timeout_interrupts_it(site: Site) -> None:
    flow = site.flow()

    @flow.entry(isolation="process", timeout=0.05, retry=Retry(2, backoff=0))
    def slow(ctx: Context) -> str:
        while ctx.attempt == 1:
            time.sleep(0.01)
        return "in time"

    run = ended(flow.start())
    assert run.result == "in time"
    assert run.view.tasks["slow"].attempts[0].reason == "timeout"


def test_a_job_may_be_isolated(site: Site) -> None:
    @job(isolation="process", name=site.flow().name)
    def double(n: int) -> tuple[int, int]:
        return 2 * n, os.getpid()

    first, second = (ended(double.enqueue(n)).result for n in (1, 2))
    assert (first[0], second[0]) == (2, 4)
    assert first[1] != second[1]
