"""`flows`, `check`: what a notebook, script or module declares, without starting anything."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbflow.cli.terminal import Json, document, moment, plain, say, table, warn

if TYPE_CHECKING:
    from collections.abc import Generator

    from nbflow.cli.source import Skipped, Source
    from nbflow.define.flow import FlowDefinition
    from nbflow.define.lint import Finding

__all__ = ["FROM", "be_loud", "check", "flows", "read"]

FROM = "A notebook (.ipynb), a script (.py) or a module's dotted name."
_loud: list[bool] = []


def be_loud(loud: bool) -> None:
    """Let what a notebook prints pass, and tell all cells that were skipped."""
    _loud[:] = [loud]


@contextmanager
def read(where: str) -> Generator[Source]:
    """The flows of X, ready to be started inside the block. Cells that failed on their own account are told on stderr."""
    from nbflow.app import default
    from nbflow.cli.source import opened

    default()  # made here, in the directory of the command, and not by a cell in that of the notebook
    with opened(where, loud=any(_loud)) as source:
        for skipped in source.skipped if any(_loud) else source.failed:
            warn(f"Skipped {plain(skipped.cell)}: {plain(skipped.reason)}")
        yield source


def flows(
    source: Annotated[str | None, typer.Option("--from", metavar="X", help=FROM)] = None,
    as_json: Json = False,
) -> None:
    """List the flows of X, or those with runs."""
    if source is None:
        _list_started(as_json)
        return
    with read(source) as opened:
        declared = [_declared(flow) for flow in opened.flows.values()]
    if as_json:
        document(declared)
    elif declared:
        titles = ("flow", "steps", "input")
        table(
            titles, [(one["name"], len(one["steps"]), _signature(one["input"])) for one in declared], right=("steps",)
        )
    else:
        say(f"{plain(source)} defines no flow.")


def check(
    source: Annotated[str, typer.Argument(metavar="X", help=FROM)],
    as_json: Json = False,
) -> None:
    """Check the flows in X. Exit code 1 if something is wrong."""
    with read(source) as opened:
        found = [_row(name, finding) for name, flow in opened.flows.items() for finding in flow.findings()]
        found += [_cell(skipped) for skipped in opened.failed if skipped.is_definition]
        names = list(opened.flows)
    if as_json:
        document(found)
    elif not names and not found:
        say(f"{plain(source)} defines no flow.")
    elif not found:
        say(f"Nothing to remark about {', '.join(map(plain, names))}.")
    else:
        for row in found:
            where = " ".join(filter(None, (row["flow"], row["step"])))
            say(
                f"{row['severity']} [{row['code']}] {plain(where)}: {plain(row['message'])} {plain(row['hint'])}".rstrip()
            )
    raise typer.Exit(1 if not names or any(row["severity"] == "error" for row in found) else 0)


def _list_started(as_json: bool) -> None:
    from nbflow.app import default

    with default() as nbflow:
        rows = nbflow.index.flows()
    if as_json:
        keys = ("name", "runs", "lastRun", "lastStatus")
        document([dict(zip(keys, (row.name, row.runs, row.last_run, row.last_status), strict=True)) for row in rows])
    elif rows:
        titles = ("flow", "runs", "last run", "status", "started")
        shown = [(row.name, row.runs, row.last_run[:8], row.last_status, moment(row.last_started_ms)) for row in rows]
        table(titles, shown, right=("runs",))
    else:
        say("No flow has runs here. `nbflow flows --from X` lists those in a notebook.")


def _declared(flow: FlowDefinition) -> dict[str, Any]:
    from nbflow.define.inputs import schema_of

    spec = flow.spec()
    return {
        "name": flow.name,
        "steps": [step.name for step in spec.steps],
        "queues": sorted({step.queue for step in spec.steps}),
        "input": schema_of(flow.input_model()),
    }


def _signature(schema: dict[str, Any]) -> str:
    """`folder=…, year (needed)`."""
    needed = set(schema.get("required", ()))
    fields: dict[str, Any] = schema.get("properties", {})
    return ", ".join(name if name in needed else _with_default(name, field) for name, field in fields.items())


def _with_default(name: str, field: dict[str, Any]) -> str:
    return f"{name}={field['default']}" if "default" in field else f"{name}=…"


def _row(flow: str, finding: Finding) -> dict[str, str]:
    return {
        "flow": flow,
        "step": finding.step,
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "hint": finding.hint,
    }


def _cell(skipped: Skipped) -> dict[str, str]:
    """A definition that was refused: the cell's flow lacks it."""
    message = f"{skipped.cell}: {skipped.reason}"
    return {"flow": "", "step": "", "code": "cell-failed", "severity": "error", "message": message, "hint": ""}
