"""`start`: a flow, from its notebook to its end if one waits for it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbflow.cli.flows import FROM, read
from nbflow.cli.inputs import read_inputs
from nbflow.cli.terminal import Json, document, plain, say, warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbflow.app import Nbflow
    from nbflow.cli.inputs import TypedInput
    from nbflow.define.flow import FlowDefinition
    from nbflow.engine.options import Options
    from nbflow.model.view import View
    from nbflow.watch.run import Run

__all__ = ["start", "values_of", "wait_for"]

Priority = Annotated[
    int | None, typer.Option(min=-100, max=100, help="Higher comes first in a queue; instead of the steps' own.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Execute also what steps with cache= could take over.")]


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
    no_cache: NoCache = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait, and show it. Exit code 0, 1, 2: completed, failed, canceled.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a run of FLOW, as X defines it, or as it was published last."""
    typed = read_inputs(inputs or (), pairs or ())
    if key == "":
        raise typer.BadParameter("it is empty.", param_hint="--key")
    from nbflow.app import default
    from nbflow.flow import checked_options

    options = checked_options(key=key, delay=delay, tags=tags or (), queue=queue, priority=priority, cache=not no_cache)
    with ExitStack() as held:
        opened = None if source is None else held.enter_context(read(source))
        nbflow = held.enter_context(default())
        run = _start(nbflow, flow if opened is None else opened.flow(flow), typed, options)
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


def _start(nbflow: Nbflow, flow: FlowDefinition | str, typed: TypedInput, options: Options) -> Run:
    """A flow at hand, or the newest version that is published by that name."""
    if not isinstance(flow, str):
        return nbflow.start(flow, values_of(typed, flow.bind_input, flow.input_model), options)
    newest = nbflow.published.newest(flow)
    opened = nbflow.published.open(newest)
    values = values_of(typed, opened.input.bind, lambda: opened.input.model)
    return nbflow.start_flow(flow, values, options, version=newest.number)


def values_of(
    typed: TypedInput, bind: Callable[[list[object], dict[str, object]], dict[str, Any]], model: Callable[[], Any]
) -> dict[str, Any]:
    """What was typed, by name; of a flow that takes one value, also that value alone."""
    return bind(typed.whole, {}) if typed.whole else typed.fitted(model())


def _record(run: Run, view: View) -> dict[str, object]:
    from nbflow.cli.records import view_record

    return {"id": run.id, "flow": run.flow, **view_record(view, view.status)}
