"""Workers that are told to end while their server is gone: soon if they hold nothing, at the second word if they do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nbflow import Flow
from tests.bad_input import private_site
from tests.site import Site, Workers, wait_until

LIMIT_S = 5.0
BOUND_S = 60.0
"""Far from what it takes, and from for ever."""


def _ended_within(workers: Workers, limit_s: float) -> bool:
    try:
        workers.process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _tell(workers: Workers) -> None:
    workers.process.send_signal(signal.SIGTERM)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("wait_s", [0.0, 2.5])
def test_idle_workers_end_when_they_are_told_once(tmp_path: Path, wait_s: float) -> None:
    """Law: right after the server went, and long after."""
    with private_site(tmp_path) as site:
        workers = site.start_workers(2)
        try:
            wait_until(lambda: site.living() == 2, what=workers.log.read_text)
            site.server.kill()
            time.sleep(wait_s)
            _tell(workers)
            assert _ended_within(workers, LIMIT_S), workers.log.read_text()
            assert "Traceback" not in workers.log.read_text()
        finally:
            workers.kill()


@pytest.mark.parametrize("words", [1, 2])
def test_a_server_that_is_silent_holds_nobody(tmp_path: Path, words: int) -> None:
    """Law: a server that is there and does not answer ends neither patience at once nor keeps it for ever. (The first
    word waits for one answer, 10 s, and one try, 4 s; the second for 5 s in all.)"""
    with private_site(tmp_path) as site:
        workers = site.start_workers(3)
        try:
            wait_until(lambda: site.living() == 3, what=workers.log.read_text)
            site.server.pause()
            _tell(workers)
            if words == 2:
                assert not _ended_within(workers, 1.0), "it was not held by the server, or the test shows less"
                _tell(workers)
            assert _ended_within(workers, BOUND_S), workers.log.read_text()
            assert "Traceback" not in workers.log.read_text()
        finally:
            site.server.resume()
            workers.kill()


def test_a_server_that_does_not_answer_a_claim_holds_nobody(tmp_path: Path) -> None:
    """Law: not only a worker that waits for work leaves a silent server, but one that asked for some as well."""
    with private_site(tmp_path) as site:
        workers = site.start_workers(1)
        try:
            wait_until(lambda: _waits_for_a_token(site), what=workers.log.read_text)
            with site.nbflow.store.text.pipeline(transaction=False) as pipe:  # in one packet: no claim comes between
                pipe.execute_command("RPUSH", site.nbflow.store.keys.wake("default"), "1")
                pipe.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
                pipe.execute()
            wait_until(lambda: not _waits_for_a_token(site), what=workers.log.read_text)
            _tell(workers)
            assert _ended_within(workers, BOUND_S), workers.log.read_text()
            assert "Traceback" not in workers.log.read_text()
        finally:
            site.nbflow.store.text.execute_command("CLIENT", "UNPAUSE")
            workers.kill()


def _waits_for_a_token(site: Site) -> bool:
    return any(client["cmd"] == "blpop" for client in site.nbflow.store.text.client_list())


def test_a_worker_that_holds_a_result_ends_when_it_is_told_twice(tmp_path: Path) -> None:
    """Law: it does not give the result up for the first word, and does for the second."""
    flow, begun, gate, done = Flow("holds_result"), tmp_path / "begun", tmp_path / "gate", tmp_path / "done"

    @flow.entry
    def hold(begun: Path, gate: Path, done: Path) -> int:
        import os
        import time

        begun.write_text(str(os.getpid()))
        while not gate.exists():
            time.sleep(0.005)
        done.touch()
        return 1

    with private_site(tmp_path / "site") as site:
        workers = site.start_workers(1)
        try:
            flow.options(on=site.nbflow).start(begun=begun, gate=gate, done=done)
            wait_until(lambda: begun.exists() and begun.read_text(), what=workers.log.read_text)
            site.server.kill()
            gate.touch()
            wait_until(done.exists)
            time.sleep(0.5)  # the settle has failed once by now, or the test shows less
            _tell(workers)
            assert not _ended_within(workers, 1.5), workers.log.read_text()
            assert _is_alive(int(begun.read_text()))
            _tell(workers)
            assert _ended_within(workers, LIMIT_S), workers.log.read_text()
            wait_until(lambda: not _is_alive(int(begun.read_text())))
            assert "Traceback" not in workers.log.read_text()
        finally:
            workers.kill()
