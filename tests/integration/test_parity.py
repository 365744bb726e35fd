"""RQ stays RQ: what is in the server after a run is what RQ itself leaves, and RQ's tools do to our jobs what they do to
any. (A stock worker, and shutting one down, are in `test_worker.py`; stopping a task in `test_user_code.py`.)"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
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
