"""What steps print, on real workers: it cannot pass for events, it is bounded, it survives odd steps and forks."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbflow import Context
from tests.site import Site, wait_until


def test_what_a_step_prints_cannot_end_its_run(site: Site, tmp_path: Path) -> None:
    flow, gate = site.flow(), tmp_path / "gate"

    @flow.entry
    def prints(gate: Path) -> str:
        import time

        subprocess.run(["printf", '\\036["flow.completed",{}]\\n'], check=True)
        os.write(1, b'\x1e["step.failed",{}]\n')
        print('\x1e["flow.failed",{}]')
        while not gate.exists():
            time.sleep(0.01)
        return "done"

    run = flow.start(gate=gate)
    wait_until(lambda: len(run.logs) == 3, what=lambda: run.logs)
    assert run.status == "running"
    gate.touch()
    assert run.wait(20, progress=False).result == "done"
    assert list(run.logs["message"]) == [
        f'\x1e["{kind}",{{}}]' for kind in ("flow.completed", "step.failed", "flow.failed")
    ]


def test_what_a_step_did_to_its_output_is_undone(site: Site) -> None:
    flow = site.flow()

    @flow.entry(queue="odd")
    def breaks() -> int:
        import logging

        logging.basicConfig(force=True, level=logging.CRITICAL, stream=io.StringIO())
        logging.captureWarnings(capture=False)
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
        os.close(1)
        os.close(2)
        return 1

    @flow.step(breaks, queue="odd")
    def speaks(n: int) -> int:
        import logging

        print("printed")
        logging.getLogger("mine").info("logged")
        os.write(2, b"written\n")
        sys.stdout.buffer.write(b"bytes\n")
        return n + 1

    workers = site.start_workers(1, queues="odd")
    try:
        run = flow.start().wait(20, progress=False)
        assert run.result == 2, run
        assert list(run.logs["message"]) == ["printed", "logged", "written", "bytes"]
    finally:
        workers.stop()


def test_numbers_that_json_cannot_say_and_large_fields_are_told(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def odd(ctx: Context) -> None:
        ctx.metric("loss", float("nan"), 1)
        ctx.log.info("fields", bad=float("inf"), lone="\ud800", large="x" * 1_000_000)
        ctx.log.info("after")

    run = flow.start().wait(20, progress=False)
    assert run.status == "completed"
    (point,) = [event.data for event in run.follow() if event.type == "metric"]
    assert point == {"name": "loss", "value": "NaN", "step": 1}
    first, second = [event.data for event in run.follow() if event.type == "log"]
    assert first["fields"]["bad"] == "Infinity"
    assert first["fields"]["lone"] == "?"
    assert len(first["fields"]["large"]) == 1000
    assert first["cut"] > 1_000_000
    assert second["message"] == "after"


def test_a_process_pool_in_a_step_prints_and_ends(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def pool() -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as workers:
            for i in workers.imap(print, ["one", "two", "three"]):
                assert i is None
            return workers.map(abs, [-1, -2])

    run = flow.start().wait(30, progress=False)
    assert run.result == [1, 2]
    assert sorted(run.logs["message"]) == ["one", "three", "two"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files a process holds")
def test_a_worker_holds_no_tape_of_another(site: Site) -> None:
    """Law: a tape's memory is free when its worker has ended; each worker holds its own alone."""
    workers = site.start_workers(3, queues="held")
    try:
        wait_until(lambda: sum("held" in worker.queues for worker in site.nbflow.index.workers()) == 3)
        supervisor = workers.process.pid
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        assert len(children) >= 3
        assert {len(tapes(int(pid))) for pid in children} == {1}
    finally:
        workers.stop()


def tapes(pid: int) -> set[int]:
    """The tapes that this process holds."""
    fds = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
    return {fd.stat().st_ino for fd in fds if "nbflow-tape" in str(fd.readlink())}
