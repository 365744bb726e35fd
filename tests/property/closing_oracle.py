"""What is closed, reached and short, by definition and by brute force: nothing is counted, nothing is remembered.

A step is live if a task of it is unfinished, or if each of its subscriptions is satisfied or can still be. That is the
least fixpoint over the whole graph, computed anew after every settle from the facts alone: what was emitted, what is
unfinished, what failed.
"""

from __future__ import annotations

from nbflow.model.definition import Form, Term, step_topic
from tests.property.closing_model import GATHERED, Model

__all__ = ["check_at_the_end", "check_closing"]


class _Oracle:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.live = {task.step for task in model.outstanding}
        self.reached = self._reached_topics()
        size = -1
        while size < len(self.live):
            size = len(self.live)
            self.live |= {name for name in model.steps if self._can_have_a_task(name)}

    def may_be_emitted(self, topic: str) -> bool:
        return any(name in self.live for name in self.model.topics[topic].emitters)

    def _reached_topics(self) -> set[str]:
        """Emitted, also without elements; or of a mapped step that is closed and was reached."""
        model = self.model
        reached = {name for name, topic in model.topics.items() if topic.emitted}
        reached |= {name for name, topic in model.topics.items() if topic.reached and not self._of_a_map(name)}
        size = -1
        while size < len(reached):
            size = len(reached)
            for name, step in model.steps.items():
                through = step.others_are_satisfied and reached.issuperset(step.spec.each)
                if step.spec.is_mapped and step.closed and (step.created or through):
                    reached |= {*step.spec.emits, step_topic(name)}
        return reached

    def _of_a_map(self, topic: str) -> bool:
        return any(self.model.steps[name].spec.is_mapped for name in self.model.topics[topic].emitters)

    def _can_have_a_task(self, name: str) -> bool:
        step = self.model.steps[name]
        if step.spec.is_entry or not all(self._is_possible(name, i, term) for i, term in enumerate(step.spec.terms)):
            return False
        if not step.spec.is_mapped:
            return step.created == 0
        return not step.others_are_satisfied or any(map(self.may_be_emitted, step.spec.each))

    def _is_possible(self, name: str, number: int, term: Term) -> bool:
        if term.form is Form.EACH:
            return all(topic in self.reached or self.may_be_emitted(topic) for topic in term.topics)
        if term.form is Form.FIRST:
            return any(self.model.topics[topic].emitted or self.may_be_emitted(topic) for topic in term.topics)
        if number in self.model.steps[name].satisfied:
            return True
        return any(map(self.may_be_emitted, term.topics))


def check_closing(model: Model) -> None:
    """No step is closed that can have a task; and none that cannot is open, but on cycles and behind them, where the
    steps that feed a cycle may hold it open."""
    oracle = _Oracle(model)
    closed = {name for name, step in model.steps.items() if step.closed}
    assert not closed & oracle.live, f"closed too early: {closed & oracle.live}"
    on_cycles = {name for name, step in model.steps.items() if step.cycle is not None}
    late = {
        name
        for name in model.steps
        if name not in closed | oracle.live | on_cycles and not on_cycles & model.graph.before(name)
    }
    assert not late, f"closed too late: {late}"
    early = {name for name, topic in model.topics.items() if topic.closed and oracle.may_be_emitted(name)}
    assert not early, f"topics closed too early: {early}"


def check_at_the_end(model: Model) -> None:
    """Of a run that is over: every step is closed, and what ran or was skipped did so for a reason that can be named."""
    assert not model.outstanding
    assert all(step.closed for step in model.steps.values()), "a step stayed open"
    for name, step in model.steps.items():
        assert (name in model.skipped) == (not model.was_reached(name))
        if step.short and not step.failed:
            assert any(model.steps[other].failed for other in model.graph.before(name)), (
                f"{name} is short, and nothing before it failed"
            )
        if step.created:
            _check_what_it_waited_for(model, name)


def _check_what_it_waited_for(model: Model, name: str) -> None:
    for term in model.steps[name].spec.terms:
        emitters = [model.steps[other] for topic in term.topics for other in model.topics[topic].emitters]
        if term.form in (*GATHERED, Form.COMPLETED):
            assert all(step.closed for step in emitters)
        if term.form in (Form.COLLECT, Form.COMPLETED):
            assert not any(step.failed or step.short for step in emitters), f"{name} ran on part of the data"
        if term.form is Form.COMPLETED:
            assert all(step.completed == step.created for step in emitters)
