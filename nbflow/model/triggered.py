"""What a run is told of what started it, as a step sees it: `ctx.trigger`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["Triggered", "read_triggered", "triggered_of"]


@dataclass(frozen=True, slots=True)
class Triggered:
    """What started a run that nobody started with `flow.start`. `type` is `schedule`, `event`, `webhook` or `manual`, and
    `name` that of the schedule or the trigger. Of a schedule `scheduled_at` is the occurrence, which is the same however
    late the run began. Of a trigger `event` is the id of what fired it, `at` when that was, `topic` what it listens to."""

    type: str
    name: str
    scheduled_at: datetime | None = None
    topic: str | None = None
    event: str | None = None
    at: datetime | None = None

    @property
    def text(self) -> str:
        """The JSON that is signed."""
        moments = {"scheduledAt": _text(self.scheduled_at), "at": _text(self.at)}
        told = {"type": self.type, "name": self.name, "topic": self.topic, "event": self.event, **moments}
        return json.dumps({name: value for name, value in told.items() if value is not None}, separators=(",", ":"))


def read_triggered(text: str) -> Triggered | None:
    """From the JSON that was signed; None for a run that was started by hand."""
    return triggered_of(json.loads(text)) if text else None


def triggered_of(told: Mapping[str, Any]) -> Triggered:
    """From that JSON, as `flow.start` tells it."""
    return Triggered(
        str(told["type"]),
        str(told["name"]),
        _moment(told.get("scheduledAt")),
        told.get("topic"),
        told.get("event"),
        _moment(told.get("at")),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
