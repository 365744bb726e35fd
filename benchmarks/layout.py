"""How long the layout of a flow takes: 20, 200 and 2,000 nodes; the budgets are 1, 20 and 250 ms.

`python -m benchmarks.layout`
"""

from __future__ import annotations

import random
import time

from benchmarks.machine import median
from nbflow.picture.layout import layout

BUDGETS_MS = {20: 1, 200: 20, 2000: 250}


def spread(count: int) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    """A random flow: each node after one to three of the eight before it."""
    draw = random.Random(count)
    edges = [
        (source, node)
        for node in range(1, count)
        for source in {draw.randrange(max(0, node - 8), node) for _ in range(draw.randint(1, 3))}
    ]
    return [(160.0, 48.0)] * count, edges


def main() -> None:
    for count, budget in BUDGETS_MS.items():
        sizes, edges = spread(count)
        took: list[float] = []
        for _ in range(5):
            begin = time.perf_counter()
            layout(sizes, edges)
            took.append((time.perf_counter() - begin) * 1000)
        print(f"layout of {count} nodes, {len(edges)} edges: {median(took):.1f} ms (budget {budget} ms)")


if __name__ == "__main__":
    main()
