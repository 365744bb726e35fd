"""What a step may subscribe to: topics, steps, and the forms `each`, `collect`, `any_of`, `completed`, `failed`.

A subscription is what the author wrote, by names only; it becomes a `Term` of the model when the whole flow is known,
because a step it names may be defined in a later cell. This module must not look at other steps or at a registry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from nbflow.errors import DefinitionError, FlowShapeError
from nbflow.model.definition import Form, Term, failed_topic, is_topic_name, spread_topic, step_topic
from nbflow.model.ids import is_step_name

__all__ = [
    "NOTHING",
    "Kind",
    "Nothing",
    "Source",
    "Subscribable",
    "Subscribes",
    "Subscription",
    "any_of",
    "collect",
    "completed",
    "each",
    "failed",
    "is_step_function",
    "resolve",
    "source_of",
    "subscriptions_of",
]


class Nothing:
    """The type of `NOTHING`."""

    def __repr__(self) -> str:
        return "NOTHING"

    def __reduce__(self) -> str:
        return "NOTHING"


NOTHING: Final = Nothing()
"""`return NOTHING` in a step with one declared topic emits nothing on it. There is one, also after a journey."""


class Kind(StrEnum):
    """Which form a subscription was written in."""

    PLAIN = "plain"
    EACH = "each"
    EACH_FAILED = "each(failed)"
    COLLECT = "collect"
    KEEP = "collect, failures kept"
    ANY_OF = "any_of"
    COMPLETED = "completed"
    FAILED = "failed"


_FORMS: Final = {
    Kind.PLAIN: Form.FIRST,
    Kind.EACH: Form.EACH,
    Kind.EACH_FAILED: Form.EACH,
    Kind.COLLECT: Form.COLLECT,
    Kind.KEEP: Form.KEEP,
    Kind.ANY_OF: Form.FIRST,
    Kind.COMPLETED: Form.COMPLETED,
    Kind.FAILED: Form.FIRST,
}


@dataclass(frozen=True, slots=True)
class Source:
    """A topic, or a step by its name. `elsewhere` holds the names a function has in several flows."""

    name: str
    is_step: bool = False
    elsewhere: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """What makes two sources one: the topic, or `step:<name>`."""
        return step_topic(self.name) if self.is_step else self.name

    def within(self, flow: str) -> Source:
        """The same source by the name it has in that flow."""
        return Source(dict(self.elsewhere).get(flow, self.name), self.is_step) if self.elsewhere else self


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription as it was written."""

    kind: Kind
    sources: tuple[Source, ...]

    @property
    def form(self) -> Form:
        return _FORMS[self.kind]

    @property
    def is_mapped(self) -> bool:
        return self.form is Form.EACH

    def within(self, flow: str) -> Subscription:
        return Subscription(self.kind, tuple(source.within(flow) for source in self.sources))

    def term(self, mapped: Collection[str]) -> Term:
        """The subscription as the engine knows it, given the names of the mapped steps."""
        topics = tuple(self._topic(source, mapped) for source in self.sources)
        return Term(self.form, topics, any_of=self.kind is Kind.ANY_OF)

    def _topic(self, source: Source, mapped: Collection[str]) -> str:
        if self.kind in (Kind.FAILED, Kind.EACH_FAILED):
            return failed_topic(source.name)
        if self.kind is Kind.EACH and source.is_step and source.name not in mapped:
            return spread_topic(source.name)
        return source.key


Subscribable = str | Callable[..., Any]
"""A topic's name, `"step:parse"`, or a step: the decorated function itself."""

Subscribes = Subscribable | Subscription | Sequence[Subscribable | Subscription]
"""What `step` takes as its first argument."""


def each(*sources: Subscribable | Subscription) -> Subscription:
    """One task per emission; over a step that is not mapped, per element of its result; of several, per index.

    `each(failed(step))` is a task per final failure of a task of the step.
    """
    if len(sources) == 1 and isinstance(sources[0], Subscription) and sources[0].kind is Kind.FAILED:
        return Subscription(Kind.EACH_FAILED, sources[0].sources)
    return _form(Kind.EACH, sources)


def collect(source: Subscribable, *, failures: Literal["skip", "keep"] = "skip") -> Subscription:
    """One task when the topic is closed and was reached, with all payloads in index order.

    If a task before it finally failed, the step is skipped; with `failures="keep"` it runs, and its list has an
    attribute `.failed` (the error by key).
    """
    if failures not in ("skip", "keep"):
        message = f"collect(failures={failures!r}) is not known."
        raise DefinitionError(message, hint="Write failures='keep', or leave it out to skip the step after a failure.")
    return _form(Kind.KEEP if failures == "keep" else Kind.COLLECT, (source,))


