"""Stalled runs against a plain model: whatever happens to workers, queues and tasks, the events say what the model says, in
turn, and each once, however many tick; readers see the same without them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.store.connect import Store
from nbflow.store.obstacles import Obstacles
from tests.graphs import flow, step
from tests.leaks import leaks
from tests.machine import Claimed, Machine
from tests.property.profiles import examples
from tests.site import wait_until

pytestmark = pytest.mark.timeout(6 * 3600)  # of a proof; a usual run takes seconds

QUEUES = {"a": "q0", "b": "q0", "c": "q1"}
ACTS = ["live", "die", "pause", "resume", "suspend", "unsuspend", "claim", "settle", "decline", "tick", "tick"]
MOVES = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 1), st.integers(1, 3)), min_size=5, max_size=40)
MAX_RECOVERIES = 3


class _Model:
    """Each task by its name: `queued`, `declined` (by all who lack its code), or the worker that holds it."""

    def __init__(self) -> None:
        self.tasks = dict.fromkeys(QUEUES, "queued")
        self.recovered = dict.fromkeys(QUEUES, 0)
        self.living: set[str] = set()
        self.lacking: set[str] = set()
        self.paused: set[str] = set()
        self.is_suspended = False

    def serving(self, queue: str) -> set[str]:
        return {worker for worker in self.living if worker == f"w{queue}"}

    def obstacle(self, task: str) -> str | None:
        queue = QUEUES[task]
        if self.tasks[task] not in ("queued", "declined"):
            return None
        if self.is_suspended:
            return "suspended"
        if queue in self.paused:
            return "paused"
        if not self.serving(queue):
            return "no_worker"
        return "cannot_open" if self.tasks[task] == "declined" and self.serving(queue) <= self.lacking else None

    @property
    def stalled(self) -> str | None:
        told = [(self.obstacle(task), QUEUES[task]) for task in sorted(self.tasks)]
        return f"{told[0][0]} {told[0][1]}" if told and all(cause for cause, _ in told) else None

    def lose(self, worker: str) -> None:
        for task in [task for task, at in self.tasks.items() if at == worker]:
            self.recovered[task] += 1
            self.tasks[task] = "queued"
            if self.recovered[task] > MAX_RECOVERIES:
                del self.tasks[task]


class _Play:
    def __init__(self, store: Store) -> None:
        store.client.flushall()
        self.store, self.model = store, _Model()
        steps = [step(name, queue=queue) for name, queue in QUEUES.items()]
        self.machine = Machine(store, replace(flow(*steps), stall_after_s=0.001))
        self.machine.launch("r1")
        self.obstacles = Obstacles(store)
        self.held: dict[str, Claimed] = {}
        self.said: list[str] = []

    def live(self, queue: str, _: int) -> None:
        worker, client = f"w{queue}", self.store.client
        self.machine.birth(worker)
        client.sadd(f"rq:workers:{queue}", self.store.keys.rq_worker(worker))
        client.zadd(self.store.keys.workers(), {worker: int(time.time() * 1000) + 600_000})
        self.model.living.add(worker)

    def die(self, queue: str, _: int) -> None:
        worker = f"w{queue}"
        self.store.run_script("giveback", worker=worker, cause="")
        self.model.lose(worker)
        self.model.living.discard(worker)
        self.model.lacking.discard(worker)
        self.held.pop(worker, None)

    def pause(self, queue: str, _: int) -> None:
        self.store.client.sadd(self.store.keys.paused(), queue)
        self.model.paused.add(queue)

    def resume(self, queue: str, _: int) -> None:
        self.store.client.srem(self.store.keys.paused(), queue)
        self.model.paused.discard(queue)

    def suspend(self, *_: Any) -> None:
        self.store.client.set("rq:suspended", 1)
        self.model.is_suspended = True

    def unsuspend(self, *_: Any) -> None:
        self.store.client.delete("rq:suspended")
        self.model.is_suspended = False

    def claim(self, queue: str, _: int) -> None:
        worker, model = f"w{queue}", self.model
        if worker not in model.living or worker in self.held:
            return
        self.machine.queues = [queue]
        task = self.machine.claim(worker)
        if task is not None:
            self.held[worker] = task
            model.tasks[task.task] = worker
        elif worker in model.lacking and not model.is_suspended and queue not in model.paused:
            waiting = [name for name, at in model.tasks.items() if at == "queued" and QUEUES[name] == queue]
            model.tasks |= dict.fromkeys(waiting, "declined")

    def settle(self, queue: str, _: int) -> None:
        task = self.held.pop(f"w{queue}", None)
        if task is not None:
            self.machine.settle(task)
            del self.model.tasks[task.task]

    def decline(self, queue: str, _: int) -> None:
        worker = f"w{queue}"
        task = self.held.pop(worker, None)
        if task is not None:
            self.machine.settle(task, outcome="declined", data='{"lacks":"polars","again":300000}')
            self.model.tasks[task.task] = "declined"
            self.model.lacking.add(worker)

    def tick(self, _: str, times: int) -> None:
        """When the time of the run is over, by several at the same moment."""
        end = self.obstacles.now_ms() + 2
        wait_until(lambda: self.obstacles.now_ms() > end)
        told = self.obstacles.stalled("r1") if self.model.tasks else None
        for _time in range(times):
            self.store.client.zadd("nbflow:stalls", {"r1": 1}, xx=True)
            self.store.run_script("tick")
        self.expect()
        assert (told and told.cause) == (self.model.stalled and self.model.stalled.partition(" ")[0])

    def expect(self) -> None:
        now, before = self.model.stalled, self.said[-1] if self.said else ""
        is_flagged = before.startswith("stalled")
        if now and not is_flagged:
            self.said.append(f"stalled {now}")
        elif is_flagged and not now and self.model.tasks:
            self.said.append(before.replace("stalled", "recovered"))
        events = [event for event in self.machine.events() if event.type in ("flow.stalled", "flow.recovered")]
        found = [f"{e.type.removeprefix('flow.')} {e.data['cause']} {e.data['queue']}" for e in events]
        assert found == self.said


@examples(60)
@given(moves=MOVES)
def test_the_events_say_what_the_model_says(store: Store, moves: list[tuple[str, int, int]]) -> None:
    play = _Play(store)
    for act, which, times in moves:
        getattr(play, act)(f"q{which}", times)
        if not play.model.tasks:
            break
    play.tick("q0", 2)
    play.unsuspend()
    for queue in ("q0", "q1"):
        play.die(queue, 1)
    assert leaks(store) == []
