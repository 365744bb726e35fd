"""A run's record as one sequence: the stream that decides and the bounded one (logs, progress, metrics), merged by id.

Reading is paged, so that a run of a million events blocks neither Redis nor the reader. Both streams of a page are read
in one transaction: otherwise an event written between the two reads would come out after its successors.
Reads only; what a run *is* nobody decides from here (the scripts decide from the run's hashes).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from nbflow.errors import UnknownRun
from nbflow.model.events import BOUNDED_TYPES, Event, event_from_fields, id_key
from nbflow.store.connect import translated

if TYPE_CHECKING:
    from nbflow.store.connect import Store

__all__ = ["BEGINNING", "LogPage", "Position", "RunLog"]

PAGE = 1000
"""Entries of one XRANGE: about a millisecond of Redis's time."""

Entry = tuple[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader has come: the last id it has of either stream.

    Two, because nothing promises that a log line is written before an event of a higher id is read.
    """

    deciding: str = "0-0"
    bounded: str = "0-0"

    @classmethod
    def after(cls, event_id: str) -> Position:
        return cls(event_id, event_id)

    def knows(self, event: Event) -> bool:
        """Whether the event lies at or before the position, so that it was had already."""
        last = self.bounded if event.type in BOUNDED_TYPES else self.deciding
        return id_key(event.id) <= id_key(last)

    def past(self, event: Event) -> Position:
        if event.type in BOUNDED_TYPES:
            return Position(self.deciding, event.id)
        return Position(event.id, self.bounded)


BEGINNING = Position()


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some events in the order of their ids. `to_end`: nothing lay behind them when they were read."""

    events: list[Event]
    to_end: bool


class RunLog:
    """Reads the events of runs."""

    def __init__(self, store: Store, *, page_size: int = PAGE) -> None:
        self._store = store
        self._text: Any = store.text  # redis-py leaves replies untyped; each is given its type where it is taken
        self._page_size = page_size

    def flow_of(self, run_id: str) -> str:
        """The name of the run's flow; `UnknownRun` if there is no such run (any more)."""
        with translated(self._store.url):
            flow = cast("str | None", self._text.hget(self._store.keys.run(run_id), "flow"))
        if flow is None:
            raise UnknownRun(
                f"There is no run {run_id!r}.",
                hint="Look at nbflow.runs(): it may have been deleted, or lie in another namespace or on another server.",
            )
        return flow

    def read(self, run_id: str, after: str | Position = BEGINNING, *, logs: bool = True) -> Iterator[Event]:
        """All events after an id, in the order of their ids, up to those that are there when the last page is read.

        `logs=False` leaves out the bounded stream, which for most runs is the longer one.
        """
        flow = self.flow_of(run_id)
        position = Position.after(after) if isinstance(after, str) else after
        to_end = False
        while not to_end:
            page = self.page(run_id, flow, position, logs=logs)
            to_end = page.to_end
            for event in page.events:
                position = position.past(event)
            yield from page.events

    def page(self, run_id: str, flow: str, position: Position, *, logs: bool = True) -> LogPage:
        """The next events after a position."""
        deciding, bounded = self._entries(run_id, position, logs)
        full = [entries[-1][0] for entries in (deciding, bounded) if len(entries) == self._page_size]
        if not bounded:  # the usual page needs no sorting
            return LogPage(_events(deciding, run_id, flow), not full)
        # Beyond the last id of a full page the other stream's entries may have predecessors that were not read yet.
        horizon = min(map(id_key, full), default=None)
        keyed = [(id_key(entry[0]), entry) for entry in (*deciding, *bounded)]
        keyed.sort(key=lambda pair: pair[0])
        entries = [entry for key, entry in keyed if horizon is None or key <= horizon]
        return LogPage(_events(entries, run_id, flow), not full)

    def only_logs(self, run_id: str) -> Iterator[Event]:
        """The bounded stream alone: logs, progress and metrics."""
        flow, last, keys = self.flow_of(run_id), "0-0", self._store.keys
        while True:
            with translated(self._store.url):
                raw = self._text.xrange(keys.log(run_id), f"({last}", "+", self._page_size)
            entries = cast("list[Entry]", raw)
            yield from _events(entries, run_id, flow)
            if len(entries) < self._page_size:
                return
            last = entries[-1][0]

    def _entries(self, run_id: str, position: Position, logs: bool) -> tuple[list[Entry], list[Entry]]:
        keys, size = self._store.keys, self._page_size
        with translated(self._store.url), self._text.pipeline(transaction=logs) as pipe:
            pipe.xrange(keys.stream(run_id), f"({position.deciding}", "+", size)
            if logs:
                pipe.xrange(keys.log(run_id), f"({position.bounded}", "+", size)
            replies = cast("list[list[Entry]]", pipe.execute())
        return replies[0], replies[1] if logs else []


def _events(entries: list[Entry], run_id: str, flow: str) -> list[Event]:
    parsed = _parse_at_once([fields.get("data", "") for _, fields in entries])
    if parsed is None:  # some entry is no JSON: one by one, each keeps what it has
        return [event_from_fields(event_id, fields, run_id, flow) for event_id, fields in entries]
    return [
        Event(event_id, fields.get("type", "unknown"), run_id, flow, *_task(fields), data)
        for (event_id, fields), data in zip(entries, parsed, strict=True)
    ]


def _task(fields: Mapping[str, str]) -> tuple[str, int]:
    return fields.get("task", ""), int(fields.get("attempt") or 0)


def _parse_at_once(texts: list[str]) -> list[dict[str, Any]] | None:
    """The data of a page as one JSON array: a third of the time of a call each."""
    try:
        parsed = cast("list[Any]", json.loads(f"[{','.join(text or '{}' for text in texts)}]"))
    except ValueError:
        return None
    if len(parsed) != len(texts) or not all(isinstance(data, dict) for data in parsed):
        return None  # e.g. "1,2" in one entry: a list of the right text and the wrong length
    return parsed
