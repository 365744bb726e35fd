"""The events of one run in memory, read as those in a server are, and what a handle needs to show such a run."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from nbflow.errors import CommandRefused, RunEnded, UnknownRun
from nbflow.model.codec import Codec
from nbflow.model.events import BOUNDED_TYPES, Event, id_key
from nbflow.testing.clock import Clock

__all__ = ["Record", "RecordedRun"]


class Record:
    """What happened in one run, in its order. User code may write from any of its threads."""

    def __init__(self, run_id: str, flow: str, clock: Clock) -> None:
        self.run_id, self.flow, self.clock = run_id, flow, clock
        self.events: list[Event] = []
        self._lock = threading.Lock()

    def add(self, kind: str, task: str = "", attempt: int = 0, data: dict[str, Any] | None = None) -> None:
        """One more event. `data` is as JSON has it."""
        with self._lock:
            event_id = self.clock.next_id()
            self.events.append(Event(event_id, kind, self.run_id, self.flow, task, attempt, data or {}))

    def flow_of(self, run_id: str, /) -> str:
        """The name of the run's flow."""
        if run_id != self.run_id:
            raise UnknownRun(f"There is no run {run_id!r} here.", hint="A run in process is known by its handle alone.")
        return self.flow

    def read(self, run_id: str, after: str = "0-0", /, *, logs: bool = True) -> Iterator[Event]:
        """All events after an id; `logs=False` leaves out logs, progress and metrics."""
        self.flow_of(run_id)
        seen = id_key(after)
        for event in list(self.events):
            if (logs or event.type not in BOUNDED_TYPES) and id_key(event.id) > seen:
                yield event

    def only_logs(self, run_id: str, /) -> Iterator[Event]:
        """Logs, progress and metrics alone."""
        return (event for event in self.read(run_id) if event.type in BOUNDED_TYPES)


class RecordedRun:
    """What a handle works with: the record, and the codec that opens its payloads."""

    def __init__(self, record: Record, codec: Codec) -> None:
        self.log, self._codec = record, codec

    @property
    def follower(self) -> RecordedRun:
        """It follows by itself: all of it has happened."""
        return self

    def follow(self, run_id: str, after: str = "0-0", timeout: float | None = None, /) -> _Followed:
        """The events after an id. There is nothing to wait for."""
        return _Followed(self.log.read(run_id, after))

    def codec_for(self, run_id: str, flow: str) -> Codec:
        return self._codec

    def cancel(self, run_id: str, reason: str) -> None:
        """A run in process has ended when its handle is there."""
        raise RunEnded(f"The run {run_id[:8]} is over already.", hint="Start it again with flow.test(...).")

    def delete(self, run_id: str) -> None:
        """It lives as long as its handle, and nowhere else."""
        raise CommandRefused("A run in process is kept nowhere.", hint="Let go of its handle.")


class _Followed:
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
