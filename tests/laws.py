"""An independent checker: it reads the streams of runs as the server has them, with no code of nbflow's, and states every
law that is broken, a sentence each. It knows nothing of the flow; what should have come out is the caller's to compare.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

__all__ = ["broken_laws", "history"]

ENDS = {"flow.completed": "completed", "flow.failed": "failed", "flow.cancel": "canceled"}
FINAL = ("step.completed", "step.failed", "step.canceled")
LATE = ("step.canceled", "artifact")
"""What may follow the end of a run, beside logs. (An artifact is told by a task of a failed run that ends a moment later.)"""


@dataclass(slots=True)
class _Task:
    """What a task's events said so far."""

    queued: Counter[int] = field(default_factory=Counter[int])
    started: Counter[int] = field(default_factory=Counter[int])
    retries: list[int] = field(default_factory=list[int])
    recovered: dict[int, int] = field(default_factory=dict[int, int])
    final: list[str] = field(default_factory=list[str])
    completed: int = 0
    emitted: Counter[tuple[str, Any]] = field(default_factory=Counter[tuple[str, Any]])


Entry = tuple[str, str, str, int, dict[str, Any]]


def history(text: Any, run: str, namespace: str = "nbflow") -> list[Entry]:
    """(id, type, task, attempt, data) of each event that decides, in order. `text` is any client that gives text."""
    entries = text.xrange(f"{namespace}:flow:{run}")
    return [(at, f["type"], f["task"], int(f["attempt"]), json.loads(f["data"] or "{}")) for at, f in entries]


def broken_laws(text: Any, run: str, *, namespace: str = "nbflow") -> list[str]:
    """What is wrong with a run that should have ended: nothing, if all is well."""
    told = history(text, run, namespace)
    kept: dict[str, str] = text.hgetall(f"{namespace}:run:{run}")
    check = _Check(run)
    for _, kind, task, attempt, data in told:
        check.see(kind, task, attempt, data)
    check.at_the_end(told, kept)
    logs = {at for at, _ in text.xrange(f"{namespace}:log:{run}")}
    check.law(not logs & {at for at, *_ in told}, "a log and an event have one id")
    return check.broken


class _Check:
    def __init__(self, run: str) -> None:
        self.run = run
        self.broken: list[str] = []
        self.tasks: defaultdict[str, _Task] = defaultdict(_Task)
        self.skipped: Counter[str] = Counter()
        self.starts = 0
        self.ended = ""

    def law(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.broken.append(f"{self.run[:8]}: {sentence}")

    def see(self, kind: str, task: str, attempt: int, data: dict[str, Any]) -> None:
        if kind == "flow.start":
            self.law(not self.starts and not self.tasks, "flow.start is not its first event, or comes twice")
            self.starts += 1
        elif kind in ENDS:
            self.law(not self.ended, f"{kind} after {self.ended}: it ended twice")
            self.ended = kind
        else:
            self.law(bool(self.starts), f"{kind} {task} came before flow.start")
            self.law(not self.ended or kind in LATE, f"{kind} {task} came after {self.ended}")
            if kind == "step.skipped":
                self.skipped[task] += 1
            elif task:
                self._see_task(kind, task, attempt, data)

    def _see_task(self, kind: str, name: str, attempt: int, data: dict[str, Any]) -> None:
        task = self.tasks[name]
        at = f"{name} attempt {attempt}"
        self.law(not task.final or kind in ("emit", "artifact"), f"{kind} of {at} after {task.final}")
        if kind == "step.queued":
            self._see_queued(task, at, attempt, data)
        elif kind == "step.started":
            task.started[attempt] += 1
            self.law(task.started[attempt] <= task.queued[attempt], f"{at} started more often than it was queued")
        elif kind == "step.retry":
            self.law(bool(task.started[attempt]), f"{at} is tried again and never started")
            self.law(attempt not in task.retries, f"{at} is followed by two attempts")
            task.retries.append(attempt)
        elif kind in FINAL:
            self.law(
                kind == "step.canceled" or self._has_run(task, attempt, data), f"{kind} of {at}, which never started"
            )
            task.final.append(kind)
            task.completed = attempt if kind == "step.completed" else 0
        elif kind == "emit":
            self._see_emit(task, at, attempt, data)

    def _see_queued(self, task: _Task, at: str, attempt: int, data: dict[str, Any]) -> None:
        recovered = int(data.get("recovered", 0))
        if recovered:
            self.law(recovered == task.recovered.get(attempt, 0) + 1, f"{at} recovered {recovered}: the count is wrong")
            self.law(bool(task.started[attempt]), f"{at} was given back, and nobody had it")
            task.recovered[attempt] = recovered
        else:
            self.law(not task.queued[attempt], f"{at} was queued twice")
            self.law(attempt == 1 or attempt - 1 in task.retries, f"{at} was queued, and no retry before it")
        task.queued[attempt] += 1

    def _has_run(self, task: _Task, attempt: int, data: dict[str, Any]) -> bool:
        return bool(task.started[attempt] or data.get("reused") or data.get("cached"))

    def _see_emit(self, task: _Task, at: str, attempt: int, data: dict[str, Any]) -> None:
        self.law(task.completed == attempt, f"{at} emitted, and that attempt has not completed")
        what = (str(data.get("name")), str(data.get("index")))
        self.law(not task.emitted[what], f"{at} emitted {what} twice")
        task.emitted[what] += 1

    def at_the_end(self, told: list[Entry], kept: dict[str, str]) -> None:
        self.law(self.starts == 1, f"{self.starts} flow.start among {len(told)} events")
        self.law(bool(self.ended), "it has not ended")
        self.law(
            kept.get("status") == ENDS.get(self.ended), f"its status is {kept.get('status')}, its end {self.ended}"
        )
        self.law(
            int(kept.get("N") or 0) == 0 or self.ended != "flow.completed", f"{kept.get('N')} tasks are outstanding"
        )
        for name, task in self.tasks.items():
            self.law(len(task.final) == 1, f"{name} ended {len(task.final)} times: {task.final}")
            self.law(not self.skipped[name], f"{name} was skipped and was there")
        for name, times in self.skipped.items():
            self.law(times == 1, f"{name} was skipped {times} times")
