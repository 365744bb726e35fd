"""A schedule as data: its signed record, and whose turn it is at some moment. Nothing here reads or writes.

An occurrence counts as missed when it came due while another one came due behind it, or `LATE_MS` before somebody looked.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from nbflow.errors import SignatureMismatch
from nbflow.model.cron import Cron
from nbflow.model.signing import Signer
from nbflow.model.timetable import Timetable, duration_text, occurrences, read_timetable

__all__ = ["CATCH_UPS", "LATE_MS", "OVERLAPS", "Planned", "Schedule", "Turn", "moment_text", "turn_of"]

OVERLAPS = ("skip", "queue", "allow", "cancel_running")
CATCH_UPS = ("latest", "all", "none")
LATE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a flow is started again and again, and with what. `when` is `{"cron", "tz"}` or `{"every"}` (ms); `input` is
    the encoded input, which travels as it is."""

    flow: str
    name: str
    when: dict[str, Any]
    input: str = "{}"
    overlap: str = "skip"
    catch_up: str = "latest"
    by: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def timetable(self) -> Timetable:
        return read_timetable(self.when)

    @property
    def told(self) -> tuple[str, str | None]:
        """When it comes, for people: a cron expression and its zone, or an interval."""
        table = self.timetable
        return (table.expression, table.tz) if isinstance(table, Cron) else (duration_text(table.interval_ms), None)

    @property
    def timing(self) -> str:
        """What decides when it is due: the same text, the same occurrences."""
        return json.dumps(self.when, sort_keys=True)

    def is_same(self, other: Schedule) -> bool:
        """Whether declaring it again would change nothing. Who declares it does not matter."""
        mine, theirs = ((s.flow, s.name, s.timing, s.input, s.overlap, s.catch_up) for s in (self, other))
        return mine == theirs

    def key(self, occurrence_ms: int) -> str:
        """The key of the run of an occurrence: whoever starts it, it is that run."""
        return f"{self.name}@{moment_text(occurrence_ms)}"

    def trigger(self, occurrence_ms: int) -> str:
        """What the run is told of what started it."""
        told = {"type": "schedule", "name": self.name, "scheduledAt": moment_text(occurrence_ms)}
        return json.dumps(told, separators=(",", ":"))

    def signed(self, signer: Signer) -> str:
        """The record that is stored: signature and JSON."""
        return signer.seal("schedule", json.dumps(asdict(self), separators=(",", ":")))

    @classmethod
    def verified(cls, record: str, flow: str, name: str, signer: Signer) -> Schedule:
        """The schedule of a stored record. SignatureMismatch if it is not signed with the secret, or stands in a place that
        is not its own."""
        text = signer.unseal("schedule", record)
        if text is not None:
            schedule = cls(**json.loads(text))
            if (schedule.flow, schedule.name) == (flow, name):
                return schedule
        raise SignatureMismatch(
            f"The schedule {name!r} of flow {flow!r} was not signed with this secret, or was changed since.",
            hint="Use the NBFLOW_SECRET of who declared it, or declare it again.",
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule with what became of it so far. Times are milliseconds since 1970."""

    schedule: Schedule
    rev: str
    next_ms: int
    is_paused: bool
    last_ms: int | None
    last_run: str
    started: int
    skipped: int
    missed: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be done at a due schedule: the occurrence to start, if any, and the next one to wait for."""

    occurrence_ms: int | None
    next_ms: int


def turn_of(schedule: Schedule, due_ms: int, now_ms: int) -> Turn:
    """Whose turn it is, where `due_ms` is the first occurrence that nobody has decided yet and `now_ms` is not before it.

    With `all` that one, and the others after it one by one; with `latest` only the last of those that are due; with
    `none` that one too, but not if it was missed.
    """
    table = schedule.timetable
    if schedule.catch_up == "all":
        return Turn(due_ms, table.after_ms(due_ms))
    last = _last_until(table, due_ms, now_ms)
    is_wanted = schedule.catch_up == "latest" or now_ms - last <= LATE_MS
    return Turn(last if is_wanted else None, table.after_ms(last))


def _last_until(table: Timetable, due_ms: int, now_ms: int) -> int:
    """The last occurrence up to now. It is looked for in ever longer spans back from now, so that a schedule of each second
    that nobody looked after for a year costs no more than one of each day."""
    if not isinstance(table, Cron):
        return now_ms // table.interval_ms * table.interval_ms
    span = 1000
    while now_ms - span > due_ms and table.after_ms(now_ms - span) > now_ms:
        span *= 4
    return max(occurrences(table, max(due_ms - 1, now_ms - span), now_ms), default=due_ms)


def moment_text(ms: int) -> str:
    """A moment as it is written: ISO, UTC, seconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
