"""Tables of what happened, as DataFrames: the only door to pandas, imported when the first table is made.

Each table has a fixed list of columns with fixed dtypes, when it is empty as well, so that what works on a full one
works on an empty one. Texts are `string`, whole numbers that can be missing `Int64`, times `datetime64[ms, UTC]`.
"""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbflow.model.events import Event
from nbflow.model.ids import index_for_people, index_sort_key, split_task
from nbflow.watch.columns import ANY, COUNT, TABLES, TIME
from nbflow.watch.references import references

if TYPE_CHECKING:
    from pandas import DataFrame

    from nbflow.model.schedules import Planned
    from nbflow.model.triggers import Triggering
    from nbflow.model.versions import Version
    from nbflow.model.view import AttemptView, TaskView, View
    from nbflow.store.index import FlowRow, QueueRow, RunRow, WorkerRow
    from nbflow.watch.why import Reason

__all__ = [
    "TABLES",
    "PlanRow",
    "artifacts",
    "attempts",
    "events",
    "findings",
    "flows",
    "logs",
    "metrics",
    "plan",
    "queues",
    "runs",
    "schedules",
    "table",
    "tasks",
    "triggers",
    "versions",
    "why",
    "workers",
]

Row = tuple[Any, ...]


def table(name: str, rows: Iterable[Row]) -> DataFrame:
    """A table of `TABLES` from rows in the order of its columns. `None` is missing; times are ms since 1970, or ISO text."""
    import pandas as pd  # noqa: PLC0415 - `import nbflow` must not load it

    dtypes = TABLES[name]
    columns = list(zip(*rows, strict=True)) or [()] * len(dtypes)
    made = {column: _column(pd, values, dtype) for (column, dtype), values in zip(dtypes.items(), columns, strict=True)}
    return pd.DataFrame(made)


def events(log: Iterable[Event]) -> DataFrame:
    """Events, one a row. What belongs to no task has no `step_name`, `step_id`, `attempt` and `index`."""
    names = _TaskNames()
    return table("events", (_event_row(event, names) for event in log))


def logs(log: Iterable[Event]) -> DataFrame:
    """What steps logged and printed."""
    names = _TaskNames()
    return table(
        "logs",
        (
            (
                *_where(event, names),
                *(_text(event.data.get(key)) for key in ("level", "message", "source")),
                event.data.get("fields") or {},
            )
            for event in log
            if event.type == "log"
        ),
    )


def metrics(log: Iterable[Event]) -> DataFrame:
    """What steps measured; `at` is the `step` of `ctx.metric`, where a series goes on."""
    names = _TaskNames()
    return table(
        "metrics",
        (
            (
                *_where(event, names),
                _text(event.data.get("name")),
                _number(event.data.get("value")),
                _count(event.data.get("step")),
            )
            for event in log
            if event.type == "metric"
        ),
    )


def artifacts(log: Iterable[Event]) -> DataFrame:
    """What does not lie in the events themselves: named artifacts, and those in results and emissions, each once a place."""
    names = _TaskNames()
    return table("artifacts", _artifact_rows(log, names))


def tasks(view: View) -> DataFrame:
    """The tasks of a run with how their last attempt stands."""
    return table("tasks", map(_task_row, view.tasks.values()))


def attempts(view: View) -> DataFrame:
    """Every attempt of every task. `waited_s` is from queued to started."""
    return table("attempts", (_attempt_row(task, attempt) for task in view.tasks.values() for attempt in task.attempts))


def runs(rows: Iterable[RunRow]) -> DataFrame:
    """Runs as the index lists them."""
    return table(
        "runs",
        (
            (
                row.id,
                row.flow,
                row.status,
                row.started_ms,
                row.ended_ms,
                _seconds(row.started_ms, row.ended_ms),
                list(row.tags),
                row.key or None,
            )
            for row in rows
        ),
    )


def flows(rows: Iterable[FlowRow]) -> DataFrame:
    """Flows that have runs."""
    return table(
        "flows",
        ((row.name, row.runs, row.last_run or None, row.last_status or None, row.last_started_ms) for row in rows),
    )


def queues(rows: Iterable[QueueRow]) -> DataFrame:
    """Queues with what waits in them."""
    return table("queues", ((row.name, row.waiting, row.started, row.workers, row.paused) for row in rows))


def why(found: Iterable[Reason]) -> DataFrame:
    """Why each step is not running."""
    return table("why", ((one.step, one.task or None, one.status, one.cause, one.text) for one in found))


def schedules(planned: Iterable[Planned]) -> DataFrame:
    """Schedules, with what became of them so far."""
    return table("schedules", map(_schedule_row, planned))


def triggers(found: Iterable[Triggering]) -> DataFrame:
    """Triggers, a row for each flow that they start."""
    return table("triggers", itertools.chain.from_iterable(map(_trigger_rows, found)))


def versions(found: Iterable[Version]) -> DataFrame:
    """Published versions of a flow, the newest first."""
    return table("versions", map(_version_row, found))


def workers(rows: Iterable[WorkerRow]) -> DataFrame:
    """Workers that are registered."""
    return table("workers", map(_worker_row, rows))


@dataclass(frozen=True, slots=True)
class PlanRow:
    """What would become of a task if its run were resumed: `reuse`, `run` or `depends`. `index` is the wire's text;
    `upstream` are the steps that it waits for."""

    task: str
    step: str
    index: str
    decision: str
    reason: str
    upstream: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        return index_sort_key(self.index)


def plan(rows: Iterable[PlanRow]) -> DataFrame:
    """What a resume would take over and execute, and why."""
    return table(
        "plan",
        (
            (row.task, row.step, index_for_people(row.index), row.decision, row.reason, list(row.upstream))
            for row in rows
        ),
    )


