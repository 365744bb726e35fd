"""Priorities against a plain model: whatever comes, is claimed, given back and canceled in between, a claim gives the best of
what waits, and of equals the oldest; and RQ's list is never empty while something waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.store.connect import Store
from tests.graphs import flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine
from tests.property.profiles import examples

pytestmark = pytest.mark.timeout(6 * 3600)  # of a proof; a usual run takes seconds

PRIORITIES = st.sampled_from([-100, -3, -2, 0, 0, 0, 2, 3, 100])
LAUNCH = st.tuples(st.just("launch"), st.lists(PRIORITIES, min_size=1, max_size=4))
OTHERS = st.tuples(
    st.sampled_from(["claim", "claim", "claim", "give back", "cancel", "stock", "stranger"]), st.integers(0, 9)
)


class _Model:
    """Waiting tasks by rank. A rank of priority 0 may be taken from the front, by what is given back."""

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[int, int]] = {}
        self.count = self.front = 0

    def come(self, job: str, priority: int) -> None:
        self.count += 1
        self.waiting[job] = -priority, self.count

    def come_back(self, job: str, rank: tuple[int, int]) -> None:
        self.front -= 1
        self.waiting[job] = rank if rank[0] else (0, self.front)

    def best(self) -> str | None:
        return min(self.waiting, key=self.waiting.__getitem__, default=None)


class _Race:
    def __init__(self, store: Store) -> None:
        store.client.flushall()
        self.store, self.model = store, _Model()
        self.machines: dict[str, Machine] = {}
        self.held: dict[str, tuple[Claimed, tuple[int, int]]] = {}
        self.workers = 0
        self.player = Machine(store, flow(step("x"), name="nothing"))

    def launch(self, priorities: list[int]) -> None:
        run = f"r{len(self.machines)}"
        steps = [replace(step(f"s{i}"), priority=priority) for i, priority in enumerate(priorities)]
        machine = self.machines[run] = Machine(self.store, flow(*steps, name=f"f{run}"))
        machine.launch(run)
        for i, priority in enumerate(priorities):
            self.model.come(f"{run}__s{i}__attempt-1", priority)

    def claim(self) -> bool:
        self.workers += 1
        name = f"w{self.workers}"
        self.player.birth(name)
        task, best = self.player.claim(name), self.model.best()
        assert (task and task.job) == best
        if task is not None:
            self.held[name] = task, self.model.waiting.pop(task.job)
        return task is not None

    def give_back(self, which: int) -> None:
        if self.held:
            name = sorted(self.held)[which % len(self.held)]
            task, rank = self.held.pop(name)
            if int(self.store.text.hget(self.store.keys.rq_job(task.job), "recovered") or 0) < 3:
                self.model.come_back(task.job, rank)
            self.store.run_script("giveback", worker=name, cause="")

    def cancel(self, which: int) -> None:
        if self.machines:
            run = sorted(self.machines)[which % len(self.machines)]
            self.store.run_script("cancel", id=run, reason='""', by="{}")
            self.player.slice_all()
            self.model.waiting = {
                job: rank for job, rank in self.model.waiting.items() if not job.startswith(f"{run}__")
            }
            self.held = {name: held for name, held in self.held.items() if held[0].run != run}

    def stock(self) -> None:
        """RQ's own worker: it takes what the head of the list is, which is the best one unless that is of negative priority."""
        job: Any = self.store.text.lpop(self.store.keys.rq_queue("default"))
        best = self.model.best()
        if job is None or not job.startswith("r"):
            self.store.run_script("tick")  # it took a stranger from before one of ours: the next tick lifts that
            return
        assert self.model.waiting[job] == self.model.waiting[best or ""] or self.model.waiting[job][0] > 0
        self.workers += 1
        name = f"w{self.workers}"
        self.player.birth(name)
        self.player.leases += 1
        reply = self.store.run_script("adopt", worker=name, job=job, lease=self.player.leases)
        claimed = Claimed(job, reply[1].decode(), reply[2].decode(), 1, "default", self.player.leases, name, [])
        self.held[name] = claimed, self.model.waiting.pop(job)

    def stranger(self, which: int) -> None:
        """A job of RQ's own in the same queue."""
        self.store.client.hset(f"rq:job:own{which}", mapping={"status": "queued", "origin": "default"})
        self.store.client.rpush(self.store.keys.rq_queue("default"), f"own{which}")

    def see(self) -> None:
        listed: list[str] = self.store.text.lrange(self.store.keys.rq_queue("default"), 0, -1)  # pyright: ignore[reportAssignmentType]
        beside: list[str] = self.store.text.zrange(self.store.keys.priorities("default"), 0, -1)  # pyright: ignore[reportAssignmentType]
        ours = [job for job in (*listed, *beside) if job.startswith("r")]
        assert sorted(ours) == sorted(self.model.waiting)
        assert listed or not self.model.waiting

    def do(self, what: str, how: int) -> None:
        match what:
            case "claim":
                self.claim()
            case "give back":
                self.give_back(how)
            case "cancel":
                self.cancel(how)
            case "stock":
                self.stock()
            case _:
                self.stranger(how)


@examples(150)
@given(st.lists(LAUNCH | OTHERS, max_size=30))
def test_a_claim_gives_the_best_of_what_waits(valkey_store: Store, deeds: list[tuple[str, list[int] | int]]):
    race = _Race(valkey_store)
    for what, how in deeds:
        race.launch(how) if isinstance(how, list) else race.do(what, how)
        race.see()
    while race.claim():
        race.see()
    assert [leak for leak in leaks(valkey_store) if "own" not in leak] == []
