"""Flows and what their steps do, drawn at random: all forms, shared topics, cycles, branches not taken, empty maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from nbflow.define.forms import NOTHING
from nbflow.define.graph import Wiring, source_key
from nbflow.errors import FlowShapeError
from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, failed_topic, spread_topic, step_topic
from tests.property.closing_model import Call, Task

__all__ = ["Deed", "Deeds", "cached", "flows"]

TOPICS = [f"t{i}" for i in range(5)]
FORMS = [
    *("plain", "plain", "plain", "each", "each", "each", "each", "collect", "collect"),
    *("keep", "any_of", "completed", "failed", "each_failed", "pair"),
]


class _Sketch:
    """A flow while it is drawn: each step is checked as a cell would be."""

    def __init__(self) -> None:
        self.steps: list[StepSpec] = []
        self.wiring = Wiring()

    def add(self, step: StepSpec) -> None:
        if not self._fits(step):
            step = StepSpec(step.name, step.terms, (), has_key=step.has_key)  # it emitted what turned in a circle
            if not self._fits(step):
                step = StepSpec(step.name, (Term(Form.FIRST, (step_topic(self.steps[0].name),)),))
                assert self._fits(step)
        self.steps.append(step)

    def _fits(self, step: StepSpec) -> bool:
        self.wiring.add(
            step.name, {source_key(topic): term.form for term in step.terms for topic in term.topics}, step.emits
        )
        try:
            self.wiring.refuse_cycle_through(step.name)
        except FlowShapeError:
            self.wiring.remove(step.name)
            return False
        return True

    def topic_of(self, source: str, form: str) -> str:
        """A source is a topic, or a step that was drawn before."""
        step = next((step for step in self.steps if step.name == source), None)
        if step is None:
            return source
        return spread_topic(source) if form == "each" and not step.is_mapped else step_topic(source)


@st.composite
def flows(draw: st.DrawFn, most: int = 9) -> FlowSpec:
    sketch = _Sketch()
    count = draw(st.sampled_from(range(most, 2, -1)))
    entries = draw(st.sampled_from([1, 1, 1, 2]))
    for i in range(count):
        terms = () if i < entries else _terms(draw, sketch)
        mapped = any(term.form is Form.EACH for term in terms)
        sketch.add(StepSpec(f"s{i}", terms, _emits(draw, sketch), has_key=mapped and draw(st.booleans())))
    return FlowSpec("random", tuple(sketch.steps))


@st.composite
def cached(draw: st.DrawFn, flow: FlowSpec) -> FlowSpec:
    """The flow with `cache=` on some of its steps."""
    times = [None, 60.0, 7200.0, 7200.0]
    return replace(flow, steps=tuple(replace(step, cache_s=draw(st.sampled_from(times))) for step in flow.steps))


def _emits(draw: st.DrawFn, sketch: _Sketch) -> tuple[str, ...]:
    """Any topics; and sometimes one that an earlier step maps over, so that it turns in a circle."""
    emits = [draw(st.sampled_from(TOPICS)) for _ in range(draw(st.sampled_from([1, 1, 2, 0])))]
    back = [topic for step in sketch.steps for topic in step.each if topic in TOPICS]
    if back and draw(st.sampled_from([False, False, True])):
        emits.append(draw(st.sampled_from(back)))
    return tuple(dict.fromkeys(emits))


def _terms(draw: st.DrawFn, sketch: _Sketch) -> tuple[Term, ...]:
    steps = [step.name for step in sketch.steps]
    emitted = [topic for step in sketch.steps for topic in step.emits]
    stranger = [draw(st.sampled_from(TOPICS))] if draw(st.sampled_from([False] * 5 + [True])) else []
    free = [*steps, *emitted, *emitted, *stranger]
    terms: list[Term] = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 2, 3]))):
        form = draw(st.sampled_from(FORMS))
        free = [source for source in free if not _is_taken(source, terms)]
        if form in ("each", "each_failed", "pair") and any(term.form is Form.EACH for term in terms):
            continue
        term = _term(draw, sketch, form, free)
        if term is not None:
            terms.append(term)
    return tuple(terms) or (Term(Form.FIRST, (step_topic(draw(st.sampled_from(steps))),)),)


def _is_taken(source: str, terms: list[Term]) -> bool:
    taken = {source_key(topic) for term in terms for topic in term.topics}
    return source in taken or step_topic(source) in taken


def _term(draw: st.DrawFn, sketch: _Sketch, form: str, free: list[str]) -> Term | None:
    steps = sorted({source for source in free if source not in TOPICS})
    if form in ("completed", "failed", "each_failed"):
        if not steps:
            return None
        step = draw(st.sampled_from(steps))
        if form == "completed":
            return Term(Form.COMPLETED, (step_topic(step),))
        return Term(Form.FIRST if form == "failed" else Form.EACH, (failed_topic(step),))
    if form in ("any_of", "pair"):
        if len(set(free)) < 2:
            return None
        pair = draw(st.lists(st.sampled_from(free), min_size=2, max_size=2, unique=True))
        if form == "any_of":
            return Term(Form.FIRST, tuple(sketch.topic_of(source, "plain") for source in pair), any_of=True)
        return Term(Form.EACH, tuple(sketch.topic_of(source, "each") for source in pair))
    if not free:
        return None
    kinds = {"plain": Form.FIRST, "each": Form.EACH, "collect": Form.COLLECT, "keep": Form.KEEP}
    return Term(kinds[form], (sketch.topic_of(draw(st.sampled_from(free)), form),))


@dataclass(frozen=True, slots=True)
class Deed:
    """What a task does: it fails, or it emits (`calls`) and returns."""

    fails: bool
    returns: Any = None
    calls: tuple[Call, ...] = ()

    @property
    def result(self) -> Any:
        return None if self.returns is NOTHING else self.returns

    def applied(self, step: StepSpec) -> list[Call]:
        """The calls that count: with one declared topic and no call, the result is emitted on it."""
        if self.calls or len(step.emits) != 1 or self.returns is NOTHING:
            return list(self.calls)
        return [Call(step.emits[0], (self.returns,))]


class Deeds:
    """Draws what tasks do. Every payload is another number, so that none can be taken for another."""

    def __init__(self, flow: FlowSpec, data: st.DataObject, most_tasks: int = 40) -> None:
        self.flow, self.data, self.left = flow, data, most_tasks
        topics = [topic for step in flow.steps for term in step.terms for topic in term.topics]
        self.spread = {topic.partition(":")[2] for topic in topics if topic.startswith("each:")}
        self._last = 0

    def next(self, task: Task) -> Deed:
        self.left -= 1
        step = self.flow.step(task.step)
        if self.data.draw(st.sampled_from([False] * 6 + [True])):
            return Deed(True)
        calls = tuple(call for topic in step.emits for call in self._calls(topic))
        if task.step in self.spread:
            elements = [self._number() for _ in range(self._count())]
            if not calls and (len(step.emits) > 1 or (step.emits and self.left <= 0)):
                calls = (Call(step.emits[0], (), many=True),)  # a result without a call would be a mistake
            return Deed(False, elements, calls)
        if not calls and step.emits:
            ends = self.left <= 0 or self.data.draw(st.booleans())  # None would be emitted, and go round in a cycle
            return Deed(False, NOTHING if len(step.emits) == 1 and ends else None, calls)
        return Deed(False, self._number(), calls)

    def _calls(self, topic: str) -> list[Call]:
        kinds = ["one", "one", "two", "each", "each", "each", "both", "none"] if self.left > 0 else ["none", "each"]
        one, two = Call(topic, (self._number(),)), Call(topic, (self._number(),))
        many = Call(topic, tuple(self._number() for _ in range(self._count())), many=True)
        made = {"none": [], "one": [one], "two": [one, two], "each": [many], "both": [many, one]}
        return made[self.data.draw(st.sampled_from(kinds))]

    def _count(self) -> int:
        return self.data.draw(st.sampled_from([2, 3, 1, 0])) if self.left > 0 else 0

    def _number(self) -> int:
        self._last += 1
        return self._last
