"""What a flow is, as data: steps, subscriptions, topics. No functions, no code.

Topics inside the engine are text. What a user names (`order.priced`) is itself; three kinds are made of steps:

    step:<s>     the result of each task of s
    each:<s>     the elements of the result of s, when s is not mapped and somebody maps over it
    failed:<s>   the final failures of s
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from nbflow.model.policy import Concurrency, Rate, Retry

if TYPE_CHECKING:
    from nbflow.model.awaits import Await

__all__ = [
    "MAX_TASKS",
    "STALL_AFTER_S",
    "FlowSpec",
    "Form",
    "Isolation",
    "StepSpec",
    "Term",
    "failed_topic",
    "is_topic_name",
    "spread_topic",
    "step_topic",
    "topic_label",
]

MAX_TASKS = 1_000_000
STALL_AFTER_S = 60.0
Isolation = Literal["process"]
_TOPIC = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)


class Form(StrEnum):
    """How a subscription is satisfied. The values are the ones in the plan table."""

    FIRST = "f"  # by the first emission of one of its topics: plain and any_of
    EACH = "e"  # at every emission (of each of its topics, per index)
    COLLECT = "c"  # when its topic is closed, was reached, and is not short
    KEEP = "k"  # collect(..., failures="keep"): when it is closed and was reached
    COMPLETED = "s"  # when the step is closed, ran, and all its tasks completed


@dataclass(frozen=True, slots=True)
class Term:
    """One subscription: its form and its topics. `any_of` marks a FIRST of several topics."""

    form: Form
    topics: tuple[str, ...]
    any_of: bool = False


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step as the engine knows it. `emits` are the declared topics only, not `step:<name>`."""

    name: str
    terms: tuple[Term, ...] = ()
    emits: tuple[str, ...] = ()
    queue: str = "default"
    has_key: bool = False
    doc: str = ""
    retry: Retry | None = None
    timeout_s: float | None = None
    priority: int = 0
    concurrency: Concurrency | None = None
    rate: Rate | None = None
    hold: Await | None = None
    hold_emits: Await | None = None
    isolation: Isolation | None = None
    cache_s: float | None = None

    @property
    def announces(self) -> tuple[str, ...]:
        """The topics on which others are told that a task of it waits."""
        found = (getattr(hold, "notify", None) for hold in (self.hold, self.hold_emits))
        return tuple(dict.fromkeys(topic for topic in found if topic))

    @property
    def topics(self) -> tuple[str, ...]:
        """All that its tasks may emit beside their results."""
        return tuple(dict.fromkeys((*self.emits, *self.announces))) if self.hold or self.hold_emits else self.emits

    def is_only_told(self, announced: set[str]) -> bool:
        """Whether it subscribes to nothing but what it is told of waits."""
        return bool(self.terms) and all(topic in announced for term in self.terms for topic in term.topics)

    @property
    def is_entry(self) -> bool:
        return not self.terms

    @property
    def each(self) -> tuple[str, ...]:
        """The topics of its `each` term; empty when the step is not mapped."""
        return next((term.topics for term in self.terms if term.form is Form.EACH), ())

    @property
    def is_mapped(self) -> bool:
        return any(term.form is Form.EACH for term in self.terms)


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """A flow as the engine knows it. `steps` are in the order of their definition. `on_failure` is `continue` or `cancel`;
    passing `deadline_s` or `max_tasks` (tasks of mapped steps) ends a run as failed. An ended run is kept for `retention_s`
    (infinity: for ever; None: as the settings say). It is stalled when for `stall_after_s` no task of it could go on. At most `concurrency.n` of its tasks run at once, over all runs."""

    name: str
    steps: tuple[StepSpec, ...]
    result: str | None = None
    on_failure: str = "continue"
    deadline_s: float | None = None
    max_tasks: int = MAX_TASKS
    retention_s: float | None = None
    concurrency: Concurrency | None = None
    stall_after_s: float = STALL_AFTER_S

    def step(self, name: str) -> StepSpec:
        return next(step for step in self.steps if step.name == name)


def is_topic_name(name: str) -> bool:
    """Whether a user may name a topic so: dotted words of letters, digits, `_` and `-`."""
    return bool(_TOPIC.fullmatch(name))


def step_topic(step: str) -> str:
    return f"step:{step}"


def spread_topic(step: str) -> str:
    return f"each:{step}"


def failed_topic(step: str) -> str:
    return f"failed:{step}"


def topic_label(topic: str) -> str:
    """How people call it: a step's topic by the step's name, `failed:` ones as `failed(step)`."""
    kind, colon, step = topic.partition(":")
    if not colon:
        return topic
    return f"failed({step})" if kind == "failed" else step
