"""A run's record as one sequence: the stream that decides and the bounded one (logs, progress, metrics), merged by id.

Reading is paged, so that a run of a million events blocks neither Redis nor the reader. Both streams of a page are read
in one transaction: otherwise an event written between the two reads would come out after its successors.
Reads only; what a run *is* nobody decides from here (the scripts decide from the run's hashes).
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from nbflow.errors import UnknownRun
from nbflow.model.events import BOUNDED_TYPES, Event, event_from_fields, id_key
from nbflow.store.connect import translated
from nbflow.store.obstacles import Obstacles

if TYPE_CHECKING:
    from nbflow.store.connect import Store

__all__ = ["BEGINNING", "LogPage", "LogReader", "Position", "RunLog"]

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
        self._page_size = page_size

    @property
    def _text(self) -> Any:
        """The client, asked for each time (a forked child has its own). redis-py leaves replies untyped: each is given
        its type where it is taken."""
        return self._store.text

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

        `logs=False` leaves out the bounded stream, which for many runs is the longer one.
        """
        reader = self.reader(run_id, self.flow_of(run_id), logs=logs)
        position = Position.after(after) if isinstance(after, str) else after
        to_end = False
        while not to_end:
            page = reader.page(position)
            to_end = page.to_end
            for event in page.events:
                position = position.past(event)
            yield from page.events

    @property
    def obstacles(self) -> Obstacles:
        """What may keep tasks from starting."""
        return Obstacles(self._store)

    def only_logs(self, run_id: str) -> Iterator[Event]:
        """The bounded stream alone: logs, progress and metrics."""
        flow, last, entries = self.flow_of(run_id), "0-0", list[Entry]()
        while last == "0-0" or len(entries) == self._page_size:
            with translated(self._store.url):
                reply = self._text.xrange(self._store.keys.log(run_id), f"({last}", "+", self._page_size)
            entries = cast("list[Entry]", reply)
            yield from _events(entries, run_id, flow)
            last = entries[-1][0] if entries else "end"

    def reader(self, run_id: str, flow: str, *, logs: bool = True) -> LogReader:
        """Reads one run page by page."""
        keys = self._store.keys
        streams = (keys.stream(run_id), keys.log(run_id)) if logs else (keys.stream(run_id),)
        fetch = partial(self._entries, streams)
        return LogReader(fetch, len(streams), run_id=run_id, flow=flow, page_size=self._page_size)

    def _entries(self, streams: tuple[str, ...], starts: list[str | None]) -> list[list[Entry]]:
        """The next entries of those streams that have a start, all in one transaction."""
        with translated(self._store.url), self._text.pipeline(transaction=len(streams) > 1) as pipe:
            for stream, start in zip(streams, starts, strict=True):
                if start is not None:
                    pipe.xrange(stream, f"({start}", "+", self._page_size)
            replies = iter(cast("list[list[Entry]]", pipe.execute()))
        return [[] if start is None else next(replies) for start in starts]


class LogReader:
    """Reads a run page by page. Of the stream that is ahead of the other it keeps what is read already."""

    def __init__(
        self,
        entries: Callable[[list[str | None]], list[list[Entry]]],
        streams: int,
        *,
        run_id: str,
        flow: str,
        page_size: int,
    ) -> None:
        self._entries = entries
        self._run_id = run_id
        self._flow = flow
        self._page_size = page_size
        self._ahead: list[list[Entry]] = [[] for _ in range(streams)]
        self._has_more = [False] * streams

    def page(self, position: Position) -> LogPage:
        """The next events after a position, which is that of the last page or beyond it."""
        self._fetch((position.deciding, position.bounded))
        # Beyond the last entry of a stream that goes on, the other's may have predecessors that were not read yet.
        ends = [id_key(ahead[-1][0]) for ahead, more in zip(self._ahead, self._has_more, strict=True) if more]
        ready = [self._up_to(n, min(ends, default=None)) for n in range(len(self._ahead))]
        entries = sum(ready, list[Entry]())
        if all(ready) and len(ready) > 1:
            entries.sort(key=lambda entry: id_key(entry[0]))
        return LogPage(_events(entries, self._run_id, self._flow), not ends)

    def _fetch(self, last: tuple[str, str]) -> None:
        starts: list[str | None] = []
        for n, ahead in enumerate(self._ahead):
            is_enough = bool(ahead) and self._has_more[n]  # else it is read again: it may have grown
            starts.append(None if is_enough else ahead[-1][0] if ahead else last[n])
        for n, new in enumerate(self._entries(starts)):
            if starts[n] is not None:
                self._ahead[n] += new
                self._has_more[n] = len(new) == self._page_size

    def _up_to(self, n: int, end: tuple[int, int] | None) -> list[Entry]:
        ahead = self._ahead[n]
        many = len(ahead) if end is None else bisect.bisect_right(ahead, end, key=lambda entry: id_key(entry[0]))
        self._ahead[n] = ahead[many:]
        return ahead[:many]


def _events(entries: list[Entry], run_id: str, flow: str) -> list[Event]:
    return [_event(event_id, fields, run_id, flow) for event_id, fields in entries]


def _event(event_id: str, fields: dict[str, str], run_id: str, flow: str) -> Event:
    text = fields.get("data", "")
    try:  # raw_decode takes a third of the time of json.loads
        data, end = _decode(text)
        kind, task, attempt = fields["type"], fields["task"], int(fields["attempt"])
    except (ValueError, KeyError):  # not as our scripts write it: keep what there is
        return event_from_fields(event_id, fields, run_id, flow)
    if end != len(text) or not isinstance(data, dict):
        return event_from_fields(event_id, fields, run_id, flow)
    return Event(event_id, kind, run_id, flow, task, attempt, cast("dict[str, Any]", data))


_decode = json.JSONDecoder().raw_decode
