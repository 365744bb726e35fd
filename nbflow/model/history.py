"""What became of a run up to some event, for a run that goes on from there: which tasks completed and how, in their order,
and what the run's state was. Payloads stay as they were written; nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from nbflow.model.events import BOUNDED_TYPES, Event
from nbflow.model.view import View, reduce

__all__ = ["Call", "End", "History", "history"]


@dataclass(frozen=True, slots=True)
class Call:
    """An emission: one payload, or the list of many."""

    topic: str
    payload: Any
    many: bool = False


@dataclass(slots=True)
class End:
    """How a task completed. `rank` is its place among all ends of the run; `run` and `fingerprint` are of the run and the
    code that executed it, which lie further back where it was taken over already."""

    task: str
    step: str
    index: str
    rank: int
    result: Any
    duration: Any
    run: str
    fingerprint: str
    calls: list[Call] = field(default_factory=list[Call])

    @property
    def emitted_result(self) -> bool:
        """Whether the result was written once, as what the step emitted."""
        return bool(self.calls) and self.result == {"$emit": self.calls[0].topic}

    @property
    def value(self) -> Any:
        """The result's payload."""
        return self.calls[0].payload if self.emitted_result else self.result


@dataclass(slots=True)
class History:
    """A run as its events tell it up to one of them."""

    view: View
    ends: dict[str, End] = field(default_factory=dict[str, End])
    fading: set[str] = field(default_factory=set[str])
    """The values of the state that would have gone by themselves."""
    found: bool = True
    """Whether there was such an event."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the code it was launched with, by step."""
        return _texts(self.view.start.get("fingerprints"))


def history(run_id: str, events: Iterable[Event], at: str | None = None) -> History:
    """The history up to an event, that one included; without one, all of it. What a task emits is told in the script that
    ends it: these events count as one, wherever among them the line is drawn."""
    told = History(View(run_id), found=at is None)
    is_over = False
    for event in events:
        is_over |= at is not None and told.found
        told.found |= event.id == at
        if event.type == "emit" and event.task in told.ends:
            told.ends[event.task].calls.append(_call(event))
        if is_over or event.type in BOUNDED_TYPES:
            continue
        reduce(told.view, event)
        if event.type == "state":
            goes = "ttl" in event.data or "cleanup" in event.data
            (told.fading.add if goes else told.fading.discard)(str(event.data.get("key", "")))
        if event.type == "step.completed":
            told.ends[event.task] = _end(event, len(told.ends), told.fingerprints)
    return told


def _call(event: Event) -> Call:
    return Call(str(event.data.get("name", "")), event.data.get("payload"), "count" in event.data)


def _end(event: Event, rank: int, fingerprints: dict[str, str]) -> End:
    reused = _texts(event.data.get("reused"))
    step = event.step_name
    return End(
        event.task,
        step,
        event.index,
        rank,
        event.data.get("result"),
        event.data.get("duration"),
        reused.get("run", event.run_id),
        reused.get("fingerprint", fingerprints.get(step, "")),
    )


def _texts(data: Any) -> dict[str, str]:
    """A stranger's data, as far as it is texts by name."""
    fields = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    return {name: value for name, value in fields.items() if isinstance(value, str)}
