"""Laws of timetables, at the change of the clocks too."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from nbflow.model.cron import Cron
from nbflow.model.timetable import Every
from nbflow.model.timetable import occurrences as occurrences_ms
from tests.property.profiles import examples

ZONES = ("UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
MINUTE = timedelta(minutes=1)
moments = st.datetimes(
    datetime.fromisoformat("2011-01-01"), datetime.fromisoformat("2037-01-01"), timezones=st.just(UTC)
).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
"""To the millisecond, as the server's clock is read."""
CHANGES = (  # of the clocks in those zones, and a day that Apia left out; in UTC
    *("2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-11-01T06:00"),
    *("2026-04-04T15:00", "2026-10-03T15:30", "2011-12-30T10:00"),
)
changes = st.builds(
    lambda text, minutes: datetime.fromisoformat(text).replace(tzinfo=UTC) + minutes * MINUTE,
    st.sampled_from(CHANGES),
    st.integers(-3 * 1440, 3 * 1440),
)
zones = st.sampled_from(ZONES)


@examples(200)
@given(st.integers(0, 59), st.sampled_from(["*", "*/5", "*/15"]), zones, moments | changes)
def test_what_runs_in_all_hours_is_due_at_every_minute_that_fits_the_wall(
    minute: int, step: str, tz: str, moment: datetime
):
    """Against the plain reading: look at each minute's time on the wall."""
    text = f"{step if step != '*' else minute} * * * *"
    fits = (lambda m: m == minute) if step == "*" else (lambda m: m % int(step[2:]) == 0)
    until = moment + timedelta(hours=6)
    first = moment.replace(second=0, microsecond=0)
    minutes = [first + n * MINUTE for n in range(361)]
    expected = [m for m in minutes if moment < m <= until and fits(m.astimezone(ZoneInfo(tz)).minute)]
    assert list(occurrences(Cron(text, tz), moment, until)) == expected


@examples(200)
@given(st.integers(0, 23), st.integers(0, 59), st.sampled_from(ZONES[:-1]), moments | changes)  # Apia lost a whole day
def test_a_time_of_day_comes_exactly_once_on_each_day(hour: int, minute: int, tz: str, moment: datetime):
    place = ZoneInfo(tz)
    found = list(occurrences(Cron(f"{minute} {hour} * * *", tz), moment, moment + timedelta(days=8)))
    days = [due.astimezone(place).date() for due in found]
    assert len(set(days)) == len(days)
    for due in found:
        wall = due.astimezone(place)
        assert (wall.hour, wall.minute) == (hour, minute) or _is_left_out(wall.date(), hour, minute, place)
    assert days == [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)]


@examples(200)
@given(st.sampled_from(["30 2 * * *", "0 0 * * *", "*/7 1-3 * * *", "15 */2 1 * 1", "59 23 L * *"]), zones, changes)
def test_who_asks_again_and_again_hears_the_same_as_who_goes_on(text: str, tz: str, moment: datetime):
    """After any moment between two occurrences, the second is next: so no process needs to know the one before."""
    first = Cron(text, tz).after(moment)
    second = Cron(text, tz).after(first)
    assert moment < first < second
    assert Cron(text, tz).after(first + (second - first) / 2) == second
    assert Cron(text, tz).after(second - timedelta(milliseconds=1)) == second


@examples(200)
@given(st.integers(1000, 10**10), st.integers(0, 2 * 10**12))
def test_an_interval_goes_on_by_itself(interval_ms: int, instant_ms: int):
    due = Every(interval_ms).after_ms(instant_ms)
    assert 0 < due - instant_ms <= interval_ms
    assert Every(interval_ms).after_ms(due) - due == interval_ms


def occurrences(table: Cron, after: datetime, until: datetime) -> list[datetime]:
    found = occurrences_ms(table, round(after.timestamp() * 1000), round(until.timestamp() * 1000))
    return [datetime.fromtimestamp(due / 1000, UTC) for due in found]


def _is_left_out(day: date, hour: int, minute: int, place: ZoneInfo) -> bool:
    wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=place)
    return wall.astimezone(UTC).astimezone(place) != wall
