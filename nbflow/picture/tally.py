"""The numbers that are shown of a run: one record a step, added up from the view in one pass. No text, no drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nbflow.model.view import StepView, TaskView, View

__all__ = ["CELLS", "Tally", "elapsed_at", "elapsed_ms", "strip", "tallies"]

CELLS = 24
_LOUDEST_FIRST = ("failed", "running", "retrying", "awaiting", "queued", "canceled", "completed", "pending")
_LOUDNESS = {status: rank for rank, status in enumerate(_LOUDEST_FIRST)}


@dataclass(slots=True)
class Tally:
    """What all tasks of a step come to. `attempts` is the highest of a task; times are milliseconds since 1970."""

    status: str = "pending"
    total: int = 0
    completed: int = 0
    failed: int = 0
    attempts: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None
    error: str = ""
    skipped: str = ""
    waits_for: str = ""
    taken: int = 0
    """How many took over the end of an earlier one."""
    statuses: list[str] = field(default_factory=list[str])

    @property
    def taken_over(self) -> str:
        """How many of its tasks were not executed, in words; empty if all were."""
        if not self.taken:
            return ""
        return "taken over" if self.taken == self.total else f"{self.taken} of {self.total} taken over"

    def duration_ms(self, now_ms: int | None = None) -> int | None:
        """From the first start to the last end; up to now while it goes on, or `None` where now is not told."""
        end = now_ms if self.status in {"running", "retrying", "queued", "awaiting"} else self.ended_ms
        return None if self.started_ms is None or end is None else max(0, end - self.started_ms)


def tallies(view: View) -> dict[str, Tally]:
    """A record for each step that the view knows, tasks in the order in which they came to be."""
    found = {name: _of_step(step) for name, step in view.steps.items()}
    for task in view.tasks.values():
        tally = found.get(task.step)
        if tally is not None:
            _add(tally, task)
    return found


def elapsed_ms(view: View, now_ms: int | None = None) -> int | None:
    """How long the run took, or has taken so far."""
    return elapsed_at(view)(now_ms)


def elapsed_at(view: View) -> Callable[[int | None], int | None]:
    """The same for any moment, without looking at the view again."""
    started_ms, ended_ms = view.started_ms, view.ended_ms

    def elapsed(now_ms: int | None) -> int | None:
        end = ended_ms if ended_ms is not None else now_ms
        return None if started_ms is None or end is None else max(0, end - started_ms)

    return elapsed


def strip(statuses: Sequence[str], cells: int = CELLS) -> list[str]:
    """At most so many cells for any number of tasks. A cell of several shows the one that one has to look at first."""
    count = len(statuses)
    if count <= cells:
        return list(statuses)
    bounds = [index * count // cells for index in range(cells + 1)]
    return [_loudest(statuses[low:high]) for low, high in pairwise(bounds)]


def _of_step(step: StepView) -> Tally:
    counts = step.counts
    return Tally(step.status, step.total, counts.get("completed", 0), counts.get("failed", 0), skipped=step.skipped)


def _add(tally: Tally, task: TaskView) -> None:
    tally.statuses.append(task.status)
    tally.waits_for = tally.waits_for or task.waits_for
    tally.taken += bool(task.taken)
    if not task.attempts:
        return
    tally.attempts = max(tally.attempts, task.attempts[-1].attempt)
    started, ended = task.attempts[0].started_ms, task.attempts[-1].ended_ms
    if started is not None:
        tally.started_ms = started if tally.started_ms is None else min(tally.started_ms, started)
    if ended is not None:
        tally.ended_ms = ended if tally.ended_ms is None else max(tally.ended_ms, ended)
    if not tally.error and task.status != "completed":
        tally.error = next((one.error for one in reversed(task.attempts) if one.error), "")


def _loudest(statuses: Iterable[str]) -> str:
    return min(set(statuses), key=lambda status: (_LOUDNESS.get(status, 99), status), default="pending")
