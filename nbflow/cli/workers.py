"""`worker`, `workers list`, `workers drain`: workers without a kernel, on this machine or another."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbflow.cli.terminal import Json, document, plain, say, table
from nbflow.errors import CommandRefused, nearest

if TYPE_CHECKING:
    from nbflow.app import Nbflow
    from nbflow.store.index import WorkerRow

__all__ = ["drain", "list_workers", "worker"]


def worker(
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="How many worker processes; one for each core.")
    ] = None,
    queues: Annotated[str, typer.Option(help="The queues to serve, with commas between them; '*' is all.")] = "default",
    url: Annotated[str | None, typer.Option(help="The server, instead of NBFLOW_REDIS_URL.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Instead of NBFLOW_NAMESPACE.")] = None,
) -> None:
    """Run workers in the foreground.

    They work for the server of NBFLOW_REDIS_URL or --url, else for the local one of this project. SIGTERM or Ctrl-C lets
    each end the task it has; a second one kills.
    """
    from nbflow.app import Nbflow
    from nbflow.settings import settings

    served = ",".join(name.strip() for name in queues.split(",") if name.strip())
    if not served:
        raise typer.BadParameter("name at least one queue.", param_hint="--queues")
    nbflow = Nbflow(url, namespace=namespace)
    _ = nbflow.signer  # SecretMissing now, and not in each worker
    address = url or settings().redis_url
    environment = _environment(nbflow, is_local=address is None) | {
        "NBFLOW_REDIS_URL": address or nbflow.stack.ensure(),  # not on the command line, where all users see a password
        "NBFLOW_NAMESPACE": nbflow.namespace,
    }
    words = [sys.executable, "-P", "-m", "nbflow.worker.serve", "--queues", served]
    words += [] if concurrency is None else ["--concurrency", str(concurrency)]
    sys.stdout.flush()
    os.execve(sys.executable, words, environment)  # noqa: S606 - the supervisor is light, this process is not


def list_workers(as_json: Json = False) -> None:
    """List the workers that are registered on the server."""
    from nbflow.app import default

    with default() as nbflow:
        rows = nbflow.index.workers()
    if as_json:
        document([_told(row) for row in rows])
    elif rows:
        titles = ("name", "queues", "state", "tasks", "worked", "pid", "last heartbeat")
        shown = [
            (
                row.name,
                ",".join(row.queues),
                row.state,
                row.completed,
                f"{row.working_s:.1f} s",
                row.pid,
                row.last_heartbeat,
            )
            for row in rows
        ]
        table(titles, shown, right=("tasks", "worked", "pid"))
    else:
        say("No workers. `nbflow worker` runs some.")


def _told(row: WorkerRow) -> dict[str, object]:
    return {
        "name": row.name,
        "hostname": row.hostname,
        "pid": row.pid,
        "queues": list(row.queues),
        "state": row.state,
        "currentJob": row.current_job or None,
        "completed": row.completed,
        "failed": row.failed,
        "workingS": row.working_s,
        "bornAt": row.birth or None,
        "lastHeartbeatAt": row.last_heartbeat or None,
    }


def drain(
    name: Annotated[str, typer.Argument(help="A worker, or what the names of several begin with up to a dot.")],
) -> None:
    """Let a worker end the task it has, and go (RQ's shutdown command)."""
    from nbflow.app import default
    from nbflow.store.connect import translated
    from nbflow.store.keys import RQ

    with default() as nbflow:
        known = [row.name for row in nbflow.index.workers()]
        meant = [other for other in known if other == name or other.startswith(f"{name}.")]
        if not meant:
            raise CommandRefused(
                f"There is no worker {name!r}.",
                hint=nearest(name, known) or "`nbflow workers list` shows which there are.",
            )
        client: Any = nbflow.store.client
        for other in meant:
            with translated(nbflow.store.url):
                heard = client.publish(f"{RQ}:pubsub:{other}", json.dumps({"command": "shutdown"}))
            say(f"{plain(other)} was told to end." if heard else f"Nobody hears for {plain(other)}: it may be dead.")


def _environment(nbflow: Nbflow, *, is_local: bool) -> dict[str, str]:
    """What the workers must know: the secret, where artifacts lie, and where this nbflow is if it is not installed."""
    from nbflow.local.keeper import workers_environment
    from nbflow.local.stack import findable

    made = workers_environment(os.environ, nbflow.project)
    del made["NBFLOW_CLIENT_NAME"]  # that is for the stack's own: these workers keep the stack needed
    if not is_local and "NBFLOW_ARTIFACTS" not in os.environ:
        del made["NBFLOW_ARTIFACTS"]
    return findable(made)
