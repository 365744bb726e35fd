"""Runs of which all has happened: their events lie in memory, and are read and followed as those in a server are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Self

from nbflow.errors import CommandRefused, UnknownRun
from nbflow.model.codec import Codec
from nbflow.model.events import BOUNDED_TYPES, Event, id_key

if TYPE_CHECKING:
    from nbflow.watch.run import Run

__all__ = ["Replay", "ReplayedLog", "ReplayedRun"]


class ReplayedLog:
    """The events of the one run. What is added while one reads is not read any more."""

    def __init__(self, run_id: str, flow: str, events: list[Event]) -> None:
        self.run_id, self.flow, self.events = run_id, flow, events

    def flow_of(self, run_id: str, /) -> str:
        """The name of the run's flow."""
        if run_id != self.run_id:
            raise UnknownRun(f"There is no run {run_id!r} here, only {self.run_id!r}.", hint="Use its own handle.")
        return self.flow

    def read(self, run_id: str, after: str = "0-0", /, *, logs: bool = True) -> Iterator[Event]:
        """All events after an id; `logs=False` leaves out logs, progress and metrics."""
        self.flow_of(run_id)
        seen = id_key(after)
        return (
            event
            for event in list(self.events)
            if (logs or event.type not in BOUNDED_TYPES) and id_key(event.id) > seen
        )

    obstacles = None
    """Nothing waits for anything any more."""

    def only_logs(self, run_id: str, /) -> Iterator[Event]:
        """Logs, progress and metrics alone."""
        return (event for event in self.read(run_id) if event.type in BOUNDED_TYPES)


class ReplayedRun:
    """What a handle looks at: the log, and the codec that opens its payloads. Whoever has such runs says why none of them
    can be canceled or deleted."""

    def __init__(self, log: ReplayedLog, codec: Codec) -> None:
        self.log, self._codec = log, codec

    @property
    def follower(self) -> Self:
        """It follows by itself: there is nothing to wait for."""
        return self

    def follow(self, run_id: str, after: str = "0-0", timeout: float | None = None, /) -> Replay:
        """The events after an id."""
        return Replay(self.log.read(run_id, after))

    def handle(self, run_id: str, flow: str) -> Run:
        """Of the one run only."""
        raise CommandRefused(
            f"The run {run_id[:8]} of {flow!r} is another one, which is not here.",
            hint="Use nbflow.run(...) where it is.",
        )

    def codec_for(self, run_id: str) -> Codec:
        return self._codec


class Replay:
    """Events as if they came: for `for` and for `async for`."""

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
