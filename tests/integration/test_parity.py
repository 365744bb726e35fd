"""RQ stays RQ: what is in the server after a run is what RQ itself leaves, and RQ's tools do to our jobs what they do to
any. (A stock worker, and shutting one down, are in `test_worker.py`; stopping a task in `test_user_code.py`.)"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import rq

from tests.servers import RunningServer, running_server
from tests.site import Site, Workers, open_site, wait_until

MAINTENANCE = {"rq:clean_groups"}
"""A lock of RQ's own, by which one of its workers tidies up."""


@pytest.fixture
def parity_site(tmp_path: Path) -> Iterator[Site]:
    with running_server("valkey", tmp_path) as server, open_site(server, tmp_path) as site:
        yield site


def _rq_keys(server: RunningServer) -> set[str]:
    """RQ's keys, with names of workers left out."""
    client: Any = rq_client(server)
    return {re.sub(r"^(rq:worker:)[^:]+", r"\1<worker>", key) for key in client.scan_iter("rq:*", count=1000)}


def rq_client(server: RunningServer) -> Any:
    import redis

    return redis.Redis.from_url(server.url, decode_responses=True)


def _rq(server: RunningServer, *words: str) -> str:
    """`rq …`, as it is typed."""
    command = [sys.executable, "-m", "rq.cli", *words, "--url", server.url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout


def _stock(folder: Path) -> tuple[set[str], set[str], set[str]]:
    """What stock RQ leaves of a job whose result is not kept: while its worker lives, after it ended; and what it tells of
    a worker."""
    with running_server("valkey", folder) as server:
        client: Any = rq_client(server)
        rq.Queue("default", connection=client).enqueue(os.getcwd, result_ttl=0)
        command = [sys.executable, "-m", "rq.cli", "worker", "--url", server.url, "default"]
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _has_worked(client), limit_s=40, what=lambda: client.keys("*"))
            living, (hash_key,) = _rq_keys(server), client.keys("rq:worker:*")
            fields = set(client.hkeys(hash_key))
        finally:
            worker.terminate()
            worker.wait(30)
        return living, {key for key in _rq_keys(server) if "<worker>" not in key}, fields


def _has_worked(client: Any) -> bool:
    workers = client.keys("rq:worker:*")
    told = client.hgetall(workers[0]) if len(workers) == 1 else {}
    return (
        told.get("successful_job_count") == "1"
        and told.get("state") == "idle"
        and "rq:clean_groups" in client.keys("*")
    )


def _three_tasks(site: Site, pause_s: float = 0.0) -> Any:
    flow = site.flow()

    @flow.entry
    def first(pause_s: float) -> int:
        import time

        time.sleep(pause_s)
        return 1

    @flow.step(first)
    def second(n: int) -> int:
        return n + 1

    @flow.step(second)
    def third(n: int) -> int:
        return n + 1

    return flow.start(pause_s=pause_s)


def _ends(workers: Workers) -> None:
    assert workers.stop() == 0, workers.log.read_text()


@pytest.mark.parametrize("pause_s", [0.0, 0.4], ids=["short tasks", "a task that outlives a beat"])
def test_a_run_leaves_of_rqs_keys_what_stock_rq_leaves(parity_site: Site, tmp_path: Path, pause_s: float) -> None:
    living, after, fields = _stock(tmp_path / "stock")
    site, server = parity_site, parity_site.server
    workers = site.start_workers(1, NBFLOW_HEARTBEAT_S="0.1", NBFLOW_LEASE_S="5")
    run = _three_tasks(site, pause_s).wait(30, progress=False)
    assert run.result == 3
    assert _rq_keys(server) == living - MAINTENANCE
    (hash_key,) = rq_client(server).keys("rq:worker:*")
    wait_until(lambda: fields <= set(rq_client(server).hkeys(hash_key)), what=lambda: rq_client(server).hkeys(hash_key))
    _ends(workers)
    assert _rq_keys(server) == after - MAINTENANCE


def test_rq_suspends_and_resumes_our_workers(parity_site: Site) -> None:
    site = parity_site
    workers = site.start_workers(1)
    wait_until(lambda: site.living() == 1, what=workers.log.read_text)
    _rq(site.server, "suspend")
    run = _three_tasks(site)
    wait_until(lambda: run.reason("first").cause == "suspended", what=lambda: run.why("first"))
    assert run.view.tasks["first"].status == "queued"
    _rq(site.server, "resume")
    assert run.wait(30, progress=False).result == 3
    _ends(workers)


@contextmanager
def _dashboard(server: RunningServer, log: Path) -> Generator[Callable[[str], str]]:
    """rq-dashboard on our server, and what it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("rq-dashboard")), "-b", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "-u", server.tcp_url], stdout=out, stderr=out)

    def ask(path: str) -> str:
        with (
            suppress(ConnectionError, urllib.error.URLError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer,
        ):
            return answer.read().decode()
        return ""

    try:
        wait_until(lambda: ask("/"), limit_s=40, what=log.read_text)
        yield ask
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(
    importlib.util.find_spec("rq_dashboard") is None and not os.environ.get("CI"), reason="the extra `test` brings it"
)
def test_rqs_dashboard_shows_our_queues_workers_and_jobs(parity_site: Site, tmp_path: Path) -> None:
    """Law: it shows what is there, and looking changes nothing."""
    site, gate = parity_site, tmp_path / "gate"
    flow = site.flow()

    @flow.entry
    def waits(gate: Path) -> int:
        import time

        while not gate.exists():
            time.sleep(0.01)
        return 7

    workers = site.start_workers(1, NBFLOW_HEARTBEAT_S="0.1", NBFLOW_LEASE_S="5")
    runs = [flow.start(gate=gate) for _ in range(2)]
    jobs = [f"{run.id}__waits__attempt-1" for run in runs]
    client = rq_client(site.server)
    wait_until(lambda: client.zcard("rq:wip:default"), what=lambda: client.keys("rq:*"))
    with _dashboard(site.server, tmp_path / "dashboard.log") as ask:
        (queue,) = json.loads(ask("/0/data/queues.json"))["queues"]
        assert (queue["name"], queue["count"], queue["started_job_registry_count"]) == ("default", 1, 1)
        (worker,) = json.loads(ask("/0/data/workers.json"))["workers"]
        assert (worker["state"], worker["queues"]) == ("busy", ["default"])
        for registry, job in (("started", jobs[0]), ("queued", jobs[1])):
            listed = json.loads(ask(f"/0/data/jobs/default/{registry}/10/asc/1.json"))["jobs"]
            assert [one["id"] for one in listed] == [job]
            assert json.loads(ask(f"/0/data/job/{job}.json"))["description"] == "waits"
        for page in ("/0/view/queues", "/0/view/workers", "/0/view/jobs", f"/0/view/job/{jobs[0]}"):
            assert "RQ" in ask(page), page
    gate.touch()
    assert [run.wait(30, progress=False).result for run in runs] == [7, 7]
    _ends(workers)
