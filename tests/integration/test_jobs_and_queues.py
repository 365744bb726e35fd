"""Keys, delays, priorities and pauses with real workers, stock ones too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from nbflow import Flow, Run, job
from nbflow.define import registry
from nbflow.errors import KeyTaken
from tests.site import SECRET, Site, wait_until


@pytest.fixture(autouse=True)
def fresh_names() -> Iterator[None]:
    yield
    registry.reset()


def counting(site: Site) -> Flow:
    flow = site.flow()

    @flow.entry
    def count(n: int = 0) -> int:
        return n

    return flow


def test_of_eight_starts_at_once_with_one_key_one_is_made(site: Site):
    """Law: same flow, same key, same input: one run, whoever comes first."""
    flow = counting(site)
    flow.start(n=-1).wait(20, progress=False)
    for attempt in range(5):
        runs: list[Run] = []
        gate = threading.Barrier(8)

        def start(key: str = f"k{attempt}", gate: threading.Barrier = gate, runs: list[Run] = runs) -> None:
            gate.wait()
            runs.append(flow.options(key=key).start(n=7))

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(runs) == 8
        assert len({run.id for run in runs}) == 1
        assert runs[0].wait(20, progress=False).result == 7
    assert len(site.nbflow.index.runs(flow=flow.name)) == 6


def test_of_eight_different_inputs_with_one_key_one_is_started(site: Site):
    flow = counting(site)
    flow.start().wait(20, progress=False)
    gate, won, lost = threading.Barrier(8), list[Run](), list[KeyTaken]()

    def start(n: int) -> None:
        gate.wait()
        try:
            won.append(flow.options(key="k").start(n=n))
        except KeyTaken as error:
            lost.append(error)

    threads = [threading.Thread(target=start, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert all(won[0].id[:8] in str(error) for error in lost)


def test_a_key_outlives_the_end_of_its_run_and_not_the_run(site: Site):
    flow = counting(site)
    first = flow.options(key="k").start(n=1)
    first.wait(20, progress=False)
    assert flow.options(key="k").start(n=1).id == first.id
    site.nbflow.store.client.delete(site.nbflow.store.keys.run(first.id))
    again = flow.options(key="k").start(n=2)
    assert again.id != first.id
    again.wait(20, progress=False)


def test_a_delayed_run_starts_by_itself(site: Site):
    flow = counting(site)
    begin = time.monotonic()
    run = flow.options(delay=0.4).start(n=3)
    assert run.status == "awaiting"
    assert site.nbflow.runs(status="awaiting", flow=flow.name)["id"].tolist() == [run.id]
    assert run.wait(20, progress=False).result == 3
    assert time.monotonic() - begin >= 0.4
    assert run.status == "completed"


def test_what_runs_goes_on_while_its_queue_is_paused(site: Site):
    queue = f"q{time.monotonic_ns()}"
    flow = site.flow(queue=queue)

    @flow.entry
    def slow() -> int:
        time.sleep(0.5)
        return 1

    @flow.step(slow)
    def after(n: int) -> int:
        return n + 1

    workers = site.start_workers(1, queues=queue)
    try:
        run = flow.start()
        wait_until(lambda: list(run.tasks["status"]) == ["running"], what=workers.log.read_text)
        site.nbflow.pause(queue)
        wait_until(lambda: list(run.tasks["status"]) == ["completed", "queued"], what=workers.log.read_text)
        shown = site.nbflow.queues().set_index("name").loc[queue]
        assert (shown["waiting"], shown["workers"], shown["paused"]) == (1, 1, True)
        site.nbflow.resume(queue)
        assert run.wait(20, progress=False).result == 2
    finally:
        workers.stop()


def test_a_stock_worker_executes_jobs_of_every_priority(site: Site):
    """It takes what stands at the head of RQ's list, and the next one is put there when it has begun."""
    queue = f"q{time.monotonic_ns()}"

    @job(queue=queue)
    def note(name: str) -> int:
        return time.monotonic_ns()

    ranks = {"usual": 0, "urgent": 10, "idle": -5, "top": 90, "last": -90, "urgent2": 10}
    runs = {name: note.enqueue(name, priority=rank) for name, rank in ranks.items()}
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", site.server.url, "--burst", queue]
    done = subprocess.run(
        command,
        check=False,
        env=os.environ | {"NBFLOW_SECRET": SECRET, "NBFLOW_REDIS_URL": site.server.url},
        cwd=site.folder,
        capture_output=True,
        timeout=90,
    )
    assert [run.status for run in runs.values()] == ["completed"] * len(runs), done.stderr.decode()[-3000:]
    began = {name: run.result for name, run in runs.items()}
    assert sorted(began, key=began.__getitem__) == ["top", "urgent", "urgent2", "usual", "idle", "last"]


def test_many_starts_cost_few_round_trips(site: Site):
    flow = counting(site)
    client = site.nbflow.store.client
    flow.start()
    before = client.info("stats")["total_commands_processed"]  # pyright: ignore[reportIndexIssue, reportUnknownVariableType]
    runs = flow.start_many([{"n": n} for n in range(250)])
    assert before
    assert len({run.id for run in runs}) == 250
    assert [runs[n].wait(30, progress=False).result for n in (0, 1, 100, 101, 249)] == [0, 1, 100, 101, 249]


def test_many_starts_take_the_options_and_artifacts_of_each(site: Site):
    flow = site.flow()

    @flow.entry
    def size(text: str) -> int:
        return len(text)

    texts = ["x" * (70_000 + n) for n in range(5)]
    runs = flow.options(tags=["t"], key="ignored", priority=3, delay=0.1).start_many([{"text": text} for text in texts])
    assert len({run.id for run in runs}) == 5
    assert [run.wait(20, progress=False).result for run in runs] == [len(text) for text in texts]
    assert [run.input["text"] for run in runs] == texts
    assert len(site.nbflow.index.runs(flow=flow.name, tag="t")) == 5
