"""`retry`, `complete`, and `cancel --task`: acts on one task of a run."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nbflow.cli.terminal import plain, say

__all__ = ["cancel_task", "complete", "retry"]

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id, or the beginning of it.")]
Task = Annotated[str, typer.Argument(metavar="TASK", help="train, parse[7], or parse[b.csv].")]
Reason = Annotated[str, typer.Option(help="Why; the run's events keep it.")]


def retry(run: RunId, task: Task, reason: Reason = "") -> None:
    """Try a task again now: a back-off is cut short, an attempt that runs is given up for the next one."""
    from nbflow.app import default

    with default() as nbflow:
        found = nbflow.run(run).task(task).retry(reason)
        say(f"{plain(found.name)} is tried again.")


def complete(
    run: RunId,
    task: Task,
    value: Annotated[str, typer.Option(metavar="JSON", help="Its result: JSON, or @file.")] = "null",
    emits: Annotated[
        list[str] | None, typer.Option("--emit", metavar="TOPIC=JSON", help="What is emitted on a topic; several.")
    ] = None,
    reason: Reason = "",
) -> None:
    """Give the result of a task in its place. It is validated first; what runs of it is given up."""
    from nbflow.app import default

    given = _document(value, "--value")
    emitted = dict(_emission(text) for text in emits or [])
    with default() as nbflow:
        found = nbflow.run(run).task(task).complete(given, emits=emitted, reason=reason)
        say(f"{plain(found.name)} is completed.")


def cancel_task(run: str, task: str, reason: str) -> None:
    """End one task without a result."""
    from nbflow.app import default

    with default() as nbflow:
        found = nbflow.run(run).task(task).cancel(reason)
        say(f"{plain(found.name)} is canceled.")


def _document(text: str, said_as: str) -> Any:
    from nbflow.cli.inputs import read_document

    try:
        return read_document(text)
    except typer.BadParameter as error:
        error.param_hint = said_as
        raise


def _emission(text: str) -> tuple[str, Any]:
    topic, has_value, value = text.partition("=")
    if not has_value:
        raise typer.BadParameter(f"{text!r} is not TOPIC=JSON.", param_hint="--emit")
    try:
        return topic, json.loads(value)
    except ValueError:
        return topic, value
