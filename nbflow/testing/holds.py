"""Held tasks of a run in process: what is told of them, in the order in which the scripts tell it, and how they go on.

Who waits for what is decided in `waits.py`; what a task does before and after is the engine's.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Protocol

from nbflow.define.answers import check_answer
from nbflow.define.awaits import hold_entry
from nbflow.engine.awaits import token_of
from nbflow.errors import CommandRefused
from nbflow.model.awaits import Await
from nbflow.model.codec import Codec
from nbflow.model.waiting import Question, waits_for
from nbflow.testing.code import Code, Execution, Order
from nbflow.testing.decisions import Task
from nbflow.testing.record import Record
from nbflow.testing.waits import Alarm, Answers, Wait, Waits, delay_after_timeout_ms

__all__ = ["Holds", "Moves"]

_HELD_SHOWN = 400
"""A completed attempt whose data is longer is not shown with the question; as in `parts/awaits.lua`."""


class Moves(Protocol):
    """What the engine does with a task that waits no more."""

    def tell(self, kind: str, execution: Execution, data: dict[str, Any]) -> None: ...
    def later(self, delay_ms: int, what: Execution | Alarm) -> None: ...
    def shown(self, task: Task) -> tuple[dict[str, Any], Any]:
        """A preview of what the task receives, and its first payload."""
        ...

    def key_of(self, task: Task) -> str | None: ...
    def queue_task(self, execution: Execution, because: list[str]) -> None: ...
    def because(self, execution: Execution) -> list[str]: ...
    def finish(self, execution: Execution, data: dict[str, Any]) -> None: ...
    def fail(self, execution: Execution, said: str, reason: str) -> None: ...
    def advance(self) -> None: ...


class Holds:
    """The held tasks of one run."""

    def __init__(self, code: Code, order: Order, record: Record, answers: Answers, moves: Moves) -> None:
        self._code, self._order, self._clock, self._moves = code, order, record.clock, moves
        self.waits = Waits(answers)
        self.asked: list[tuple[Execution, str, str]] = []  # who is to be told: by whom, on which topic, what

    def before(self, execution: Execution, because: list[str]) -> None:
        """A task is ready: it is queued, or waits before that."""
        hold = self._code.graph.specs[execution.task.step].hold
        if hold is None or execution.task in self.waits.resolved:
            self._moves.queue_task(execution, because)
            return
        preview, received = self._moves.shown(execution.task)
        wait = Wait(execution, "before", hold, received)
        if not self._is_over(wait, preview):
            return
        self._moves.queue_task(execution, because)

    def after(self, execution: Execution, data: dict[str, Any]) -> bool:
        """An attempt completed. Whether it waits until that counts."""
        hold = self._code.graph.specs[execution.task.step].hold_emits
        if hold is None:
            return False
        assert execution.ending is not None
        _, received = self._moves.shown(execution.task)
        seen = {"held": data} if len(execution.ending.data) <= _HELD_SHOWN else {}
        if self._is_over(Wait(execution, "after", hold, received, data), seen):
            return False
        self._moves.advance()
        return True

    def _is_over(self, wait: Wait, seen: dict[str, Any]) -> bool:
        """Whether an event is there already that it waits for. Else it waits from now on."""
        found = self.waits.looked_back(wait, self._clock.now_ms)
        if found is None:
            self._register(wait, seen)
            return False
        self._moves.tell("await.registered", wait.execution, self._told(wait))
        by = {"event": getattr(wait.hold, "topic", "")}
        self._moves.tell("await.resolved", wait.execution, {"position": wait.position, "data": found[0], "by": by})
        if wait.position == "before":
            self.waits.resolved[wait.execution.task] = json.dumps(found[0])
        return True

    def _register(self, wait: Wait, seen: dict[str, Any]) -> None:
        execution, now_ms = wait.execution, self._clock.now_ms
        task, key = execution.task, self._moves.key_of(execution.task)
        told = self._told(wait, now_ms) | (seen if wait.hold.asks_somebody else {})
        self._moves.tell("await.registered", execution, told)
        names = [str(task), *([f"{task.step}[{key}]"] if key else []), task.step]
        for at_ms, alarm in self.waits.add(wait, now_ms, names):
            self._moves.later(at_ms - now_ms, alarm)
        topic = getattr(wait.hold, "notify", None)
        if topic:
            payload = {"run": self._order.run, "task": str(task), "attempt": execution.attempt, **told}
            self.asked.append((execution, topic, json.dumps(payload)))

    def _told(self, wait: Wait, now_ms: int | None = None) -> dict[str, Any]:
        """What `await.registered` says. Times are told where it waits."""
        hold, execution = wait.hold, wait.execution
        told: dict[str, Any] = json.loads(f"{{{hold_entry(hold, wait.position)['told']}}}")
        if now_ms is not None:
            told |= _times(hold, now_ms)
        if hold.asks_somebody:
            question = Question(str(execution.task), execution.attempt, wait.position)
            told["token"] = token_of(self._order.signature, self._order.run, question)
        key = self._moves.key_of(execution.task)
        return told if key is None else {**told, "key": key}

    # -- the end of a wait ------------------------------------------------------------------------------------------

    def ring(self, alarm: Alarm) -> None:
        """Its time has come."""
        wait = alarm.wait
        if alarm.what == "look":
            return  # somebody acts on a task now
        if wait is None:
            for one in self.waits.happens(alarm.topic, alarm.data, self._clock.now_ms):
                self._answer(one, alarm.data, {"event": alarm.topic})
        elif alarm.what == "timeout":
            self._over_time(wait)
        elif alarm.what == "due":
            self._answer(wait, None, {"timer": True})
        else:
            data = alarm.data(self._told(wait)) if callable(alarm.data) else alarm.data
            self._answer(wait, self._checked(wait, data), {"user": "the test"})

    def _checked(self, wait: Wait, data: Any) -> Any:
        """As it is kept: what does not fit is the test's mistake, and is raised there."""
        return json.loads(Codec().encode(check_answer(wait.hold, str(wait.execution.task), data)))

    def _answer(self, wait: Wait, data: Any, by: dict[str, Any]) -> None:
        told = {"position": wait.position, "data": data, "by": by}
        self._moves.tell("await.resolved", wait.execution, told)
        self._go_on(wait, data)

    def _go_on(self, wait: Wait, data: Any) -> None:
        self.waits.end(wait)
        if wait.position == "before":
            self.waits.resolved[wait.execution.task] = json.dumps(data)
            self._moves.queue_task(wait.execution, self._moves.because(wait.execution))
        else:
            assert wait.data is not None
            self._moves.finish(wait.execution, wait.data)

    def _over_time(self, wait: Wait) -> None:
        execution, action = wait.execution, wait.hold.on_timeout
        policy = self._code.graph.specs[execution.task.step].retry
        delay_ms = delay_after_timeout_ms(policy, execution.attempt) if action == "retry" else None
        if action == "retry" and delay_ms is None:
            action = "fail"
        self._moves.tell("await.timeout", execution, {"position": wait.position, "action": action})
        if action == "continue":
            self._go_on(wait, None)
            return
        self.waits.end(wait)
        said = f"nobody answered within the timeout of {'hold=' if wait.position == 'before' else 'hold_emits='}"
        if delay_ms is None or policy is None:
            self._moves.fail(execution, said, "await_timeout")
            return
        data: dict[str, Any] = {"error": said, "traceback": "", "reason": "await_timeout", "delay": delay_ms}
        data |= {"nextAttempt": execution.attempt + 1, "maxAttempts": policy.max_attempts}
        self._moves.tell("step.retry", execution, data)
        self._moves.later(delay_ms, Execution(execution.task, execution.attempt + 1))

    def refuse(self, flow: str) -> CommandRefused:
        """Nothing can go on but those that wait, and nobody will answer."""
        wait = next(iter(self.waits.waiting.values()))
        task, text = wait.execution.task, waits_for(self._told(wait), self._clock.now_ms)
        is_event = wait.hold.kind == "event"
        move = f"trial.emit({getattr(wait.hold, 'topic', '')!r}, …)" if is_event else f"trial.resolve({str(task)!r}, …)"
        return CommandRefused(
            f"The run of {flow!r} cannot go on: {str(task)!r} waits for {text}, and nobody answers in this test.",
            hint=f"Say how: trial = flow.trial(); {move}; trial.run(…).",
        )


def _times(hold: Await, now_ms: int) -> dict[str, str]:
    entry = hold_entry(hold, "")
    found = {"dueAt": entry.get("ms"), "timeoutAt": entry.get("timeout")}
    return {name: _iso(now_ms + ms) for name, ms in found.items() if ms is not None}


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
