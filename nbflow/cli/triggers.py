"""`trigger list`, `set`, `fire`, `pause`, `resume`, `remove`: published flows, started when something happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbflow.cli.inputs import read_inputs, read_value
from nbflow.cli.terminal import Json, document, moment, plain, say, table

if TYPE_CHECKING:
    from nbflow.cli.inputs import TypedInput
    from nbflow.model.triggers import Triggering

__all__ = ["fire", "list_triggers", "pause", "remove", "resume", "set_trigger"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the trigger.")]
Webhook = Annotated[
    str | None,
    typer.Option(
        "--webhook", metavar="SECRET", help="Deliveries fire it that are signed with the secret of that name."
    ),
]
Match = Annotated[
    list[str] | None,
    typer.Option("--match", metavar="JSON", help="Fields of the payload and their values: JSON or name=value."),
]
Take = Annotated[
    list[str] | None,
    typer.Option("--take", metavar="NAME=FIELD", help="A value of the input from the payload; NAME= is all of it."),
]


def list_triggers(
    flow: Annotated[str | None, typer.Option(help="Triggers that start this flow only.")] = None, as_json: Json = False
) -> None:
    """List the triggers, a line for each flow that they start, and what became of them."""
    from nbflow.app import default

    with default() as nbflow:
        found = nbflow.subscribed.all(flow)
    if as_json:
        document([_record(one) for one in found])
    elif found:
        titles = ("name", "kind", "listens to", "flow", "last", "started", "repeated", "failed", "")
        table(titles, (row for one in found for row in _rows(one)), right=titles[5:8])
    else:
        say("No triggers. Declare one: nbflow trigger set NAME FLOW --event TOPIC")


def set_trigger(
    name: Name,
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The name of a published flow.")],
    *,
    event: Annotated[str | None, typer.Option(help="The topic that fires it; without, it is fired by hand.")] = None,
    webhook: Webhook = None,
    match: Match = None,
    key: Annotated[str | None, typer.Option(help="The field by which payloads are the same: order.id.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="INPUT", help="Fixed values of the input: JSON, @file or name=value."),
    ] = None,
    take: Take = None,
    as_json: Json = False,
) -> None:
    """Let a trigger start FLOW, or change it. Saying it again changes nothing."""
    matches, fixed = read_value(match or (), "--match", dotted=True), read_inputs(inputs or (), ())
    taken = dict(_pair(one) for one in take or ())
    from nbflow.app import default
    from nbflow.model.deliveries import Signed
    from nbflow.model.triggers import Trigger
    from nbflow.triggering import subscribe

    signed = None if webhook is None else Signed(webhook)
    trigger = Trigger(name, event=event, match=matches, key=key, webhook=signed)
    with default() as nbflow:
        opened = nbflow.published.open(nbflow.published.newest(flow))
        values = None if inputs is None and take is None else {**_fixed(fixed, opened.input.model), **_received(taken)}
        subscribe(nbflow, flow, trigger, values)
        found = nbflow.subscribed.get(name)
    if as_json:
        document(_record(found))
    else:
        listens = f" for each {plain(event)}" if event else ""
        say(f"The trigger {plain(name)} starts {plain(flow)}{listens}.")


def fire(
    name: Name,
    payload: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The payload: JSON, @file, or name=value.")
    ] = None,
    *,
    key: Annotated[str, typer.Option(help="Each flow is started once for it.")] = "",
    as_json: Json = False,
) -> None:
    """Fire a trigger by hand: start all its flows. One that listens to a topic is fired by `nbflow emit`."""
    told = None if payload is None else read_value([payload], "JSON")
    from nbflow.app import default

    with default() as nbflow:
        runs = [nbflow.run(run) for run in nbflow.subscribed.trip(name, told, key=key)]
    if as_json:
        document([{"id": run.id, "flow": run.flow} for run in runs])
        return
    for run in runs:
        say(f"Run {run.id} of {plain(run.flow)} is started.")
    if not runs:
        say(f"The trigger {plain(name)} started nothing: the payload does not match, or its key was there.")


def pause(name: Name) -> None:
    """Let a trigger start nothing, none of its flows. What comes meanwhile is counted, and lost."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.subscribed.pause(name)
    say(f"The trigger {plain(name)} is paused. `nbflow trigger resume {plain(name)}` lets it go on.")


def resume(name: Name) -> None:
    """Let a paused trigger go on, with what comes from now on."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.subscribed.pause(name, paused=False)
    say(f"The trigger {plain(name)} is not paused.")


def remove(
    name: Name, flow: Annotated[str | None, typer.Option(help="Let it start this flow no more; else it goes.")] = None
) -> None:
    """Remove a trigger. The runs that it started stay."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.subscribed.remove(name, flow)
    say(f"The trigger {plain(name)} {'is removed' if flow is None else f'starts {plain(flow)} no more'}.")


def _pair(text: str) -> tuple[str, str]:
    name, is_pair, field = text.partition("=")
    if not is_pair or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=FIELD.", param_hint="--take")
    return name, field


def _fixed(typed: TypedInput, model: Any) -> dict[str, Any]:
    if typed.whole:
        raise typer.BadParameter("it is no JSON object, and not name=value.", param_hint="--input")
    return typed.fitted(model)


def _received(taken: dict[str, str]) -> dict[str, Any]:
    from nbflow.model.matching import received

    return {name: received(field or None) for name, field in taken.items()}


def _rows(found: Triggering) -> Iterator[tuple[Any, ...]]:
    trigger = found.trigger
    for one in found.listeners:
        said = "paused" if found.is_paused else one.error
        last = one.subscription.flow, moment(one.last_ms)
        yield trigger.name, trigger.kind, trigger.event, *last, one.started, one.repeated, one.failed, said


def _record(found: Triggering) -> dict[str, Any]:
    from nbflow.cli.records import iso

    trigger = found.trigger
    flows = [
        {
            "flow": one.subscription.flow,
            "take": one.subscription.takes if one.subscription.is_mapped else None,
            "lastAt": iso(one.last_ms),
            "lastRun": one.last_run or None,
            "started": one.started,
            "repeated": one.repeated,
            "failed": one.failed,
            "error": one.error or None,
            "by": one.subscription.by,
        }
        for one in found.listeners
    ]
    return {
        "name": trigger.name,
        "kind": trigger.kind,
        "topic": trigger.event,
        "match": dict(trigger.matches),
        "key": trigger.key,
        "secret": None if trigger.webhook is None else trigger.webhook.secret_name,
        "paused": found.is_paused,
        "ignored": found.ignored,
        "flows": flows,
    }
