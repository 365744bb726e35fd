"""How long a task waits whose worker was killed: from `kill -9` to the first line of user code again.

`python -m benchmarks.recover [times]`
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import bench, median
from nbflow import Flow


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    took: list[float] = []
    with bench(workers=1):
        flow = Flow("recover")

        @flow.entry
        def hang(flag: Path) -> float:
            now = time.monotonic()
            if not flag.exists():
                flag.with_suffix(".part").write_text(str(os.getpid()))
                flag.with_suffix(".part").rename(flag)
                time.sleep(60)
            return now

        for i in range(times):
            flag = Path(tempfile.mkdtemp(prefix="nbflow-bench-")) / str(i)
            run = flow.start(flag=flag)
            while not flag.exists():
                time.sleep(0.001)
            time.sleep(2.5)  # the next spare is warm by then
            begin = time.monotonic()
            os.kill(int(flag.read_text()), signal.SIGKILL)
            took.append((run.wait(60, progress=False).result - begin) * 1000)
    print(
        f"kill -9 to user code again, one worker and one warm spare: median {median(took):.0f} ms, worst {max(took):.0f} ms"
    )


if __name__ == "__main__":
    main()
