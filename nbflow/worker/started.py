"""A run that a step starts: what the step gets in its hand, and how the start travels with the end of its attempt."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["MOST_STARTS", "Start", "Started"]

MOST_STARTS = 100
"""So many runs one attempt may start: they all begin in one script."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run that begins when this attempt completes. Returned by a step that awaits it, its result becomes the step's;
    else its id does."""

    id: str
    flow: str
    is_awaited: bool = False

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class Start:
    """The same as the scripts take it: fields of the run that will be."""

    handle: Started
    fields: dict[str, str] = field(repr=False)

    @property
    def group(self) -> list[str | int]:
        """As `parts/children.lua` reads it, but for what it says of a task that awaits it."""
        pairs = [part for pair in self.fields.items() for part in pair]
        return [self.handle.id, "start", "", len(self.fields), *pairs]
