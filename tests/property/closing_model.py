"""The decisions of `nbflow.testing.decisions`, fed with what tasks do. Indexes of emissions are made here once more, from
the rule of the semantics, so that those of `nbflow.worker.ending` are held to them too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nbflow.model.definition import FlowSpec, failed_topic, spread_topic, step_topic
from nbflow.testing.decisions import GATHERED, Decisions, Task
from nbflow.testing.graph import Graph

__all__ = ["GATHERED", "Call", "Model", "Task"]


@dataclass(frozen=True, slots=True)
class Call:
    """One `ctx.emit` (`many=False`, one value) or `ctx.emit_each`."""

    topic: str
    values: tuple[Any, ...]
    many: bool = False


class Model(Decisions):
    """One run of a flow."""

    def __init__(self, flow: FlowSpec) -> None:
        super().__init__(Graph(flow))
        self.flow = flow

    def completed(self, task: Task, result: Any, calls: list[Call]) -> list[Task]:
        """A task completed: its calls count, then its result. Returns the tasks that became ready."""
        for topic, indexes, values in self._numbered_by_the_task(task, calls):
            self.emit(topic, dict(zip(indexes, values, strict=True)))
        self.emit(step_topic(task.step), {task.index or "0": result})
        if not self.steps[task.step].spec.is_mapped and isinstance(result, list):
            self.emit(spread_topic(task.step), {str(i): value for i, value in enumerate(result)})
        return self.complete(task)

    def failed(self, task: Task, payload: Any) -> list[Task]:
        """A task failed for good. `payload` is what `failed(step)` receives."""
        self.emit(failed_topic(task.step), {task.index or "0": payload})
        return self.fail(task)

    @staticmethod
    def _numbered_by_the_task(task: Task, calls: list[Call]) -> Iterable[tuple[str, list[str], tuple[Any, ...]]]:
        counts = Counter(call.topic for call in calls)
        many = {call.topic for call in calls if call.many}
        following: Counter[str] = Counter()
        for call in calls:
            if task.index and counts[call.topic] == 1 and call.topic not in many:
                yield call.topic, [task.index], call.values
                continue
            first = following[call.topic]
            following[call.topic] += len(call.values)
            dot = f"{task.index}." if task.index else ""
            yield call.topic, [f"{dot}{first + i}" for i in range(len(call.values))], call.values
