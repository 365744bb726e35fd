"""What a task received, as one digest: a task is taken over from an earlier run if it would receive the same again.

`lua/parts/reuse.lua` makes the same digest. Of what is gathered only a sum is known there, which is the same in whatever
order the emissions came; so the sum is what counts here too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

__all__ = ["NOTHING_GATHERED", "Keeps", "receipt", "sum_of"]

NOTHING_GATHERED = "0 0 0"
_WIDTH = 2**40


class Keeps(Protocol):
    """What a run keeps of its emissions."""

    def field(self, name: str, /) -> str | None:
        """`input`, `p:<topic>` (the first payload), `y:<step>:<k>` (the topic that satisfied a subscription)."""
        ...

    def payload(self, topic: str, index: str, /) -> str | None: ...

    def sum(self, topic: str, /) -> str:
        """The `sum_of` all its emissions."""
        ...


def receipt(step: str, entry: Mapping[str, Any], index: str, kept: Keeps) -> str:
    """The digest of what a task receives. `entry` is the step's in a plan table (`bind`, `keeps`)."""
    parts: list[str] = []
    number = 0
    for how, *topics in entry["bind"]:
        if how == "i":
            parts += ["input", kept.field("input") or ""]
        elif how == "e":
            for topic in topics:
                parts += [topic, kept.payload(topic, index) or ""]
        elif how != "r":  # the answer to its hold is part of how it ended
            number += 1
            topic = kept.field(f"y:{step}:{number}") or ""
            parts += [topic, kept.sum(topic) if how == "g" else kept.field(f"p:{topic}") or ""]
    for name in entry.get("keeps", ()):
        parts += [f"failed:{name}", kept.sum(f"failed:{name}")]
    return hashlib.sha1("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


def sum_of(emissions: Iterable[tuple[str, str]]) -> str:
    """A sum over index and payload of each: how many, and two halves of 40 bits."""
    count = first = second = 0
    for index, payload in emissions:
        digest = hashlib.sha1(f"{index} {payload}".encode(), usedforsecurity=False).hexdigest()
        count, first, second = count + 1, first + int(digest[:10], 16), second + int(digest[10:20], 16)
    return f"{count} {first % _WIDTH} {second % _WIDTH}"
