"""What is wrong, doubtful or worth knowing about a flow: the findings of `flow.check()`.

What no later cell can cure is refused where it is written; this is the rest. Each rule looks at one thing, reads the
flow as it is defined now, and never runs a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from nbflow.define.annotations import MISSING, hints_of, is_context, parameters_of, result_type
from nbflow.define.awaits import answer_type
from nbflow.define.fits import holds_no_elements, never_fits, spelled
from nbflow.define.graph import source_key
from nbflow.define.leaks import leaks, secrets_of
from nbflow.define.returns import ReturnTypes, emits_by_hand
from nbflow.define.signature import expected_types
from nbflow.errors import DefinitionError, nearest
from nbflow.model.definition import Form, StepSpec, Term, failed_topic, step_topic, topic_label
from nbflow.model.secret import has

if TYPE_CHECKING:
    from nbflow.define.flow import FlowDefinition

__all__ = ["Finding", "Severity", "check_startable", "findings"]

Severity = Literal["error", "warning", "info"]
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a flow. `code` never changes; `step` is empty when it is about the whole flow."""

    code: str
    severity: Severity
    step: str
    message: str
    hint: str


def findings(flow: FlowDefinition) -> list[Finding]:
    """All findings, errors first, each kind in the order of the steps."""
    subject = _Subject(flow)
    found = [finding for rule in _RULES for finding in rule(subject)]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def check_startable(flow: FlowDefinition) -> None:
    """Refuse to start a flow that has errors, and name all of them."""
    errors = [finding for finding in findings(flow) if finding.severity == "error"]
    if not errors:
        return
    if len(errors) == 1:
        message = f"Flow {flow.name!r} cannot start: {errors[0].message}"
        raise DefinitionError(message, hint=errors[0].hint)
    listed = "\n".join(f"  {finding.step or flow.name}: {finding.message} {finding.hint}" for finding in errors)
    message = f"Flow {flow.name!r} cannot start, for {len(errors)} reasons:\n{listed}\n"
    raise DefinitionError(message, hint="Run the cells that are missing, or mend these steps; flow.check() lists them.")


class _Subject:
    """The flow under the lens, with what the rules ask for again and again."""

    def __init__(self, flow: FlowDefinition) -> None:
        self.flow = flow
        self.spec = flow.spec()
        self.steps = {step.name: step for step in self.spec.steps}
        self.functions = {declaration.name: declaration.function for declaration in flow.steps()}
        self.returns = ReturnTypes(self.spec, self.functions)
        self.emitters: dict[str, list[StepSpec]] = {}
        self.subscribers: dict[str, list[tuple[StepSpec, int]]] = {}  # with the number of the term
        for step in self.spec.steps:
            for topic in (step_topic(step.name), *step.topics):
                self.emitters.setdefault(topic, []).append(step)
            for number, term in enumerate(step.terms):
                for topic in term.topics:
                    self.subscribers.setdefault(source_key(topic), []).append((step, number))

    @cached_property
    def reach(self) -> tuple[set[str], set[str]]:
        """The steps that some run can reach, and the source keys that can come: the least sets in which every
        subscription of a reached step is satisfied. Each edge is looked at once."""
        missing = {
            step.name: [1 if term.form is Form.FIRST else len(term.topics) for term in step.terms] for step in self
        }
        open_terms = {step.name: len(step.terms) for step in self}
        alive: set[str] = set()
        came: set[str] = set()
        waiting = [step for step in self if step.is_entry]
        while waiting:
            step = waiting.pop()
            alive.add(step.name)
            fresh = {step_topic(step.name), *step.topics} - came
            came |= fresh
            for other, number in (edge for key in fresh for edge in self.subscribers.get(key, ())):
                missing[other.name][number] -= 1
                open_terms[other.name] -= missing[other.name][number] == 0
                if open_terms[other.name] == 0 and missing[other.name][number] == 0:
                    waiting.append(other)
        return alive, came

    def __iter__(self) -> Iterator[StepSpec]:
        return iter(self.spec.steps)

    def emitters_of(self, topic: str) -> list[StepSpec]:
        return self.emitters.get(source_key(topic), [])

    def can_come(self, topic: str) -> bool:
        return source_key(topic) in self.reach[1]

    def is_satisfiable(self, term: Term) -> bool:
        several = map(self.can_come, term.topics)
        return any(several) if term.form is Form.FIRST else all(several)

    def lacks_an_emitter(self, step: StepSpec) -> bool:
        return any(not self.emitters_of(topic) for topic in _topics(step))


def _topics(step: StepSpec) -> Iterator[str]:
    return (topic for term in step.terms for topic in term.topics)


def _said(topic: str) -> str:
    """A topic as its author wrote it."""
    return f"step {topic.partition(':')[2]!r}" if ":" in topic else f"topic {topic!r}"


