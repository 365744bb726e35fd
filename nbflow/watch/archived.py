"""A run from a file, with all that can be looked at of a run, and no server."""

from __future__ import annotations

from pathlib import Path
from typing import Never

from nbflow.define.asked import asked_path
from nbflow.errors import CommandRefused
from nbflow.model.codec import Codec
from nbflow.model.events import BOUNDED_TYPES
from nbflow.model.view import View, reduce
from nbflow.watch.archive import ArchivedArtifacts, Contents, read_archive
from nbflow.watch.replay import ReplayedLog, ReplayedRun
from nbflow.watch.run import Run
from nbflow.watch.task import Acts

__all__ = ["load"]


def load(path: str | Path) -> Run:
    """The run in a file that `run.export` wrote: its tables, logs, picture, and results that need no pickle.

    CommandRefused says why a file is none. Nothing in it is executed, whoever wrote it.
    """
    contents = read_archive(asked_path(path))
    view = View(contents.run_id, contents.flow)
    try:  # events that do not fit together are found now, not at some later look
        for event in contents.events:
            _ = event.ts, event.step_id
            if event.type not in BOUNDED_TYPES:
                reduce(view, event)
    except Exception as error:
        raise CommandRefused(
            f"The events in {contents.path} are damaged ({type(error).__name__}: {str(error)[:200]}).",
            hint="Export the run again.",
        ) from error
    return Run(contents.run_id, _ArchivedRun(contents), flow=contents.flow)


class _ArchivedRun(ReplayedRun):
    def __init__(self, contents: Contents) -> None:
        log = ReplayedLog(contents.run_id, contents.flow, contents.events)
        super().__init__(log, Codec(artifacts=ArchivedArtifacts(contents.path)))
        self._path = contents.path

    def cancel(self, run_id: str, reason: str) -> None:
        self._refuse("canceled")

    def resolve(self, run_id: str, question: object, data: object) -> None:
        self._refuse("answered")

    def delete(self, run_id: str) -> None:
        self._refuse("deleted")

    def again(self, run_id: str, how: str, *, at: str | None = None, changed: bool = False) -> Never:
        self._refuse("gone on from")

    @property
    def hands(self) -> Acts:
        self._refuse("changed")

    def foresee(self, run_id: str, flow: object, *, changed: bool) -> Never:
        self._refuse("gone on from")

    def _refuse(self, done: str) -> Never:
        raise CommandRefused(
            f"A run from a file cannot be {done} ({self._path}).", hint="Use nbflow.run(...) where the run is."
        )
