"""A run from a file, with all that can be looked at of a run, and no server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Never

from nbflow.errors import CommandRefused, UnknownRun
from nbflow.model.codec import Codec
from nbflow.model.events import BOUNDED_TYPES, Event, id_key
from nbflow.model.view import View, reduce
from nbflow.watch.archive import ArchivedArtifacts, Contents, read_archive
from nbflow.watch.run import Run

__all__ = ["load"]


def load(path: str | Path) -> Run:
    """The run in a file that `run.export` wrote: its tables, logs, picture, and results that need no pickle.

    CommandRefused says why a file is none. Nothing in it is executed, whoever wrote it.
    """
    contents = read_archive(path)
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


class _ArchivedLog:
    """The events of the one run, read as those in a server are."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def flow_of(self, run_id: str, /) -> str:
        if run_id != self._contents.run_id:
            raise UnknownRun(f"There is no run {run_id!r} in {self._contents.path}.", hint="Load its own file.")
        return self._contents.flow

    def read(self, run_id: str, after: str = "0-0", /, *, logs: bool = True) -> Iterator[Event]:
        self.flow_of(run_id)
        seen = id_key(after)
        return (
            event
            for event in self._contents.events
            if (logs or event.type not in BOUNDED_TYPES) and id_key(event.id) > seen
        )

    def only_logs(self, run_id: str, /) -> Iterator[Event]:
        return (event for event in self.read(run_id) if event.type in BOUNDED_TYPES)


class _ArchivedRun:
    """What a handle works with. It follows by itself: all there is has happened."""

    def __init__(self, contents: Contents) -> None:
        self._path = contents.path
        self.log = _ArchivedLog(contents)
        self._codec = Codec(artifacts=ArchivedArtifacts(contents.path))

    @property
    def follower(self) -> _ArchivedRun:
        return self

    def follow(self, run_id: str, after: str = "0-0", timeout: float | None = None, /) -> _Replay:
        return _Replay(self.log.read(run_id, after))

    def codec_for(self, run_id: str, flow: str) -> Codec:
        return self._codec

    def cancel(self, run_id: str, reason: str) -> None:
        self._refuse("canceled")

    def delete(self, run_id: str) -> None:
        self._refuse("deleted")

    def _refuse(self, done: str) -> Never:
        raise CommandRefused(
            f"A run from a file cannot be {done} ({self._path}).", hint="Use nbflow.run(...) where the run is."
        )


class _Replay:
    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self._events:
            yield event

    def close(self) -> None:
        self._events = iter(())
