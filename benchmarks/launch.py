"""How many runs a second can be started: one after the other, and by `start_many`.

`python -m benchmarks.launch [runs]`. No worker serves the queue; the medians are of five rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from benchmarks.machine import bench, median
from nbflow import Flow

ROUNDS = 5


def rate(start: Callable[[], object], runs: int) -> float:
    """Runs a second, the median of some rounds."""
    rates: list[float] = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        start()
        rates.append(runs / (time.perf_counter() - begin))
    return median(rates)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with bench(workers=1):
        flow = Flow("launch", queue="nobody")

        @flow.entry
        def square(n: int) -> int:
            return n * n

        flow.start(n=0)
        inputs = [{"n": n} for n in range(runs)]
        print(f"flow.start in a loop: {rate(lambda: [flow.start(**values) for values in inputs], runs):.0f} runs/s")
        print(f"flow.start_many: {rate(lambda: flow.start_many(inputs), runs):.0f} runs/s")


if __name__ == "__main__":
    main()
