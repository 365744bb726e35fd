"""What user code may do to its worker, and must not do to others: odd exceptions, threads, forks, signals, folders."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nbflow import Context, each
from nbflow.watch.run import Run
from tests.site import Site, wait_until

pytestmark = pytest.mark.fault


def _error(run: Run, task: str) -> str:
    return run.view.tasks[task].attempts[-1].error


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (r"raise ValueError('caf\udce9.txt')", "ValueError: caf?.txt"),
        ("raise type('Own', (BaseException,), {})('mine')", "Own"),
        ("import asyncio; raise asyncio.CancelledError('gone')", "CancelledError: gone"),
        ("raise GeneratorExit", "GeneratorExit"),
        (
            "e = SyntaxError('odd'); e.filename, e.lineno, e.text, e.offset = 'f', object(), 5, []; raise e",
            "SyntaxError",
        ),
        ("raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()", "Mute"),
        ("raise type('Liar', (Exception,), {'__str__': lambda self: None})()", "Liar"),
        ("def deep(): deep()\ndeep()", "RecursionError"),
    ],
    ids=["surrogate", "own", "cancelled", "generator exit", "syntax", "mute", "liar", "deep"],
)
def test_whatever_a_step_raises_is_how_it_failed(site: Site, code: str, said: str) -> None:
    flow = site.flow()

    @flow.entry
    def odd(code: str) -> None:
        exec(code, {})

    run = flow.start(code=code).wait(20, progress=False)
    assert run.status == "failed"
    assert len(run.attempts) == 1
    assert said in _error(run, "odd")


def test_a_map_of_crashes_ends_neither_the_supervisor_nor_the_run(site: Site) -> None:
    flow = site.flow(queue="crash")

    @flow.entry
    def three() -> list[int]:
        return [0, 1, 2]

    @flow.step(each(three))
    def crash(n: int) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    workers = site.start_workers(2, queues="crash")
    try:
        run = flow.start().wait(50, progress=False)
        assert run.status == "failed"
        assert {task.attempts[-1].reason for task in run.view.tasks.values() if task.step == "crash"} == {"lost"}
        assert workers.process.poll() is None
    finally:
        workers.stop()


def test_a_canceled_async_step_cleans_up_and_is_gone(site: Site, tmp_path: Path) -> None:
    flow, begun, traces = site.flow(), tmp_path / "begun", tmp_path / "traces"
    traces.touch()

    @flow.entry
    async def slow(begun: Path, traces: Path) -> None:
        import asyncio

        try:
            while True:
                with traces.open("a") as file:
                    file.write("x")
                begun.touch()  # noqa: ASYNC240
                await asyncio.sleep(0.01)
        finally:
            (traces.parent / "cleaned").touch()

    other = site.flow()

    @other.entry
    async def later() -> int:
        import asyncio

        await asyncio.sleep(0.2)
        return 1

    run = flow.start(begun=begun, traces=traces)
    wait_until(begun.exists)
    run.cancel()
    wait_until((tmp_path / "cleaned").exists)
    written = traces.stat().st_size
    for again in [other.start() for _ in range(4)]:
        assert again.wait(20, progress=False).result == 1
    assert traces.stat().st_size == written


def test_threads_may_ask_while_the_step_runs(site: Site) -> None:
    """Law: every answer reaches who asked."""
    flow = site.flow()

    @flow.entry
    def busy(ctx: Context) -> Any:
        import threading

        wrong: list[Any] = []

        def ask(n: int) -> None:
            for i in range(50):
                ctx.state.set(f"k{n}", i)
                if ctx.state.get(f"k{n}") != i or ctx.canceled:
                    wrong.append((n, i))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for i in range(20):
            ctx.artifact(f"a{i}", b"x" * 3000)
        for thread in threads:
            thread.join()
        return wrong

    run = flow.start().wait(30, progress=False)
    assert run.result == []
    assert run.artifact("a19") == b"x" * 3000


def test_a_thread_that_outlives_its_task_touches_no_other_run(site: Site, tmp_path: Path) -> None:
    flow, go, done = site.flow(queue="late"), tmp_path / "go", tmp_path / "done"

    @flow.entry
    def leaves_a_thread(go: Path, done: Path, ctx: Context) -> None:
        import threading

        def late() -> None:
            while not go.exists():
                time.sleep(0.01)
            ctx.log.info("late")
            try:
                ctx.state.set("leaked", 1)
            except BaseException as error:  # noqa: BLE001 - which one it is is what is asked
                done.write_text(type(error).__name__)

        threading.Thread(target=late, daemon=True).start()

    other = site.flow(queue="late")

    @other.entry
    def waits(go: Path, done: Path) -> str:
        go.touch()
        while not done.exists() or not done.read_text():
            time.sleep(0.01)
        return done.read_text()

    workers = site.start_workers(1, queues="late")
    try:
        flow.start(go=go, done=done).wait(20, progress=False)
        run = other.start(go=go, done=done).wait(20, progress=False)
        assert run.result == "Canceled"
        assert run.state == {}
        assert list(run.logs["message"]) == []
    finally:
        workers.stop()


def test_forked_children_have_their_own_way_to_the_server(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def forks(ctx: Context) -> float:
        import multiprocessing

        def count() -> None:
            for _ in range(20):
                ctx.state.incr("n")

        children = [multiprocessing.get_context("fork").Process(target=count) for _ in range(3)]
        for child in children:
            child.start()
        for _ in range(20):
            ctx.state.incr("n")
        for child in children:
            child.join()
        return ctx.state.get("n")

    assert flow.start().wait(30, progress=False).result == 80


def test_a_forked_child_that_comes_back_from_the_step_is_ended(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def forks() -> Any:
        child = os.fork()
        if child == 0:
            return "child"
        os.waitpid(child, 0)
        return "parent"

    run = flow.start().wait(20, progress=False)
    assert run.result == "parent"
    assert [event.type for event in run.follow()].count("step.completed") == 1


def test_a_folder_that_is_gone_and_a_deaf_ear_trouble_no_later_task(site: Site, tmp_path: Path) -> None:
    flow = site.flow(queue="messy")

    @flow.entry
    def messy(folder: Path) -> None:
        folder.mkdir()
        os.chdir(folder)
        folder.rmdir()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    other = site.flow(queue="messy")

    @other.entry
    def tidy() -> str:
        import this as module  # noqa: F401 - an import looks at the folder

        return os.getcwd()  # noqa: PTH109

    workers = site.start_workers(1, queues="messy")
    try:
        assert flow.start(folder=tmp_path / "gone").wait(20, progress=False).status == "completed"
        assert other.start().wait(20, progress=False).result == str(site.folder)
        assert workers.stop(20) == 0
    finally:
        workers.stop()


def test_a_stop_of_one_job_does_not_stop_another(site: Site, tmp_path: Path) -> None:
    from rq.command import send_command

    flow, gate = site.flow(queue="stop"), tmp_path / "gate"

    @flow.entry
    def waits(gate: Path) -> str:
        (gate.parent / "begun").touch()
        while not gate.exists():
            time.sleep(0.01)
        return "ended by itself"

    workers = site.start_workers(1, queues="stop")
    try:
        run = flow.start(gate=gate)
        wait_until((tmp_path / "begun").exists)
        (worker,) = [w.name for w in site.nbflow.index.workers() if "stop" in w.queues]
        client = site.nbflow.store.client
        send_command(client, worker, "stop-job", job_id="another")
        time.sleep(0.3)  # the order, if it were obeyed, would have been by now
        gate.touch()
        assert run.wait(20, progress=False).result == "ended by itself"
    finally:
        workers.stop()


def test_a_job_stopped_by_the_tools_of_rq_fails_for_good(site: Site, tmp_path: Path) -> None:
    from rq.command import send_command

    flow = site.flow(queue="stopped-job")

    @flow.entry
    def stubborn(begun: Path) -> int:
        begun.touch()
        return sum(range(10**12))  # no signal gets through

    workers = site.start_workers(1, queues="stopped-job")
    try:
        run = flow.start(begun=tmp_path / "begun")
        wait_until((tmp_path / "begun").exists)
        (worker,) = [w.name for w in site.nbflow.index.workers() if "stopped-job" in w.queues]
        send_command(site.nbflow.store.client, worker, "stop-job", job_id=f"{run.id}__stubborn__attempt-1")
        run.wait(30, progress=False)
        assert run.view.tasks["stubborn"].attempts[-1].reason == "stopped"
        assert len(run.attempts) == 1
    finally:
        workers.stop()


def test_two_supervisors_of_one_host_name_and_pid_do_not_share_a_name(site: Site) -> None:
    """Containers do: the names of their workers must differ all the same."""
    code = (
        "import os, socket; socket.gethostname = lambda: 'box'; os.getpid = lambda: 7\n"
        "from nbflow.worker.supervisor import Supervisor\n"
        f"s = [Supervisor({site.server.url!r}, namespace='nbflow', concurrency=1, lease_s=10, beat_s=1) for _ in 'ab']\n"
        "print(len({x.base for x in s}))"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"
