"""Schedules as people hold them: what `flow.schedule(...)` gives, and what one may write there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from nbflow.define.checked import checked_choice
from nbflow.errors import CommandRefused, DefinitionError
from nbflow.model.artifacts import StagedArtifacts
from nbflow.model.codec import Codec
from nbflow.model.cron import Cron
from nbflow.model.schedules import CATCH_UPS, OVERLAPS, Schedule
from nbflow.model.timetable import timetable
from nbflow.watch.run import Run

if TYPE_CHECKING:
    from nbflow.app import Nbflow
    from nbflow.define.flow import FlowDefinition
    from nbflow.engine.versions import Opened
    from nbflow.model.policy import Duration
    from nbflow.model.schedules import Planned

__all__ = ["CatchUp", "Overlap", "Scheduled", "declare", "declare_here", "kept_text"]

Overlap = Literal["skip", "queue", "allow", "cancel_running"]
CatchUp = Literal["latest", "all", "none"]
DEFAULT_NAME = "default"
MOST_ARTIFACTS = 20
"""So many of one input: a script that takes a trigger of a hundred flows away takes all of theirs."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Scheduled:
    """A schedule of a flow: when it comes next, and what can be done with it."""

    def __init__(self, nbflow: Nbflow, flow: str, name: str) -> None:
        self._nbflow, self.flow, self.name = nbflow, flow, name

    @property
    def next_at(self) -> datetime | None:
        """When it starts the flow next; None while it is paused."""
        planned = self._planned()
        return None if planned.is_paused else _moment(planned.next_ms)

    @property
    def last(self) -> Run | None:
        """The last run that it started, if there was one."""
        run = self._planned().last_run
        return Run(run, self._nbflow, flow=self.flow) if run else None

    def pause(self) -> None:
        """Start nothing until `resume`."""
        self._nbflow.planned.pause(self.flow, self.name)

    def resume(self) -> None:
        """Go on. What came due meanwhile is for `catch_up` to decide."""
        self._nbflow.planned.pause(self.flow, self.name, paused=False)

    def remove(self) -> None:
        """Remove it. Its runs stay."""
        self._nbflow.planned.remove(self.flow, self.name)

    def backfill(self, since: datetime, until: datetime | None = None) -> list[Run]:
        """Start the occurrences from `since` up to before `until` (now, if it is not given), of which none is started twice:
        what was started already is that run. They start at once, whatever `overlap` says. Without a zone a datetime is of
        this machine's."""
        since_ms, until_ms = _ms(since), None if until is None else _ms(until)
        if until_ms is not None and until_ms <= since_ms:
            raise CommandRefused(
                f"Nothing lies between {since} and {until}.", hint="Give since= a moment before until=."
            )
        runs = self._nbflow.planned.backfill(self.flow, self.name, since_ms, until_ms)
        return [Run(run, self._nbflow, flow=self.flow) for run in runs]

    def _planned(self) -> Planned:
        return self._nbflow.planned.get(self.flow, self.name)

    def __repr__(self) -> str:
        return f"<schedule {self.name!r} of flow {self.flow!r}>"


def declare_here(
    nbflow: Nbflow,
    flow: FlowDefinition,
    when: Duration,
    *,
    tz: str | None,
    name: str | None,
    values: Mapping[str, Any] | None,
    overlap: str,
    catch_up: str,
) -> Scheduled:
    """Declare a schedule of a flow whose code is at hand. It is published if nothing is; if another version is the newest,
    a warning says that it is that one which is started."""
    given = _checked(when, tz, name, overlap, catch_up)
    flow.validate_input(values or {})
    nbflow.publish_if_none(flow, nbflow.published.find(flow.name), "schedule")
    return _declare(nbflow, flow.name, given, values)


def declare(
    nbflow: Nbflow,
    flow: str,
    when: Duration,
    *,
    tz: str | None = None,
    name: str | None = None,
    values: Mapping[str, Any] | None = None,
    overlap: str = "skip",
    catch_up: str = "latest",
) -> Scheduled:
    """Declare a schedule of a published flow, by its name."""
    return _declare(nbflow, flow, _checked(when, tz, name, overlap, catch_up), values)


def _checked(when: Duration, tz: str | None, name: str | None, overlap: str, catch_up: str) -> dict[str, Any]:
    """What was written, once it is known to be possible."""
    table = timetable(when, tz)
    told = {"cron": table.expression, "tz": table.tz} if isinstance(table, Cron) else {"every": table.interval_ms}
    called = DEFAULT_NAME if name is None else name
    if not isinstance(called, str) or not _NAME.fullmatch(called):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"A schedule cannot be called {called!r}."
        raise DefinitionError(message, hint="Use at most 100 letters, digits, '_', '-' and '.'.")
    return {
        "name": called,
        "when": told,
        "overlap": checked_choice("overlap", overlap, OVERLAPS),
        "catch_up": checked_choice("catch_up", catch_up, CATCH_UPS),
    }


def _declare(nbflow: Nbflow, flow: str, given: dict[str, Any], values: Mapping[str, Any] | None) -> Scheduled:
    from nbflow.engine.launch import who  # noqa: PLC0415 - who only looks at schedules needs none of it

    opened = nbflow.published.open(nbflow.published.newest(flow))
    opened.validated(values or {})
    text, staged = kept_text(nbflow, opened, values or {}, f"the schedule {given['name']!r} of flow {flow!r}")
    planned = nbflow.planned.declare(Schedule(flow=flow, input=text, by=who(), **given), staged)
    return Scheduled(nbflow, flow, planned.schedule.name)


def kept_text(nbflow: Nbflow, opened: Opened, values: Mapping[str, Any], whose: str) -> tuple[str, StagedArtifacts]:
    """Values that are kept for later starts, encoded, and the artifacts that they refer to."""
    staged = StagedArtifacts(nbflow.artifacts)
    text = Codec(types=opened.code.types, signer=nbflow.signer, artifacts=staged).encode(dict(values), name="input")
    if len(staged.digests) > MOST_ARTIFACTS:
        raise CommandRefused(
            f"The input of {whose} has {len(staged.digests)} frames and the like, and at most {MOST_ARTIFACTS} are kept.",
            hint="Give a path or a name, and let the flow read it.",
        )
    return text, staged


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    """CommandRefused for what is no moment since 1970: the first and the last years have no timestamp everywhere."""
    try:
        ms = round(moment.timestamp() * 1000)
    except (AttributeError, ValueError, OverflowError, OSError):
        ms = -1
    if ms < 0:
        raise CommandRefused(f"{moment!r} is no moment since 1970.", hint="Give a datetime.")
    return ms
