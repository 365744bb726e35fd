"""A launcher of another release: it is run by its path, with that release on PYTHONPATH, and imports nothing of these tests
but the flows, which lie in the project's folder as a module of a user's would.

`python launcher.py URL SECRET PROJECT`. A line is JSON: `{"flow": …, "n": …, "key": …}`; the answer is the id of the run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from nbflow import Flow
from nbflow.app import Nbflow, use
from nbflow.errors import StoreError

T = TypeVar("T")
LIMIT_S = 240.0


def main(url: str, secret: str, project: str) -> None:
    sys.path.insert(0, project)
    from chaos_flows import MIXED  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    flows: dict[str, Flow] = {}
    for name, (declare, _) in MIXED.items():
        declare(flows.setdefault(name, Flow(f"chaos-{name}")))
    patiently(lambda: use(Nbflow(url, secret=secret, project=project)))
    for line in sys.stdin:
        order = json.loads(line)
        start: Any = flows[order["flow"]].options(key=order["key"]).start
        print(patiently(lambda start=start, n=order["n"]: start(n=n)).id, flush=True)


def patiently(do: Callable[[], T], meanwhile: Callable[[], object] = lambda: None) -> T:
    """The server is being restarted, or cuts connections: it is said again, with its key; `meanwhile` is done in between."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            return do()
        except StoreError:
            if time.monotonic() > end:
                raise
            meanwhile()
            time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
