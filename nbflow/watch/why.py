"""Why a step is not running: the one reason, from what its run's events tell and what the server knows of queues, workers
and limits. Each step has an answer, always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nbflow.errors import CommandRefused, nearest
from nbflow.model.ids import split_task, step_id
from nbflow.model.view import StepView, TaskView, View
from nbflow.picture.flow_picture import FlowPicture, PictureEdge
from nbflow.store.obstacles import Obstacle, Obstacles, clock
from nbflow.watch.questions import tasks_of

__all__ = ["Reason", "reason_of", "reasons"]

OVERDUE_MS = 10_000
"""What is due for so long, nobody attends to."""
_ORDER = ("running", "queued", "retrying", "awaiting", "failed", "canceled", "completed")
_IDLE = "nobody attends to it: no supervisor or worker is connected"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step, or one task of it, is not running: a stable word, and a sentence."""

    step: str
    task: str
    status: str
    cause: str
    text: str


def reasons(view: View, picture: FlowPicture, obstacles: Obstacles | None) -> list[Reason]:
    """One for each step, in the order of the flow."""
    return [reason_of(view, picture, obstacles, node.name) for node in picture.steps]


def reason_of(view: View, picture: FlowPicture, obstacles: Obstacles | None, what: str) -> Reason:
    """Of a step, or of a task such as `parse[7]` or `parse[b.csv]`. `CommandRefused` if the run has no such step, or has
    ended without such a task."""
    step = split_task(what)[0] if "[" in what else what
    names = [node.name for node in picture.steps]
    if step not in names:
        raise CommandRefused(f"The run has no step {step!r}.", hint=nearest(step, names))
    found = view.steps.get(step) or StepView(step)
    task = next(iter(tasks_of(view, what)), None) if "[" in what else _foremost(view, found)
    if task is None and view.ended and found.total:
        known = [one.task for one in view.tasks.values() if one.step == step]
        raise CommandRefused(f"The run has no task {what!r}.", hint=nearest(what, known))
    told = _of_task(view, task, obstacles) if task else _of_step(view, picture, found)
    status = task.status if task else "skipped" if found.skipped else "pending"
    return Reason(step, task.task if task else "", status, told.cause, told.text)


def _foremost(view: View, step: StepView) -> TaskView | None:
    """The task that is nearest to running; of several the first."""
    for status in _ORDER:
        if step.counts.get(status):
            return next(task for task in view.tasks.values() if task.step == step.name and task.status == status)
    return None


def _of_task(view: View, task: TaskView, obstacles: Obstacles | None) -> Obstacle:
    last = task.last
    if view.ended and task.status in ("queued", "running", "retrying", "awaiting"):
        return Obstacle("ended", f"the run is {view.status}{_because(view)}")
    match task.status:
        case "completed":
            return Obstacle("completed", f"it completed{_taken(task)}")
        case "failed":
            return Obstacle("failed", f"it failed: {last.error if last else 'it says not why'}")
        case "canceled":
            return Obstacle("canceled", f"it was canceled{_because(view)}")
        case "awaiting" if task.awaiting.get("kind") == "child":
            return _of_child(task, obstacles)
        case "awaiting":
            return Obstacle("held", f"it waits for {task.waits_for}")
        case _ if obstacles is None or last is None:
            return Obstacle(task.status, f"it is {task.status}")
        case "running":
            return _running(last.worker, last.started_ms, obstacles)
        case "retrying":
            return _retrying(step_id(view.run_id, task.task, last.attempt), last.error, view, task, obstacles)
        case _:
            return obstacles.of_queued(step_id(view.run_id, task.task, last.attempt))


def _of_child(task: TaskView, obstacles: Obstacles | None) -> Obstacle:
    status = "" if obstacles is None else obstacles.status_of(str(task.awaiting.get("run", "")))
    return Obstacle("child", f"it waits for {task.waits_for}" + (f", which is {status}" if status else ""))


def _running(worker: str, started_ms: int | None, obstacles: Obstacles) -> Obstacle:
    lease_ms = obstacles.lease_ms(worker)
    if lease_ms is None or obstacles.now_ms() > lease_ms + OVERDUE_MS:
        return Obstacle("lost", f"its worker {worker} is gone, and {_IDLE}")
    since = f" since {clock(started_ms)}" if started_ms else ""
    return Obstacle("running", f"it is running on {worker}{since}")


def _retrying(job: str, error: str, view: View, task: TaskView, obstacles: Obstacles) -> Obstacle:
    number = int(job.rpartition("-")[2])
    due_ms = obstacles.due_ms(f"retry {step_id(view.run_id, task.task, number + 1)}")
    due_ms = due_ms if due_ms is not None else obstacles.due_ms(f"retry {job}")  # Retry.later is the same attempt
    if due_ms is None:
        return Obstacle("retrying", "its next attempt is about to be queued")
    if obstacles.now_ms() > due_ms + OVERDUE_MS:
        return Obstacle("overdue", f"its next attempt was due at {clock(due_ms)}, and {_IDLE}")
    return Obstacle("retrying", f"it is tried again at {clock(due_ms)}, after: {error}")


def _of_step(view: View, picture: FlowPicture, step: StepView) -> Obstacle:
    if step.skipped:
        text = "something before it failed" if step.skipped == "short" else "its branch was not taken"
        return Obstacle("skipped", f"it is skipped: {text}")
    if view.ended:
        return Obstacle("ended", f"the run is {view.status}{_because(view)}, and the step never was ready")
    due = view.start.get("dueAt")
    if due and not view.steps:
        return Obstacle("delayed", f"the start of the run is delayed until {_moment(str(due))}")
    edges = [edge for edge in picture.edges if edge.target == step.name]
    return _waits(view, picture, edges)


def _waits(view: View, picture: FlowPicture, edges: Sequence[PictureEdge]) -> Obstacle:
    """For which topic of which step; first for one that has not ended."""
    missing = {node.name for node in picture.nodes if node.role == "missing"}
    for edge in edges:
        if edge.source in missing:
            return Obstacle("no_emitter", f"it waits for {edge.topic or edge.source!r}, which no step emits")
    for edge in edges:
        before = view.steps.get(edge.source) or StepView(edge.source)
        if before.status not in ("completed", "skipped", "failed", "canceled"):
            topic = f"the topic {edge.topic!r} of step" if edge.topic else f"{edge.form or 'the result'} of step"
            return Obstacle("waiting", f"it waits for {topic} {edge.source!r}, which is {before.status}")
    if edges:
        sources = " and ".join(dict.fromkeys(repr(edge.source) for edge in edges))
        return Obstacle(
            "waiting", f"it waits for what {sources} may still lead to; all of their tasks so far have ended"
        )
    return Obstacle("starting", "it is about to be queued")


def _taken(task: TaskView) -> str:
    if task.uncached:
        return f", and its end is not kept for other runs, because of {task.uncached}"
    if not task.taken:
        return ""
    run, how = str(task.taken["run"])[:8], "kept by cache=" if task.taken["how"] == "cached" else "gone on from"
    return f": its result is that of the run {run}, {how}, and nothing was executed"


def _because(view: View) -> str:
    why = str(view.end.get("error") or view.end.get("reason") or "")
    return f" ({why})" if why else ""


def _moment(text: str) -> str:
    try:
        return clock(int(datetime.fromisoformat(text).timestamp() * 1000))
    except ValueError:
        return text
