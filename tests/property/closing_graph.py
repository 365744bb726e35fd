"""The steps and topics of a flow with what happened to each so far: the facts that `closing_model.py` decides from.

Who lies before whom, and which steps turn in circles, is found by looking at everything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, failed_topic, spread_topic, step_topic

__all__ = ["Graph", "StepFacts", "Subscriber", "TopicFacts"]


@dataclass(frozen=True, slots=True)
class Subscriber:
    step: str
    number: int  # the position of the term
    term: Term


@dataclass(slots=True)
class TopicFacts:
    emitters: list[str] = field(default_factory=list[str])
    subscribers: list[Subscriber] = field(default_factory=list[Subscriber])
    numbered: bool = False
    emitted: dict[str, Any] = field(default_factory=dict[str, Any])  # by index, in the order they were applied
    reached: bool = False
    short: bool = False
    closed_emitters: int = 0
    closed: bool = False


@dataclass(slots=True)
class StepFacts:
    spec: StepSpec
    cycle: int | None = None
    outstanding: int = 0
    created: int = 0
    failed: int = 0
    completed: int = 0
    satisfied: dict[int, str] = field(default_factory=dict[int, str])  # number of a term -> the topic that satisfied it
    gone: Counter[int] = field(default_factory=Counter[int])  # number of a term -> how many of its topics are closed
    gone_short: set[int] = field(default_factory=set[int])
    taken: set[str] = field(default_factory=set[str])  # the indexes that became tasks
    short: bool = False
    closed: bool = False

    @property
    def others_are_satisfied(self) -> bool:
        return len(self.satisfied) == sum(term.form is not Form.EACH for term in self.spec.terms)


class Graph:
    """A flow, wired."""

    def __init__(self, flow: FlowSpec) -> None:
        self.flow = flow
        self.steps = {spec.name: StepFacts(spec) for spec in flow.steps}
        self.topics: dict[str, TopicFacts] = defaultdict(TopicFacts)
        self._wire()
        self.cycles = self._find_cycles()
        self.feeders = [set(self._before(members)) - set(members) for members in self.cycles]
        for topic in self.topics.values():
            topic.numbered = len(topic.emitters) > 1 or any(
                self.steps[name].cycle is not None for name in topic.emitters
            )

    def _wire(self) -> None:
        for spec in self.flow.steps:
            for topic in (*spec.emits, step_topic(spec.name), spread_topic(spec.name), failed_topic(spec.name)):
                self.topics[topic].emitters.append(spec.name)
        for spec in self.flow.steps:
            for number, term in enumerate(spec.terms):
                for topic in term.topics:
                    self.topics[topic].subscribers.append(Subscriber(spec.name, number, term))

    def _before(self, steps: Iterable[str]) -> set[str]:
        terms = (term for name in steps for term in self.steps[name].spec.terms)
        return {emitter for term in terms for topic in term.topics for emitter in self.topics[topic].emitters}

    def before(self, step: str) -> set[str]:
        """All steps that lie before one, itself among them if it lies on a cycle."""
        found: set[str] = set()
        front = self._before([step])
        while front - found:
            found |= front
            front = self._before(front)
        return found

    def _find_cycles(self) -> list[list[str]]:
        before = {name: self.before(name) for name in self.steps}
        groups: list[list[str]] = []
        for name, step in self.steps.items():
            if name in before[name] and step.cycle is None:
                members = [other for other in self.steps if other in before[name] and name in before[other]]
                for member in members:
                    self.steps[member].cycle = len(groups)
                groups.append(members)
        return groups

    def sources(self, term: Term) -> set[str]:
        """The steps whose failures a KEEP term takes: all before it, but for what another step answers for."""
        found: set[str] = set()
        front = {name for topic in term.topics for name in self.topics[topic].emitters}
        while front:
            name = front.pop()
            found.add(name)
            for before in self.steps[name].spec.terms:
                if before.form is not Form.KEEP:
                    topics = (topic for topic in before.topics if not topic.startswith("failed:"))
                    front |= {emitter for topic in topics for emitter in self.topics[topic].emitters} - found
        return found
