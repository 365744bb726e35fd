"""`nbflow.runs()` and its like: the looks that need no object at hand, through the default `Nbflow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbflow import app
from nbflow.define.checked import checked_count
from nbflow.flow import checked_options, refuse_if_disabled
from nbflow.watch import archived, frames
from nbflow.watch.run import Run

if TYPE_CHECKING:
    from nbflow.model.policy import Duration
    from nbflow.watch.frames import DataFrame

__all__ = ["emit", "flows", "load", "queues", "run", "runs", "schedules", "start_flow", "triggers", "workers"]


def runs(
    flow: str | None = None,
    status: str | None = None,
    *,
    since: datetime | None = None,
    tag: str | None = None,
    stalled: bool | None = None,
    parent: Run | str | None = None,
    limit: int = 50,
) -> DataFrame:
    """The newest runs: id, flow, status, times, tags. `stalled`: those that cannot go on without somebody acting. `parent`:
    those that steps of that run started."""
    return app.default().runs(flow, status, since=since, tag=tag, stalled=stalled, parent=parent, limit=limit)


def run(run: str) -> Run:
    """The run of that id, or of the only one that begins so. `UnknownRun` names what is near."""
    return app.default().run(run)


def start_flow(
    name: str,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - what it is called everywhere
    *,
    version: int | None = None,
    key: str | None = None,
    delay: Duration | datetime | None = None,
    tags: Sequence[str] = (),
    queue: str | None = None,
    priority: int | None = None,
) -> Run:
    """Start a flow or a job that was published under that name, the newest version if none is given. Its code need not be
    here; the options are those of `flow.options`. `UnknownFlow` if nothing is published so."""
    refuse_if_disabled(name)
    if version is not None:
        checked_count("version", version)
    options = checked_options(key=key, delay=delay, tags=tags, queue=queue, priority=priority)
    return app.default().start_flow(name, input or {}, options, version=version)


def load(path: str | Path) -> Run:
    """The run in a file that `run.export` wrote, to look at, without a server."""
    return archived.load(path)


def emit(topic: str, payload: Any = None) -> int:
    """An event from outside of runs: it ends the wait of all tasks with a matching `OnEvent(topic)`, and is kept for those
    that look back for it. It starts the flows that are on a trigger of its topic. How many waits it ended by now."""
    refuse_if_disabled(topic)
    return app.default().emit(topic, payload)


def flows() -> DataFrame:
    """The flows that have runs, with their counts."""
    return app.default().flows()


def schedules(flow: str | None = None) -> DataFrame:
    """The schedules of all flows, or of one: when they come next, and what became of them so far."""
    return frames.schedules(app.default().planned.all(flow))


def triggers(flow: str | None = None) -> DataFrame:
    """The triggers, a row for each flow that they start, and what became of them so far. Schedules have a list of their own."""
    return frames.triggers(app.default().subscribed.all(flow))


def queues() -> DataFrame:
    """The queues, and how much waits in each."""
    return app.default().queues()


def workers() -> DataFrame:
    """The workers that live, on any machine."""
    return app.default().workers()
