"""The fold: events in, what a person sees out. `reduce(view, event)` is the whole of it.

The browser has the same fold in TypeScript; both are held to the files in `tests/golden/`. A fold never fails: an event
it does not know changes nothing but the count and the last id, and one that comes twice (or late) changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from nbflow.model.events import ENDS, Event, id_key
from nbflow.model.waiting import waits_for

__all__ = ["AttemptView", "ChildView", "StepView", "TaskView", "View", "reduce"]

BUSY = ("queued", "running", "retrying")
UNFINISHED = ("queued", "running", "retrying", "awaiting")


@dataclass(slots=True)
class AttemptView:
    """One try of a task. Times are milliseconds since 1970; `None` while it has not come to that."""

    attempt: int
    status: str = "queued"
    worker: str = ""
    queued_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    error: str = ""
    traceback: str = ""
    reason: str = ""
    recovered: int = 0


@dataclass(slots=True)
class TaskView:
    """One execution of a step. `result` is the payload as it was written (undecoded JSON value), or None."""

    task: str
    step: str
    index: str
    key: str = ""
    status: str = "queued"
    attempts: list[AttemptView] = field(default_factory=list[AttemptView])
    result: Any = None
    has_result: bool = False
    emitted: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    progress: dict[str, Any] = field(default_factory=dict[str, Any])
    awaiting: dict[str, Any] = field(default_factory=dict[str, Any])
    """What it waits for, and `since_ms`; empty when it waits for nothing."""
    answered: dict[str, Any] = field(default_factory=dict[str, Any])
    """What ended its last wait: the data of `await.resolved` or `await.timeout`."""
    taken: dict[str, Any] = field(default_factory=dict[str, Any])
    """Whose end it took over: `how` (`reused`, of a run that this one goes on from, or `cached`) and `run`. Empty if it was
    executed."""
    uncached: str = ""
    """Why its end is not kept for other runs, where its step has `cache=`."""

    @property
    def last(self) -> AttemptView | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def waits_for(self) -> str:
        """What it waits for, in a line; empty when it waits for nothing."""
        return waits_for(self.awaiting, int(self.awaiting["since_ms"])) if self.awaiting else ""


@dataclass(slots=True)
class StepView:
    """All tasks of a step: their counts by status, and why it was skipped if it was."""

    name: str
    counts: dict[str, int] = field(default_factory=dict[str, int])
    skipped: str = ""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def status(self) -> str:
        """The one word for the step: what is going on, else how it ended, else `pending`."""
        for status in ("running", "retrying", "awaiting", "queued", "failed", "canceled", "completed"):
            if self.counts.get(status):
                return status
        return "skipped" if self.skipped else "pending"


@dataclass(frozen=True, slots=True)
class ChildView:
    """A run that a task started."""

    run: str
    flow: str
    task: str
    is_awaited: bool


@dataclass(slots=True)
class View:
    """A run as its events tell it so far."""

    run_id: str
    flow_name: str = ""
    status: str = "running"
    started_ms: int | None = None
    ended_ms: int | None = None
    input: Any = None
    start: dict[str, Any] = field(default_factory=dict[str, Any])
    end: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: dict[str, StepView] = field(default_factory=dict[str, StepView])
    tasks: dict[str, TaskView] = field(default_factory=dict[str, TaskView])
    topics: dict[str, int] = field(default_factory=dict[str, int])
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    artifacts: dict[str, Any] = field(default_factory=dict[str, Any])
    stalled: dict[str, Any] = field(default_factory=dict[str, Any])
    """Why nothing of it can go on without somebody acting: `cause` and `queue`; empty while something can."""
    children: list[ChildView] = field(default_factory=list[ChildView])
    events: int = 0
    last_id: str = "0-0"

    @property
    def ended(self) -> bool:
        return self.status in ENDS.values()

    @property
    def shown_status(self) -> str:
        """`awaiting` is no event of its own: it is what a run does when something is held and nothing is under way."""
        tasks = {status for step in self.steps.values() for status, count in step.counts.items() if count}
        is_delayed = not tasks and "dueAt" in self.start
        is_held = "awaiting" in tasks and not tasks.intersection(BUSY)
        return "awaiting" if not self.ended and (is_delayed or is_held) else self.status

    @property
    def has_unfinished(self) -> bool:
        """Whether a task has not ended; after the end of a run, until it is told that it was canceled."""
        return any(step.counts.get(status) for step in self.steps.values() for status in UNFINISHED)


def reduce(view: View, event: Event) -> View:
    """Fold one event into the view, which is changed and returned. Events must come in the order of their ids; one at
    or before `last_id` is a double and is dropped."""
    if id_key(event.id) <= id_key(view.last_id):
        return view
    view.last_id = event.id
    view.events += 1
    ms = id_key(event.id)[0]
    handler = _HANDLERS.get(event.type)
    if handler is not None:
        handler(view, event, ms)
    return view


def _start(view: View, event: Event, ms: int) -> None:
    view.flow_name = event.flow_name
    view.started_ms = ms
    view.start = event.data
    view.input = event.data.get("input")
    state: Any = event.data.get("state")  # what a run that goes on from another begins with
    view.state = {**state} if isinstance(state, dict) else {}


def _end(view: View, event: Event, ms: int) -> None:
    view.status = ENDS[event.type]
    view.ended_ms = ms
    view.end = event.data
    view.stalled = {}


def _stalled(view: View, event: Event, ms: int) -> None:
    view.stalled = event.data


def _recovered(view: View, event: Event, ms: int) -> None:
    view.stalled = {}


def _queued(view: View, event: Event, ms: int) -> None:
    task = _task(view, event)
    attempt = _attempt(task, event.attempt)
    attempt.queued_ms = ms
    attempt.recovered = int(event.data.get("recovered") or attempt.recovered)
    attempt.started_ms = None
    attempt.status = "queued"
    _move(view, task, "queued")


def _started(view: View, event: Event, ms: int) -> None:
    task = _task(view, event)
    attempt = _attempt(task, event.attempt)
    attempt.started_ms, attempt.worker, attempt.status = ms, str(event.data.get("worker", "")), "running"
    _move(view, task, "running")


def _completed(view: View, event: Event, ms: int) -> None:
    task = _task(view, event)
    _ended(task, event, ms, "completed")
    task.has_result, task.result = True, event.data.get("result")
    task.uncached = str(event.data.get("uncached", ""))
    for how in ("reused", "cached"):
        told: Any = event.data.get(how)
        if isinstance(told, dict):
            task.taken = {"how": how, "run": str(cast("dict[str, Any]", told).get("run", ""))}
    _move(view, task, "completed")


def _failed(view: View, event: Event, ms: int) -> None:
    task = _task(view, event)
    _ended(task, event, ms, "failed")
    _move(view, task, "failed")


def _retry(view: View, event: Event, ms: int) -> None:
    task = _task(view, event)
    _ended(task, event, ms, "failed")
    _move(view, task, "retrying")


def _canceled(view: View, event: Event, ms: int) -> None:
    task = _task(view, event)
    _ended(task, event, ms, "canceled")
    _move(view, task, "canceled")


def _registered(view: View, event: Event, ms: int) -> None:
    task = _task(view, event)
    attempt = _attempt(task, event.attempt)
    attempt.status = "awaiting"
    task.awaiting = {**event.data, "attempt": event.attempt, "since_ms": ms}
    _move(view, task, "awaiting")


def _answered(view: View, event: Event, ms: int) -> None:
    task = _task(view, event)
    task.awaiting, task.answered = {}, event.data


def _child(view: View, event: Event, ms: int) -> None:
    told = event.data
    child = ChildView(str(told.get("run", "")), str(told.get("flow", "")), event.task, bool(told.get("awaited")))
    view.children.append(child)


def _skipped(view: View, event: Event, ms: int) -> None:
    _step(view, event.step_name).skipped = str(event.data.get("reason", "skipped"))


def _emit(view: View, event: Event, ms: int) -> None:
    name = str(event.data.get("name", ""))
    view.topics[name] = view.topics.get(name, 0) + int(event.data.get("count", 1))
    task = view.tasks.get(event.task)
    if task is not None:
        task.emitted.append((name, event.data.get("payload")))
        if task.result == {"$emit": name}:  # the result was written once, here
            task.result = event.data.get("payload")


def _progress(view: View, event: Event, ms: int) -> None:
    task = view.tasks.get(event.task)
    if task is not None:
        task.progress = event.data


def _state(view: View, event: Event, ms: int) -> None:
    key = str(event.data.get("key", ""))
    if event.data.get("operation") == "delete":
        view.state.pop(key, None)
    else:
        view.state[key] = event.data.get("value")


def _artifact(view: View, event: Event, ms: int) -> None:
    view.artifacts[str(event.data.get("name", ""))] = event.data.get("ref")


_HANDLERS = {
    "flow.start": _start,
    "flow.completed": _end,
    "flow.failed": _end,
    "flow.cancel": _end,
    "flow.stalled": _stalled,
    "flow.recovered": _recovered,
    "step.queued": _queued,
    "step.started": _started,
    "step.completed": _completed,
    "step.failed": _failed,
    "step.retry": _retry,
    "step.canceled": _canceled,
    "step.skipped": _skipped,
    "await.registered": _registered,
    "await.resolved": _answered,
    "await.timeout": _answered,
    "child.started": _child,
    "emit": _emit,
    "progress": _progress,
    "state": _state,
    "artifact": _artifact,
}


def _ended(task: TaskView, event: Event, ms: int, status: str) -> None:
    attempt = _attempt(task, event.attempt)
    task.awaiting = {}  # of one that was ended by hand, too
    attempt.ended_ms, attempt.status = ms, status
    attempt.error = str(event.data.get("error", ""))
    attempt.traceback = str(event.data.get("traceback", ""))
    attempt.reason = str(event.data.get("reason", ""))


def _step(view: View, name: str) -> StepView:
    step = view.steps.get(name)
    if step is None:
        step = view.steps[name] = StepView(name)
    return step


def _task(view: View, event: Event) -> TaskView:
    task = view.tasks.get(event.task)
    if task is None:
        task = view.tasks[event.task] = TaskView(event.task, event.step_name, event.index, status="")
    if "key" in event.data:
        task.key = str(event.data["key"])
    return task


def _attempt(task: TaskView, number: int) -> AttemptView:
    if not task.attempts or task.attempts[-1].attempt != number:
        task.attempts.append(AttemptView(number))
    return task.attempts[-1]


def _move(view: View, task: TaskView, status: str) -> None:
    counts = _step(view, task.step).counts
    if task.status:
        counts[task.status] -= 1
    counts[status] = counts.get(status, 0) + 1
    task.status = status
