"""What keeps a task from starting, as the server knows it: its queue, the workers, its limits. Reads only, for those who ask
why; nothing here is on the way of a task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from nbflow.model.definition import STALL_AFTER_S
from nbflow.model.waiting import stall_text
from nbflow.store.connect import translated
from nbflow.store.keys import RQ, Keys

if TYPE_CHECKING:
    from nbflow.store.connect import Store

__all__ = ["Obstacle", "Obstacles", "clock"]

SAMPLE = 500
"""So many outstanding tasks of a run are looked at."""
STOPPED = ("suspended", "paused", "no_worker", "cannot_open")
"""Causes that last until somebody acts."""
SHOWN = 3
"""So many holders of a limit, or workers, are named."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason: a stable word, and the sentence for people."""

    cause: str
    text: str


class Obstacles:
    """Looks things up, each when it is asked."""

    def __init__(self, store: Store) -> None:
        self._keys, self._url, self._text = store.keys, store.url, cast("Any", store.text)

    def now_ms(self) -> int:
        """The server's clock, which decides what is due."""
        with translated(self._url):
            seconds, micros = self._text.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def due_ms(self, timer: str) -> int | None:
        """When an entry of the due-set is due."""
        with translated(self._url):
            score = self._text.zscore(self._keys.timers(), timer)
        return None if score is None else int(score)

    def lease_ms(self, worker: str) -> int | None:
        """When the lease of a worker ends; None if it was given up."""
        with translated(self._url):
            score = self._text.zscore(self._keys.workers(), worker)
        return None if score is None else int(score)

    def status_of(self, run: str) -> str:
        """How another run is: `running`, how it ended, or `gone`."""
        with translated(self._url):
            return str(self._text.hget(self._keys.run(run), "status") or "gone")

    def stalled(self, run: str) -> Obstacle | None:
        """Why no outstanding task of a run can go on without somebody acting, for the flow's `stall_after` or longer; None
        if one can. A live lease, a wait, a retry to come, a used-up limit and a place in a served queue are no such
        reasons. (`parts/stalls.lua` decides the same where something ticks. This needs nobody.)"""
        with translated(self._url):
            last = self._text.xrevrange(self._keys.stream(run), count=1)
            free, plan, told = self._text.hmget(self._keys.run(run), "free", "plan", "stalled")
            now_ms, after_ms = self.now_ms(), self._stall_after_ms(plan)
            since_ms = max(int(free or 0), int(last[0][0].partition("-")[0]) if last else 0)
            if told is None and (not last or now_ms - since_ms < after_ms):
                return None
            found: Obstacle | None = None
            for job in sorted(self._text.srandmember(self._keys.open(run), SAMPLE)):
                obstacle = self._of_open(job, now_ms, after_ms)
                if obstacle is None:
                    return None
                found = found or obstacle
            return found

    def _stall_after_ms(self, plan: str | None) -> int:
        limits: dict[str, Any] = json.loads(self._text.hget(self._keys.plan(plan or ""), "limits") or "{}")
        return int(limits.get("stall", STALL_AFTER_S * 1000))

    def _of_open(self, job: str, now_ms: int, after_ms: int) -> Obstacle | None:
        status, worker = self._text.hmget(self._keys.rq_job(job), "status", "worker_name")
        if status == "started":
            lease_ms = self.lease_ms(str(worker))
            is_over = lease_ms is not None and now_ms - lease_ms > after_ms
            return Obstacle("lost", f"the worker {worker} is gone, and nobody attends to it") if is_over else None
        if status == "scheduled":
            due_ms = self.due_ms(f"retry {job}")
            is_over = due_ms is not None and now_ms - due_ms > after_ms
            return Obstacle("overdue", "an attempt is overdue, and nobody attends to it") if is_over else None
        told = self.of_queued(job) if status == "queued" else None
        return told if told is not None and told.cause in STOPPED else None

    def of_queued(self, job: str) -> Obstacle:
        """The one reason why a queued task has not started."""
        names = ("status", "lim", "line", "declined", "origin")
        with translated(self._url):
            status, lim, line, declined, origin = self._text.hmget(self._keys.rq_job(job), names)
            if origin is None:
                return Obstacle("queued", "it was queued, and has gone on since")
            queue = str(origin).removeprefix(self._keys.queue_prefix)
            stopped = self._stopped(queue)
            workers = self._live_workers(queue)
            if stopped is not None:
                return stopped
            if not workers:
                return Obstacle("no_worker", stall_text("no_worker", queue))
            lacks = self._lacks(workers, declined) if declined else {}
            if lacks and lacks.keys() == workers:
                told = "; ".join(f"{worker}: {why}" for worker, why in sorted(lacks.items())[:SHOWN])
                return Obstacle("cannot_open", f"{stall_text('cannot_open', queue)} ({told})")
            if line and status == "queued" and (used := self._used_up(line, str(lim))):
                return used
            return self._place(job, queue, len(workers))

    def _stopped(self, queue: str) -> Obstacle | None:
        if self._text.exists(f"{RQ}:suspended"):
            return Obstacle("suspended", stall_text("suspended", queue))
        if self._text.sismember(self._keys.paused(), queue):
            return Obstacle("paused", stall_text("paused", queue))
        return None

    def _live_workers(self, queue: str) -> set[str]:
        registered = self._text.smembers(Keys.rq_workers(self._keys.rq_queue_name(queue)))
        living = self._text.zrangebyscore(self._keys.workers(), self.now_ms(), "+inf")
        return {key.rpartition(":")[2] for key in registered} & set(living)

    def _lacks(self, workers: set[str], bundle: str) -> dict[str, str]:
        """Which of the workers cannot open the code, and what they lack."""
        names = sorted(workers)
        texts = self._text.hmget(f"{self._keys.namespace}:lacking", names)
        lacking = {
            name: cast("dict[str, Any]", json.loads(text)) for name, text in zip(names, texts, strict=True) if text
        }
        return {name: str(told[bundle][1]) for name, told in lacking.items() if bundle in told}

    def _used_up(self, line: str, lim: str) -> Obstacle | None:
        """Of the limit in whose line it waits; None if there is room again."""
        found = next((part.split(",")[1:] for part in lim.split(" ") if part.partition(",")[0] == line), None)
        if found is None:
            return None
        most, *per_ms = map(int, found)
        key, what = f"{self._keys.namespace}:limit:{line}", _limited(line)
        if per_ms:
            starts = self._text.zrevrange(key, most - 1, most - 1, withscores=True)
            until = int(starts[0][1]) + per_ms[0] if starts else 0
            if until <= self.now_ms():
                return None
            return Obstacle(
                "rate", f"the rate of {what}, {most} in {per_ms[0] / 1000:g} s, is used up until {clock(until)}"
            )
        held = sorted(self._text.smembers(key))
        if len(held) < most:
            return None
        named = ", ".join(self._named(one.rpartition(":")[0]) for one in held[:SHOWN])
        more = f" and {len(held) - SHOWN} more" if len(held) > SHOWN else ""
        return Obstacle("limit", f"the concurrency of {what}, {most} at once, is used up by {named}{more}")

    def _named(self, job: str) -> str:
        run, task = self._text.hmget(self._keys.rq_job(job), "run", "task")
        return f"{task} of run {str(run)[:8]}"

    def _place(self, job: str, queue: str, workers: int) -> Obstacle:
        listed = self._keys.rq_queue(queue)
        place = self._text.lpos(listed, job)
        if place is None:
            rank = self._text.zrank(self._keys.priorities(queue), job)
            place = 0 if rank is None else int(self._text.llen(listed)) + rank
        behind = "is next in" if not place else f"waits behind {place} other{'' if place == 1 else 's'} in"
        served = f"{workers} live worker{'' if workers == 1 else 's'}"
        return Obstacle("queued", f"it {behind} the queue {queue!r}, which {served} serve{'s' if workers == 1 else ''}")


def _limited(limit: str) -> str:
    """What a limit bounds: `c:shop`, `c:shop:book:=ada`."""
    _, flow, *rest = limit.split(":")
    step, key = (*rest, "", "")[:2]
    what = f"step {step!r}" if step else f"flow {flow!r}"
    return f"{what} for {key[1:]!r}" if key.startswith("=") else what


def clock(ms: int) -> str:
    """A moment for people."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
