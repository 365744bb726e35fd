"""Listing what there is: runs by filter, ids by prefix, flows, queues, workers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from nbflow.errors import CommandRefused, UnknownRun
from nbflow.store.connect import Store
from nbflow.store.index import Index


@pytest.fixture(params=["nbflow", "other"])
def store(server: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    store = Store(server, request.param)
    yield store
    store.client.flushall()
    store.close()


def _add(
    store: Store, run: str, *, flow: str = "etl", at: int, status: str = "running", tags: tuple[str, ...] = ()
) -> None:
    keys, text = store.keys, store.text
    fields = {"flow": flow, "status": status, "started": at, "tags": json.dumps(tags), "key": "", "by": '"me"'}
    ended = {} if status == "running" else {"ended": at + 5}
    with text.pipeline() as pipe:
        pipe.hset(keys.run(run), mapping={**fields, **ended})
        pipe.sadd(keys.flows(), flow)
        pipe.zadd(keys.flow_runs(flow), {run: at})
        pipe.zadd(keys.runs(status), {run: ended.get("ended", at)})
        pipe.execute()


def test_runs_of_all_flows_are_one_list_newest_first(store: Store) -> None:
    for n in range(60):
        _add(store, f"a{n:03}", flow=f"flow{n % 13}", at=1000 + n)
    index = Index(store)
    assert [row.id for row in index.runs(limit=25)] == [f"a{n:03}" for n in range(59, 34, -1)]
    assert [row.id for row in index.runs(flow="flow2", limit=2)] == ["a054", "a041"]
    assert [row.id for row in index.runs(since_ms=1058)] == ["a059", "a058"]
    assert len(index.runs(limit=1000)) == 60


def test_filters_go_together(store: Store) -> None:
    for n in range(500):
        status = ("running", "completed", "failed")[n % 3]
        _add(
            store, f"b{n:03}", flow=("etl", "ml")[n % 2], at=n, status=status, tags=("nightly",) if n % 50 == 0 else ()
        )
    index = Index(store)
    assert [row.id for row in index.runs(status="failed", limit=2)] == ["b497", "b494"]
    assert [row.id for row in index.runs(flow="ml", status="failed", limit=2)] == ["b497", "b491"]
    assert [row.id for row in index.runs(tag="nightly", limit=3)] == ["b450", "b400", "b350"]
    assert [row.id for row in index.runs(tag="nightly", status="running")] == ["b450", "b300", "b150", "b000"]
    assert [row.id for row in index.runs(tag="nightly", since_ms=400)] == ["b450", "b400"]
    assert index.runs(flow="nope") == []
    row = index.runs(status="completed", limit=1)[0]
    assert (row.id, row.flow, row.started_ms, row.ended_ms, row.tags) == ("b499", "ml", 499, 504, ())


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    """Law: a unique beginning is enough, and an ambiguous one names what it could be."""
    for n, run in enumerate(("abc1", "abc2", "abd3", "ab")):
        _add(store, run, flow=f"f{n % 2}", at=n)
    index = Index(store)
    assert index.resolve("abd") == "abd3"
    assert index.resolve("ab") == "ab"  # a whole id is never ambiguous
    with pytest.raises(UnknownRun, match=r"2 runs begin with 'abc': abc[12], abc[12]\. Give more"):
        index.resolve("abc")
    for unknown in ("x", ""):
        with pytest.raises(UnknownRun, match="There is no run"):
            index.resolve(unknown)
    assert index.run("abc1").flow == "f0"
    with pytest.raises(UnknownRun):
        index.run("abc")


def test_a_run_that_was_deleted_is_left_out(store: Store) -> None:
    _add(store, "r1", at=1)
    _add(store, "r2", at=2)
    store.client.delete(store.keys.run("r2"))
    assert [row.id for row in Index(store).runs()] == ["r1"]


def test_flows_tell_how_many_runs_they_have_and_of_the_last(store: Store) -> None:
    _add(store, "r1", at=1, status="failed")
    _add(store, "r2", at=2, status="completed")
    _add(store, "r3", flow="ml", at=3)
    assert [
        (row.name, row.runs, row.last_run, row.last_status, row.last_started_ms) for row in Index(store).flows()
    ] == [
        ("etl", 2, "r2", "completed", 2),
        ("ml", 1, "r3", "running", 3),
    ]


def test_queues_are_those_of_the_namespace(store: Store) -> None:
    text, keys = store.text, store.keys
    for queue, waiting in (("default", 2), ("gpu", 0)):
        text.sadd("rq:queues", keys.rq_queue(queue))
        for n in range(waiting):
            text.rpush(keys.rq_queue(queue), f"job{n}")
    text.zadd(f"rq:wip:{keys.rq_queue_name('gpu')}", {"job9": 1})
    text.sadd(f"rq:workers:{keys.rq_queue_name('gpu')}", "rq:worker:w1")
    rows = [(row.name, row.waiting, row.started, row.workers) for row in Index(store).queues()]
    assert rows == [("default", 2, 0, 0), ("gpu", 0, 1, 1)]


def test_workers_are_read_as_rq_registers_them(store: Store) -> None:
    text = store.text
    text.sadd("rq:workers", "rq:worker:w1", "rq:worker:gone")
    fields = {"hostname": "host", "pid": "12", "queues": "default,gpu", "state": "busy", "current_job": "j1"}
    times = {"birth": "2026-01-01T00:00:00.000000Z", "last_heartbeat": "2026-01-01T00:00:01.000000Z"}
    text.hset("rq:worker:w1", mapping={**fields, **times, "successful_job_count": "3", "total_working_time": "2.5"})
    (row,) = Index(store).workers()
    assert (row.name, row.pid, row.queues, row.state, row.completed, row.failed, row.working_s) == (
        "w1",
        12,
        ("default", "gpu"),
        "busy",
        3,
        0,
        2.5,
    )


def test_an_empty_namespace_holds_nothing(store: Store) -> None:
    index = Index(store)
    assert (index.runs(), index.flows(), index.queues(), index.workers()) == ([], [], [], [])


def test_a_status_that_no_run_has_is_refused(store: Store) -> None:
    with pytest.raises(CommandRefused, match=r"No run is 'complete'\. Did you mean 'completed'\?"):
        Index(store).runs(status="complete")
