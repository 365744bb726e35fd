"""`resolve`, `emit`: ending waits from the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from nbflow.cli.inputs import read_value
from nbflow.cli.terminal import plain, say, warn

__all__ = ["emit", "resolve"]

Inputs = Annotated[
    list[str] | None, typer.Option("--input", metavar="JSON", help="The answer: JSON, @file, or name=value, several.")
]


def resolve(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or the beginning of it.")],
    step: Annotated[
        str, typer.Argument(metavar="STEP", help="The step that waits, or one task of it: pay[3], pay[b.csv].")
    ],
    inputs: Inputs = None,
) -> None:
    """Answer a task that waits. The answer is validated first; of two answers one wins."""
    from nbflow.app import default

    answer = read_value(inputs or [], "--input")
    with default() as nbflow:
        found = nbflow.run(run)
        found.resolve(step, answer)
    say(f"{plain(step)} of run {found.id} goes on.")


def emit(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Dotted words, such as order.paid.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The payload: JSON, @file, or name=value.")
    ] = None,
) -> None:
    """Tell all tasks that wait for an event of this topic, and start the flows that are on a trigger of it."""
    from nbflow.app import default

    document = None if payload is None else read_value([payload], "JSON")
    with default() as nbflow:
        ended, pulled = nbflow.tell(topic, document)
    say(f"{plain(topic)} ended {ended} wait{'' if ended == 1 else 's'}.")
    for one in pulled:
        if one.run is not None:
            say(f"Run {one.run} of {plain(one.flow)} is started.")
        elif one.error is not None:
            warn(f"{plain(one.flow)} is not started here: {plain(one.error.message)}")
