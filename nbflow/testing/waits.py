"""Waits in plain Python: who waits for what, which event fits whom, and who answers in a run in process.

The scripts are held to it by `tests/property/test_waits.py`. Nothing is told or queued here; the engine does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nbflow.model.awaits import Await, OnEvent, Schedule, Time
from nbflow.model.matching import fits
from nbflow.model.policy import Retry, seconds
from nbflow.testing.code import Execution
from nbflow.testing.decisions import Task

__all__ = ["Alarm", "Answers", "Wait", "Waits", "delay_after_timeout_ms"]

KEPT = 500
"""So many events of a topic are kept, as in `parts/awaits.lua`."""


@dataclass(slots=True, eq=False)
class Wait:
    """One wait of one attempt. `received` is the first payload of the task; `data` is that of its `step.completed`."""

    execution: Execution
    position: str
    hold: Await
    received: Any = None
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Alarm:
    """What happens at a time: a wait is `due`, over its `timeout`, or gets an `answer`; there is an `event`; or `look`: it is
    time for what a person does to a task."""

    what: str
    wait: Wait | None = None
    topic: str = ""
    data: Any = None


@dataclass(slots=True)
class Answers:
    """What people and other programs will do: answers by task, step, or step and key, with how long they take; and events,
    with how long after the start."""

    to: dict[str, list[tuple[Any, int]]] = field(default_factory=dict[str, list[tuple[Any, int]]])
    events: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])

    def of(self, names: Sequence[str], number: int) -> tuple[Any, int] | None:
        """To the question of that number, of who is called so. The last answer is given again and again."""
        given = next((self.to[name] for name in names if name in self.to), None)
        return given[min(number, len(given) - 1)] if given else None


class Waits:
    """The waits of one run."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.waiting: dict[Task, Wait] = {}  # in the order in which they came
        self.resolved: dict[Task, str] = {}  # what ended the hold of a task, for all its attempts
        self._log: list[tuple[int, str, Any]] = []
        self._asked: Counter[tuple[Task, str]] = Counter()

    def is_open(self, alarm: Alarm) -> bool:
        """Whether it still means anything."""
        return alarm.wait is None or self.waiting.get(alarm.wait.execution.task) is alarm.wait

    def looked_back(self, wait: Wait, now_ms: int) -> tuple[Any] | None:
        """The first event within its look-back that it waits for."""
        hold = wait.hold
        if not isinstance(hold, OnEvent) or not seconds(hold.lookback):
            return None
        from_ms = now_ms - round(seconds(hold.lookback) * 1000)
        kept = [(ms, payload) for ms, topic, payload in self._log if topic == hold.topic][-KEPT:]
        return next(
            ((payload,) for ms, payload in kept if ms >= from_ms and fits(hold.matches, payload, wait.received)), None
        )

    def add(self, wait: Wait, now_ms: int, names: Sequence[str]) -> list[tuple[int, Alarm]]:
        """It waits from now on. What will happen to it, and when."""
        task, hold = wait.execution.task, wait.hold
        self.waiting[task] = wait
        alarms: list[tuple[int, Alarm]] = []
        answer = self.answers.of(names, self._asked[task, wait.position])
        self._asked[task, wait.position] += 1
        if answer is not None:
            alarms.append((now_ms + answer[1], Alarm("answer", wait, data=answer[0])))
        due_ms = due_of(hold, now_ms)
        if due_ms is not None:
            alarms.append((due_ms, Alarm("due", wait)))
        if hold.timeout_s is not None:
            alarms.append((now_ms + round(hold.timeout_s * 1000), Alarm("timeout", wait)))
        return alarms

    def end(self, wait: Wait) -> None:
        """It waits no more."""
        del self.waiting[wait.execution.task]

    def happens(self, topic: str, payload: Any, now_ms: int) -> list[Wait]:
        """An event: all that wait for it."""
        self._log.append((now_ms, topic, payload))
        return [
            wait
            for wait in self.waiting.values()
            if isinstance(wait.hold, OnEvent)
            and wait.hold.topic == topic
            and fits(wait.hold.matches, payload, wait.received)
        ]


def due_of(hold: Await, now_ms: int) -> int | None:
    """When a wait that begins now ends by itself."""
    if isinstance(hold, Time):
        return now_ms + round(seconds(hold.duration) * 1000)
    return hold.occurrences.after_ms(now_ms) if isinstance(hold, Schedule) else None


def delay_after_timeout_ms(policy: Retry | None, attempt: int) -> int | None:
    """After a wait that is over time: when the next attempt comes; None if none does. A script draws no jitter."""
    if policy is None or not policy.wants(TimeoutError(), 1) or attempt >= policy.max_attempts:
        return None
    full_s = min(seconds(policy.backoff) * 2 ** min(attempt - 1, 30), seconds(policy.max_delay))
    return round(full_s * 1000)
