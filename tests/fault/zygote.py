"""Launchers and tickers that may be killed: a process that has imported everything forks one for each line it reads.

`python -m tests.fault.zygote URL SECRET PROJECT`, with the environment that `Points` gives. A line is JSON:
`{"do": "launch" | "tick" | "delete", "flow": …, "queues": [a, b], "isolation": …, "key": …, "run": …}`; the answer is the child's exit code.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import nbflow
from nbflow.app import Nbflow, use
from tests.fault.crash_flow import crash_flow

ROUNDS = 25


def main(url: str, secret: str, project: str) -> None:
    counted = sys.modules["sitecustomize"].POINT  # it lies in front of the path (see `points.py`)

    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            counted.role = {"launch": b"launcher", "tick": b"ticker", "delete": b"remover"}[order["do"]]
            os._exit(_obey(Nbflow(url, secret=secret, project=project), order))
        _, status = os.waitpid(child, 0)
        print(status, flush=True)


def _obey(own: Nbflow, order: dict[str, Any]) -> int:
    use(own)
    match order["do"]:
        case "launch":
            flow = crash_flow(order["flow"], tuple(order["queues"]), order["isolation"])
            flow.options(key=order["key"], delay="20ms").start()
        case "tick":
            for _ in range(ROUNDS):
                own.store.run_script("tick")
                own.store.run_script("retire")
                time.sleep(0.01)
        case _:
            nbflow.run(order["run"]).delete()
    return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
