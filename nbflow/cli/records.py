"""What `--json` gives: runs and events as JSON objects, with the names of the wire (camelCase, units in the name).

Payloads are given as they lie in the stream: `{"$ref": …}` and `{"$t": …}` stay what they are.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from nbflow.model.events import Event
from nbflow.model.ids import index_for_people
from nbflow.model.view import View
from nbflow.picture.tally import tallies
from nbflow.store.index import RunRow
from nbflow.watch.results import failure_of_run, result_of_run

__all__ = ["event_record", "iso", "run_record", "starter", "took_ms", "view_record"]

Record = dict[str, Any]


def event_record(event: Event) -> Record:
    """The whole envelope."""
    whole: Record = {
        "id": event.id,
        "ts": event.ts.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": event.type,
        "runId": event.run_id,
        "flowName": event.flow_name,
    }
    if event.task:
        whole |= {
            "stepName": event.step_name,
            "stepId": event.step_id or None,
            "attempt": event.attempt,
            "index": index_for_people(event.index),
        }
    return whole | {"data": event.data}


def run_record(row: RunRow) -> Record:
    """A run as the index knows it."""
    return {
        "id": row.id,
        "flow": row.flow,
        "status": row.status,
        "startedAt": iso(row.started_ms),
        "endedAt": iso(row.ended_ms),
        "dueAt": iso(row.due_ms),
        "durationMs": took_ms(row),
        "tags": list(row.tags),
        "key": row.key or None,
        "by": starter(row),
    }


def took_ms(row: RunRow) -> int | None:
    """How long it took; None while it goes on."""
    return None if row.started_ms is None or row.ended_ms is None else row.ended_ms - row.started_ms


def starter(row: RunRow) -> Any:
    """Who started it: an object, or what else is written there."""
    try:
        return json.loads(row.by) if row.by else None
    except ValueError:
        return row.by


def view_record(view: View, status: str) -> Record:
    """A run as its events tell it: input, steps, and its result or error."""
    return {
        "status": status,
        "input": view.input,
        "steps": [
            {
                "name": name,
                "status": tally.status,
                "tasks": tally.total,
                "completed": tally.completed,
                "failed": tally.failed,
                "durationMs": tally.duration_ms(),
                "error": tally.error or None,
                "skipped": tally.skipped or None,
                "waitsFor": tally.waits_for or None,
                "takenOver": tally.taken,
            }
            for name, tally in tallies(view).items()
        ],
        "state": view.state,
        "result": result_of_run(view, lambda tree: tree) if view.status == "completed" else None,
        "error": _failure(view) if view.status == "failed" else None,
        "reason": view.end.get("reason") if view.status == "canceled" else None,
    }


def _failure(view: View) -> Record:
    failure = failure_of_run(view)
    return {"step": failure.step, "task": failure.task, "error": failure.error, "traceback": failure.traceback}


def iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
