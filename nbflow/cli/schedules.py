"""`schedule list`, `set`, `pause`, `resume`, `remove`, `backfill`: published flows by the clock."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbflow.cli.inputs import read_inputs
from nbflow.cli.start import values_of
from nbflow.cli.terminal import Json, document, moment, plain, say, table

if TYPE_CHECKING:
    from nbflow.model.schedules import Planned

__all__ = ["backfill", "list_schedules", "pause", "remove", "resume", "set_schedule"]

Flow = Annotated[str, typer.Argument(metavar="FLOW", help="The name of a published flow.")]
Name = Annotated[str, typer.Argument(metavar="[NAME]", help="The name of the schedule.")]
DEFAULT = "default"


def list_schedules(
    flow: Annotated[str | None, typer.Option(help="Schedules of this flow only.")] = None, as_json: Json = False
) -> None:
    """List the schedules: when they come next, and what became of them."""
    from nbflow.app import default

    with default() as nbflow:
        found = nbflow.planned.all(flow)
    if as_json:
        document([_record(planned) for planned in found])
    elif found:
        titles = ("flow", "name", "when", "zone", "next", "last", "started", "skipped", "missed")
        table(titles, map(_row, found), right=titles[-3:])
    else:
        say("No schedules. Declare one: nbflow schedule set FLOW '0 2 * * *'")


def set_schedule(
    flow: Flow,
    when: Annotated[str, typer.Argument(metavar="WHEN", help="A cron expression in quotes, or an interval: 15m, 1d.")],
    *,
    name: Annotated[str, typer.Option(help="Of several schedules of a flow, which.")] = DEFAULT,
    tz: Annotated[
        str | None, typer.Option(help="The time zone of a cron expression: Europe/Vienna. UTC without.")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="INPUT", help="JSON, @file (- is stdin) or name=value.")
    ] = None,
    overlap: Annotated[
        str, typer.Option(help="While the run before goes on: skip, queue, allow or cancel_running.")
    ] = "skip",
    catch_up: Annotated[str, typer.Option(help="What nobody looked after: the latest, all or none.")] = "latest",
    as_json: Json = False,
) -> None:
    """Start FLOW by the clock, or change how. Saying it again changes nothing."""
    typed = read_inputs(inputs or (), ())
    from nbflow.app import default
    from nbflow.scheduling import declare

    with default() as nbflow:
        taken = nbflow.published.open(nbflow.published.newest(flow)).input
        values = values_of(typed, taken.bind, lambda: taken.model)
        declare(nbflow, flow, when, tz=tz, name=name, values=values, overlap=overlap, catch_up=catch_up)
        planned = nbflow.planned.get(flow, name)
    if as_json:
        document(_record(planned))
    else:
        comes = "is paused" if planned.is_paused else f"comes next at {moment(planned.next_ms)}"
        say(f"The schedule {plain(name)} of {plain(flow)} {comes}.")


def pause(flow: Flow, name: Name = DEFAULT) -> None:
    """Let a schedule start nothing, until it goes on."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.planned.pause(flow, name)
    say(f"The schedule {plain(name)} of {plain(flow)} is paused. `nbflow schedule resume` lets it go on.")


def resume(flow: Flow, name: Name = DEFAULT) -> None:
    """Let a paused schedule go on. What came due meanwhile is for its catch-up to decide."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.planned.pause(flow, name, paused=False)
        planned = nbflow.planned.get(flow, name)
    say(f"The schedule {plain(name)} of {plain(flow)} comes next at {moment(planned.next_ms)}.")


def remove(flow: Flow, name: Name = DEFAULT) -> None:
    """Remove a schedule. The runs that it started stay."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.planned.remove(flow, name)
    say(f"The schedule {plain(name)} of {plain(flow)} is removed.")


def backfill(
    flow: Flow,
    name: Name = DEFAULT,
    *,
    since: Annotated[str, typer.Option(help="From this moment on: 2026-11-01, 2026-11-01T12:00+01:00.")],
    until: Annotated[str | None, typer.Option(help="Up to before this moment; now without.")] = None,
    as_json: Json = False,
) -> None:
    """Start the occurrences of a time that were not started yet, at once. Without a zone a moment is of this machine's."""
    from_when, to_when = _moment(since, "--since"), None if until is None else _moment(until, "--until")
    from nbflow.app import default
    from nbflow.scheduling import Scheduled

    with default() as nbflow:
        runs = [run.id for run in Scheduled(nbflow, flow, name).backfill(from_when, to_when)]
    if as_json:
        document([{"id": run} for run in runs])
        return
    for run in runs:
        say(f"Run {run} of {plain(flow)}")
    say(f"{len(runs)} {'occurrence' if len(runs) == 1 else 'occurrences'} of {plain(name)}.")


def _moment(text: str, option: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no moment: write 2026-11-01T12:00.", param_hint=option) from None


def _row(planned: Planned) -> tuple[Any, ...]:
    schedule = planned.schedule
    comes = "paused" if planned.is_paused else moment(planned.next_ms)
    times = comes, moment(planned.last_ms)
    return schedule.flow, schedule.name, *schedule.told, *times, planned.started, planned.skipped, planned.missed


def _record(planned: Planned) -> dict[str, Any]:
    import json

    from nbflow.cli.records import iso

    schedule = planned.schedule
    return {
        "flow": schedule.flow,
        "name": schedule.name,
        "when": schedule.told[0],
        "tz": schedule.told[1],
        "input": json.loads(schedule.input),
        "overlap": schedule.overlap,
        "catchUp": schedule.catch_up,
        "paused": planned.is_paused,
        "nextAt": None if planned.is_paused else iso(planned.next_ms),
        "lastAt": iso(planned.last_ms),
        "lastRun": planned.last_run or None,
        "started": planned.started,
        "skipped": planned.skipped,
        "missed": planned.missed,
        "by": schedule.by,
    }
