"""What a crash may not do: lose a task, complete it twice, leave a run without an end or a key without an owner."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nbflow import Flow, each
from nbflow.errors import ServerUnreachable
from nbflow.watch.run import Run
from tests.servers import start_server
from tests.site import Site, open_site, wait_until

pytestmark = pytest.mark.fault


def _hanging(flow: Flow, **options: Any) -> None:
    """A step that hangs at its first execution, after it wrote its pid; a later execution returns at once."""

    @flow.entry(**options)
    def hang(flag: Path) -> int:
        import time

        if flag.exists():
            return os.getpid()
        print("about to hang", flush=True)
        flag.with_suffix(".part").write_text(str(os.getpid()))
        flag.with_suffix(".part").rename(flag)
        time.sleep(60)
        return 0

    @flow.step(hang, **options)
    def after(pid: int) -> int:
        return pid


def _is_exactly_once(run: Run) -> None:
    counts = Counter(event.type + event.task for event in run.follow(timeout=30))
    twice = {what: n for what, n in counts.items() if n > 1 and what.startswith(("step.completed", "flow.", "emit"))}
    assert not twice, twice


def test_a_task_whose_worker_was_killed_runs_again_and_completes_once(site: Site, tmp_path: Path) -> None:
    flow, flag = site.flow(), tmp_path / "flag"
    _hanging(flow)
    run = flow.start(flag=flag)
    wait_until(flag.exists)
    victim = int(flag.read_text())
    os.kill(victim, signal.SIGKILL)
    assert run.wait(20, progress=False).result != victim
    _is_exactly_once(run)
    queued = [event.data for event in run.follow() if event.type == "step.queued" and event.task == "hang"]
    assert queued[1]["recovered"] == 1
    assert "SIGKILL" in queued[1]["cause"]
    assert list(run.logs["message"]) == ["about to hang"]  # what it wrote last is not lost
    assert run.view.tasks["hang"].attempts[-1].attempt == 1
    wait_until(lambda: site.living() == 2, what=site.living)


def test_a_task_that_kills_every_worker_fails_with_the_cause(site: Site) -> None:
    flow = site.flow()

    @flow.entry(queue="deadly")
    def deadly() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    workers = site.start_workers(1, queues="deadly")
    try:
        run = flow.start().wait(50, progress=False)
        failure = run.view.tasks["deadly"].attempts[-1]
        assert run.status == "failed"
        assert failure.reason == "lost"
        assert "SIGKILL" in failure.error
    finally:
        workers.stop()


def test_when_a_machine_dies_another_one_takes_its_tasks(site: Site, tmp_path: Path) -> None:
    flow, flag = site.flow(), tmp_path / "flag"
    _hanging(flow, queue="machine")
    dying = site.start_workers(1, queues="machine", NBFLOW_LEASE_S="3")
    run = flow.start(flag=flag)
    wait_until(flag.exists, what=dying.log.read_text)
    other = site.start_workers(1, queues="machine", NBFLOW_LEASE_S="3")
    try:
        dying.kill()  # the supervisor: its workers die with it, and nobody gives back
        wait_until(lambda: not Path(f"/proc/{flag.read_text()}").exists())
        run.wait(30, progress=False)
        assert run.status == "completed"
        _is_exactly_once(run)
    finally:
        other.stop()


def test_the_result_of_an_execution_that_was_given_up_is_refused(site: Site, tmp_path: Path) -> None:
    """A worker that only seemed dead: it wakes up, and what it brings is late."""
    flow, flag = site.flow(), tmp_path / "flag"
    _hanging(flow, queue="stopped")
    frozen = site.start_workers(1, queues="stopped", NBFLOW_LEASE_S="3")
    run = flow.start(flag=flag)
    wait_until(flag.exists, what=frozen.log.read_text)
    worker = int(flag.read_text())
    frozen.process.send_signal(signal.SIGSTOP)
    os.kill(worker, signal.SIGSTOP)
    other = site.start_workers(1, queues="stopped", NBFLOW_LEASE_S="3")
    try:
        run.wait(30, progress=False)
        assert run.result != worker
        os.kill(worker, signal.SIGCONT)
        frozen.process.send_signal(signal.SIGCONT)
        frozen.stop()
        _is_exactly_once(run)
    finally:
        other.stop()


def test_a_worker_that_begins_slowly_is_not_taken_for_one_that_was_given_up(site: Site, tmp_path: Path) -> None:
    """On a busy machine it may take longer than a lease until a worker has registered."""
    slow = "import os, socket, sys, time\nif 'nbflow.worker.process' in sys.orig_argv:\n"
    slow += "    connect = socket.socket.connect\n"
    slow += "    socket.socket.connect = lambda self, to: (time.sleep(0.9), connect(self, to))[1]\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    flow = site.flow()

    @flow.entry(queue="slowly")
    def nothing() -> str:
        return "done"

    settings = {"NBFLOW_LEASE_S": "1", "NBFLOW_HEARTBEAT_S": "0.1", "PYTHONPATH": str(tmp_path)}
    workers = site.start_workers(1, queues="slowly", **settings)
    try:
        assert flow.start().wait(40, progress=False).result == "done"
        assert "ended" not in workers.log.read_text()
    finally:
        workers.stop()


def _has_ended(run: Run) -> bool:
    """Our own connections are cut as well, and as often as it takes for a read to give up."""
    try:
        return run.view.ended
    except ServerUnreachable:
        return False


def test_cut_connections_are_only_a_delay(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def numbers() -> range:
        return range(200)

    @flow.step(each(numbers))
    def same(n: int) -> int:
        return n

    stop = threading.Event()
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        draw = random.Random(7)
        client = site.nbflow.store.blocking()
        mine = client.client_id()
        while not stop.wait(0.05):
            others = [c["id"] for c in client.client_list() if int(c["id"]) != mine]
            for victim in draw.sample(others, min(2, len(others))):
                cuts += client.client_kill_filter(_id=victim)
        client.close()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        runs = [flow.start() for _ in range(3)]
        for run in runs:
            wait_until(lambda run=run: _has_ended(run), limit_s=40)
    finally:
        stop.set()
        thread.join()
    assert cuts > 5
    for run in runs:
        assert run.result == list(range(200))
        _is_exactly_once(run)


def test_a_server_that_restarts_goes_on_where_it_was(tmp_path: Path) -> None:
    always = ("--appendfsync", "always")
    server = start_server("valkey", tmp_path, *always, aof=True)
    port, server.url = server.port, server.tcp_url  # the socket's folder does not outlive the server
    with open_site(server, tmp_path) as site:
        workers = site.start_workers(1)
        flow = site.flow()

        @flow.entry
        def numbers() -> range:
            return range(400)

        @flow.step(each(numbers))
        def slow(n: int) -> int:
            import time

            time.sleep(0.002)
            return n

        run = flow.start()
        wait_until(lambda: sum(task.status == "completed" for task in run.view.tasks.values()) > 20)
        server.kill()
        time.sleep(0.3)  # nothing answers for a while
        server = start_server("valkey", tmp_path, *always, "--port", str(port), aof=True)
        try:
            wait_until(lambda: run.view.ended, limit_s=40, what=lambda: run.view.steps)
            assert run.result == list(range(400))
            _is_exactly_once(run)
        finally:
            workers.stop()
            server.stop()
