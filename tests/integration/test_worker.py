"""What a worker promises: live output, fresh randomness, shared cores, no secret for user code, RQ's own tools, draining."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nbflow import Context, each
from nbflow.app import Nbflow
from nbflow.errors import StepFailure
from tests.site import SECRET, Site, wait_until


def test_output_of_every_kind_arrives_while_the_step_runs(site: Site, tmp_path: Path) -> None:
    flow, gate = site.flow(), tmp_path / "gate"

    @flow.entry
    def noisy(gate: Path, ctx: Context) -> None:
        import ctypes
        import logging
        import time

        print("printed")
        print("to stderr", file=sys.stderr)
        logging.getLogger("mine").warning("logged %d", 1)
        warnings.warn("warned", stacklevel=1)
        ctx.log.info("said", rows=3)
        os.write(1, b"from a descriptor\n")
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
        subprocess.run(["echo", "from a subprocess"], check=True)
        ctx.progress(1, 2, "half")
        while not gate.exists():
            time.sleep(0.01)
        print("no end of line", end="")

    run = flow.start(gate=gate)
    wanted = {"printed", "to stderr", "logged 1", "said", "from a descriptor", "from C", "from a subprocess"}
    wait_until(lambda: wanted <= set(run.logs["message"]), what=lambda: run.logs)
    assert run.status == "running"
    wait_until(lambda: "progress" in set(run.events["type"]), what=lambda: run.events["type"])
    gate.touch()
    logs = run.wait(20, progress=False).logs
    by_message = logs.set_index("message")
    assert by_message.loc["said", "fields"] == {"rows": 3}
    assert by_message.loc["to stderr", "source"] == "stderr"
    assert by_message.loc["logged 1", "level"] == "warning"
    assert by_message.loc["from C", "source"] == "output"
    assert any("warned" in message for message in logs["message"])
    assert next(iter(logs["message"])) == "printed"
    assert list(logs["message"])[-1] == "no end of line"


def test_bars_of_tqdm_are_progress(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def bar() -> int:
        from tqdm import tqdm

        return sum(tqdm(range(3), desc="adding", mininterval=0))

    @flow.step(bar, isolation="process")
    def again(n: int) -> int:
        from tqdm.auto import tqdm

        return sum(tqdm(range(n), desc="adding again", mininterval=0))

    run = flow.start().wait(60, progress=False)
    told = list(run.events[run.events["type"] == "progress"]["data"])
    assert {"done": 3, "total": 3, "message": "adding"} in told
    assert {"done": 3, "total": 3, "message": "adding again"} in told


def test_random_numbers_differ_between_workers(site: Site, tmp_path: Path) -> None:
    flow = site.flow()

    @flow.entry
    def two() -> list[int]:
        return [0, 1]

    @flow.step(each(two))
    def draw(i: int, folder: str = str(tmp_path)) -> Any:
        import random
        import time
        from pathlib import Path

        import numpy as np

        Path(folder, str(i)).touch()
        while len(list(Path(folder).iterdir())) < 2:  # so that two workers do it
            time.sleep(0.01)
        return os.getpid(), random.random(), np.random.random()  # noqa: NPY002 - the old generator is the one that is often shared

    (first, second) = flow.start().wait(30, progress=False).result
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_cores_are_shared_out_and_the_secret_is_not_in_sight(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def look() -> Any:
        began = Path("/proc/self/environ")
        return {
            name: value for name, value in os.environ.items() if name.startswith("NBFLOW") or name.endswith("_THREADS")
        } | {"began": began.read_text() if began.exists() else ""}

    seen = flow.start().wait(20, progress=False).result
    assert not [name for name in seen if name.startswith("NBFLOW")]
    assert seen["OMP_NUM_THREADS"] == str(max(1, (os.cpu_count() or 1) // 2))
    assert not [value for value in seen.values() if SECRET in value or site.server.url in value]


def test_the_tools_of_rq_see_our_workers(site: Site) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "rq.cli", "info", "--url", site.server.url], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"\b[2-9] workers", shown)
    assert shown.count("idle") + shown.count("busy") >= 2


def test_state_metrics_and_artifacts_of_a_run(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def keep(ctx: Context) -> Any:
        ctx.state.set("seen", {"a": [1]})
        ctx.state.incr("n")
        ctx.state.incr("n", 1.5)
        ctx.state.set("gone", 1)
        ctx.state.delete("gone")
        ctx.metric("loss", 0.5, 1)
        ctx.artifact("table", pd.DataFrame({"x": [1, 2]}))
        return ctx.state.get("n"), ctx.state.get("nothing", "default"), ctx.state.all()

    run = flow.start().wait(20, progress=False)
    assert run.result == (2.5, "default", {"seen": {"a": [1]}, "n": 2.5})
    assert run.state == {"seen": {"a": [1]}, "n": 2.5}
    assert list(run.metrics["value"]) == [0.5]
    pd.testing.assert_frame_equal(run.artifact("table"), pd.DataFrame({"x": [1, 2]}))


def test_what_was_closed_reads_by_its_new_connection(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def nothing() -> None: ...

    run = flow.start().wait(30, progress=False)
    with Nbflow(site.server.url, secret=SECRET, project=site.folder) as other:
        assert other.codec_for(run.id).artifacts is other.artifacts
        other.close()
        assert other.codec_for(run.id).artifacts is other.artifacts


def test_a_failure_points_at_the_line_of_the_step(site: Site) -> None:
    flow = site.flow()

    def deeper(n: int) -> float:
        return 1 / n  # the line that fails

    @flow.entry
    def breaks(n: int = 0) -> float:
        return deeper(n)

    run = flow.start().wait(20, progress=False)
    with pytest.raises(StepFailure) as caught:
        _ = run.result
    assert caught.value.step == "breaks"
    assert "return deeper(n)" in caught.value.traceback
    assert "return 1 / n  # the line that fails" in caught.value.traceback
    assert "nbflow/worker" not in caught.value.traceback


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "raise KeyboardInterrupt", "raise BaseException('odd')"])
def test_a_step_cannot_end_its_worker_by_raising(site: Site, ending: str) -> None:
    flow = site.flow()

    @flow.entry
    def ends() -> None:
        exec(ending)

    run = flow.start().wait(20, progress=False)
    assert run.status == "failed"


def test_a_queue_of_its_own_waits_for_a_worker_of_its_own(site: Site) -> None:
    flow = site.flow()

    @flow.entry(queue="gpu-1")
    def there() -> str:
        return "done"

    run = flow.start()
    assert run.status == "running"
    workers = site.start_workers(1, queues="gpu-1")
    try:
        assert run.wait(20, progress=False).result == "done"
    finally:
        workers.stop()


def test_sigterm_lets_the_task_end_and_takes_no_other(site: Site, tmp_path: Path) -> None:
    flow, begun, gate = site.flow(), tmp_path / "begun", tmp_path / "gate"

    @flow.entry(queue="drain")
    def slow(begun: Path, gate: Path) -> int:
        import time

        begun.touch()
        while not gate.exists():
            time.sleep(0.01)
        return 1

    @flow.step(slow, queue="drain")
    def after(n: int) -> int:
        return n + 1

    workers = site.start_workers(1, queues="drain")
    run = flow.start(begun=begun, gate=gate)
    wait_until(begun.exists, what=workers.log.read_text)
    workers.process.send_signal(signal.SIGTERM)
    gate.touch()
    assert workers.process.wait(20) == 0
    assert run["slow"] == 1
    assert run.view.tasks["after"].status == "queued"
    assert not [worker for worker in site.nbflow.index.workers() if "drain" in worker.queues]
    other = site.start_workers(1, queues="drain")
    try:
        assert run.wait(20, progress=False).result == 2
    finally:
        other.stop()


def test_a_stock_worker_of_rq_executes_our_jobs(site: Site) -> None:
    flow = site.flow()

    @flow.entry(queue="stock")
    def first(ctx: Context) -> int:
        ctx.log.info("from a stock worker")
        return 20

    @flow.step(first, queue="stock")
    def second(n: int) -> int:
        return n + 1

    run = flow.start()
    environment = os.environ | {"NBFLOW_REDIS_URL": site.server.url, "NBFLOW_SECRET": SECRET}
    command = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--url", site.server.url, "stock"]
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=50)
    assert run.result == 21
    assert list(run.logs["message"]) == ["from a stock worker"]


def test_a_worker_of_all_queues_takes_up_new_ones_and_tells_rq(site: Site) -> None:
    workers = site.start_workers(1, queues="*")
    try:
        wait_until(lambda: site.living() == 3, what=workers.log.read_text)
        flow = site.flow()

        @flow.entry(queue="brand-new")
        def there() -> str:
            return "done"

        assert flow.start().wait(20, progress=False).result == "done"
        (mine,) = [worker for worker in site.nbflow.index.workers() if "brand-new" in worker.queues]
        assert "default" in mine.queues
    finally:
        workers.stop()


def test_a_worker_that_is_told_to_shut_down_is_not_replaced(site: Site) -> None:
    from rq.command import send_shutdown_command

    workers = site.start_workers(2, queues="fewer")

    def mine() -> list[str]:
        return [worker.name for worker in site.nbflow.index.workers() if "fewer" in worker.queues]

    wait_until(lambda: len(mine()) == 2, what=workers.log.read_text)
    first, second = mine()
    send_shutdown_command(site.nbflow.store.client, first)
    wait_until(lambda: mine() == [second], what=mine)
    send_shutdown_command(site.nbflow.store.client, second)
    assert workers.process.wait(20) == 0
    assert mine() == []


def test_a_flood_of_output_is_bounded_and_said(site: Site) -> None:
    """Law: 64 MiB of a task are kept at most; the file behind it gives its memory back; the logs of a run are bounded
    and what went is counted."""
    flow = site.flow()

    @flow.entry
    def flood() -> int:
        line = b"x" * 8000 + b"\n"
        for _ in range(9000):  # 72 MB
            os.write(1, line)
        return 1

    run = flow.start().wait(50, progress=False)
    assert run.result == 1
    messages = list(run.logs["message"])
    assert messages[-1] == "output beyond 64 MiB is dropped"
    assert len(messages) < 8500
