"""What there is: runs, flows, queues and workers, looked up in the indexes that the scripts keep.

Every answer costs O(what it shows): sorted sets are walked in pages, newest first, never `KEYS` or `SCAN`. A filter that
few runs fit looks at `FARTHEST` of them at most, and then says what it found.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from nbflow.errors import CommandRefused, UnknownRun, nearest
from nbflow.model.ids import RunId, is_queue_name
from nbflow.store.connect import translated
from nbflow.store.keys import Keys
from nbflow.store.obstacles import Obstacles

if TYPE_CHECKING:
    from nbflow.store.connect import Store

__all__ = ["FARTHEST", "STATUSES", "FlowRow", "Index", "QueueRow", "RunRow", "WorkerRow"]

FARTHEST = 10_000
"""So many runs are looked at for one answer."""

PAGE = 200
STATUSES = ("running", "awaiting", "completed", "failed", "canceled")
Scored = tuple[str, float]

_RUN_FIELDS = ("flow", "status", "started", "ended", "tags", "key", "bundle", "by", "due")
_WORKER_FIELDS = (
    "hostname",
    "pid",
    "queues",
    "state",
    "current_job",
    "last_heartbeat",
    "birth",
    "successful_job_count",
    "failed_job_count",
    "total_working_time",
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the index knows it. Times are milliseconds since 1970."""

    id: str
    flow: str
    status: str
    started_ms: int | None
    ended_ms: int | None
    tags: tuple[str, ...] = ()
    key: str = ""
    bundle: str = ""
    by: str = ""
    due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A flow that was started at least once: how many runs of it are kept, and the last of them."""

    name: str
    runs: int
    last_run: str
    last_status: str
    last_started_ms: int | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue of RQ: jobs that wait (those with a priority too), jobs that RQ's registry has as started, workers that
    listen to it, whether it is paused."""

    name: str
    waiting: int
    started: int
    workers: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as it is registered with RQ."""

    name: str
    hostname: str
    pid: int | None
    queues: tuple[str, ...]
    state: str
    current_job: str
    last_heartbeat: str
    birth: str
    completed: int
    failed: int
    working_s: float


class Index:
    """Answers what there is in a namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def _text(self) -> Any:
        """The client, asked for each time (a forked child has its own). redis-py leaves replies untyped: each is given
        its type where it is taken."""
        return self._store.text

    def runs(
        self,
        *,
        flow: str | None = None,
        status: str | None = None,
        since_ms: int | None = None,
        tag: str | None = None,
        stalled: bool | None = None,
        parent: str | None = None,
        limit: int = 50,
    ) -> list[RunRow]:
        """Runs, the latest start first (with `status` alone: the latest end first, for runs that have ended)."""
        if status is not None and status not in STATUSES:
            raise CommandRefused(f"No run is {status!r}.", hint=nearest(status, STATUSES))
        if stalled and status is None:
            status = "running"
        among = self._newest(self._indexes(flow, status), since_ms) if parent is None else self._started_by(parent)
        ids = islice(among, FARTHEST)
        found: list[RunRow] = []
        while len(found) < limit and (
            chunk := list(islice(ids, max(limit, PAGE) if status or tag or parent else limit))
        ):
            found += [
                row
                for row in self._rows(chunk)
                if _fits(row, status, since_ms, tag) and flow in (None, row.flow) and self._is_so(row, stalled)
            ]
        return found[:limit]

    def _started_by(self, parent: str) -> Iterator[str]:
        """The runs that it started, the last first."""
        with translated(self._store.url):
            found = self._text.zrevrange(self._store.keys.children(parent), 0, FARTHEST - 1)
        yield from cast("list[str]", found)

    def _is_so(self, row: RunRow, stalled: bool | None) -> bool:
        """Whether the run is stalled, or is not, as was asked."""
        if stalled is None:
            return True
        return stalled == (row.status == "running" and Obstacles(self._store).stalled(row.id) is not None)

    def now_ms(self) -> int:
        """What time it is by the server's clock, which alone counts."""
        with translated(self._store.url):
            seconds, microseconds = cast("tuple[int, int]", self._text.time())
        return seconds * 1000 + microseconds // 1000

    def ended_before(self, status: str, before_ms: int) -> Iterator[RunRow]:
        """Runs of a status that ended before that time, the oldest first. They may be deleted while one goes through."""
        with translated(self._store.url):
            ids = cast("list[str]", self._text.zrangebyscore(self._store.keys.runs(status), "-inf", f"({before_ms}"))
        for at in range(0, len(ids), PAGE):
            yield from self._rows(ids[at : at + PAGE])

    def run(self, run_id: str) -> RunRow:
        """One run; `UnknownRun` if there is none of that id."""
        rows = self._rows([run_id])
        if not rows:
            raise _unknown(run_id)
        return rows[0]

    def resolve(self, prefix: str) -> RunId:
        """The id that a person means: a whole one, or the beginning of exactly one of the newest runs."""
        with translated(self._store.url):
            if prefix and self._text.exists(self._store.keys.run(prefix)):
                return RunId(prefix)
        newest = islice(self._newest(self._indexes(None, None), None), FARTHEST)
        found = [run_id for run_id in newest if prefix and run_id.startswith(prefix)]
        if len(found) == 1:
            return RunId(found[0])
        if found:
            shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
            raise UnknownRun(
                f"{len(found)} runs begin with {prefix!r}: {shown}.", hint="Give more digits of the one you mean."
            )
        raise _unknown(prefix)

    def flows(self) -> list[FlowRow]:
        """Every flow that has a run, by name."""
        names, keys = sorted(self._flow_names()), self._store.keys
        with translated(self._store.url), self._text.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(keys.flow_runs(name))
                pipe.zrevrange(keys.flow_runs(name), 0, 0)
            replies = cast("list[Any]", pipe.execute())
        counts, heads = replies[::2], [head[0] if head else "" for head in replies[1::2]]
        rows = {row.id: row for row in self._rows([head for head in heads if head])}
        return [_flow_row(name, count, rows.get(head)) for name, count, head in zip(names, counts, heads, strict=True)]

    def queues(self) -> list[QueueRow]:
        """The queues of this namespace, by name."""
        text, prefix = self._text, self._store.keys.rq_queue("")
        with translated(self._store.url):
            known = cast("set[str]", text.smembers(Keys.rq_queues()))
            paused = cast("set[str]", text.smembers(self._store.keys.paused()))
            mine = (key[len(prefix) :] for key in known if key.startswith(prefix))
            named = {name for name in mine if is_queue_name(name)}  # with a colon it is another namespace's
            names = sorted(named | paused)
            with text.pipeline(transaction=False) as pipe:
                for name in names:
                    full = self._store.keys.rq_queue_name(name)
                    pipe.llen(self._store.keys.rq_queue(name))
                    pipe.zcard(Keys.rq_started(full))
                    pipe.scard(Keys.rq_workers(full))
                    pipe.zcard(self._store.keys.priorities(name))
                replies = cast("list[int]", pipe.execute())
        told = (replies[at : at + 4] for at in range(0, len(replies), 4))
        return [
            QueueRow(name, listed + beside, started, workers, name in paused)
            for name, (listed, started, workers, beside) in zip(names, told, strict=True)
        ]

    def workers(self) -> list[WorkerRow]:
        """All workers that are registered with RQ on this server, by name."""
        text = self._text
        with translated(self._store.url):
            keys = sorted(cast("set[str]", text.smembers(Keys.rq_workers())))
            with text.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(key, _WORKER_FIELDS)
                replies = cast("list[list[str | None]]", pipe.execute())
        return [_worker_row(key, values) for key, values in zip(keys, replies, strict=True) if any(values)]

    def _flow_names(self) -> set[str]:
        with translated(self._store.url):
            return cast("set[str]", self._text.smembers(self._store.keys.flows()))

    def _indexes(self, flow: str | None, status: str | None) -> list[str]:
        """The sorted sets that hold what is asked for: those of the flows go by start, those of a status by end."""
        keys = self._store.keys
        if flow is not None:
            return [keys.flow_runs(flow)]
        if status is not None:
            return [keys.runs("running" if status == "awaiting" else status)]
        return [keys.flow_runs(name) for name in sorted(self._flow_names())]

    def _newest(self, indexes: list[str], since_ms: int | None) -> Iterator[str]:
        """Ids of several indexes as one sequence by falling score; a run that starts meanwhile is not given twice."""
        size = PAGE if len(indexes) < 10 else 20
        with translated(self._store.url), self._text.pipeline(transaction=False) as pipe:
            for index in indexes:
                pipe.zrevrangebyscore(index, "+inf", since_ms or "-inf", 0, size, withscores=True)
            firsts = cast("list[list[Scored]]", pipe.execute())
        walks = [self._walk(index, since_ms, first, size) for index, first in zip(indexes, firsts, strict=True)]
        seen: set[str] = set()
        for run_id, _ in heapq.merge(*walks, key=lambda scored: -scored[1]):
            if run_id not in seen:
                seen.add(run_id)
                yield run_id

    def _walk(self, index: str, since_ms: int | None, page: list[Scored], size: int) -> Iterator[Scored]:
        start = 0
        while page:
            yield from page
            if len(page) < size:
                return
            start += size
            with translated(self._store.url):
                raw = self._text.zrevrangebyscore(index, "+inf", since_ms or "-inf", start, size, withscores=True)
            page = cast("list[Scored]", raw)

    def _rows(self, ids: Iterable[str]) -> list[RunRow]:
        ids = list(ids)
        with translated(self._store.url), self._text.pipeline(transaction=False) as pipe:
            for run_id in ids:
                pipe.hmget(self._store.keys.run(run_id), _RUN_FIELDS)
            replies = cast("list[list[str | None]]", pipe.execute())
        return [_run_row(run_id, values) for run_id, values in zip(ids, replies, strict=True) if values[0] is not None]


