"""A flow, wired: who emits what, who subscribes to it, who lies before whom, and which steps turn in circles.

It is made once and shared by runs: nothing in it changes. What happened to steps and topics in one run are the facts that
`decisions.py` decides from. Everything is found by looking at everything, without a plan table, so that the two can be
held against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, failed_topic, spread_topic, step_topic

__all__ = ["Graph", "StepFacts", "Subscriber", "TopicFacts"]


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscription of a step; `number` is the position of the term."""

    step: str
    number: int
    term: Term


@dataclass(slots=True)
class TopicFacts:
    """What happened to a topic in one run. `emitted` is by index, in the order in which emissions were applied."""

    emitters: list[str] = field(default_factory=list[str])
    subscribers: list[Subscriber] = field(default_factory=list[Subscriber])
    numbered: bool = False
    emitted: dict[str, Any] = field(default_factory=dict[str, Any])
    reached: bool = False
    short: bool = False
    closed_emitters: int = 0
    closed: bool = False


@dataclass(slots=True)
class StepFacts:
    """What happened to a step in one run. `satisfied`: number of a term to the topic that satisfied it; `gone`: how many
    of its topics are closed; `taken`: the indexes that became tasks; `need`: terms but each."""

    spec: StepSpec
    cycle: int | None = None
    need: int = 0
    outstanding: int = 0
    created: int = 0
    failed: int = 0
    completed: int = 0
    satisfied: dict[int, str] = field(default_factory=dict[int, str])
    gone: Counter[int] = field(default_factory=Counter[int])
    gone_short: set[int] = field(default_factory=set[int])
    taken: set[str] = field(default_factory=set[str])
    short: bool = False
    closed: bool = False

    @property
    def others_are_satisfied(self) -> bool:
        return len(self.satisfied) == self.need


class Graph:
    """The wiring of a flow. `place` is the order of the steps; `kept`: the steps whose failures a step takes by
    `collect(..., failures="keep")`; `free`: the steps that nothing subscribes to."""

    def __init__(self, flow: FlowSpec) -> None:
        self.flow = flow
        self.specs = {spec.name: spec for spec in flow.steps}
        self.place = {name: i for i, name in enumerate(self.specs)}
        self.emitters: dict[str, list[str]] = {}
        self.subscribers: dict[str, list[Subscriber]] = {}
        self._wire()
        self.cycle_of: dict[str, int] = {}
        self.cycles = self._find_cycles()
        self.feeders = [self._before(members) - set(members) for members in self.cycles]
        self.kept = {name: self._kept(spec) for name, spec in self.specs.items()}
        self.handled = {name: _handled(spec) for name, spec in self.specs.items()}
        self.announced = {topic for spec in flow.steps for topic in spec.announces}
        self.free = [name for name, spec in self.specs.items() if self._is_free(spec)]

    def steps(self) -> dict[str, StepFacts]:
        """The steps of a run to which nothing has happened yet."""
        need = {name: sum(term.form is not Form.EACH for term in spec.terms) for name, spec in self.specs.items()}
        return {name: StepFacts(spec, self.cycle_of.get(name), need[name]) for name, spec in self.specs.items()}

    def topics(self) -> dict[str, TopicFacts]:
        """The topics of a run to which nothing has happened yet."""
        return {name: self._topic(name) for name in {**self.emitters, **self.subscribers}}

    def before(self, step: str) -> set[str]:
        """All steps that lie before one, itself among them if it lies on a cycle."""
        found: set[str] = set()
        front = self._before([step])
        while front - found:
            found |= front
            front = self._before(front)
        return found

    def _topic(self, name: str) -> TopicFacts:
        emitters = self.emitters.get(name, [])
        subscribers = self.subscribers.get(name, [])
        numbered = len(emitters) > 1 or name in self.announced or any(emitter in self.cycle_of for emitter in emitters)
        is_kept_only = name.startswith("failed:") and not subscribers  # by the indexes of the tasks that failed
        return TopicFacts(emitters, subscribers, numbered and not is_kept_only)

    def _is_free(self, spec: StepSpec) -> bool:
        taken = any(
            self.subscribers.get(topic) for topic in _own(spec) if topic not in spec.announces or topic in spec.emits
        )
        return not taken and not spec.is_only_told(self.announced)

    def _wire(self) -> None:
        for spec in self.flow.steps:
            for topic in (*_own(spec), failed_topic(spec.name)):
                self.emitters.setdefault(topic, []).append(spec.name)
            for number, term in enumerate(spec.terms):
                for topic in term.topics:
                    self.subscribers.setdefault(topic, []).append(Subscriber(spec.name, number, term))

    def _before(self, steps: Iterable[str]) -> set[str]:
        terms = (term for name in steps for term in self.specs[name].terms)
        return {emitter for term in terms for topic in term.topics for emitter in self.emitters.get(topic, ())}

    def _find_cycles(self) -> list[list[str]]:
        before = {name: self.before(name) for name in self.specs}
        groups: list[list[str]] = []
        for name in self.specs:
            if name in before[name] and name not in self.cycle_of:
                members = [other for other in self.specs if other in before[name] and name in before[other]]
                self.cycle_of |= dict.fromkeys(members, len(groups))
                groups.append(members)
        return groups

    def _kept(self, spec: StepSpec) -> set[str]:
        return {name for term in spec.terms if term.form is Form.KEEP for name in self._sources(term)}

    def _sources(self, term: Term) -> set[str]:
        """The steps whose failures a KEEP term takes: all before it, but for what another step answers for."""
        found: set[str] = set()
        front = {name for topic in term.topics for name in self.emitters.get(topic, ())}
        while front:
            name = front.pop()
            found.add(name)
            for before in self.specs[name].terms:
                if before.form is not Form.KEEP:
                    topics = (topic for topic in before.topics if not topic.startswith("failed:"))
                    front |= {emitter for topic in topics for emitter in self.emitters.get(topic, ())} - found
        return found


def _own(spec: StepSpec) -> tuple[str, ...]:
    return (*spec.topics, step_topic(spec.name), spread_topic(spec.name))


def _handled(spec: StepSpec) -> list[str]:
    """The steps whose failures, also later ones, are answered for when this one completes."""
    topics = (topic for term in spec.terms for topic in term.topics)
    return [topic.partition(":")[2] for topic in topics if topic.startswith("failed:")]
