"""The executions of one run in process: which of the tasks that are ready may start, what each receives, and the call of its
step. What follows from how they end is `engine.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from nbflow.testing.code import Code, Execution, Order
from nbflow.testing.decisions import Decisions, Task
from nbflow.testing.limits import Limit, Limits, value_in
from nbflow.testing.port import Output, TaskPort, TimeLimit, received_preview
from nbflow.testing.record import Record
from nbflow.testing.takeover import Takeover
from nbflow.worker.kept import RunState
from nbflow.worker.task import Ending

__all__ = ["Executions"]


class Executions:
    """What a run has of them."""

    def __init__(self, code: Code, order: Order, record: Record, output: Output, takeover: Takeover) -> None:
        self._code, self._order, self._record, self._output, self._takeover = code, order, record, output, takeover
        self._clock = record.clock
        self._decisions = Decisions(code.graph)
        self._ready: list[Execution] = []
        self._keys: dict[str, str] = {}  # by task
        tell_state = partial(record.add, "state", "", 0)
        self._state = RunState(takeover.state, lambda: self._clock.now_ms, tell_state)
        self._resolved: dict[Task, str] = {}  # what ended the holds of tasks
        self._limit, self._limits = TimeLimit(), Limits()

    @property
    def run(self) -> str:
        """Its id."""
        return self._order.run

    @property
    def decisions(self) -> Decisions:
        return self._decisions

    def activate(self) -> None:
        """Imports are those of its code from now on."""
        self._code.world.activate()

    def _who_may_start(self) -> tuple[Sequence[int], int | None]:
        """Which of the ready ones; and when a rate has room for another, if nothing else keeps that. Of those with the same
        limits only the first may."""
        if not any(self._code.limits.values()):
            return range(len(self._ready)), None
        may, due, now_ms = list[int](), list[int](), self._clock.now_ms
        seen = set[tuple[Limit, ...]]()
        for number, execution in enumerate(self._ready):
            if not execution.limits or execution.limits not in seen:
                seen.add(execution.limits)
                when = self._limits.due_ms(execution.limits, now_ms)
                (may if when == now_ms else due).extend([number] if when == now_ms else [when] if when else [])
        return may, min(due, default=None)

    def _limits_of(self, task: Task) -> tuple[Limit, ...]:
        found: list[Limit] = []
        for name, n, ms, *where in self._code.limits[task.step]:
            key = f":{value_in(self._payload(task, *where[0]), where[1])}" if where else ""
            found.append(Limit(name + key, n, ms))
        return tuple(found)

    def _payload(self, task: Task, kind: str, topic: str = "") -> str:
        """As the plan names it: the input, the payload of the task's index, or the first of a topic."""
        emitted = self._decisions.topics[topic].emitted if topic else {}
        if kind == "i":
            return self._order.text
        return emitted[task.index] if kind == "e" else next(iter(emitted.values()), "null")

    def _execute(self, execution: Execution, payloads: tuple[bytes | None, ...]) -> Ending:
        executor, key = self._code.executor, self._keys.get(str(execution.task))
        job = self._code.job(self._order, execution, key, payloads)
        line = self._takeover.line or self._order.run
        port = TaskPort(job, self._record, self._state, self._code, self._order, line=line)
        with self._output.of(port):
            ending = executor.execute(job, port, self._limit)
        port.is_over = True
        if executor.was_stopped:
            executor.was_stopped = False
            raise KeyboardInterrupt
        return ending

    def _payloads(self, task: Task) -> list[tuple[bool, bytes | None]]:
        """What a claim hands over: whether it is shown in a preview, and the text."""
        spec = self._code.graph.specs[task.step]
        answer = [(False, self._resolved[task].encode())] if task in self._resolved else []
        if spec.is_entry:
            return [(True, self._order.text.encode()), *answer]
        found: list[tuple[bool, bytes | None]] = []
        received = iter(self._decisions.receives(task))
        for term in spec.terms:
            if self._decisions.is_gathered(term):  # the execution gathers it by itself
                next(received)
            elif term.any_of:
                topic, text = next(received)
                found += [(False, topic.encode()), (True, text.encode())]
            else:
                found += [(True, next(received).encode()) for _ in term.topics]
        return found + answer

    def shown(self, task: Task) -> tuple[dict[str, Any], Any]:
        payloads = self._payloads(task)
        first = next((payload for is_shown, payload in payloads if is_shown), None)
        return received_preview(payloads), None if first is None else json.loads(first)

    def key_of(self, task: Task) -> str | None:
        return self._keys.get(str(task))
