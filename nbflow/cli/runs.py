"""`runs`, `show`, `events`, `logs`, `cancel`: runs that exist, by id or by what it begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nbflow.cli.tasks import cancel_task
from nbflow.cli.terminal import Json, block, document, json_line, moment, plain, properties, say, table, warn
from nbflow.errors import NbflowError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbflow.app import Nbflow
    from nbflow.model.events import Event
    from nbflow.model.view import View
    from nbflow.store.index import RunRow

__all__ = ["act_on_each", "cancel", "events", "logs", "runs", "show", "show_steps"]

JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id, or the beginning of it.")]
Follow = Annotated[bool, typer.Option("--follow", help="Go on up to the end of the run.")]
ENDED = ("completed", "failed", "canceled")
MOST_CHILDREN = 100
"""So many runs that a run started are shown."""
STATUSES = ("running", "awaiting", *ENDED)


def runs(
    flow: Annotated[str | None, typer.Option(help="Runs of this flow only.")] = None,
    status: Annotated[str | None, typer.Option(help=f"One of: {', '.join(STATUSES)}.")] = None,
    tag: Annotated[str | None, typer.Option(help="Runs with this tag only.")] = None,
    *,
    stalled: Annotated[bool, typer.Option("--stalled", help="Runs that cannot go on without somebody acting.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the newest runs."""
    if status is not None and status not in STATUSES:
        raise typer.BadParameter(f"no run is {status!r}. {nearest(status, STATUSES)}", param_hint="--status")
    from nbflow.app import default
    from nbflow.cli.records import run_record, took_ms
    from nbflow.picture.style import duration

    with default() as nbflow:
        rows = nbflow.index.runs(flow=flow, status=status, tag=tag, stalled=stalled or None, limit=limit)
    if as_json:
        document([run_record(row) for row in rows])
    elif rows:
        titles = ("run", "flow", "status", "started", "duration", "tags")
        shown = [
            (row.id[:8], row.flow, row.status, moment(row.started_ms), duration(took_ms(row)), ", ".join(row.tags))
            for row in rows
        ]
        table(titles, shown, right=("duration",))
    else:
        say(
            "No such runs."
            if flow or status or tag or stalled
            else "No runs yet. `nbflow start FLOW --from X` starts one."
        )


def show(run: RunId, as_json: Json = False) -> None:
    """Show a run: its input, its steps, and its result or error."""
    from nbflow.app import default
    from nbflow.cli.records import run_record, view_record

    with default() as nbflow:
        found = nbflow.run(run)
        row, view, status, stalled = nbflow.index.run(found.id), found.view, found.status, found.stalled
        started = list(_started(nbflow, view))
    if as_json:
        children = [
            {"id": child.id, "flow": child.flow, "status": child.status, "level": level} for level, child in started
        ]
        document(run_record(row) | view_record(view, status) | {"stalled": stalled, "children": children})
    else:
        _show(row, view, f"{status}, and stalled: {stalled}" if stalled else status, started)


def events(run: RunId, follow: Follow = False, as_json: JsonLines = False) -> None:
    """Print the events of a run, logs included."""
    from nbflow.app import default
    from nbflow.cli.follow import event_line
    from nbflow.cli.records import event_record

    with default() as nbflow:
        for event in _events(nbflow, run, follow=follow):
            json_line(event_record(event)) if as_json else say(event_line(event))


def logs(run: RunId, follow: Follow = False, as_json: JsonLines = False) -> None:
    """Print what the steps of a run logged and printed."""
    from nbflow.app import default
    from nbflow.cli.follow import log_line
    from nbflow.cli.records import event_record

    with default() as nbflow:
        for event in _events(nbflow, run, follow=follow, only_logs=True):
            if event.type == "trimmed":
                warn("Older lines are gone: the log of a run is bounded.")
            elif event.type == "log":
                json_line(event_record(event)) if as_json else say(log_line(event))


def cancel(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Ids, or beginnings of ids.")],
    reason: Annotated[str, typer.Option(help="Why; the run's events keep it.")] = "",
    task: Annotated[
        str, typer.Option(metavar="TASK", help="Only this task of the one run: train, parse[7], parse[b.csv].")
    ] = "",
    as_json: Json = False,
) -> None:
    """End runs, or one task of a run; what runs of them is interrupted."""
    if task:
        if len(runs) > 1 or as_json:
            raise typer.BadParameter("it goes with one run, and without --json.", param_hint="--task")
        cancel_task(runs[0], task, reason)
        return
    act_on_each(runs, lambda nbflow, run: nbflow.cancel(run, reason), "canceled", as_json=as_json)


