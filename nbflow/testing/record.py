"""The events of one run in this process, as they happen, and what a handle needs to show such a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nbflow.define.flow import FlowDefinition
from nbflow.errors import CommandRefused, RunEnded
from nbflow.model.codec import Codec
from nbflow.model.events import Event
from nbflow.model.waiting import Question
from nbflow.testing.clock import Clock
from nbflow.watch.backend import How
from nbflow.watch.frames import PlanRow
from nbflow.watch.replay import ReplayedLog, ReplayedRun
from nbflow.watch.run import Run
from nbflow.watch.task import Acts

__all__ = ["Record", "RecordedRun"]


class Record(ReplayedLog):
    """What happened in one run, in its order. User code may write from any of its threads."""

    def __init__(self, run_id: str, flow: str, clock: Clock) -> None:
        super().__init__(run_id, flow, [])
        self.clock = clock
        self._lock = threading.Lock()

    def add(self, kind: str, task: str = "", attempt: int = 0, data: dict[str, Any] | None = None) -> None:
        """One more event. `data` is as JSON has it."""
        with self._lock:
            event_id = self.clock.next_id()
            self.events.append(Event(event_id, kind, self.run_id, self.flow, task, attempt, data or {}))


class RecordedRun(ReplayedRun):
    """What a handle works with. `again` runs one that goes on from it."""

    def __init__(
        self,
        record: Record,
        codec: Codec,
        again: Callable[..., Run],
        foresee: Callable[..., list[PlanRow]],
        handle: Callable[[str], Run],
    ) -> None:
        super().__init__(record, codec)
        self._again, self._foresee, self._handle = again, foresee, handle

    def handle(self, run_id: str, flow: str) -> Run:
        """Of a run of the same trial, which is over as well."""
        return self._handle(run_id)

    def foresee(self, run_id: str, flow: FlowDefinition, *, changed: bool) -> list[PlanRow]:
        """As the flow is now."""
        return self._foresee(flow, changed=changed)

    def again(self, run_id: str, how: How, *, at: str | None = None, changed: bool = False) -> Run:
        """In this process, as the trial is now."""
        return self._again(how, at=at, changed=changed)

    def cancel(self, run_id: str, reason: str) -> None:
        """A run in process has ended when its handle is there."""
        raise RunEnded(f"The run {run_id[:8]} is over already.", hint="Start it again with flow.test(...).")

    def resolve(self, run_id: str, question: Question, data: Any) -> None:
        """Nothing waits in a run in process that is over."""
        raise RunEnded(f"The run {run_id[:8]} is over already.", hint="Answer on its way: flow.trial().resolve(…).")

    @property
    def hands(self) -> Acts:
        """Nor can its tasks be changed any more."""
        raise RunEnded("A run in process is over when its handle is there.", hint="Start it again with flow.test(...).")

    def delete(self, run_id: str) -> None:
        """It lives as long as its handle, and nowhere else."""
        raise CommandRefused("A run in process is kept nowhere.", hint="Let go of its handle.")
