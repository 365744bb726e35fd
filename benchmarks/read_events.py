"""How long a run of 10,000 events takes to be read: into events, into the view, into the `run.events` table.

    python benchmarks/read_events.py [events] [--server valkey|redis]

The budget: 10,000 events in the table in less than 0.5 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from nbflow.model.view import View, reduce
from nbflow.store.connect import Store
from nbflow.store.log import RunLog
from nbflow.watch import frames
from tests.servers import running_server

BUDGET_S = 0.5
RUN = "benchmark"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("events", type=int, nargs="?", default=10_000)
    arguments.add_argument("--server", choices=("valkey", "redis"), default="redis")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_server(given.server, Path(directory) / "server") as server:
        store = Store(server.url)
        count = write_run(store, given.events)
        report(store, count)
        store.close()


def write_run(store: Store, wanted: int) -> int:
    """A mapped run as the scripts write it: 4 events a task, and a log line for every task."""
    keys, count = store.keys, 0
    with store.text.pipeline(transaction=False) as pipe:
        pipe.hset(keys.run(RUN), mapping={"status": "completed", "flow": "etl", "started": 1})
        for task in range(wanted // 5):
            for kind, data in _of_one_task(task):
                key = keys.log(RUN) if kind == "log" else keys.stream(RUN)
                fields: Any = {"type": kind, "task": f"parse[{task}]", "attempt": 1, "data": json.dumps(data)}
                pipe.xadd(key, fields, id=f"1767225600000-{count + 1}")
                count += 1
        pipe.execute()
    return count


def _of_one_task(task: int) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("step.queued", {"queue": "default", "because": ["list_files"], "key": f"file-{task}.csv"}),
        ("step.started", {"worker": "host.1234.1"}),
        ("log", {"level": "info", "message": f"read file-{task}.csv", "fields": {"rows": task}, "source": "logging"}),
        ("step.completed", {"result": {"rows": task, "mean": task / 7, "name": f"file-{task}"}, "duration": 12}),
        ("emit", {"name": "step:parse", "payload": {"$emit": "step:parse"}, "index": str(task)}),
    ]


def report(store: Store, count: int) -> None:
    frames.events([])  # the import of pandas is no part of a read

    log = RunLog(store)
    events = list(log.read(RUN))
    assert len(events) == count

    def fold() -> None:
        view = View(RUN)
        for event in events:
            reduce(view, event)

    print(f"{count} events, medians of 7")
    show("read both streams", lambda: list(log.read(RUN)))
    show("read the deciding stream", lambda: list(log.read(RUN, logs=False)))
    show("fold into the view", fold)
    show("make the table", lambda: frames.events(events))
    total_s = show("run.events, all of it", lambda: frames.events(log.read(RUN)))
    budget_s = BUDGET_S * count / 10_000
    print(f"budget {budget_s:.2f} s: {'kept' if total_s < budget_s else 'MISSED'}")


def show(what: str, do: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(7):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    print(f"  {what:<28} {statistics.median(times) * 1000:8.1f} ms")
    return statistics.median(times)


if __name__ == "__main__":
    main()