def _fits(row: RunRow, status: str | None, since_ms: int | None, tag: str | None) -> bool:
    return (
        (status is None or row.status == status)
        and (since_ms is None or (row.started_ms or 0) >= since_ms)
        and (tag is None or tag in row.tags)
    )


def _run_row(run_id: str, values: list[str | None]) -> RunRow:
    flow, status, started, ended, tags, key, bundle, by, due = (value or "" for value in values)
    if due and status == "running":
        status = "awaiting"
    times = _number(started), _number(ended)
    return RunRow(run_id, flow, status, *times, _tags(tags), key, bundle, by, _number(due))


def _flow_row(name: str, count: int, last: RunRow | None) -> FlowRow:
    if last is None:
        return FlowRow(name, count, "", "", None)
    return FlowRow(name, count, last.id, last.status, last.started_ms)


def _worker_row(key: str, values: list[str | None]) -> WorkerRow:
    host, pid, queues, state, job, heartbeat, birth, done, failed, working = (value or "" for value in values)
    name, names = key.rpartition(":")[2], tuple(filter(None, queues.split(",")))
    counts = _number(done) or 0, _number(failed) or 0, float(working or 0)
    return WorkerRow(name, host, _number(pid), names, state, job, heartbeat, birth, *counts)


def _number(text: str) -> int | None:
    return int(float(text)) if text else None


def _tags(text: str) -> tuple[str, ...]:
    try:
        tags: Any = json.loads(text) if text else []
    except ValueError:
        return ()
    return tuple(map(str, cast("list[Any]", tags))) if isinstance(tags, list) else ()


def _unknown(prefix: str) -> UnknownRun:
    return UnknownRun(
        f"There is no run {prefix!r}.",
        hint="Look at nbflow.runs(): it may have been deleted, or lie in another namespace.",
    )
