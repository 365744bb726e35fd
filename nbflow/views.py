"""`nbflow.runs()` and its like: the looks that need no object at hand, through the default `Nbflow`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbflow import app
from nbflow.watch import archived
from nbflow.watch.run import Run

if TYPE_CHECKING:
    from nbflow.watch.frames import DataFrame

__all__ = ["flows", "load", "queues", "run", "runs", "workers"]


def runs(
    flow: str | None = None,
    status: str | None = None,
    *,
    since: datetime | None = None,
    tag: str | None = None,
    limit: int = 50,
) -> DataFrame:
    """The newest runs: id, flow, status, times, tags."""
    return app.default().runs(flow, status, since=since, tag=tag, limit=limit)


def run(run: str) -> Run:
    """The run of that id, or of the only one that begins so. `UnknownRun` names what is near."""
    return app.default().run(run)


def load(path: str | Path) -> Run:
    """The run in a file that `run.export` wrote, to look at, without a server."""
    return archived.load(path)


def flows() -> DataFrame:
    """The flows that have runs, with their counts."""
    return app.default().flows()


def queues() -> DataFrame:
    """The queues, and how much waits in each."""
    return app.default().queues()


def workers() -> DataFrame:
    """The workers that live, on any machine."""
    return app.default().workers()