def _no_entry(subject: _Subject) -> Iterator[Finding]:
    if not subject.steps:
        yield Finding("no-entry", "error", "", "It has no steps yet.", "Decorate a function with @flow.entry.")
    elif not any(step.is_entry for step in subject):
        message = "It has no entry: no step runs without waiting for another."
        yield Finding("no-entry", "error", "", message, "Decorate the first step with @flow.entry.")


def _result_unknown(subject: _Subject) -> Iterator[Finding]:
    result = subject.spec.result
    if result is not None and result not in subject.steps:
        message = f"Its result is said to be that of {result!r}, and no step is called so."
        yield Finding("result-unknown", "error", "", message, nearest(result, subject.steps))


def _without_emitter(subject: _Subject) -> Iterator[Finding]:
    for step in subject:
        for topic in _topics(step):
            if subject.emitters_of(topic):
                continue
            name = topic.partition(":")[2] or topic
            message = f"{step.name!r} subscribes to {_said(topic)}, which "
            if ":" in topic:
                yield Finding(
                    "step-unknown", "error", step.name, f"{message}is not defined.", nearest(name, subject.steps)
                )
                continue
            known = [emitted for emitted in subject.emitters if ":" not in emitted]
            hint = f"Write 'step:{name}' for the step." if name in subject.steps else nearest(name, known)
            hint = hint or f"Declare emits=[{name!r}] in the step that emits it."
            yield Finding("topic-without-emitter", "error", step.name, f"{message}no step emits.", hint)


def _unreachable(subject: _Subject) -> Iterator[Finding]:
    if not any(step.is_entry for step in subject):
        return  # said once, by no-entry
    alive, _ = subject.reach
    for step in subject:
        if step.name in alive or subject.lacks_an_emitter(step):
            continue
        topics = [topic for term in step.terms if not subject.is_satisfiable(term) for topic in term.topics]
        missing = [topic for topic in topics if not subject.can_come(topic)]
        said = " and ".join(map(_said, missing))
        if len(missing) < len([*_topics(step)]):
            message = f"{step.name!r} never has all it waits for: {said} cannot come."
            yield Finding("join-incomplete", "error", step.name, message, "Subscribe to what an entry leads to.")
        else:
            message = f"{step.name!r} can never start: nothing that an entry leads to gives it {said}."
            yield Finding("unreachable", "error", step.name, message, "Connect it to an entry, or forget it.")


def _contradiction(subject: _Subject) -> Iterator[Finding]:
    """`completed(a)` together with what only a failure of `a` leads to."""
    for step in subject:
        ended = [term.topics[0].partition(":")[2] for term in step.terms if term.form is Form.COMPLETED]
        others = [term for term in step.terms if term.form is not Form.COMPLETED]
        for name, term in ((name, term) for name in ended for term in others):
            if all(_follows_failure(subject, topic, name) for topic in term.topics):
                message = (
                    f"{step.name!r} waits for {name!r} to complete and for {_said(term.topics[0])}, "
                    f"which comes only when {name!r} failed."
                )
                yield Finding("join-incomplete", "error", step.name, message, "Make two steps of it.")


def _follows_failure(subject: _Subject, topic: str, name: str) -> bool:
    emitters = subject.emitters_of(topic)
    return bool(emitters) and all(
        any(term.topics == (failed_topic(name),) for term in emitter.terms) for emitter in emitters
    )


def _unused_topic(subject: _Subject) -> Iterator[Finding]:
    for step in subject:
        for topic in step.topics:
            if topic not in subject.subscribers:
                message = f"{step.name!r} emits topic {topic!r}, and no step subscribes to it."
                yield Finding(
                    "topic-unused", "info", step.name, message, "Subscribe a step to it, or leave it to readers."
                )


def _takes_one_of_many(subject: _Subject) -> Iterator[Finding]:
    for step in subject:
        for term in (term for term in step.terms if term.form is Form.FIRST):
            for topic in term.topics:
                yield from _about_first(subject, step, term, topic)


def _about_first(subject: _Subject, step: StepSpec, term: Term, topic: str) -> Iterator[Finding]:
    if topic.startswith("failed:"):
        return  # the first failure of many is what was asked for
    emitters = subject.emitters_of(topic)
    mapped = [emitter.name for emitter in emitters if emitter.is_mapped]
    if mapped:
        source = f"step {mapped[0]!r}" if ":" in topic else f"topic {topic!r} of {mapped[0]!r}"
        message = f"{step.name!r} subscribes plainly to {source}, which runs once per element: it takes the first only."
        yield Finding("plain-on-mapped", "warning", step.name, message, "Subscribe with each(...) or collect(...).")
    elif len(emitters) > 1 and not term.any_of:
        names = ", ".join(emitter.name for emitter in emitters[:4])
        message = (
            f"{step.name!r} runs once, at the first emission of topic {topic!r}, which several steps emit ({names})."
        )
        yield Finding(
            "first-of-several", "info", step.name, message, "Subscribe with each(...) to run for all of them."
        )


