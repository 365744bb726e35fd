"""What a person does to single tasks of a run in process: when it is done, and what becomes of the task. As `act.lua`."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from nbflow.errors import CommandRefused
from nbflow.testing.code import Code, Execution
from nbflow.testing.decisions import Task
from nbflow.testing.holds import Holds
from nbflow.testing.waits import Alarm
from nbflow.worker.by_hand import ending_by_hand
from nbflow.worker.task import Job

__all__ = ["STATES", "Act", "ByHand", "Places"]

STATES = ("queued", "running", "retrying", "awaiting")
_BY = {"user": "the test"}


@dataclass(frozen=True, slots=True)
class Act:
    """`cancel`, `retry` or `complete`, so long after the task came to be `when`."""

    what: str
    when: str
    after_ms: int = 0
    value: Any = None
    emits: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Places(NamedTuple):
    """Where the unfinished tasks of a run are, beside those that wait for somebody."""

    ready: list[Execution]
    held: list[Execution]
    timers: list[tuple[int, int, Any]]
    awaiting: list[Execution]
    """Those that wait for a run that they started."""


class Moves(Protocol):
    """What the engine does for it."""

    def tell(self, kind: str, execution: Execution, data: dict[str, Any]) -> None: ...
    def later(self, delay_ms: int, what: Execution | Alarm) -> None: ...
    def key_of(self, task: Task) -> str | None: ...
    def queue_task(self, execution: Execution, because: list[str]) -> None: ...
    def try_now(self, execution: Execution) -> None: ...
    def release(self, execution: Execution) -> None: ...
    def job_of(self, execution: Execution) -> Job: ...
    def finish(self, execution: Execution, data: dict[str, Any]) -> None: ...
    def cancel(self, execution: Execution) -> None: ...


class ByHand:
    """The acts that are planned for one run. Each is done once to each task that it names."""

    def __init__(
        self, plan: Mapping[str, Sequence[Act]], code: Code, places: Places, holds: Holds, moves: Moves
    ) -> None:
        self._plan, self._code, self._places, self._holds, self._moves = plan, code, places, holds, moves
        self._seen: dict[tuple[Task, int], int | None] = {}  # when the task is acted on; None once it was

    def act(self, now_ms: int) -> bool:
        """Do the next that is due. Whether there was one."""
        if not self._plan:
            return False
        for state, execution in self._under_way():
            for act in self._due(state, execution, now_ms):
                self._do(act, state, execution)
                return True
        return False

    def _under_way(self) -> Iterator[tuple[str, Execution]]:
        yield from (("queued", execution) for execution in self._places.ready)
        yield from (("running", execution) for execution in self._places.held)
        later = sorted(self._places.timers, key=lambda timer: timer[:2])
        yield from (("retrying", what) for *_, what in later if isinstance(what, Execution))
        yield from (("awaiting", execution) for execution in self._places.awaiting)
        yield from (("awaiting", wait.execution) for wait in self._holds.waits.waiting.values())

    def _due(self, state: str, execution: Execution, now_ms: int) -> Iterator[Act]:
        key, task = self._moves.key_of(execution.task), execution.task
        names = [str(task), *([f"{task.step}[{key}]"] if key else []), task.step]
        for act in (act for name in names for act in self._plan.get(name, ()) if act.when == state):
            mark = task, id(act)
            if mark not in self._seen:
                self._seen[mark] = now_ms + act.after_ms
                if act.after_ms:
                    self._moves.later(act.after_ms, Alarm("look"))
            due_ms = self._seen[mark]
            if due_ms is not None and due_ms <= now_ms:
                self._seen[mark] = None
                yield act

    def _do(self, act: Act, state: str, execution: Execution) -> None:
        if act.what == "retry":
            self._retry(state, execution)
            return
        if act.what == "complete":
            data = self._ending(act, execution)
            self._take_back(state, execution)
            self._moves.finish(execution, data)
            return
        self._take_back(state, execution)
        self._moves.tell("step.canceled", execution, {"reason": "by_hand", "by": _BY})
        self._moves.cancel(execution)

    def _ending(self, act: Act, execution: Execution) -> dict[str, Any]:
        executor, job = self._code.executor, self._moves.job_of(execution)
        given = executor.codec(job).decode(self._code.codec.encode([act.value, dict(act.emits)], name="value"))
        execution.emitted = []  # what it emitted before it waited goes with its result
        execution.ending = ending_by_hand(executor.attempt(job), executor.function(job), *given)
        return json.loads(execution.ending.data) | {"duration": 0, "by": _BY}

    def _retry(self, state: str, execution: Execution) -> None:
        task = execution.task
        wait = self._holds.waits.waiting.get(task)
        if wait is not None and wait.position == "before":
            raise CommandRefused(
                f"The task {str(task)!r} was not tried yet: it waits for what its hold= says.",
                hint=f"End its wait with trial.resolve({str(task)!r}, ...).",
            )
        self._take_back(state, execution)
        if state == "retrying":
            self._moves.try_now(execution)
            return
        told = {"error": "tried again by hand", "traceback": "", "reason": "by_hand", "by": _BY, "delay": 0}
        self._moves.tell("step.retry", execution, told | {"nextAttempt": execution.attempt + 1})
        self._moves.queue_task(Execution(task, execution.attempt + 1), ["retry"])

    def _take_back(self, state: str, execution: Execution) -> None:
        places = self._places
        if state == "queued":
            places.ready.remove(execution)
        elif state == "running":
            places.held.remove(execution)
            self._moves.release(execution)
        elif state == "retrying":
            places.timers[:] = [timer for timer in places.timers if timer[2] is not execution]
            heapq.heapify(places.timers)
        elif execution in places.awaiting:
            places.awaiting.remove(execution)
        else:
            self._holds.waits.end(self._holds.waits.waiting[execution.task])
