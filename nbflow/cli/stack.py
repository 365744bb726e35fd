"""`up`, `down`, `status`: the local stack of the project directory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from nbflow.cli.terminal import Json, document, plain, properties, say, warn

if TYPE_CHECKING:
    from nbflow.local.stack import Stack, StackStatus

__all__ = ["down", "status", "up"]


def up(
    workers: Annotated[int | None, typer.Option(min=0, help="How many local workers run.")] = None,
    as_json: Json = False,
) -> None:
    """Start the local server and workers, or change their number."""
    stack = _stack()
    if workers is None:
        stack.ensure()
    elif stack.status().running:
        stack.set_workers(workers)
    else:
        replace(stack, workers=workers).ensure()
    now = stack.status()
    _show(stack, now if workers is None else replace(now, workers=workers), as_json)


def down(
    now: Annotated[bool, typer.Option("--now", help="Do not wait for tasks that run: they are given back.")] = False,
) -> None:
    """End the local server and workers; the data stays."""
    stack = _stack()
    was_up = stack.down(now=now)
    root = plain(stack.project.root)
    say(f"The local stack of {root} is down; its data stays." if was_up else f"No local stack of {root} was running.")


def status(as_json: Json = False) -> None:
    """Show the local server and workers of this project."""
    stack = _stack()
    _show(stack, stack.status(), as_json)


def _stack() -> Stack:
    from nbflow.app import Nbflow
    from nbflow.settings import settings

    if settings().redis_url:
        warn("NBFLOW_REDIS_URL is set: flows start on that server, not on the local stack.")
    return Nbflow().stack


def _show(stack: Stack, now: StackStatus, as_json: bool) -> None:
    if as_json:
        document(_told(stack, now))
        return
    if not now.running:
        say(
            f"The local stack of {plain(stack.project.root)} is not running; `nbflow up` or the first start brings it up."
        )
        return
    say(f"The local stack of {plain(stack.project.root)} is running.")
    minutes = now.uptime.total_seconds() / 60 if now.uptime else 0
    properties(
        {
            "workers": str(now.workers),
            "server": now.url,
            "memory": f"{now.memory_bytes / 1e6:.1f} MB",
            "connections": str(now.connections),
            "up for": f"{minutes:.0f} min",
            "pids": f"keeper {now.pid}, server {now.server_pid}, supervisor {now.supervisor_pid or 'none'}",
            "folder": str(now.folder),
            "trouble": now.trouble,
        }
    )


def _told(stack: Stack, now: StackStatus) -> dict[str, object]:
    return {
        "running": now.running,
        "project": str(stack.project.root),
        "folder": str(now.folder),
        "url": now.url,
        "workers": now.workers,
        "pid": now.pid,
        "serverPid": now.server_pid,
        "supervisorPid": now.supervisor_pid,
        "startedAt": now.started.isoformat() if now.started else None,
        "memoryBytes": now.memory_bytes,
        "connections": now.connections,
        "trouble": now.trouble,
    }
