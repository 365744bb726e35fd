"""A real site for integration tests: a server, a supervisor with warm workers in another process and folder, and an
`Nbflow` that is the default one. It is never emptied: tests use flows of their own name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbflow import Flow, app
from nbflow.app import Nbflow, use
from tests.servers import RunningServer

SECRET = "a secret for tests only"


def wait_until(true: Callable[[], Any], *, limit_s: float = 20.0, what: Callable[[], Any] | str = "") -> Any:
    """Wait for a value that is true, and return it. When it does not come, say what was seen."""
    end = time.monotonic() + limit_s
    while not (value := true()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit_s} s in vain; saw: {what() if callable(what) else what}")
        time.sleep(0.005)
    return value


@dataclass
class Workers:
    """A supervisor with its workers."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, limit_s: float = 30) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Site:
    server: RunningServer
    nbflow: Nbflow
    folder: Path

    def flow(self, **options: Any) -> Flow:
        """A flow of a name that no other test has."""
        return Flow(f"t{uuid.uuid4().hex[:10]}", **options)

    def start_workers(
        self,
        concurrency: int = 2,
        *,
        queues: str = "default",
        python: str = sys.executable,
        cwd: str | None = None,
        **environment: str,
    ) -> Workers:
        log = self.folder / f"workers-{uuid.uuid4().hex[:6]}.log"
        command = [python, "-P", "-m", "nbflow.worker.serve", "--url", self.server.url]
        command += ["--concurrency", str(concurrency), "--queues", queues]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                env=os.environ | {"NBFLOW_SECRET": SECRET} | environment,
                cwd=cwd or str(self.folder),
                stdout=out,
                stderr=out,
            )
        return Workers(process, log)

    def living(self) -> int:
        return len(self.nbflow.index.workers())


@contextmanager
def open_site(server: RunningServer, folder: Path) -> Iterator[Site]:
    before = app.current_default()
    nbflow = Nbflow(server.url, secret=SECRET, project=folder)
    use(nbflow)
    try:
        yield Site(server, nbflow, folder)
    finally:
        nbflow.close()
        use(before)
