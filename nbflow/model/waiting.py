"""Waits as readers see them: what a held task waits for, in a line for people, which wait an answer is for, and why nothing
can start in a queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

__all__ = ["Question", "due_at", "stall_text", "waits_for"]

_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Question:
    """A wait that can be ended: of which attempt of which task, and whether before it is queued or after it."""

    task: str
    attempt: int
    position: str
    has_form: bool = False


def stall_text(cause: str, queue: str) -> str:
    """Why nothing starts in a queue until somebody acts: the cause of a `flow.stalled` in words."""
    match cause:
        case "suspended":
            return "RQ is suspended, and nothing starts (`rq resume` ends that)"
        case "paused":
            return f"the queue {queue!r} is paused (`nbflow queues resume {queue}` ends that)"
        case "cannot_open":
            return f"no worker of the queue {queue!r} can open its code"
        case "no_worker":
            return f"no live worker serves the queue {queue!r}"
        case _:
            return f"{cause} in the queue {queue!r}"


def waits_for(told: Mapping[str, Any], since_ms: int) -> str:
    """From the data of its `await.registered`: `until 2026-11-25 02:00 UTC`, `event order.paid with order=7`, `approval: Pay 300?`."""
    kind = str(told.get("kind", "")) or "something"
    until = _moment(told.get("timeoutAt"))
    text = _text(kind, told, since_ms)
    return (f"{text} (at most until {until})" if until else text)[:_LONGEST]


def _text(kind: str, told: Mapping[str, Any], since_ms: int) -> str:
    if kind in ("time", "schedule"):
        return f"until {_moment(due_at(told, since_ms)) or told.get('cron', 'some time')}"
    if kind == "event":
        match: Any = told.get("match")
        fields = cast("dict[str, Any]", match) if isinstance(match, dict) else {}
        wanted = ", ".join(f"{name}={_value(value)}" for name, value in fields.items())
        return f"event {told.get('topic', '?')}" + (f" with {wanted}" if wanted else "")
    if kind == "child":
        return f"the run {str(told.get('run', '?'))[:8]} of flow {str(told.get('flow', '?'))!r}"
    message = str(told.get("message", "")).strip().partition("\n")[0]
    return f"{kind}: {message}" if message else kind


def _value(value: Any) -> str:
    if isinstance(value, dict) and "received" in value:
        return f"its {value['received']}"
    return value if isinstance(value, str) else json.dumps(value)


def due_at(told: Mapping[str, Any], since_ms: int) -> str | None:
    """When the wait ends by itself, as ISO text. An occurrence is the first after the wait began, whoever reckons it."""
    if "cron" not in told:
        return str(told["dueAt"]) if "dueAt" in told else None
    from nbflow.errors import DefinitionError  # noqa: PLC0415 - with cron, for those who show one
    from nbflow.model.cron import Cron  # noqa: PLC0415

    try:
        at_ms = Cron(str(told["cron"]), str(told.get("tz", "UTC"))).after_ms(since_ms)
    except DefinitionError:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _moment(text: Any) -> str:
    try:
        at = datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    shown = f"{at:%Y-%m-%d %H:%M:%S}".removesuffix(":00")
    return f"{shown} UTC"
