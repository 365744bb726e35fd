"""`delete`, `prune`, `du`, `export`: what is kept of runs, and what of them goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nbflow.cli.payloads import size
from nbflow.cli.runs import ENDED, RunId, act_on_each
from nbflow.cli.terminal import Json, document, moment, plain, say, table
from nbflow.errors import nearest

if TYPE_CHECKING:
    from nbflow.store.usage import UsageRow

__all__ = ["delete", "du", "export", "prune"]


def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Ids, or beginnings of ids.")], as_json: Json = False
) -> None:
    """Delete runs that have ended, with all that only they refer to."""
    act_on_each(runs, lambda nbflow, run: nbflow.delete(run), "deleted", as_json=as_json)


def prune(
    older: Annotated[str, typer.Option(help="Runs that ended longer ago than this: 12h, 30d.")] = "30d",
    flow: Annotated[str | None, typer.Option(help="Runs of this flow only.")] = None,
    status: Annotated[str | None, typer.Option(help=f"One of: {', '.join(ENDED)}.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell which runs these are.")] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Instead, let go of what steps with cache= keep for other runs.")
    ] = False,
    *,
    as_json: Json = False,
) -> None:
    """Delete the runs that ended a while ago."""
    if status is not None and status not in ENDED:
        raise typer.BadParameter(f"no ended run is {status!r}. {nearest(status, ENDED)}", param_hint="--status")
    from nbflow.app import default

    if cache:
        _clear_cache(refused=bool(dry_run or flow or status), as_json=as_json)
        return
    with default() as nbflow:
        found = nbflow.prune(older, flow=flow, status=status, dry_run=dry_run)
    if as_json:
        from nbflow.cli.records import run_record

        document([run_record(row) for row in found])
        return
    if dry_run and found:
        table(("run", "flow", "status", "ended"), [(r.id[:8], r.flow, r.status, moment(r.ended_ms)) for r in found])
    counted = "1 run" if len(found) == 1 else f"{len(found)} runs"
    say(f"{counted} would be deleted." if dry_run else f"{counted} deleted.")


def _clear_cache(*, refused: bool, as_json: bool) -> None:
    if refused:
        raise typer.BadParameter("it is of all flows, and of no run.", param_hint="--cache")
    from nbflow.app import default

    with default() as nbflow:
        done = nbflow.clear_cache()
    if as_json:
        document({"results": done})
        return
    say("1 kept result let go." if done == 1 else f"{done} kept results let go.")


def du(as_json: Json = False) -> None:
    """Show what takes how much room, in the server and beside it."""
    from nbflow.app import default

    with default() as nbflow:
        rows = nbflow.du()
    if as_json:
        document([_record(row) for row in rows])
        return
    shown = [(row.what, row.name, row.count, ("~" if row.is_estimate else "") + size(row.bytes)) for row in rows]
    table(("what", "", "count", "size"), shown, right=("count", "size"))


def export(
    run: RunId,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; FLOW-RUN.nbflow here.")] = None,
) -> None:
    """Write a run into one file, without pickles, for nbflow.load."""
    from nbflow.app import default

    with default() as nbflow:
        found = nbflow.run(run)
        written = found.export(file or Path(f"{found.flow}-{found.id[:8]}.nbflow"))
    say(f"{plain(written)} holds the run. nbflow.load({str(written)!r}) shows it.")


def _record(row: UsageRow) -> dict[str, object]:
    return {"what": row.what, "name": row.name, "count": row.count, "bytes": row.bytes, "isEstimate": row.is_estimate}
