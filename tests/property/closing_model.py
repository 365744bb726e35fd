"""The semantics of a run in plain Python: which tasks there are, what each receives, which steps are skipped, how the
run ends. Lists and sets, no server, no worker; the scripts are held to it (`test_scripts_against_model.py`), and it is
held to a definition that counts nothing (`closing_oracle.py`).

It closes every step as soon as that is certain. What is certain at once is taken in the order it was found.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from nbflow.model.definition import FlowSpec, Form, Term, failed_topic, spread_topic, step_topic
from tests.property.closing_graph import Graph, StepFacts, Subscriber, TopicFacts

__all__ = ["GATHERED", "Call", "Model", "Task"]

GATHERED = (Form.COLLECT, Form.KEEP)


@dataclass(frozen=True, slots=True)
class Task:
    step: str
    index: str = ""

    def __str__(self) -> str:
        return f"{self.step}[{self.index}]" if self.index else self.step


@dataclass(frozen=True, slots=True)
class Call:
    """One `ctx.emit` (`many=False`, one value) or `ctx.emit_each`."""

    topic: str
    values: tuple[Any, ...]
    many: bool = False


class Model(Graph):
    """One run of a flow."""

    def __init__(self, flow: FlowSpec) -> None:
        super().__init__(flow)
        self.outstanding: list[Task] = []
        self.fresh: list[Task] = []
        self.skipped: dict[str, str] = {}
        self.failures: list[str] = []  # steps in the order of their first final failure
        self.handled: dict[str, float] = defaultdict(float)  # so many failures of a step were answered for
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
        for cycle, feeders in enumerate(self.feeders):
            if not feeders:
                self._look_at_cycle(cycle)
        return self._follow()

    def complete(self, task: Task, result: Any, calls: list[Call]) -> list[Task]:
        """A task completed: its calls count, then its result. Returns the tasks that became ready."""
        step = self.steps[task.step]
        step.completed += 1
        for topic, indexes, values in self._numbered_by_the_task(task, calls):
            self._emit(topic, dict(zip(indexes, values, strict=True)))
        self._emit(step_topic(task.step), {task.index or "0": result})
        if not step.spec.is_mapped and isinstance(result, list):
            self._emit(spread_topic(task.step), {str(i): value for i, value in enumerate(result)})
        for term in step.spec.terms:
            for name in self.sources(term) if term.form is Form.KEEP else ():
                self.handled[name] = max(self.handled[name], self.steps[name].failed)
            for topic in term.topics:
                if topic.startswith("failed:"):
                    self.handled[topic.partition(":")[2]] = inf
        return self._ended(task)

    def fail(self, task: Task, payload: Any) -> list[Task]:
        """A task failed for good. `payload` is what `failed(step)` receives."""
        step = self.steps[task.step]
        step.failed += 1
        if step.failed == 1:
            self.failures.append(task.step)
        self._emit(failed_topic(task.step), {task.index or "0": payload})
        return self._ended(task)

    def _ended(self, task: Task) -> list[Task]:
        self.outstanding.remove(task)
        step = self.steps[task.step]
        step.outstanding -= 1
        if step.outstanding == 0:
            self._work.append((self._check, task.step))
        return self._follow()

    def _follow(self) -> list[Task]:
        while self._work or self._turns:
            if self._work:
                act, *what = self._work.popleft()
                act(*what)
            else:
                self._close_cycle(self._turns.popleft())
        place = {name: i for i, name in enumerate(self.steps)}
        ready, self.fresh = sorted(self.fresh, key=lambda task: place[task.step]), []
        return ready

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

    # -- ready ------------------------------------------------------------------------------------------------------

    def _emit(self, name: str, values: dict[str, Any]) -> None:
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
        topics = [self.topics[topic] for topic in step.spec.each]
        self._create(name, [i for i in self._complete_indexes(topics) if i not in step.taken])

    @staticmethod
    def _complete_indexes(topics: list[TopicFacts]) -> list[str]:
        first, *others = topics
        return [index for index in first.emitted if all(index in topic.emitted for topic in others)]

    def _create(self, name: str, indexes: list[str]) -> None:
        step = self.steps[name]
        step.outstanding += len(indexes)
        step.created += len(indexes)
        step.taken.update(indexes)
        tasks = [Task(name, index) for index in indexes]
        self.outstanding += tasks
        self.fresh += tasks

    # -- closed -----------------------------------------------------------------------------------------------------

    def was_reached(self, name: str) -> bool:
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
        members = [self.steps[name] for name in self.cycles[cycle]]
        if any(step.outstanding for step in members) or any(
            not self.steps[name].closed for name in self.feeders[cycle]
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
            for topic in (*step.spec.emits, step_topic(name)):
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
        for topic_name in (*step.spec.emits, step_topic(name), spread_topic(name)):
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
        for cycle, feeders in enumerate(self.feeders):
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

    def receives(self, task: Task) -> list[Any]:
        """Per subscription, in their order: a payload, `(topic, payload)` of an any_of, the list of what was gathered."""
        return [
            value
            for number, term in enumerate(self.steps[task.step].spec.terms)
            for value in self._bound(task, number, term)
        ]

    def _bound(self, task: Task, number: int, term: Term) -> list[Any]:
        if term.form is Form.EACH:
            return [self.topics[topic].emitted[task.index] for topic in term.topics]
        name = self.steps[task.step].satisfied[number]
        emitted = self.topics[name].emitted
        gathers = term.form in GATHERED or (
            term.form is Form.COMPLETED and self.steps[name.partition(":")[2]].spec.is_mapped
        )
        if gathers:
            return [[emitted[index] for index in sorted(emitted, key=lambda text: tuple(map(int, text.split("."))))]]
        first = next(iter(emitted.values()))
        return [(name, first)] if term.any_of else [first]

    @property
    def failed_step(self) -> str | None:
        """The first whose failures nobody answered for."""
        return next((name for name in self.failures if self.handled[name] < self.steps[name].failed), None)

    @property
    def leaves(self) -> list[str]:
        """The steps whose results are the run's: nothing subscribes to them, and they completed."""
        own = {name: (*step.spec.emits, step_topic(name), spread_topic(name)) for name, step in self.steps.items()}
        free = [name for name in self.steps if not any(self.topics[topic].subscribers for topic in own[name])]
        free = [self.flow.result] if self.flow.result else free
        return [name for name in free if self.was_reached(name) and not self.steps[name].failed]
