"""What a run takes over from an earlier one, put into the server before the launch that makes it count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbflow.errors import UnknownRun
from nbflow.store.connect import Store, translated

__all__ = ["Past", "stage"]

_MOST, _MOST_BYTES = 500, 1_000_000
"""Of one script call."""


@dataclass(frozen=True, slots=True)
class Past:
    """`entries`: ends by task, as text; `state`: values as JSON; `artifacts`: digests that the new run is to own; `line`:
    the first run of the line, whose idempotency keys it has. `told` is added to `flow.start`."""

    run: str
    told: Mapping[str, Any]
    entries: Mapping[str, str] = field(default_factory=dict[str, str])
    state: Mapping[str, str] = field(default_factory=dict[str, str])
    artifacts: frozenset[str] = frozenset()
    line: str = ""

    def fields(self) -> tuple[Any, ...]:
        """Of the new run's hash, in pairs, as `launch.lua` takes them."""
        reuse = ("reuse", len(self.entries)) if self.entries else ()
        return (*reuse, "line", self.line) if self.line else reuse


def stage(store: Store, run: str, past: Past) -> None:
    """Put it there for the run, which owns its artifacts from then on. UnknownRun if the earlier run is gone by now."""
    for digests in _chunks((digest,) for digest in sorted(past.artifacts)):
        store.run_script("stage", *digests, run=run, what="own")
    for what, pairs in (("reuse", past.entries), ("state", past.state)):
        for parts in _chunks(pairs.items()):
            store.run_script("stage", *parts, run=run, what=what)
    with translated(store.url):
        if not store.client.exists(store.keys.run(past.run)):
            raise UnknownRun(f"The run {past.run[:8]} was deleted meanwhile.", hint="Start the flow again.")


def _chunks(entries: Iterable[tuple[str, ...]]) -> Iterator[list[str]]:
    """The entries one after the other, in portions that a script takes at once."""
    chunk: list[str] = []
    size = 0
    for entry in entries:
        if chunk and (len(chunk) + len(entry) > _MOST or size > _MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk += entry
        size += sum(map(len, entry))
    if chunk:
        yield chunk
