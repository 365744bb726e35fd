"""The port of a step that somebody calls in a debugger: it reads what its run has, and nobody hears what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbflow.worker.execute import Executor
from nbflow.worker.kept import RunState
from nbflow.worker.started import Start, Started
from nbflow.worker.state import Change
from nbflow.worker.task import Job

__all__ = ["Unheard"]


@dataclass(slots=True)
class Unheard:
    """`fields` are those of the run's hash; `kept` is the run's state as it was, and what changes it changes this."""

    job: Job
    executor: Executor
    fields: Mapping[str, bytes]
    kept: RunState

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Nobody listens."""

    def read_input(self) -> Any:
        return self.executor.input(self.job, self.fields.get("input", b""))

    def read_trigger(self) -> str:
        return self.executor.trigger(self.job, self.fields.get("trigger"), self.fields.get("triggersig"))

    def line(self) -> str:
        return self.fields.get("line", self.job.run.encode()).decode()

    def read_state(self, key: str | None) -> dict[str, str]:
        return self.kept.read(key)

    def state(self, change: Change) -> str:
        return change.outcome(*self.kept.change(change, lambda _: None))

    def keep(self, name: str, value: Any) -> None:
        """It is kept nowhere."""

    def start_flow(self, flow: str, values: Any, number: int) -> Start:
        """Nothing is started: a handle is all there is of it."""
        return Start(Started("0" * 32, flow), {})

    def is_canceled(self) -> bool:
        return False
