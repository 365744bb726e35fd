"""`isolation="process"`: what a step sees and says in a process of its own is what it sees and says anywhere, and nothing of
it is left."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbflow
from nbflow import Context, Flow, Retry, Secret, each, job
from nbflow.model import veil
from nbflow.watch.run import Run
from tests.site import Site, wait_until

DOOR = Secret("DOOR_CODE")
VALUE = "open says me, and nobody else"
QUEUE = "apart"


@pytest.fixture(scope="module")
def apart(site: Site) -> Iterator[Site]:
    """One worker more, on a queue of its own, with a secret."""
    workers = site.start_workers(1, queues=QUEUE, **{DOOR.name: VALUE})
    try:
        wait_until(lambda: any(QUEUE in worker.queues for worker in site.nbflow.index.workers()))
        yield site
        assert workers.stop() == 0
        assert "takes its place" not in workers.log.read_text(), "the worker died"
    finally:
        workers.stop()


def flow_of(site: Site) -> Flow:
    return site.flow(queue=QUEUE)


def ended(run: Run) -> Run:
    return run.wait(90, progress=False)


def worker_pid(site: Site) -> int:
    flow = flow_of(site)

    @flow.entry
    def here() -> int:
        return os.getpid()

    return ended(flow.start()).result


def test_nothing_of_an_attempt_is_left_for_the_next(apart: Site) -> None:
    """Law: globals, environment, folder, handlers, threads and memory are as the first found them; what is drawn is not."""
    flow = flow_of(apart)

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
        "module": False, "variable": None, "folder": str(apart.folder), "handler": True, "threads": 1, "kept": False,
    }  # fmt: skip
    assert [result["seen"] for result in results] == [fresh] * 3


def test_the_worker_lives_on_and_no_process_is_left(apart: Site) -> None:
    flow = flow_of(apart)

    @flow.entry(isolation="process")
    def alone() -> tuple[int, int]:
        return os.getpid(), os.getppid()

    before = worker_pid(apart)
    pids = [ended(flow.start()).result for _ in range(3)]
    assert len({pid for pid, _ in pids}) == 3
    assert before not in {pid for pair in pids for pid in pair}
    assert worker_pid(apart) == before
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid, _ in pids))


def test_a_step_says_and_sees_there_what_it_says_and_sees_anywhere(apart: Site) -> None:
    flow = flow_of(apart)

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


def test_attempts_are_told_apart_and_have_one_idempotency_key(apart: Site) -> None:
    flow = flow_of(apart)

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


def test_the_values_of_secrets_are_masked_wherever_they_come_from(apart: Site) -> None:
    flow = flow_of(apart)

    @flow.entry(isolation="process")
    def reveals() -> None:
        code = DOOR.get()
        print("printed", code)
        os.system(f"echo 'a program says {code}'")
        raise RuntimeError(f"raised {code}")

    with veil.only_here():
        run = ended(flow.start())
    assert list(run.logs["message"]) == ["printed ***", "a program says ***"]
    assert "raised ***" in run.view.tasks["reveals"].attempts[-1].error


def test_a_cancel_interrupts_it_and_its_finally_runs(apart: Site, tmp_path: Path) -> None:
    flow = flow_of(apart)

    @flow.entry(isolation="process")
    def endless(folder: Path) -> None:
        try:
            (folder / "begun").write_text(str(os.getpid()))
            while True:
                time.sleep(0.01)
        finally:
            (folder / "cleaned").touch()

    before = worker_pid(apart)
    run = flow.start(folder=tmp_path)
    wait_until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text())
    run.cancel()
    wait_until((tmp_path / "cleaned").exists)
    assert worker_pid(apart) == before
    assert ended(run).status == "canceled"


def test_a_timeout_interrupts_it(apart: Site) -> None:
    flow = flow_of(apart)

    @flow.entry(isolation="process", timeout=0.05, retry=Retry(2, backoff=0))
    def slow(ctx: Context) -> str:
        while ctx.attempt == 1:
            time.sleep(0.01)
        return "in time"

    run = ended(flow.start())
    assert run.result == "in time"
    assert run.view.tasks["slow"].attempts[0].reason == "timeout"


def test_a_job_may_be_isolated(apart: Site) -> None:
    @job(queue=QUEUE, isolation="process", name=apart.flow().name)
    def double(n: int) -> tuple[int, int]:
        return 2 * n, os.getpid()

    first, second = (ended(double.enqueue(n)).result for n in (1, 2))
    assert (first[0], second[0]) == (2, 4)
    assert first[1] != second[1]
