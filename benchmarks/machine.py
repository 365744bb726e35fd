"""What the benchmarks share: a private server with AOF everysec, workers beside it, and marks of when a step began.

A mark is one line written with one `write(2)`: about 2 us, and CLOCK_MONOTONIC is one clock for all processes.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nbflow.app import Nbflow, use
from tests.servers import RunningServer, start_server

SECRET = "benchmarks-only-secret"


@contextmanager
def bench(kind: str = "valkey", workers: int = 1) -> Iterator[tuple[Nbflow, RunningServer, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="nbflow-bench-"))
    marks = folder / "marks"
    marks.touch()
    server = start_server(kind, folder, aof=True)  # type: ignore[arg-type]
    environment = os.environ | {"NBFLOW_SECRET": SECRET, "BENCH_MARKS": str(marks)}
    command = [sys.executable, "-m", "nbflow.worker.serve", "--url", server.url, "--concurrency", str(workers)]
    supervisor = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    os.environ["BENCH_MARKS"] = str(marks)
    nbflow = Nbflow(server.url, secret=SECRET, project=folder)
    use(nbflow)
    try:
        yield nbflow, server, marks
    finally:
        nbflow.close()
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(30)
        server.stop()


def read_marks(marks: Path) -> dict[str, dict[int, int]]:
    runs: dict[str, dict[int, int]] = defaultdict(dict)
    for line in marks.read_text().splitlines():
        run, hop, ns = line.split()
        runs[run].setdefault(int(hop), int(ns))
    return runs


def hops_ms(marks: Path) -> list[float]:
    """From the start of one step to the start of the next, of all runs."""
    gaps: list[float] = []
    for hops in read_marks(marks).values():
        order = [hops[i] for i in sorted(hops)]
        gaps += [(b - a) / 1e6 for a, b in itertools.pairwise(order)]
    return sorted(gaps)


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def wait_marks(marks: Path, count: int, limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while sum(1 for _ in marks.open()) < count:
        if time.monotonic() > end:
            raise SystemExit(f"timed out with {sum(1 for _ in marks.open())} of {count} marks")
        time.sleep(0.002)


def median(values: list[float]) -> float:
    return statistics.median(values)
