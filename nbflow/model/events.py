"""The events of a run, as one record type, and how a stream's entry becomes one.

An entry holds four fields, `type task attempt data`; what can be derived (id, ts, run, flow, step, index, step id) is
not stored again: a step's events take 300-480 bytes instead of 900. Unknown types are kept and shown, never an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from nbflow.model.ids import split_task, step_id

__all__ = [
    "BOUNDED_TYPES",
    "ENDS",
    "FLOW_TYPES",
    "STEP_TYPES",
    "Event",
    "event_from_fields",
    "event_from_notice",
    "id_key",
]

FLOW_TYPES = ("flow.start", "flow.completed", "flow.failed", "flow.cancel", "flow.stalled", "flow.recovered")
STEP_TYPES = (
    "step.queued",
    "step.started",
    "step.completed",
    "step.retry",
    "step.failed",
    "step.canceled",
    "step.skipped",
)
ENDS = {"flow.completed": "completed", "flow.failed": "failed", "flow.cancel": "canceled"}
BOUNDED_TYPES = ("log", "progress", "metric", "trimmed")
"""These lie in a second stream that is trimmed; ids of both streams are of one sequence."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record of a run's stream: it happened, it is never changed.

    `id` is the stream's (`<ms>-<n>`); `task` is `parse[7]`, or `""` for an event of the run; `index` is the wire's text.
    """

    id: str
    type: str
    run_id: str
    flow_name: str
    task: str = ""
    attempt: int = 0
    data: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def ts(self) -> datetime:
        return datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, UTC)

    @property
    def step_name(self) -> str:
        return split_task(self.task)[0]

    @property
    def index(self) -> str:
        return split_task(self.task)[1]

    @property
    def step_id(self) -> str:
        return step_id(self.run_id, self.task, self.attempt) if self.task and self.attempt else ""

    @property
    def ends_run(self) -> bool:
        return self.type in ENDS


def id_key(event_id: str) -> tuple[int, int]:
    """Stream ids in their order."""
    ms, _, n = event_id.partition("-")
    return int(ms), int(n or 0)


def event_from_fields(event_id: str, fields: Mapping[str, str], run_id: str, flow_name: str) -> Event:
    """An entry of the stream as an event. Data that is no JSON object is kept under `raw`."""
    return Event(
        event_id,
        fields.get("type", "unknown"),
        run_id,
        flow_name,
        fields.get("task", ""),
        int(fields.get("attempt") or 0),
        _data(fields.get("data", "")),
    )


def event_from_notice(text: str | bytes, run_id: str, flow_name: str) -> Event:
    """A message of the channel `<p>:events:<runId>` as an event."""
    raw = json.loads(text)
    data: Any = raw.get("data")
    return Event(
        raw["id"],
        raw["type"],
        run_id,
        flow_name,
        raw.get("task", ""),
        int(raw.get("attempt") or 0),
        _object(data),
    )


def _data(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        return _object(json.loads(text))
    except ValueError:
        return {"raw": text}


def _object(data: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {"raw": data}
