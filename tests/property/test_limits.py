"""Limits against a plain model: whatever is launched, claimed, ended, lost and canceled in between, no limit is passed, no
task waits that may start, and of equals the best comes first. And nothing is left of it at the end. Some tasks are held
before they are queued or after their attempt, and some are declined: then they hold no slot, and a start was none."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.awaits import Approval
from nbflow.model.definition import FlowSpec
from nbflow.model.policy import Concurrency, Rate
from nbflow.store.connect import Store
from nbflow.testing.limits import Limit, Limits
from tests.graphs import flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine
from tests.property.profiles import examples

pytestmark = pytest.mark.timeout(1800)  # of a proof; a usual run takes seconds

HOUR_MS = 3_600_000
QUEUES = ("one", "two")
QUEUE_ORDERS = [["one"], ["two"], ["one", "two"], ["two", "one"]]
CONCURRENCIES = st.sampled_from(
    [None, Concurrency(1), Concurrency(2), Concurrency(1, key="k"), Concurrency(2, key="k")]
)
RATES = st.sampled_from([None, None, Rate(1, "1h"), Rate(3, "1h")])
HOLDS = st.sampled_from(["", "", "before", "after"])
STEPS = st.tuples(CONCURRENCIES, RATES, st.sampled_from(QUEUES), st.sampled_from([0, 0, 0, 5, -5]), HOLDS)
LAUNCH = st.tuples(st.just("launch"), st.integers(0, 2))
DEEDS = st.tuples(
    st.sampled_from(
        [
            *["claim"] * 5,
            *["end"] * 3,
            "retry",
            "decline",
            "look",
            *["answer"] * 2,
            "give back",
            "cancel",
            "time",
            *["by hand"] * 2,
        ]
    ),
    st.integers(0, 9),
)


@dataclass
class Waiting:
    queue: str
    limits: tuple[Limit, ...]
    rank: tuple[int, int]
    hold: str = ""
    is_declined: bool = False
    started_ms: int = 0


class _Race:
    def __init__(self, store: Store, spec: FlowSpec) -> None:
        store.client.flushall()
        self.store, self.spec = store, spec
        self.machine = Machine(store, spec)
        self.limits, self.now_ms = Limits(), 0
        self.waiting: dict[str, Waiting] = {}
        self.held: dict[str, tuple[Claimed, Waiting]] = {}
        self.later: dict[str, Waiting] = {}
        self.asked: dict[str, Waiting] = {}
        self.runs: list[str] = []
        self.lacking: list[str] = []
        self.came = self.workers = 0

    def launch(self, key: int) -> None:
        run = f"r{len(self.runs)}"
        self.runs.append(run)
        self.machine.launch(run, json.dumps({"k": key}))
        for one in self.spec.steps:
            hold = "before" if one.hold else "after" if one.hold_emits else ""
            new = Waiting(one.queue, tuple(self._limits(one.name, key)), (-one.priority, 0), hold)
            if hold == "before":
                self.asked[f"{run}__{one.name}__attempt-1"] = new
            else:
                self._enter(f"{run}__{one.name}__attempt-1", new)

    def _enter(self, job: str, one: Waiting) -> None:
        self.came += 1
        self.waiting[job] = replace(one, rank=(one.rank[0], self.came))

    def _limits(self, name: str, key: int) -> list[Limit]:
        one, found = self.spec.step(name), list[Limit]()
        for scope, concurrency in (("f:", self.spec.concurrency), (f"f:{name}", one.concurrency)):
            if concurrency is not None:
                suffix = f"{'' if scope == 'f:' else ':'}:={key}" if concurrency.key else ""
                found.append(Limit(f"c:{scope.removesuffix(':') if not suffix else scope}{suffix}", concurrency.n))
        if one.rate is not None:
            found.append(Limit(f"r:f:{name}", one.rate.n, HOUR_MS))
        return found

    def claim(self, queues: list[str]) -> bool:
        self.workers += 1
        name = f"w{self.workers}"
        self.machine.queues = queues
        self.machine.birth(name)
        task = self.machine.claim(name)
        able = {
            job: one
            for job, one in self.waiting.items()
            if one.queue in queues and self.limits.may_start(one.limits, self.now_ms)
        }
        assert (task is not None) == bool(able), f"{task} of {sorted(able)}"
        if task is not None:
            self._begin(name, task, able)
        return task is not None

    def _begin(self, name: str, task: Claimed, able: dict[str, Waiting]) -> None:
        one = able[task.job]  # no limit is passed
        before = [job for job, other in able.items() if other.rank < one.rank and other.queue == one.queue]
        same = [job for job in before if set(able[job].limits) == set(one.limits) and not able[job].is_declined]
        assert one.is_declined or not same, f"{task.job} before {same}"
        del self.waiting[task.job]
        self.limits.start(name, one.limits, self.now_ms)
        self.held[name] = task, replace(one, started_ms=self.now_ms)

    def _take(self, which: int) -> tuple[str, Claimed, Waiting] | None:
        if not self.held:
            return None
        name = sorted(self.held)[which % len(self.held)]
        task, one = self.held.pop(name)
        self.limits.end(name, one.limits)
        return name, task, one

    def end(self, which: int) -> None:
        if taken := self._take(which):
            assert self.machine.settle(taken[1]) == ("OK", None)
            if taken[2].hold == "after":
                self.asked[taken[1].job] = taken[2]

    def answer(self, which: int) -> None:
        if not self.asked:
            return
        job = sorted(self.asked)[which % len(self.asked)]
        one, run = self.asked.pop(job), job.partition("__")[0]
        named = {"id": run, "job": job, "position": one.hold, "nonce": job, "by": "{}", "data": "1"}
        assert self.store.run_script("resolve", **named) == [b"OK"]
        if one.hold == "before":
            self._enter(job, one)

    def decline(self, which: int) -> None:
        """Another worker may take the task, and that it started is forgotten."""
        if taken := self._take(which):
            name, task, one = taken
            self.lacking.append(name)
            assert self.machine.settle(task, outcome="declined", data='{"lacks":"x","again":60000}') == ("OK", None)
            for limit in one.limits:
                if limit.ms:
                    self.limits.starts[limit.id].remove(one.started_ms)
            self.waiting[task.job] = replace(one, is_declined=True)

    def look(self, which: int) -> None:
        """A worker that cannot open the code of any task claims: it takes none, and hands on what it finds."""
        if not self.lacking:
            return
        self.machine.queues = QUEUE_ORDERS[which % 4]
        assert self.machine.claim(self.lacking[which % len(self.lacking)]) is None
        for job, one in self.waiting.items():
            if one.queue in self.machine.queues:
                self.waiting[job] = replace(one, is_declined=True)

    def retry(self, which: int) -> None:
        if taken := self._take(which):
            _, task, one = taken
            again = task.job.rpartition("-")[0] + f"-{task.attempt + 1}"
            data = json.dumps({"error": "E", "delay": HOUR_MS, "nextAttempt": task.attempt + 1})
            assert self.machine.settle(task, outcome="retry", data=data) == ("OK", None)
            self.later[again] = one

    def give_back(self, which: int) -> None:
        if taken := self._take(which):
            name, task, one = taken
            self.store.run_script("giveback", worker=name, cause="")
            if int(self.store.text.hget(self.store.keys.rq_job(task.job), "recovered") or 9) <= 3:
                self.waiting[task.job] = one

    def cancel(self, which: int) -> None:
        if self.runs:
            run = self.runs[which % len(self.runs)]
            self.store.run_script("cancel", id=run, reason='""', by="{}")
            self.machine.slice_all()
            for name, (task, one) in list(self.held.items()):
                if task.run == run:
                    self.limits.end(name, one.limits)
                    del self.held[name]
            for jobs in (self.waiting, self.later, self.asked):
                for job in [job for job in jobs if job.startswith(f"{run}__")]:
                    del jobs[job]

    def by_hand(self, which: int) -> None:
        """A person cancels, completes or retries one of the tasks, wherever it is."""
        places = [self.waiting, self.later, self.asked, {task.job: one for task, one in self.held.values()}]
        jobs = sorted(job for place in places for job in place)
        if not jobs:
            return
        job, what = jobs[which % len(jobs)], ("cancel", "complete", "retry")[which % 3]
        run, task, attempt = _named(job)
        named = {"run": run, "task": task, "attempt": attempt, "what": what, "data": "{}", "nonce": f"{job}:{which}"}
        reply = self.store.run_script("act", **named)
        if what == "retry" and job in self.waiting:
            assert reply == [b"QUEUED"]
            return
        if what == "retry" and job in self.asked and self.asked[job].hold == "before":
            assert reply == [b"HELD"]
            return
        assert reply == [b"OK"]
        again = job if job in self.later else f"{run}__{task}__attempt-{attempt + 1}"
        one = self._taken_back(job)
        if what == "retry":
            self._enter(again, replace(one, is_declined=False))

    def _taken_back(self, job: str) -> Waiting:
        for place in (self.waiting, self.later, self.asked):
            if job in place:
                return place.pop(job)
        name = next(name for name, (task, _) in self.held.items() if task.job == job)
        task, one = self.held.pop(name)
        self.limits.end(name, one.limits)
        assert self.machine.settle(task)[0] == "AGAIN"  # the worker hears of it, and nothing counts twice
        return one

    def time(self) -> None:
        """An hour goes by: what the server wrote of time is an hour older."""
        client, keys = self.store.client, self.store.keys
        for key in [*self.store.text.scan_iter("nbflow:limit:r:*"), keys.timers()]:
            members: Any = self.store.text.zrange(key, 0, -1)
            for member in members:
                client.zincrby(key, -HOUR_MS, member)
        self.now_ms += HOUR_MS
        due: Any = self.store.text.zrange(keys.timers(), 0, -1)
        self.store.run_script("tick")
        for job in [entry.removeprefix("retry ") for entry in due if entry.startswith("retry ")]:
            self._enter(job, self.later[job])
        self.later.clear()

    def do(self, what: str, how: int) -> None:
        if what == "claim":
            self.claim(QUEUE_ORDERS[how % 4])
        elif what == "time":
            self.time()
        else:
            getattr(self, what.replace(" ", "_"))(how)

    def to_the_end(self) -> None:
        """No task starves: whoever goes on claiming and ending comes to the end of all of them."""
        for _ in range(1000):
            while self.asked:
                self.answer(0)
            if not self.waiting and not self.later and not self.held:
                return
            while self.claim([*QUEUES]):
                pass
            if not self.held:
                self.time()
            while self.held:
                self.end(0)
        raise AssertionError(f"these never come to their end: {sorted(self.waiting)}")


def _named(job: str) -> tuple[str, str, int]:
    run, task, attempt = job.split("__")
    return run, task, int(attempt.removeprefix("attempt-"))


@st.composite
def limited_flows(draw: st.DrawFn) -> FlowSpec:
    steps = [
        replace(
            step(f"s{i}", queue=queue),
            concurrency=concurrency,
            rate=rate,
            priority=priority,
            hold=Approval() if hold == "before" else None,
            hold_emits=Approval() if hold == "after" else None,
        )
        for i, (concurrency, rate, queue, priority, hold) in enumerate(draw(st.lists(STEPS, min_size=1, max_size=3)))
    ]
    return replace(flow(*steps), concurrency=draw(CONCURRENCIES))


@examples(150)
@given(limited_flows(), st.lists(LAUNCH | DEEDS, max_size=40))
def test_no_limit_is_passed_and_no_task_waits_in_vain(
    valkey_store: Store, spec: FlowSpec, deeds: list[tuple[str, int]]
):
    race = _Race(valkey_store, spec)
    for what, how in deeds:
        race.do(what, how)
        assert leaks(valkey_store) == []
    race.to_the_end()
    assert leaks(valkey_store) == []
    assert {race.machine.run_field("status", run) for run in race.runs} <= {"completed", "failed", "canceled"}
    left = [
        key
        for kind in ("lines", "aside", "limit:c", "declined")
        for key in valkey_store.text.scan_iter(f"nbflow:{kind}:*")
    ]
    assert left == []
