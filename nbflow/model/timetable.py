"""When a schedule is due: a cron expression in a time zone, or an interval. Pure: it reads no clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbflow.errors import DefinitionError
from nbflow.model.cron import Cron
from nbflow.model.policy import Duration, seconds

__all__ = ["Every", "Timetable", "duration_text", "occurrences", "read_timetable", "timetable"]

SHORTEST_S = 1.0


@dataclass(frozen=True, slots=True)
class Every:
    """An interval. Its occurrences are its multiples since 1970 (UTC), so that every process knows the same ones and
    nobody has to remember when it was declared."""

    interval_ms: int

    def after_ms(self, instant_ms: int) -> int:
        """The first occurrence after the instant, in milliseconds since 1970."""
        return (instant_ms // self.interval_ms + 1) * self.interval_ms


Timetable = Cron | Every


def timetable(when: Duration, tz: str | None = None) -> Timetable:
    """What a person wrote: a cron expression, or an interval (seconds, a timedelta, `"15m"`), which takes no zone.
    DefinitionError for what never fires, cannot be read, or comes more often than each second."""
    if isinstance(when, str) and not _is_interval(when):
        return Cron(" ".join(when.split()), "UTC" if tz is None else tz)
    interval_s = seconds(when, "The interval of a schedule")
    if interval_s < SHORTEST_S:
        message = f"The interval of a schedule cannot be {when!r}: it is below 1 s."
        raise DefinitionError(message, hint="Give '1s' or more.")
    if tz is not None:
        message = f"An interval of {when!r} is the same in every time zone."
        raise DefinitionError(message, hint="Leave out tz=, or write a cron expression.")
    return Every(round(interval_s * 1000))


def read_timetable(told: dict[str, Any]) -> Timetable:
    """The timetable that a schedule's record tells of: `{"cron", "tz"}` or `{"every"}`, in milliseconds."""
    return Every(int(told["every"])) if "every" in told else Cron(str(told["cron"]), str(told["tz"]))


def occurrences(table: Timetable, after_ms: int, until_ms: int) -> Iterator[int]:
    """All occurrences after `after_ms`, up to and with `until_ms`."""
    due = table.after_ms(after_ms)
    while due <= until_ms:
        yield due
        due = table.after_ms(due)


def duration_text(ms: int) -> str:
    """An interval as one writes it: `15m`, `1h30m`."""
    parts: list[str] = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, ms = divmod(ms, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts)


def _is_interval(text: str) -> bool:
    """Also one that is refused later, as `-15m` is."""
    try:
        seconds(text.lstrip(" -"))
    except DefinitionError:
        return False
    return True
