"""Servers that the integration tests share in kind: of both makes, and one without workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbflow.app import Nbflow, current_default, use
from tests.bad_input import private_site
from tests.servers import running_server, server_binary


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that is this file's alone; each test that takes it runs on Redis and on Valkey."""
    if server_binary(request.param) is None:
        pytest.skip(f"there is no {request.param} server here")
    with running_server(request.param, tmp_path_factory.mktemp("server")) as running:
        yield running.url


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Nbflow]:
    """A server on which no worker lives, for the default `Nbflow`."""
    before = current_default()
    with private_site(tmp_path) as site:
        use(site.nbflow)
        try:
            yield site.nbflow
        finally:
            use(before)
