"""A clock that jumps: no time goes by while steps run, and what is waited for is there at once."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["BEGINNING", "Clock"]

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
"""When runs in process begin, so that the same run has the same events."""


class Clock:
    """The time of one run, in milliseconds since 1970, and ids of events from it."""

    def __init__(self, start: datetime = BEGINNING) -> None:
        self.now_ms = int(start.timestamp() * 1000)
        self._last = -1

    def later(self) -> Clock:
        """Another clock, which goes on from this one."""
        other = Clock()
        other.now_ms = self.now_ms + 1
        return other

    def jump(self, to_ms: int) -> None:
        """It is that time now. It never goes back."""
        if to_ms > self.now_ms:
            self.now_ms, self._last = to_ms, -1

    def next_id(self) -> str:
        """An id as the server's streams have them: `<ms>-<n>`."""
        self._last += 1
        return f"{self.now_ms}-{self._last}"
