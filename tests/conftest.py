"""Real servers for the tests: one of each kind per test process, on a private socket, emptied before each test."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.property.profiles  # noqa: F401 - how many examples, before any test is collected
from nbflow.store.connect import Store
from tests.servers import Kind, RunningServer, start_server
from tests.site import Site, open_site, wait_until

KINDS = ["valkey", "redis"]

# The hundreds of processes that tests start need not compile what the one before compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_xdist_auto_num_workers() -> int:
    """With `-n auto`. One more than there are cores: much of the time a test waits for workers or for a server."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """As the files lie: by the number of their tests, a worker would be left alone with a slow one at the end."""
    config.option.loadscopereorder = False


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningServer]]:
    running: dict[str, RunningServer] = {}
    yield running
    for server in running.values():
        server.stop()


def _server(kind: Kind, servers: dict[str, RunningServer], tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    if kind == "redis" and shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing, and CI must test on it")
        pytest.skip("redis-server is not installed")
    if kind not in servers:
        servers[kind] = start_server(kind, Path(tmp_path_factory.mktemp(kind)))
    return servers[kind]


@pytest.fixture
def valkey(servers: dict[str, RunningServer], tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    return _server("valkey", servers, tmp_path_factory)


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest, servers: dict[str, RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store on an empty server; each test that takes it runs on Valkey and on Redis."""
    server = _server(request.param, servers, tmp_path_factory)
    made = Store(server.url)
    made.client.flushall()
    yield made
    made.close()


@pytest.fixture
def valkey_store(valkey: RunningServer) -> Iterator[Store]:
    """A store on an empty Valkey only, where the kind of server makes no difference."""
    made = Store(valkey.url)
    made.client.flushall()
    yield made
    made.close()


@pytest.fixture(scope="session")
def site(servers: dict[str, RunningServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of its own with two warm workers on the queue `default`."""
    folder = tmp_path_factory.mktemp("site")
    server = start_server("valkey", folder, aof=True)
    with open_site(server, folder) as opened:
        workers = opened.start_workers(2)
        try:
            wait_until(lambda: opened.living() == 2, what=workers.log.read_text)
            yield opened
        finally:
            workers.stop()
            server.stop()
