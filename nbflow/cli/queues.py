"""`queues`, `queues pause`, `queues resume`: what waits, and what may start."""

from __future__ import annotations

from typing import Annotated

import typer

from nbflow.cli.terminal import Json, document, plain, say, table

__all__ = ["pause", "queues", "resume"]

Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="Its name. It need not exist yet.")]


def queues(context: typer.Context, as_json: Json = False) -> None:
    """List the queues: what waits and runs in each, the workers that serve it, and whether it is paused."""
    if context.invoked_subcommand is not None:
        return
    from nbflow.app import default

    with default() as nbflow:
        rows = nbflow.index.queues()
    titles = ("name", "waiting", "started", "workers", "paused")
    shown = [(row.name, row.waiting, row.started, row.workers, row.paused) for row in rows]
    if as_json:
        document([dict(zip(titles, row, strict=True)) for row in shown])
    elif shown:
        told = [(*numbers, "paused" if is_paused else "") for *numbers, is_paused in shown]
        table((*titles[:-1], ""), told, right=titles[1:-1])
    else:
        say("No queues yet. The first task makes one.")


def pause(queue: Queue) -> None:
    """Let nothing start in a queue. What runs goes on, and what comes waits."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.pause(queue)
    say(f"The queue {plain(queue)} is paused. `nbflow queues resume {plain(queue)}` lets its tasks start again.")


def resume(queue: Queue) -> None:
    """Let the tasks of a paused queue start."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.resume(queue)
    say(f"The queue {plain(queue)} is not paused.")
