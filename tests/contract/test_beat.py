"""beat: the workers that are no longer known (given up)"""

from __future__ import annotations

import time
from typing import Any

from nbflow.store.connect import Store
from tests.graphs import chain
from tests.leaks import leaks
from tests.machine import Claimed, Machine


def working(store: Store) -> tuple[Machine, Claimed]:
    machine = Machine(store, chain(1))
    machine.birth("w")
    machine.launch()
    task = machine.claim()
    assert task is not None
    return machine, task


def test_a_beat_renews_the_lease_and_tells_rq(store: Store):
    working(store)
    assert store.run_script("beat", "w", 7, 1.5, "", lease_ms=5000) == []
    expiry: Any = store.client.zscore(store.keys.workers(), "w")
    assert 0 < expiry - time.time() * 1000 <= 5100
    facts = store.text.hmget("rq:worker:w", "successful_job_count", "total_working_time", "last_heartbeat")
    assert facts[:2] == ["7", "1.5"]
    assert facts[2]
    assert 0 < int(str(store.client.ttl("rq:worker:w"))) <= 86400


def test_workers_that_are_not_known_are_named(store: Store):
    working(store)
    reply = store.run_script("beat", "x", 0, 0, "", "w", 0, 0, "", "y", 0, 0, "", lease_ms=5000)
    assert reply == [b"x", b"y"]
    assert store.text.zrange(store.keys.workers(), 0, -1) == ["w"]


def test_a_task_that_runs_for_long_shows_in_rq_records(store: Store):
    _, task = working(store)
    store.run_script("beat", "w", 0, 0, str(task.lease), lease_ms=5000)
    execution = f"{task.job}:{task.lease}"
    assert store.text.zrange("rq:wip:default", 0, -1) == [execution]
    facts: dict[str, str] = store.text.hgetall(f"rq:execution:{execution}")  # pyright: ignore[reportAssignmentType]
    assert (facts["job_id"], facts["worker_name"]) == (task.job, "w")
    assert store.text.zrange(f"rq:executions:{task.job}", 0, -1) == [str(task.lease)]
    first: Any = store.text.hget(store.keys.rq_job(task.job), "started_at")
    store.run_script("beat", "w", 0, 0, str(task.lease), lease_ms=5000)
    assert store.text.hget(store.keys.rq_job(task.job), "started_at") == first
    assert leaks(store) == []


def test_a_lease_that_is_over_leaves_no_record(store: Store):
    _, task = working(store)
    store.run_script("beat", "w", 0, 0, str(task.lease + 1), lease_ms=5000)
    assert not store.client.exists("rq:wip:default", f"rq:execution:{task.job}:{task.lease + 1}")


def test_a_beat_after_the_task_ended_leaves_no_record(store: Store):
    machine, task = working(store)
    machine.settle(task)
    store.run_script("beat", "w", 0, 0, str(task.lease), lease_ms=5000)
    assert leaks(store) == []
