"""How long a hop takes: a chain of 10 empty steps on one warm worker, start of a step to start of the next.

`python -m benchmarks.hop [rounds]` prints p50 and p99 per round and their medians, and the steps a second of 100 runs
at once.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import bench, hops_ms, median, quantile, wait_marks
from nbflow import Flow

LENGTH = 10


def mark(run: str, hop: int) -> None:
    fd = os.open(os.environ["BENCH_MARKS"], os.O_APPEND | os.O_WRONLY)
    os.write(fd, f"{run} {hop} {time.monotonic_ns()}\n".encode())
    os.close(fd)


def chain(name: str = "chain") -> Flow:
    flow = Flow(name)

    def make(hop: int) -> Any:
        def step(run: str) -> str:
            mark(run, hop)
            return run

        step.__name__ = f"s{hop}"
        return step

    before: Any = flow.entry(make(0))
    for hop in range(1, LENGTH):
        before = flow.step(before)(make(hop))
    return flow


def rounds_of(flow: Flow, marks: Path, rounds: int, *, is_followed: bool) -> None:
    """A hundred runs a round, one after the other. Whoever follows a run takes part of a core from it."""
    what = "with its launcher waiting for it" if is_followed else "nobody follows"
    p50s: list[float] = []
    p99s: list[float] = []
    for _ in range(rounds):
        marks.write_text("")
        for i in range(100):
            run = flow.start(run=f"r{i}")
            if is_followed:
                run.wait(30, progress=False)
            else:
                time.sleep(0.01)
        wait_marks(marks, 100 * LENGTH)
        gaps = hops_ms(marks)
        p50s.append(quantile(gaps, 0.5))
        p99s.append(quantile(gaps, 0.99))
        print(f"hop p50 {p50s[-1]:.3f} ms  p99 {p99s[-1]:.3f} ms, {what}")
    print(f"hop, median of {rounds} rounds, {what}: p50 {median(p50s):.3f} ms  p99 {median(p99s):.3f} ms")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with bench(workers=1) as (_, _, marks):
        flow = chain()
        for _ in range(30):
            flow.start(run="warm").wait(30, progress=False)
        for is_followed in (False, True):
            rounds_of(flow, marks, rounds, is_followed=is_followed)
    with bench(workers=2) as (_, _, marks):
        flow = chain("many")
        flow.start(run="warm").wait(30, progress=False)
        rates: list[float] = []
        for _ in range(rounds):
            marks.write_text("")
            begin = time.monotonic()
            for i in range(100):
                flow.start(run=f"r{i}")
            wait_marks(marks, 100 * LENGTH)
            rates.append(100 * LENGTH / (time.monotonic() - begin))
        print(
            f"100 runs at once, 2 workers, median of {rounds} rounds: {median(rates):.0f} steps/s (launches included)"
        )


if __name__ == "__main__":
    main()
