"""`start`: a flow, from its notebook to its end if one waits for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nbflow.cli.flows import FROM, read
from nbflow.cli.inputs import read_inputs
from nbflow.cli.terminal import Json, document, plain, say, warn
from nbflow.errors import UnknownFlow

if TYPE_CHECKING:
    from nbflow.cli.inputs import TypedInput
    from nbflow.define.flow import FlowDefinition
    from nbflow.model.view import View
    from nbflow.watch.run import Run

__all__ = ["start", "wait_for"]

Priority = Annotated[
    int | None, typer.Option(min=-100, max=100, help="Higher comes first in a queue; instead of the steps' own.")
]


def start(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The name of the flow.")],
    pairs: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Its input, by name.")] = None,
    *,
    source: Annotated[str | None, typer.Option("--from", metavar="X", help=FROM)] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="INPUT", help="JSON, @file (- is stdin) or name=value.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The same key with the same input gives the run that has it.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="For finding it. May be given several times.")] = None,
    queue: Annotated[str | None, typer.Option(help="Where its steps wait, instead of their own queues.")] = None,
    priority: Priority = None,
    delay: Annotated[str | None, typer.Option(help="Start after that time: 30s, 15m, 2h, 1d.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait, and show it. Exit code 0, 1, 2: completed, failed, canceled.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a run of FLOW, as X defines it."""
    typed = read_inputs(inputs or (), pairs or ())
    if source is None:
        raise UnknownFlow(
            f"Nothing says where the flow {flow!r} is defined.",
            hint="Add --from with a notebook, a script or a module.",
        )
    if key == "":
        raise typer.BadParameter("it is empty.", param_hint="--key")
    from nbflow.app import default
    from nbflow.engine.options import Options

    with read(source) as opened, default() as nbflow:
        chosen = opened.flow(flow)
        options = Options(key or "", tuple(tags or ()), queue or "", priority, delay)
        run = nbflow.start(chosen, _values(chosen, typed), options)
        if follow:
            raise typer.Exit(wait_for(run, as_json=as_json))
        if as_json:
            document({"id": run.id, "flow": run.flow, "status": run.status})
        else:
            when = "is started" if delay is None else f"starts in {plain(delay)}"
            say(f"Run {run.id} of {plain(run.flow)} {when}.")


def wait_for(run: Run, *, as_json: bool = False) -> int:
    """Show the run up to its end; the exit code that tells it. Ctrl-C leaves the run."""
    from nbflow.cli.follow import ENDS, follow, tell_end

    try:
        if not as_json:
            say(f"Run {run.id} of {plain(run.flow)} is started.")
        view = follow(run, silently=as_json)
    except KeyboardInterrupt:
        warn(f"Detached; the run goes on. See it: nbflow show {run.id[:8]} · end it: nbflow cancel {run.id[:8]}")
        raise typer.Exit(130) from None
    sys.stdout.flush()
    if as_json:
        document(_record(run, view))
    else:
        tell_end(view)
    return ENDS[view.status]


def _values(flow: FlowDefinition, typed: TypedInput) -> dict[str, object]:
    """What was typed, by name; of a flow that takes one value, also that value alone."""
    if typed.whole:
        return flow.bind_input(typed.whole, {})
    return typed.fitted(flow.input_model())


def _record(run: Run, view: View) -> dict[str, object]:
    from nbflow.cli.records import view_record

    return {"id": run.id, "flow": run.flow, **view_record(view, view.status)}
