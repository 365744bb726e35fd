"""Times that come again: a cron expression in a time zone, and its next occurrence after an instant. No clock is read here.

Five fields (minute, hour, day of the month, month, day of the week), or six with seconds in front, or a name such as
`@daily`. Where clocks are put forward, an occurrence that the day does not have comes at the first minute after the gap;
where they are put back, a time of day that comes twice fires once, and what comes every so many minutes goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from nbflow.errors import DefinitionError, nearest

__all__ = ["Cron", "zone_of"]

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST = 200
_NO_MINUTE = 60
_ANY_DAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone. DefinitionError if it is none, never fires, or if there is no such zone."""

    expression: str
    tz: str = "UTC"

    def __post_init__(self) -> None:
        zone_of(self.tz)
        if not isinstance(self.expression, str) or len(self.expression) > _LONGEST:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _no_cron(self.expression, "is no text of at most 200 characters")
        self.after(_ANY_DAY)

    def after(self, instant: datetime) -> datetime:
        """The first occurrence after the instant, which is aware; in UTC."""
        zone = zone_of(self.tz)
        local = instant.astimezone(UTC if self.tz == "UTC" else zone)
        try:
            for found in self._from(local):
                if found.astimezone(UTC) > instant:  # an hour that comes twice is told from its beginning again
                    return found.astimezone(UTC)
        except CronSimError as error:
            never = str(error) == "Bad day-of-month" and self._fits_other_months()
            raise _no_cron(self.expression, "never fires" if never else str(error).lower()) from None
        except (OverflowError, ValueError):
            pass  # the calendar ends
        raise _no_cron(self.expression, "never fires")

    def _from(self, local: datetime) -> CronSim:
        """The occurrences after a local time. Of a single minute cronsim jumps to the next one by the clock, past half an
        hour that comes twice (on Lord Howe Island); of several it looks at each minute. One that never is keeps it from
        jumping."""
        found = CronSim(_NAMED.get(self.expression.strip().lower(), self.expression), local)
        found.minutes.add(_NO_MINUTE)
        return found

    def _fits_other_months(self) -> bool:
        """Whether it is only that no such month has such a day: the 30th of February."""
        *before, _, day_of_week = self.expression.split()
        try:
            CronSim(" ".join([*before, "*", day_of_week]), _ANY_DAY)
        except CronSimError:
            return False
        return True

    def after_ms(self, instant_ms: int) -> int:
        """The same in milliseconds since 1970."""
        return round(self.after(datetime.fromtimestamp(instant_ms / 1000, UTC)).timestamp() * 1000)


def zone_of(name: str) -> ZoneInfo:
    """A time zone of the IANA database. DefinitionError if there is none of that name."""
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - it may be no key of a cache
        raise _no_zone(name)
    return _zone_of(name)


@lru_cache(maxsize=256)
def _zone_of(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # what zoneinfo says to names it does not like
        raise _no_zone(name, nearest(name, available_timezones())) from None


def _no_zone(name: object, hint: str = "") -> DefinitionError:
    message = f"There is no time zone {name!r}."
    return DefinitionError(message, hint=hint or "Write it as 'Europe/Vienna' or 'UTC'.")


def _no_cron(expression: object, why: str) -> DefinitionError:
    return DefinitionError(
        f"The cron expression {expression!r} {why if why.startswith(('is', 'never')) else f'cannot be read: {why}'}.",
        hint="Write minute, hour, day of the month, month and day of the week: '30 2 * * MON-FRI'.",
    )
