"""Who dies while a step runs in a process of its own: nothing is lost, nothing completes twice, no process is left."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nbflow import Flow, Retry, each
from nbflow.watch.run import Run
from tests.laws import broken_laws
from tests.site import Site, Workers, wait_until

pytestmark = pytest.mark.fault


def hanging(flow: Flow) -> None:
    """A step that hangs at its first execution, after it wrote the pids of itself, of its stem and of its worker."""

    @flow.entry(isolation="process")
    def hang(flag: Path) -> int:
        if flag.exists():
            return os.getpid()
        print("about to hang", flush=True)
        stem = os.getppid()
        worker = int(Path(f"/proc/{stem}/stat").read_text().rpartition(")")[2].split()[1])
        flag.with_suffix(".part").write_text(f"{os.getpid()} {stem} {worker}")
        flag.with_suffix(".part").rename(flag)
        time.sleep(600)
        return 0

    @flow.step(hang)
    def after(pid: int) -> int:
        return pid


def begun(run: Run, flag: Path) -> list[int]:
    wait_until(flag.exists, limit_s=60, what=lambda: run.events)
    return [int(pid) for pid in flag.read_text().split()]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def workers_of(site: Site) -> set[int | None]:
    """Their pids."""
    wait_until(lambda: site.living() == 2)
    return {worker.pid for worker in site.nbflow.index.workers()}


def completed_once(site: Site, run: Run) -> None:
    assert run.wait(90, progress=False).status == "completed"
    assert broken_laws(site.nbflow.store.text, run.id) == []
    counts = Counter(event.type + event.task for event in run.follow())
    assert counts["step.completedhang"] == counts["step.completedafter"] == 1


def requeued(run: Run) -> list[dict[str, Any]]:
    return [e.data for e in run.follow() if e.type == "step.queued" and e.task == "hang" and "recovered" in e.data]


@pytest.mark.parametrize("victim", ["process", "stem", "worker"])
def test_whoever_is_killed_the_task_runs_again_and_completes_once(site: Site, tmp_path: Path, victim: str) -> None:
    flow, flag = site.flow(), tmp_path / "flag"
    hanging(flow)
    run = flow.start(flag=flag)
    pids: dict[str, int] = dict(zip(("process", "stem", "worker"), begun(run, flag), strict=True))
    os.kill(pids[victim], signal.SIGKILL)
    completed_once(site, run)
    assert run["hang"] != pids["process"]
    (queued,) = requeued(run)
    assert queued["recovered"] == 1
    assert "SIGKILL" in queued["cause"]
    assert "peak memory" in queued["cause"]
    assert list(run.logs["message"]) == ["about to hang"]  # what it wrote last is not lost
    wait_until(lambda: is_gone(pids["process"]))
    assert is_gone(pids["worker"]) == (victim == "worker")


def test_with_the_supervisor_all_of_them_die_and_another_takes_over_and_drains(site: Site, tmp_path: Path) -> None:
    queue = "isolated-machine"
    flow, flag = site.flow(queue=queue), tmp_path / "flag"
    hanging(flow)
    dying = site.start_workers(1, queues=queue, NBFLOW_LEASE_S="3")
    run = flow.start(flag=flag)
    pids = begun(run, flag)
    other = site.start_workers(1, queues=queue, NBFLOW_LEASE_S="3")
    try:
        dying.kill()
        wait_until(lambda: all(map(is_gone, pids)))
        completed_once(site, run)
        assert len(requeued(run)) == 1
        drain(site, other, queue, tmp_path / "gate")
    finally:
        other.stop()


def drain(site: Site, workers: Workers, queue: str, gate: Path) -> None:
    """Told to end, they let the attempt end, and leave no process."""
    flow = site.flow(queue=queue)

    @flow.entry(isolation="process")
    def waits(gate: Path) -> int:
        gate.with_suffix(".begun").touch()
        while not gate.exists():
            time.sleep(0.01)
        return os.getppid()

    run = flow.start(gate=gate)
    wait_until(gate.with_suffix(".begun").exists, what=workers.log.read_text)
    workers.process.send_signal(signal.SIGTERM)
    gate.touch()
    stem = run.wait(90, progress=False).result
    assert workers.process.wait(30) == 0
    wait_until(lambda: is_gone(stem))


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("import os; os._exit(0)", "it ended without a word"),
        ("import os; os._exit(7)", "exit code 7"),
    ],
    ids=["a segfault", "a silent end", "an end"],
)
def test_a_step_that_ends_its_process_ends_nothing_else(site: Site, code: str, cause: str) -> None:
    flow = site.flow()

    @flow.entry
    def one(code: str) -> list[str]:
        return [code]

    @flow.step(each(one), isolation="process")
    def deadly(code: str) -> None:
        exec(code, {})

    run = flow.start(code=code).wait(40, progress=False)
    failure = run.view.tasks["deadly[0]"].attempts[-1]
    assert failure.reason == "lost"
    assert failure.error.startswith("its process died 4 times while it ran (last: ")
    assert cause in failure.error
    if "ctypes" in code:
        said = " ".join(run.logs["message"])
        assert "Segmentation fault" in said
        assert " in deadly" in said


def test_what_cannot_be_interrupted_is_killed_and_its_worker_is_not(site: Site, tmp_path: Path) -> None:
    """A long call into C, past its timeout in one run, canceled in another."""
    flow = site.flow()

    @flow.entry(isolation="process", timeout=0.2, retry=Retry(2, backoff=0))
    def stubborn(begun: Path) -> int:
        if begun.exists():
            return os.getppid()
        begun.write_text(str(os.getppid()))
        return sum(range(10**13))

    other = site.flow()

    @other.entry(isolation="process")
    def deaf(begun: Path) -> int:
        begun.with_suffix(".part").write_text(f"{os.getpid()} {os.getppid()}")
        begun.with_suffix(".part").rename(begun)
        return sum(range(10**13))

    before = workers_of(site)
    one, two = flow.start(begun=tmp_path / "one"), other.start(begun=tmp_path / "two")
    wait_until((tmp_path / "two").exists, limit_s=60)
    process, stem = map(int, (tmp_path / "two").read_text().split())
    two.cancel()
    one.wait(90, progress=False)
    assert one.view.tasks["stubborn"].attempts[0].reason == "timeout"
    assert one.status == "completed"
    wait_until(lambda: is_gone(process), limit_s=30)
    assert not is_gone(stem)
    assert [event.type for event in two.follow()].count("step.canceled") == 1
    assert workers_of(site) == before
