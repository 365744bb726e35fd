"""One follower's end of one run: what the listening thread drops in on one side, and what is fetched on the other.

Knows when a read is due, when the run is over and nothing more is to be expected, and nothing of who waits and how.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

from nbflow.model.events import Event, event_from_notice, id_key
from nbflow.store.log import Position, RunLog
from nbflow.watch.seam import Seam

__all__ = ["LINGER_S", "PATIENCE_S", "SAFETY_S", "Ring", "Tail"]

SAFETY_S = 5.0
"""A follower that hears nothing reads this often all the same."""
LINGER_S = 0.5
"""After a cancel or a failure the interrupted tasks still say their last words."""
PATIENCE_S = 60.0
"""A server may be away so long (a restart, a failover) before a follower gives up."""
_ID = re.compile(r"[0-9]{1,14}-[0-9]{1,19}")

Ring = Callable[[], None]


class Tail:
    """One follower's end of one run: an `Ear` whose events are fetched, by one thread at a time."""

    def __init__(self, log: RunLog, run_id: str, after: str, ring: Ring) -> None:
        self.run_id = run_id
        self.flow = log.flow_of(run_id)
        self.end: Event | None = None
        self._log = log
        self._ring = ring
        self._reader = log.reader(run_id, self.flow)
        self._seam = Seam(Position.after(after))
        self._lock = threading.Lock()
        self._news_s = self._sure_s = time.monotonic()

    def heard(self, message: bytes) -> None:
        event = self._event(message)
        with self._lock:
            self._seam.doubt() if event is None else self._seam.heard(event)

    def _event(self, message: bytes) -> Event | None:
        """None: not ours, or torn. The stream knows better. (Anybody who reaches the server may publish anything.)"""
        try:
            event = event_from_notice(message, self.run_id, self.flow)
            words: Any = event.type + event.task
            fits = _ID.fullmatch(event.id) and isinstance(words, str)
        except Exception:  # noqa: BLE001 - of any kind: text that is no JSON, too deep, of other types, out of range
            return None
        return event if fits else None

    def doubt(self) -> None:
        with self._lock:
            self._seam.doubt()

    def call(self) -> bool:
        if self._seam.has_more:
            self._ring()
        return False

    @property
    def must_read(self) -> bool:
        return self._seam.must_read

    @property
    def has_more(self) -> bool:
        return self._seam.has_more

    def fetch(self) -> list[Event]:
        """The next events that are there: what was heard, or else a page that is read now."""
        with self._lock:
            if not self._seam.must_read:
                return self._noted(self._seam.take())
            reading = self._seam.begin_reading()
        page = self._reader.page(reading.position)
        with self._lock:
            return self._noted(self._seam.have_read(reading, page.events, to_end=page.to_end))

    @property
    def will_ask(self) -> bool:
        """Whether the server is asked for the next events."""
        return self._seam.must_read or time.monotonic() - self._sure_s > SAFETY_S

    def reassure(self) -> None:
        """If nothing came for a while: that the run still exists (else `UnknownRun`), and have its end read once more."""
        if time.monotonic() - self._sure_s > SAFETY_S:
            self._log.flow_of(self.run_id)
            self._sure_s = time.monotonic()
            self.doubt()

    @property
    def is_finished(self) -> bool:
        """The run has ended, everything of it was given out, and nothing more is to be expected."""
        if self.end is None or self._seam.has_more:
            return False
        age_s = time.time() - id_key(self.end.id)[0] / 1000
        quiet_s = time.monotonic() - self._news_s
        return self.end.type == "flow.completed" or age_s > PATIENCE_S or quiet_s >= LINGER_S

    def _noted(self, events: list[Event]) -> list[Event]:
        if events:
            self._news_s = self._sure_s = time.monotonic()
            self.end = next((event for event in events if event.ends_run), self.end)
        return events
