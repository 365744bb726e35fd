"""The seam between what is read from a run's streams and what is heard of it live. Pure: no I/O, no clock, no lock.

The law: each event comes out once, in the order of the ids, whatever is lost, doubled or late on the way. It holds if

* a `doubt` is raised whenever something may have been missed: at every confirmation of a subscription, so after every
  reconnect, and now and then for good measure;
* while in doubt nothing heard is given out; a read that *began* after the last doubt and came to the end of the streams
  settles it: what was written before is in that read, what was written after will be heard;
* what is read or heard at or before the position is a double, and is dropped. The position counts either stream for
  itself, so that a log line is not lost for being heard after an event of a higher id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nbflow.model.events import Event, id_key
from nbflow.store.log import Position

__all__ = ["Reading", "Seam"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A read under way: where it began, and how many doubts there had been by then."""

    position: Position
    doubts: int


class Seam:
    """Joins reads and live messages of one run for one follower.

    `room` bounds what is held for a follower that does not come to fetch: beyond it everything held is dropped and a
    fresh read is due, so that a slow follower costs no memory and misses nothing.
    """

    def __init__(self, position: Position, *, room: int = 2000) -> None:
        self.position = position
        self.must_read = True
        self._room = room
        self._doubts = 0
        self._held: list[Event] = []

    def heard(self, event: Event) -> None:
        """A live message came."""
        if len(self._held) >= self._room:
            self._held.clear()
            self.doubt()
        else:
            self._held.append(event)

    def doubt(self) -> None:
        """Something may have been missed up to now."""
        self._doubts += 1
        self.must_read = True

    def begin_reading(self) -> Reading:
        """To be called before the read is sent to the server."""
        return Reading(self.position, self._doubts)

    def have_read(self, reading: Reading, events: Iterable[Event], *, to_end: bool) -> list[Event]:
        """The answer of a read came; the events of it that are new."""
        fresh = self._advance(events)
        if to_end and reading.doubts == self._doubts:
            self.must_read = False
        return fresh

    def take(self) -> list[Event]:
        """What was heard and is new; nothing while a read is due."""
        if self.must_read or not self._held:
            return []
        held, self._held = sorted(self._held, key=lambda event: id_key(event.id)), []
        return self._advance(held)

    @property
    def has_more(self) -> bool:
        return self.must_read or bool(self._held)

    def _advance(self, events: Iterable[Event]) -> list[Event]:
        fresh: list[Event] = []
        for event in events:
            if not self.position.knows(event):
                self.position = self.position.past(event)
                fresh.append(event)
        return fresh
