"""What a run is told of what started it, as a step sees it: `ctx.trigger`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Triggered", "read_triggered"]


@dataclass(frozen=True, slots=True)
class Triggered:
    """What started a run that nobody started by hand. `type` is `schedule`, and `name` the schedule's; `scheduled_at` is the
    occurrence, which is the same however late the run began."""

    type: str
    name: str
    scheduled_at: datetime | None = None


def read_triggered(text: str) -> Triggered | None:
    """From the JSON that was signed; None for a run that was started by hand."""
    if not text:
        return None
    told: dict[str, Any] = json.loads(text)
    at = told.get("scheduledAt")
    return Triggered(str(told["type"]), str(told["name"]), datetime.fromisoformat(at) if at else None)
