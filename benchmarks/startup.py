"""How long things take to begin: the import, the command line's help, the first run with the stack up.

`python -m benchmarks.startup`
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.machine import bench, median
from nbflow import Flow

IMPORT = "import time, redis, pydantic; t = time.perf_counter(); import nbflow; print((time.perf_counter() - t) * 1000)"


def main() -> None:
    imports = [
        float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    print(f"import nbflow, beyond redis and pydantic: {median(imports):.1f} ms (budget 150 ms)")
    helps: list[float] = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "nbflow", "--help"], capture_output=True, check=True)
        helps.append((time.perf_counter() - begin) * 1000)
    print(f"nbflow --help: {median(helps):.0f} ms (budget 300 ms)")
    with bench(workers=1):
        flow = Flow("begin")

        @flow.entry
        def now() -> float:
            return time.monotonic()

        flow.start().wait(60, progress=False)
        waits: list[float] = []
        for _ in range(50):
            begin = time.monotonic()
            waits.append((flow.start().wait(30, progress=False).result - begin) * 1000)
        print(f"flow.start() to the first line of user code, a warm idle worker: median {median(waits):.2f} ms")


if __name__ == "__main__":
    main()