def _collect_of_one(subject: _Subject) -> Iterator[Finding]:
    for step in subject:
        for term in step.terms:
            if term.form not in (Form.COLLECT, Form.KEEP) or term.topics[0].startswith("failed:"):
                continue
            emitters = subject.emitters_of(term.topics[0])
            if len(emitters) == 1 and _emits_once(subject, emitters[0], term.topics[0]):
                message = f"{step.name!r} collects {_said(term.topics[0])}, which comes once: it gets a list of one."
                yield Finding("collect-of-one", "info", step.name, message, "Subscribe to it plainly.")


def _emits_once(subject: _Subject, emitter: StepSpec, topic: str) -> bool:
    return not emitter.is_mapped and (":" in topic or not emits_by_hand(subject.functions[emitter.name]))


def _types_that_do_not_fit(subject: _Subject) -> Iterator[Finding]:
    for step in subject:
        expected = (
            expected_types(subject.functions[step.name], step.terms, answer_type(step.hold)) if step.terms else {}
        )
        received = subject.returns.received_by(step) if expected else {}
        for topic, annotation in expected.items():
            if topic in received and never_fits(received[topic], annotation):
                message = (
                    f"{step.name!r} expects {spelled(annotation)} of {topic_label(topic)!r}, "
                    f"and gets {spelled(received[topic])}."
                )
                yield Finding("types-do-not-fit", "warning", step.name, message, "Change one of the two annotations.")
        yield from _maps_over_one_thing(subject, step)


def _maps_over_one_thing(subject: _Subject, step: StepSpec) -> Iterator[Finding]:
    for topic in step.each:
        kind, _, source = topic.partition(":")
        result = result_type(subject.functions[source]) if kind == "each" and source in subject.functions else MISSING
        if result is not MISSING and holds_no_elements(result):
            message = f"{step.name!r} maps over {source!r}, which returns {spelled(result)}."
            hint = "Return a list, one element for each task, or subscribe to it without each."
            yield Finding("types-do-not-fit", "warning", step.name, message, hint)


def _unresolved(subject: _Subject) -> Iterator[Finding]:
    for name, function in subject.functions.items():
        hints = hints_of(function)
        for parameter, text in hints.unresolved.items():
            if is_context(parameter, hints):
                continue
            place = "result" if parameter == "return" else f"parameter {parameter!r}"
            message = f"The annotation {text} of the {place} of {name!r} cannot be resolved, so nothing is validated."
            yield Finding(
                "annotation-unresolved", "warning", name, message, "Import the name where the step is defined."
            )


def _secret_captured(subject: _Subject) -> Iterator[Finding]:
    for name, function in subject.functions.items():
        for leak in leaks(function):
            message = f"{name!r} carries {leak}, which looks like a key or a password, to every worker and into Redis."
            yield Finding(
                "secret-captured",
                "warning",
                name,
                message,
                'Put it where the workers find it, refer to Secret("NAME"), and call .get() inside the step.',
            )


def _secret_not_here(subject: _Subject) -> Iterator[Finding]:
    for name, function in subject.functions.items():
        for secret in secrets_of(function):
            if not has(secret.name):
                message = f"{name!r} reads {secret!r}, which is not to be found here; workers elsewhere may have it."
                hint = (
                    f"Set {secret.name} where the workers run, or say `nbflow secret set {secret.name}` in the project."
                )
                yield Finding("secret-not-here", "info", name, message, hint)


def _inputs_differ(subject: _Subject) -> Iterator[Finding]:
    """Entries that take one parameter differently: each reads the value in its own way."""
    first: dict[str, str] = {}
    for step in subject:
        for name, parameter in parameters_of(subject.functions[step.name]).items() if step.is_entry else ():
            known = first.setdefault(name, step.name)
            other = parameters_of(subject.functions[known])[name]
            if known != step.name and str(other) != str(parameter):
                message = f"Entries {known!r} and {step.name!r} declare the input {name!r} differently ({other}; {parameter})."
                yield Finding("inputs-differ", "info", step.name, message, "Declare it in the same way in both.")


def _not_asked_again(subject: _Subject) -> Iterator[Finding]:
    for step in subject:
        for hold in (step.hold, step.hold_emits) if step.cache_s is not None else ():
            if hold is not None and hold.asks_somebody:
                message = (
                    f"Step {step.name!r} has cache=: of what it received within that time already, nobody is asked."
                )
                hint = "Leave out cache=, if somebody must be asked each time."
                yield Finding("not-asked-again", "info", step.name, message, hint)


_RULES: Iterable[Callable[[_Subject], Iterator[Finding]]] = (
    _no_entry,
    _result_unknown,
    _without_emitter,
    _unreachable,
    _contradiction,
    _takes_one_of_many,
    _types_that_do_not_fit,
    _unresolved,
    _secret_captured,
    _secret_not_here,
    _unused_topic,
    _collect_of_one,
    _inputs_differ,
    _not_asked_again,
)