def any_of(*sources: Subscribable) -> Subscription:
    """One task at the first emission of any of the topics. It receives `(topic, payload)`, or is bound by name."""
    if len(sources) < 2:
        raise DefinitionError("any_of needs at least two topics.", hint="Subscribe to the one topic without any_of.")
    return _form(Kind.ANY_OF, sources)


def completed(step: Subscribable) -> Subscription:
    """One task when all tasks of the step have completed, with its result (a list if the step is mapped)."""
    return Subscription(Kind.COMPLETED, (_step_source("completed", step),))


def failed(step: Subscribable) -> Subscription:
    """One task at the first final failure of the step, with `{error, traceback, attempt, index, key, input}`."""
    return Subscription(Kind.FAILED, (_step_source("failed", step),))


def subscriptions_of(subscribes: Subscribes) -> tuple[Subscription, ...]:
    """What was given to `step` as subscriptions, with all that no later cell can cure refused."""
    items: list[Any] = [*subscribes] if isinstance(subscribes, list | tuple) else [subscribes]
    if not items:
        message = "A step that subscribes to an empty list never runs."
        raise FlowShapeError(message, hint="Name a topic or a step, or declare an entry.")
    found = tuple(item if isinstance(item, Subscription) else _form(Kind.PLAIN, (item,)) for item in items)
    _refuse_twice([source.key for subscription in found for source in subscription.sources])
    if sum(subscription.is_mapped for subscription in found) > 1:
        message = (
            "A step has at most one each: two would be a product, and nothing says which elements belong together."
        )
        raise FlowShapeError(message, hint="Join by index with each(a, b), or collect one of the two.")
    return found


def resolve(subscriptions: Sequence[Subscription], mapped: Collection[str]) -> tuple[Term, ...]:
    """The terms of a step, given the names of the flow's mapped steps."""
    return tuple(subscription.term(mapped) for subscription in subscriptions)


def source_of(thing: object) -> Source:
    """A topic or a step from what a user wrote."""
    if isinstance(thing, Source):
        return thing
    if isinstance(thing, str):
        return _named_source(thing)
    if is_step_function(thing):
        return _function_source(thing)
    name = getattr(thing, "__name__", None) or repr(thing)[:60]
    if callable(thing):
        message = f"{name} is a function, but not a step."
        raise DefinitionError(message, hint="Decorate it with @flow.step(...) or @flow.entry first.")
    message = f"{name} is neither a topic nor a step."
    raise DefinitionError(message, hint="Subscribe to a topic's name, a step's function, or 'step:<name>'.")


def is_step_function(thing: object) -> bool:
    """Whether the function was decorated as a step."""
    declaration = getattr(thing, "step", None)
    return isinstance(getattr(declaration, "flow", None), str) and isinstance(getattr(declaration, "name", None), str)


def _function_source(function: Any) -> Source:
    names = {flow: str(declaration.name) for flow, declaration in getattr(function, "steps", {}).items()}
    name = str(function.step.name)
    return Source(name, is_step=True, elsewhere=tuple(names.items()) if set(names.values()) - {name} else ())


def _named_source(text: str) -> Source:
    prefix, colon, name = text.partition(":")
    if colon and prefix == "step" and is_step_name(name):
        return Source(name, is_step=True)
    if is_topic_name(text):
        return Source(text)
    message = f"{text!r} names no topic."
    raise DefinitionError(message, hint="Write dotted words such as 'order.priced', or 'step:<name>' for a step.")


def _step_source(form: str, step: object) -> Source:
    """The argument of a form that is about steps only; there a bare name is a step's name."""
    if isinstance(step, Subscription):
        raise _nested(form, step)
    source = source_of(f"step:{step}" if isinstance(step, str) and is_step_name(step) else step)
    if not source.is_step:
        message = f"{form}({source.name!r}) is about a topic, and only steps end."
        raise DefinitionError(message, hint=f"Give the step's function, or {form}('step:<name>').")
    return source


def _form(kind: Kind, things: Sequence[object]) -> Subscription:
    if not things:
        message = f"{kind.value}() names nothing."
        raise DefinitionError(message, hint=f"Give it a topic or a step: {kind.value}(parse).")
    for thing in things:
        if isinstance(thing, Subscription):
            raise _nested(kind.value, thing)
    sources = tuple(source_of(thing) for thing in things)
    _refuse_twice([source.key for source in sources])
    return Subscription(kind, sources)


def _nested(form: str, inner: Subscription) -> FlowShapeError:
    message = f"{form.partition(',')[0]}(...) around {inner.kind.value.partition(',')[0]}(...): forms do not nest."
    return FlowShapeError(message, hint="Put a step between the two, or subscribe to a list of forms.")


def _refuse_twice(keys: Sequence[str]) -> None:
    for key, count in Counter(keys).items():
        if count > 1:
            message = f"{key!r} occurs twice in the subscriptions of one step."
            raise FlowShapeError(message, hint="Name it once: a topic or step belongs to one subscription of a step.")
