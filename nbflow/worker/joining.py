"""The end of a run that a task awaited: its result, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nbflow.errors import ChildFailed
from nbflow.model.codec import Codec
from nbflow.model.events import Event
from nbflow.model.outcome import result_tree
from nbflow.model.view import View, reduce
from nbflow.worker.task import Job

__all__ = ["result_of"]


def result_of(job: Job, events: Callable[[str], Iterator[Event]], codec: Codec) -> tuple[Any, bool]:
    """The result of the run that the task awaited, and whether the task emitted something before. ChildFailed if there is
    none."""
    run, _, said = job.joins.partition(" ")
    view = View(run)
    for event in events(run):
        reduce(view, event)
    if view.status != "completed":
        raise _failed(run, view)
    return codec.decode_value(result_tree(view)), bool(said)


def _failed(run: str, view: View) -> ChildFailed:
    error, reason = str(view.end.get("error") or ""), str(view.end.get("reason") or "")
    why = error if view.status == "failed" else reason
    if not view.events:
        said = f"The run {run[:8]} that the step awaited is not there any more, and its result with it."
    else:
        said = (
            f"The run {run[:8]} of {view.flow_name!r}, which the step awaited, {_ENDED.get(view.status, view.status)}"
        )
        said += f": {why}" if why else "."
    return ChildFailed(
        said,
        hint=f"Look at nbflow.run({run[:8]!r}).",
        run_id=run,
        task=str(view.end.get("task") or view.end.get("failedStep") or ""),
        error=why,
    )


_ENDED = {"failed": "failed", "canceled": "was canceled", "running": "has not ended"}
