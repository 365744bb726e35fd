"""The port of a step that somebody calls in a debugger: it reads what its run has, and nobody hears what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbflow.worker.execute import Executor
from nbflow.worker.port import no_number, state_text
from nbflow.worker.task import Job

__all__ = ["Unheard"]


@dataclass(slots=True)
class Unheard:
    """`fields` are those of the run's hash; `kept` is the run's state as JSON texts, and what changes it changes this."""

    job: Job
    executor: Executor
    fields: Mapping[str, bytes]
    kept: dict[str, str]

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Nobody listens."""

    def read_input(self) -> Any:
        return self.executor.input(self.job, self.fields.get("input", b""))

    def read_trigger(self) -> str:
        return self.executor.trigger(self.job, self.fields.get("trigger"), self.fields.get("triggersig"))

    def line(self) -> str:
        return self.fields.get("line", self.job.run.encode()).decode()

    def read_state(self, key: str | None) -> dict[str, Any]:
        return {name: json.loads(text) for name, text in self.kept.items() if key in (None, name)}

    def state(self, operation: str, key: str, value: Any) -> Any:
        if operation == "delete":
            self.kept.pop(key, None)
            return None
        if operation == "incr":
            was: Any = json.loads(self.kept.get(key, "0"))
            if isinstance(was, bool) or not isinstance(was, int | float):
                raise no_number(key, self.kept[key])
            value = was + value
        self.kept[key] = state_text(key, value)
        return value

    def keep(self, name: str, value: Any) -> None:
        """It is kept nowhere."""

    def is_canceled(self) -> bool:
        return False
