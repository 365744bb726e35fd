"""The indexes of what a task emits (semantics §3): 0, 1, … in order of calls; a task with index i hands on i if it emits
a topic once, else i.0, i.1, …"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

__all__ = ["Numbers"]


class _Call(Protocol):
    """An emission: one value, or many at once."""

    @property
    def topic(self) -> str: ...
    @property
    def many(self) -> bool: ...


class Numbers:
    """Gives the emissions of one attempt their indexes, call by call."""

    def __init__(self, index: str, calls: Sequence[_Call]) -> None:
        self._index = index
        self._calls = Counter(call.topic for call in calls)
        self._many = {call.topic for call in calls if call.many}
        self._next: Counter[str] = Counter()

    def take(self, topic: str, count: int) -> list[str]:
        """The indexes of the next call, which emits so many."""
        if self._index and self._calls[topic] == 1 and topic not in self._many:
            return [self._index]
        first = self._next[topic]
        self._next[topic] += count
        dot = f"{self._index}." if self._index else ""
        return [f"{dot}{number}" for number in range(first, first + count)]
