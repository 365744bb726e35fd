"""A server that is silent: whoever gave a timeout waits no longer than that."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nbflow.errors import ServerUnreachable
from tests.servers import start_server
from tests.site import open_site


def test_a_wait_with_a_timeout_waits_no_longer_for_a_silent_server(tmp_path: Path) -> None:
    server = start_server("valkey", tmp_path)
    with open_site(server, tmp_path) as site:
        flow = site.flow()

        @flow.entry
        def one() -> int:
            return 1

        run = flow.start()
        server.pause()
        try:
            began = time.monotonic()
            with pytest.raises(ServerUnreachable):
                run.wait(0.5, progress=False)
            with pytest.raises(ServerUnreachable):
                list(run.follow(timeout=0.5))
            assert time.monotonic() - began < 15, "without a timeout a single read waits twice as long"
        finally:
            server.stop()
