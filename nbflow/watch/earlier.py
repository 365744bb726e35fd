"""A run as it was at one of its events; and what a run that goes on from another one says of that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Never, cast

from nbflow.errors import CommandRefused
from nbflow.model.events import Event, id_key
from nbflow.model.view import View
from nbflow.watch.replay import ReplayedLog, ReplayedRun

__all__ = ["PastRun", "log_up_to", "told_of_reuse"]


def log_up_to(run_id: str, flow: str, events: Iterable[Event], at: str) -> ReplayedLog:
    """The events up to that one. CommandRefused if there is none of that id."""
    told = list(events)
    if all(event.id != at for event in told):
        raise CommandRefused(f"The run {run_id[:8]} has no event {at!r}.", hint="Take an id of run.events.")
    return ReplayedLog(run_id, flow, [event for event in told if id_key(event.id) <= id_key(at)])


class PastRun(ReplayedRun):
    """What a handle of a run as it was works with: it can be looked at, and gone on from."""

    def __init__(self, log: ReplayedLog, codec: Any, at: str) -> None:
        super().__init__(log, codec)
        self._at = at

    def cancel(self, run_id: str, reason: str) -> None:
        self._refuse(run_id, "canceled")

    def resolve(self, run_id: str, question: Any, data: Any) -> None:
        self._refuse(run_id, "answered")

    def delete(self, run_id: str) -> None:
        self._refuse(run_id, "deleted")

    def again(self, run_id: str, how: str, *, at: str | None = None, changed: bool = False) -> Never:
        self._refuse(run_id, "gone on from")

    def foresee(self, run_id: str, flow: Any, *, changed: bool) -> Never:
        self._refuse(run_id, "gone on from")

    @property
    def hands(self) -> Never:
        self._refuse(self.log.run_id, "changed")

    def _refuse(self, run_id: str, done: str) -> Never:
        raise CommandRefused(
            f"The run {run_id[:8]} as it was at {self._at} can be looked at, and not {done}.",
            hint=f"Use the run itself: nbflow.run({run_id[:8]!r}).fork(at={self._at!r}) goes on from there.",
        )


def told_of_reuse(view: View) -> str:
    """`12 tasks are taken over, 9 of 10 parse from older code.`"""
    reused = view.start.get("reused")
    count = reused if isinstance(reused, int) else 0
    told = f"{count} task{' is' if count == 1 else 's are'} taken over" if count else "Nothing is taken over"
    data: Any = view.start.get("older")
    older = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    parts = [f"{pair[0]} of {pair[1]} {step}" for step, pair in older.items() if isinstance(pair, list)]
    return f"{told}, {', '.join(parts)} from older code." if parts else f"{told}."