def findings(found: Iterable[Mapping[str, str] | object]) -> DataFrame:
    """What `flow.check()` found: mappings, or objects with the columns as attributes."""
    columns = tuple(TABLES["findings"])
    return table("findings", (tuple(_text(_part(finding, column)) for column in columns) for finding in found))


def _part(finding: Any, column: str) -> Any:
    return finding.get(column) if isinstance(finding, Mapping) else getattr(finding, column, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _column(pd: Any, values: tuple[Any, ...], dtype: str) -> Any:
    if dtype == TIME:
        if any(isinstance(value, str) for value in values):
            return pd.Series(pd.to_datetime(list(values), utc=True, format="ISO8601")).astype(TIME)
        numbers = pd.Series(pd.array(values, dtype=COUNT))
        return pd.to_datetime(numbers, unit="ms", utc=True).astype(TIME)
    if dtype == ANY:
        return pd.Series(list(values), dtype=object)
    return pd.Series(pd.array(values, dtype=dtype))


class _TaskNames(dict[str, tuple[str, Any]]):
    """Task → step and index for people, each name taken apart once."""

    def __missing__(self, task: str) -> tuple[str, Any]:
        step, index = split_task(task)
        self[task] = step, index_for_people(index)
        return self[task]


def _event_row(event: Event, names: _TaskNames) -> Row:
    if not event.task:
        return event.id, _ms(event), event.type, event.flow_name, event.run_id, None, None, None, None, event.data
    step, index = names[event.task]
    step_id, attempt = event.step_id or None, event.attempt or None
    return event.id, _ms(event), event.type, event.flow_name, event.run_id, step, step_id, attempt, index, event.data


def _where(event: Event, names: _TaskNames) -> Row:
    if not event.task:
        return _ms(event), None, None, None, None
    return _ms(event), event.task, *names[event.task], event.attempt or None


def _ms(event: Event) -> int:
    return int(event.id.partition("-")[0])


def _task_row(task: TaskView) -> Row:
    index, last = index_for_people(task.index), task.last
    head = task.task, task.step, index, task.key or None, task.status
    if last is None:
        return *head, *[None] * 10
    times = last.queued_ms, last.started_ms, last.ended_ms
    return (
        *head,
        last.attempt,
        last.worker or None,
        *times,
        _seconds(last.started_ms, last.ended_ms),
        last.error or None,
        task.waits_for or None,
        task.taken.get("how"),
        task.taken.get("run"),
    )


def _attempt_row(task: TaskView, attempt: AttemptView) -> Row:
    times = attempt.queued_ms, attempt.started_ms, attempt.ended_ms
    return (
        task.task,
        task.step,
        index_for_people(task.index),
        task.key or None,
        attempt.attempt,
        attempt.status,
        attempt.recovered,
        attempt.worker or None,
        *times,
        _seconds(attempt.queued_ms, attempt.started_ms),
        _seconds(attempt.started_ms, attempt.ended_ms),
        attempt.reason or None,
        attempt.error or None,
        attempt.traceback or None,
    )


def _schedule_row(row: Planned) -> Row:
    schedule = row.schedule
    times = None if row.is_paused else row.next_ms, row.is_paused, row.last_ms, row.last_run or None
    counts = row.started, row.skipped, row.missed
    return schedule.flow, schedule.name, *schedule.told, *times, schedule.overlap, schedule.catch_up, *counts


def _trigger_rows(row: Triggering) -> Iterable[Row]:
    trigger = row.trigger
    secret = None if trigger.webhook is None else trigger.webhook.secret_name
    told = trigger.name, trigger.kind, trigger.event, dict(trigger.matches), trigger.key, secret, row.is_paused
    for one in row.listeners:
        last = one.subscription.flow, one.last_ms, one.last_run or None
        yield *told, *last, one.started, one.repeated, one.failed, row.ignored, one.error or None


def _version_row(version: Version) -> Row:
    by = "@".join(filter(None, (version.by.get("user"), version.by.get("host"))))
    steps = list(version.fingerprints)
    return version.flow, version.number, version.published_ms, by or None, version.note, version.again or None, steps


def _worker_row(row: WorkerRow) -> Row:
    head = row.name, row.hostname or None, row.pid, list(row.queues), row.state or None, row.current_job or None
    return *head, row.completed, row.failed, row.working_s, row.birth or None, row.last_heartbeat or None


def _artifact_rows(log: Iterable[Event], names: _TaskNames) -> Iterable[Row]:
    for event in log:
        seen: set[str] = set()
        name = _text(event.data.get("name")) if event.type in ("artifact", "emit") else None
        if event.type == "artifact" and not any(references(event.data.get("ref"))):  # small: it lies in the event
            size = len(json.dumps(event.data.get("ref"), separators=(",", ":")))
            yield *_where(event, names), name, "inline", None, size, None
        for ref in references(event.data.get("input") if event.type == "flow.start" else event.data):
            if ref["$ref"] not in seen:
                seen.add(ref["$ref"])
                shape = _text(ref.get("kind")), _count(ref.get("rows")), _count(ref.get("bytes"))
                yield *_where(event, names), name, *shape, ref["$ref"]


def _seconds(from_ms: int | None, to_ms: int | None) -> float | None:
    return None if from_ms is None or to_ms is None else (to_ms - from_ms) / 1000


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    """JSON has no infinity and no NaN: events carry them as texts (`docs/reference/events.md`)."""
    return float(value) if isinstance(value, int | float) or value in ("NaN", "Infinity", "-Infinity") else None


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and abs(value) < 2**63 else None
