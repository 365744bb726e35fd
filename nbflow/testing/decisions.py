"""The semantics of a run in plain Python: which tasks there are, what each receives, which steps are skipped, how the
run ends. Lists and sets; no server, no worker, no clock, no payload is looked into.

The scripts are held to it by random flows (`tests/property/test_scripts_against_model.py`), and it is held to a
definition that counts nothing (`tests/property/closing_oracle.py`). It closes every step as soon as that is certain; what
is certain at once is taken in the order it was found.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any

from nbflow.model.definition import Form, Term, failed_topic, spread_topic, step_topic
from nbflow.model.ids import index_sort_key, task_name
from nbflow.testing.graph import Graph, StepFacts, Subscriber, TopicFacts

__all__ = ["GATHERED", "Decisions", "Task"]

GATHERED = (Form.COLLECT, Form.KEEP)


@dataclass(frozen=True, slots=True)
class Task:
    """`index` is the wire's text."""

    step: str
    index: str = ""

    def __str__(self) -> str:
        return task_name(self.step, self.index)


class Decisions:
    """One run of a flow."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps, self.topics = graph.steps(), graph.topics()
        self.outstanding: dict[Task, None] = {}  # a dict for its order
        self.skipped: dict[str, str] = {}
        self.mapped_tasks = 0
        self.failures: list[str] = []  # steps in the order of their first final failure
        self.handled: dict[str, float] = defaultdict(float)  # so many failures of a step were answered for
        self._fresh: list[Task] = []
        self._work: deque[tuple[Any, ...]] = deque()
        self._turns: deque[int] = deque()

    # -- what happens -----------------------------------------------------------------------------------------------

    def launch(self) -> list[Task]:
        """The tasks that there are to begin with, in the order they are queued."""
        for name in sorted(name for name, topic in self.topics.items() if topic.subscribers and not topic.emitters):
            self._work.append((self._close, name))
        for name, step in self.steps.items():
            if step.spec.is_entry:
                self._create(name, [""])
        for cycle, feeders in enumerate(self.graph.feeders):
            if not feeders:
                self._look_at_cycle(cycle)
        return self._follow()

    def emit(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Payloads by index, emitted by a task that ends; the same by the indexes that they have among all of the topic."""
        topic = self.topics[name]
        assert not topic.closed, f"{name} was emitted after it was closed"
        topic.reached = True
        if topic.numbered:
            first = len(topic.emitted)
            values = {str(first + i): value for i, value in enumerate(values.values())}
        assert not values.keys() & topic.emitted.keys(), f"{name} has an index twice"
        topic.emitted |= values
        for subscriber in topic.subscribers:
            if subscriber.term.form is Form.EACH:
                self._expand(subscriber.step)
            elif subscriber.term.form is Form.FIRST and values:
                self._satisfy(subscriber.step, subscriber.number, name)
        return values

    def complete(self, task: Task) -> list[Task]:
        """A task completed, and all that it emitted was emitted. Returns the tasks that became ready."""
        self.steps[task.step].completed += 1
        for name in self.graph.kept[task.step]:
            self.handled[name] = max(self.handled[name], self.steps[name].failed)
        for name in self.graph.handled[task.step]:
            self.handled[name] = inf
        return self._ended(task)

    def fail(self, task: Task) -> list[Task]:
        """A task failed for good, and what `failed(step)` receives was emitted. Returns the tasks that became ready."""
        step = self.steps[task.step]
        step.failed += 1
        if task.step not in self.failures:
            self.failures.append(task.step)
        return self._ended(task)

    def cancel(self, task: Task) -> list[Task]:
        """A task was canceled by hand: what it would have given is missing, and nobody need answer for it."""
        self.steps[task.step].failed += 1
        return self._ended(task)

    def _ended(self, task: Task) -> list[Task]:
        del self.outstanding[task]
        step = self.steps[task.step]
        step.outstanding -= 1
        if step.outstanding == 0:
            self._work.append((self._check, task.step))
        return self._follow()

    def follow(self) -> list[Task]:
        """What follows from what was emitted by tasks that have not ended: the tasks that became ready."""
        return self._follow()

    def _follow(self) -> list[Task]:
        while self._work or self._turns:
            if self._work:
                act, *what = self._work.popleft()
                act(*what)
            else:
                self._close_cycle(self._turns.popleft())
        ready, self._fresh = sorted(self._fresh, key=lambda task: self.graph.place[task.step]), []
        return ready

    # -- ready ------------------------------------------------------------------------------------------------------

    def _satisfy(self, name: str, number: int, topic: str) -> None:
        step = self.steps[name]
        if step.closed or number in step.satisfied:
            return
        step.satisfied[number] = topic
        if not step.others_are_satisfied:
            return
        if step.spec.is_mapped:
            self._expand(name)
            self._work.append((self._check, name))
        else:
            self._create(name, [""])

    def _expand(self, name: str) -> None:
        """The elements that have come of every topic become tasks, in the order in which the last of each came."""
        step = self.steps[name]
        if step.closed or not step.others_are_satisfied:
            return
        first, *others = (self.topics[topic].emitted for topic in step.spec.each)
        if others:
            whole = (index for index in first if all(index in emitted for emitted in others))
            self._create(name, [index for index in whole if index not in step.taken])
        else:  # what was taken are the first of them
            self._create(name, list(islice(first, len(step.taken), None)))

    def _create(self, name: str, indexes: list[str]) -> None:
        step = self.steps[name]
        step.outstanding += len(indexes)
        step.created += len(indexes)
        step.taken.update(indexes)
        tasks = [Task(name, index) for index in indexes]
        self.mapped_tasks += len(tasks) if step.spec.is_mapped else 0
        self.outstanding |= dict.fromkeys(tasks)
        self._fresh += tasks

    # -- closed -----------------------------------------------------------------------------------------------------

    def was_reached(self, name: str) -> bool:
        """Whether a step had a task, or was mapped over something empty."""
        step = self.steps[name]
        through = (
            step.spec.is_mapped and step.others_are_satisfied and all(self.topics[a].reached for a in step.spec.each)
        )
        return step.created > 0 or through

    def _check(self, name: str) -> None:
        step = self.steps[name]
        if step.closed or step.outstanding:
            return
        if not step.spec.is_mapped:
            is_over = step.created > 0
        else:
            is_over = step.others_are_satisfied and all(self.topics[a].closed for a in step.spec.each)
        if is_over:
            self._close_step(name)
        self._look_at_cycle(step.cycle)

    def _look_at_cycle(self, cycle: int | None) -> None:
        if cycle is not None and cycle not in self._turns:
            self._turns.append(cycle)

    def _close_cycle(self, cycle: int) -> None:
        members = [self.steps[name] for name in self.graph.cycles[cycle]]
        if any(step.outstanding for step in members) or any(
            not self.steps[name].closed for name in self.graph.feeders[cycle]
        ):
            return
        short = any(step.failed or step.short for step in members)
        closing = [step for step in members if not step.closed]
        for step in closing:
            step.closed = True
            step.short |= short
        for _ in closing:  # an empty map goes all round before the steps say who was reached
            for step in closing:
                self._flow_through(step)
        for step in closing:
            self._finish(step)

    def _flow_through(self, step: StepFacts) -> None:
        name = step.spec.name
        if step.spec.is_mapped and self.was_reached(name):
            for topic in (*step.spec.topics, step_topic(name)):
                self.topics[topic].reached = True

    def _close_step(self, name: str) -> None:
        step = self.steps[name]
        if not step.closed:
            step.closed = True
            self._finish(step)

    def _skip(self, name: str, short: bool) -> None:
        step = self.steps[name]
        if not step.closed:
            assert not step.created, f"{name} has tasks and would be skipped"
            step.short |= short
            self._close_step(name)

    def _finish(self, step: StepFacts) -> None:
        name = step.spec.name
        step.short |= step.failed > 0
        reached = self.was_reached(name)
        if not reached:
            self.skipped[name] = "short" if step.short else "not_taken"
        for topic_name in (*step.spec.topics, step_topic(name), spread_topic(name)):
            topic = self.topics[topic_name]
            topic.short |= step.short
            topic.reached |= step.spec.is_mapped and reached and topic_name != spread_topic(name)
            topic.closed_emitters += 1
            if topic.closed_emitters == len(topic.emitters):
                self._work.append((self._close, topic_name))
        for subscriber in self.topics[step_topic(name)].subscribers:
            if subscriber.term.form is Form.COMPLETED:
                if reached and not step.short:
                    self._satisfy(subscriber.step, subscriber.number, step_topic(name))
                else:
                    self._work.append((self._skip, subscriber.step, step.short))
        self._work.append((self._close, failed_topic(name)))
        for cycle, feeders in enumerate(self.graph.feeders):
            if name in feeders:
                self._look_at_cycle(cycle)

    def _close(self, name: str) -> None:
        topic = self.topics[name]
        topic.closed = True
        for subscriber in topic.subscribers:
            step = self.steps[subscriber.step]
            if not step.closed:
                self._closed_for(step, subscriber, topic, name)

    def _closed_for(self, step: StepFacts, subscriber: Subscriber, topic: TopicFacts, name: str) -> None:
        form, number = subscriber.term.form, subscriber.number
        if form is Form.EACH:
            step.short |= topic.short
            self._work.append((self._check, subscriber.step) if topic.reached else (self._skip, subscriber.step, False))
        elif form in GATHERED:
            if topic.reached and not (topic.short and form is Form.COLLECT):
                self._satisfy(subscriber.step, number, name)
            else:
                self._work.append((self._skip, subscriber.step, topic.short))
        elif form is Form.FIRST and number not in step.satisfied:
            step.gone[number] += 1
            if topic.short:
                step.gone_short.add(number)
            if step.gone[number] == len(subscriber.term.topics):
                self._work.append((self._skip, subscriber.step, number in step.gone_short))

    # -- what a task receives, and the end --------------------------------------------------------------------------

    def because(self, task: Task) -> list[str]:
        """The topics that made a task ready."""
        step = self.steps[task.step]
        return [*(step.satisfied[number] for number in sorted(step.satisfied)), *step.spec.each]

    def is_gathered(self, term: Term) -> bool:
        """Whether a task receives all payloads of the topic, as a list."""
        if term.form is Form.COMPLETED:
            return self.steps[term.topics[0].partition(":")[2]].spec.is_mapped
        return term.form in GATHERED

    def receives(self, task: Task) -> list[Any]:
        """Per subscription, in their order: a payload, `(topic, payload)` of an any_of, the list of what was gathered."""
        terms = enumerate(self.steps[task.step].spec.terms)
        return [value for number, term in terms for value in self._bound(task, number, term)]

    def _bound(self, task: Task, number: int, term: Term) -> list[Any]:
        if term.form is Form.EACH:
            return [self.topics[topic].emitted[task.index] for topic in term.topics]
        name = self.steps[task.step].satisfied[number]
        emitted = self.topics[name].emitted
        if self.is_gathered(term):
            return [[emitted[index] for index in sorted(emitted, key=index_sort_key)]]
        first = next(iter(emitted.values()))
        return [(name, first)] if term.any_of else [first]

    @property
    def failed_step(self) -> str | None:
        """The first whose failures nobody answered for."""
        return next((name for name in self.failures if self.handled[name] < self.steps[name].failed), None)

    @property
    def leaves(self) -> list[str]:
        """The steps whose results are the run's: nothing subscribes to them, and they completed."""
        named = self.graph.flow.result
        free = [named] if named else self.graph.free
        return [name for name in free if self.was_reached(name) and not self.steps[name].failed]