def act_on_each(runs: Sequence[str], act: Callable[[Nbflow, str], None], done: str, *, as_json: bool) -> None:
    """Do it to all of the runs that it can be done to, and tell which. The last error is raised: it decides the exit code."""
    from nbflow.app import default

    errors: list[NbflowError] = []
    acted_on: list[str] = []
    with default() as nbflow:
        for wanted in runs:
            try:
                found = nbflow.index.resolve(wanted)
                act(nbflow, found)
                acted_on.append(found)
            except NbflowError as error:
                errors.append(error)
    if as_json:
        document([{"id": run} for run in acted_on])
    for run in () if as_json else acted_on:
        say(f"Run {run} is {done}.")
    for error in errors[:-1]:
        warn(f"Error: {block(error)}")
    if errors:
        raise errors[-1]


def _events(nbflow: Nbflow, run: str, *, follow: bool, only_logs: bool = False) -> Iterator[Event]:
    found = nbflow.index.resolve(run)
    if follow:
        return nbflow.follower.follow(found)
    return nbflow.log.only_logs(found) if only_logs else nbflow.log.read(found)


def _started(nbflow: Nbflow, view: View, level: int = 1) -> Iterator[tuple[int, RunRow]]:
    """The runs that it started, each followed by those that it started itself."""
    if not view.children:
        return
    for row in reversed(nbflow.index.runs(parent=view.run_id, limit=MOST_CHILDREN)):
        yield level, row
        yield from _started(nbflow, nbflow.handle(row.id, row.flow).view, level + 1)


def _show(row: RunRow, view: View, status: str, started: Sequence[tuple[int, RunRow]]) -> None:
    from nbflow.cli.payloads import shown
    from nbflow.picture.style import duration
    from nbflow.picture.tally import elapsed_ms

    took = duration(elapsed_ms(view))
    say(f"Run {row.id} of {plain(row.flow)}: {status}" + (f" after {took}" if took else ""))
    properties(
        {
            "started": moment(view.started_ms),
            "due": moment(row.due_ms),
            "by": _who(row),
            "tags": ", ".join(row.tags),
            "key": row.key,
            "parent": _parent(view),
            "input": shown(view.input),
            "state": shown(view.state) if view.state else "",
        }
    )
    show_steps(view)
    if started:
        say()
        rows = [("  " * (level - 1) + child.id[:8], child.flow, child.status) for level, child in started]
        table(("started", "flow", "status"), rows)
    _show_end(view)


def show_steps(view: View) -> None:
    """The steps with what their tasks come to."""
    from nbflow.picture.style import duration
    from nbflow.picture.tally import tallies

    rows: list[tuple[Any, ...]] = []
    for name, tally in tallies(view).items():
        note = (tally.error or tally.skipped or tally.waits_for or tally.taken_over).strip().split("\n")[0]
        done = f"{tally.completed}/{tally.total}" if tally.total else ""
        rows.append((name, tally.status, done, duration(tally.duration_ms()), note))
    if rows:
        say()
        table(("step", "status", "tasks", "duration", ""), rows, right=("tasks", "duration"))


def _show_end(view: View) -> None:
    from nbflow.cli.payloads import shown
    from nbflow.watch.results import failure_of_run, result_of_run

    if view.status == "completed":
        result: Any = result_of_run(view, lambda tree: tree)
        say(f"\nResult: {shown(result)}")
    elif view.status == "failed":
        failure = failure_of_run(view)
        say(f"\n{plain(failure.message)}")
        say(block(failure.traceback.rstrip())) if failure.traceback else None
    elif view.status == "canceled" and view.end.get("reason"):
        say(f"\nReason: {plain(view.end['reason'])}")


def _parent(view: View) -> str:
    told: Any = view.start.get("parent")
    parent = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    return f"{str(parent['run'])[:8]} of {parent.get('flow')}, {parent.get('task')}" if "run" in parent else ""


def _who(row: RunRow) -> str:
    from nbflow.cli.records import starter

    by = starter(row)
    told = cast("dict[str, Any]", by) if isinstance(by, dict) else {}
    return "@".join(filter(None, (str(told.get("user", "")), str(told.get("host", "")))))
