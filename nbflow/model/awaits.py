"""Why a task is held, as frozen data: `Time`, `Schedule`, `OnEvent`, `Webhook`, `Approval`. Nothing waits or sleeps here.

`hold=` holds a task before it is queued, `hold_emits=` holds the result and the emissions of its attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from nbflow.errors import DefinitionError, nearest
from nbflow.model.cron import Cron
from nbflow.model.definition import is_topic_name
from nbflow.model.matching import Received, checked_match, received
from nbflow.model.policy import Duration, seconds

__all__ = [
    "LONGEST_LOOKBACK_S",
    "Approval",
    "Await",
    "OnEvent",
    "OnTimeout",
    "Received",
    "Schedule",
    "Time",
    "Webhook",
    "is_event_topic",
    "received",
]

OnTimeout = Literal["fail", "continue", "retry"]
LONGEST_LOOKBACK_S = 86_400.0
_ACTIONS = ("fail", "continue", "retry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Await:
    """What all of them take. Nobody answers within `timeout`: the task fails for good (`fail`), goes on without an answer
    (`continue`), or the attempt has failed, and the step's `retry=` decides (`retry`)."""

    kind: ClassVar[str] = ""
    asks_somebody: ClassVar[bool] = False
    """Whether a person or another program ends it, who needs a token and may be told."""

    timeout: Duration | None = None
    on_timeout: OnTimeout = "fail"

    def __post_init__(self) -> None:
        if self.on_timeout not in _ACTIONS:
            message = f"{type(self).__name__}(on_timeout={self.on_timeout!r}) is not known."
            raise DefinitionError(message, hint=nearest(str(self.on_timeout), _ACTIONS))
        if self.timeout is not None:
            seconds(self.timeout, f"{type(self).__name__}(timeout=…)")

    @property
    def timeout_s(self) -> float | None:
        return None if self.timeout is None else seconds(self.timeout)


@dataclass(frozen=True, slots=True)
class Time(Await):
    """For so long: `Time("2h")`."""

    kind: ClassVar[str] = "time"
    duration: Duration

    def __post_init__(self) -> None:
        Await.__post_init__(self)
        seconds(self.duration, "Time(…)")


@dataclass(frozen=True, slots=True)
class Schedule(Await):
    """Until the next occurrence of a cron expression in a time zone: `Schedule("0 2 * * *", "Europe/Vienna")`."""

    kind: ClassVar[str] = "schedule"
    cron: str
    tz: str = "UTC"

    def __post_init__(self) -> None:
        Await.__post_init__(self)
        Cron(self.cron, self.tz)

    @property
    def occurrences(self) -> Cron:
        return Cron(self.cron, self.tz)


@dataclass(frozen=True, slots=True)
class OnEvent(Await):
    """Until somebody says `nbflow.emit(topic, payload)`, with a payload in which the dotted fields of `match` have these
    values (or that of `received(field)`). An event counts that is not older than `lookback` (at most 24 hours) when the
    task begins to wait."""

    kind: ClassVar[str] = "event"
    topic: str
    match: Mapping[str, Any] | None = None
    lookback: Duration = 0
    matches: tuple[tuple[str, Any], ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        Await.__post_init__(self)
        if not is_event_topic(self.topic):
            message = f"OnEvent({self.topic!r}) names no topic."
            raise DefinitionError(message, hint="Use dotted words of letters, digits, '_' and '-': 'order.paid'.")
        object.__setattr__(self, "matches", checked_match(self.match, "OnEvent"))
        object.__setattr__(self, "match", None)  # a dict cannot be hashed, and can be changed
        if seconds(self.lookback, "OnEvent(lookback=…)") > LONGEST_LOOKBACK_S:
            message = f"OnEvent(lookback={self.lookback!r}) is more than 24 hours, which no topic is kept."
            raise DefinitionError(message, hint="Give at most '24h'.")


@dataclass(frozen=True, slots=True)
class Webhook(Await):
    """Until another program answers with the token of this wait. `model` is what it has to send; `notify` as in
    `Approval`."""

    kind: ClassVar[str] = "webhook"
    asks_somebody: ClassVar[bool] = True
    model: Any = None
    notify: Any = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Approval(Await):
    """Until a person answers with a value of `model` (a pydantic model, or anything that pydantic validates; None takes
    any JSON). `message` is what is asked. `notify` is told of it: a topic, or a step that subscribes to one."""

    kind: ClassVar[str] = "approval"
    asks_somebody: ClassVar[bool] = True
    model: Any = None
    message: str = field(default="", kw_only=True)
    notify: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        Await.__post_init__(self)
        if not isinstance(self.message, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"Approval(message={self.message!r}) is no text.", hint="Write what is asked.")


def is_event_topic(topic: object) -> bool:
    """Whether an event may have this topic."""
    return isinstance(topic, str) and is_topic_name(topic) and len(topic) <= 200
