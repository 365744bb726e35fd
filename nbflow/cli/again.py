"""`resume`, `restart`, `fork`: new runs that go on from earlier ones, named one by one or found by a filter."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbflow.cli.flows import FROM, read
from nbflow.cli.runs import ENDED
from nbflow.cli.terminal import Json, block, document, plain, say, warn
from nbflow.errors import NbflowError, nearest

if TYPE_CHECKING:
    from nbflow.app import Nbflow
    from nbflow.engine.again import How
    from nbflow.watch.run import Run

__all__ = ["fork", "restart", "resume"]

Runs = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids, or beginnings of ids.")]
Source = Annotated[str | None, typer.Option("--from", metavar="X", help=f"{FROM} Without it, each run's own code.")]
OfFlow = Annotated[str | None, typer.Option("--flow", help="Instead of RUN: the runs of this flow.")]
OfStatus = Annotated[str | None, typer.Option("--status", help=f"One of: {', '.join(ENDED)}. [default: failed]")]
OfTag = Annotated[str | None, typer.Option("--tag", help="Instead of RUN: the runs with this tag.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, the newest first.")]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which runs: those that are named, or those that a filter finds."""

    runs: list[str] | None
    flow: str | None
    status: str | None
    tag: str | None
    limit: int

    def check(self) -> None:
        filters = (self.flow, self.status, self.tag)
        if self.status is not None and self.status not in ENDED:
            raise typer.BadParameter(
                f"no ended run is {self.status!r}. {nearest(self.status, ENDED)}", param_hint="--status"
            )
        if bool(self.runs) == any(one is not None for one in filters):
            raise typer.BadParameter("name runs, or give a filter: --flow, --status or --tag.", param_hint="RUN")

    def found(self, nbflow: Nbflow) -> list[str]:
        if self.runs:
            return self.runs
        rows = nbflow.index.runs(flow=self.flow, status=self.status or "failed", tag=self.tag, limit=self.limit)
        return [row.id for row in rows]


def resume(
    runs: Runs = None,
    *,
    source: Source = None,
    changed: Annotated[bool, typer.Option("--changed", help="Execute steps anew whose code has changed.")] = False,
    flow: OfFlow = None,
    status: OfStatus = None,
    tag: OfTag = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Go on where runs ended: what completed is taken over, in a new run."""
    _go_on(_Wanted(runs, flow, status, tag, limit), "resume", source, as_json=as_json, changed=changed)


def restart(
    runs: Runs = None,
    *,
    source: Source = None,
    flow: OfFlow = None,
    status: OfStatus = None,
    tag: OfTag = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Start runs again with their input, from the beginning."""
    _go_on(_Wanted(runs, flow, status, tag, limit), "restart", source, as_json=as_json)


def fork(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Ids, or beginnings of ids.")],
    *,
    at: Annotated[
        str | None, typer.Option("--at", metavar="EVENT", help="The id of an event; without it, now.")
    ] = None,
    source: Source = None,
    as_json: Json = False,
) -> None:
    """Go on from an event, in a new run; also from a run that has not ended."""
    _go_on(_Wanted(runs, None, None, None, len(runs)), "fork", source, as_json=as_json, at=at)


def _go_on(wanted: _Wanted, how: How, source: str | None, *, as_json: bool, **options: Any) -> None:
    """Do it to all of the runs that it can be done to, and tell which. The last error is raised: it decides the exit code."""
    wanted.check()
    from nbflow.app import default

    errors: list[NbflowError] = []
    made: list[tuple[str, Run]] = []
    with read(source) if source is not None else nullcontext() as opened, default() as nbflow:
        for run in wanted.found(nbflow):
            try:
                old = nbflow.run(run)
                flow = None if opened is None else opened.flow(old.flow)
                made.append((old.id, nbflow.again(old.id, how, flow=flow, **options)))
            except NbflowError as error:
                errors.append(error)
        _tell(made, how, as_json=as_json)
    if not made and not errors and not as_json:
        say("No such runs.")
    for error in errors[:-1]:
        warn(f"Error: {block(error)}")
    if errors:
        raise errors[-1]


def _tell(made: list[tuple[str, Run]], how: How, *, as_json: bool) -> None:
    from nbflow.watch.earlier import told_of_reuse

    if as_json:
        document([{"id": run.id, "flow": run.flow, "forkedFrom": old} for old, run in made])
        return
    for old, run in made:
        told = "" if how == "restart" else f" {told_of_reuse(run.view)}"
        say(f"Run {run.id} of {plain(run.flow)} goes on from {old[:8]}.{plain(told)}")
