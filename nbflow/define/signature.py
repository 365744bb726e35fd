"""How what a step receives becomes the arguments of its function: binding by name or in order, and validation.

Everything that can be decided from the signature is decided once, in `Binder(...)`; a call does no more than is left:
nothing for a parameter without annotation, a comparison of types for the plain ones.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nbflow.define.annotations import (
    MISSING,
    Check,
    Misfit,
    checker,
    hints_of,
    is_context,
    mentions,
    parameters_of,
    short_repr,
)
from nbflow.errors import DefinitionError, NbflowError
from nbflow.model.definition import Form, Term, topic_label

__all__ = ["Binder", "InvalidPayload", "answered_parameter", "check_binding", "expected_types"]

Function = Callable[..., Any]
Received = Sequence[tuple[str, Any]]
Take = Callable[[Received, Any], Any]
"""How one argument is taken from what was received and the context."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class InvalidPayload(NbflowError):
    """A payload does not fit the parameter that receives it. The task fails without retry, for `reason`."""

    code = "invalid-payload"
    reason: ClassVar[str] = "invalid_input"


@dataclass(frozen=True, slots=True)
class _Slot:
    """One payload that a step receives. Of `any_of` it is one of several topics."""

    topics: tuple[str, ...]
    form: Form

    @property
    def is_choice(self) -> bool:
        return len(self.topics) > 1


@dataclass(frozen=True, slots=True)
class _Part:
    """What a parameter gets: the payload of a slot (of one topic of it), or all of them."""

    slot: int = -1
    topic: str = ""

    @property
    def is_everything(self) -> bool:
        return self.slot < 0


def _slots(terms: Sequence[Term]) -> list[_Slot]:
    slots: list[_Slot] = []
    for term in terms:
        if term.any_of:
            slots.append(_Slot(term.topics, term.form))
        else:
            slots.extend(_Slot((topic,), term.form) for topic in term.topics)
    return slots


def _labels(slots: Sequence[_Slot]) -> dict[str, str]:
    """What people call each topic; its full name where a topic and a step are called the same."""
    topics = [topic for slot in slots for topic in slot.topics]
    count = Counter(map(topic_label, topics))
    return {topic: topic_label(topic) if count[topic_label(topic)] == 1 else topic for topic in topics}


def _by_name(slots: Sequence[_Slot]) -> dict[str, _Part]:
    """The names under which parameters find their payload: `order_priced`, `parse`; `parse` or `failed_parse`."""
    labels = _labels(slots)
    names: dict[str, _Part] = {}
    for number, slot in enumerate(slots):
        for topic in slot.topics:
            part = _Part(number, topic if slot.is_choice else "")
            names[_identifier(labels[topic])] = part
            if topic.startswith("failed:"):
                names.setdefault(_identifier(topic.partition(":")[2]), part)
    return names


def _identifier(label: str) -> str:
    return re.sub(r"\W+", "_", label).strip("_")


def _arguments(function: Function, answer: Any = None) -> tuple[list[inspect.Parameter], str, str]:
    """The parameters without the context's and that of the answer to the step's hold, and the names of these two (empty
    if there is none)."""
    hints = hints_of(function)
    parameters = [*parameters_of(function).values()]
    context = next((p.name for p in parameters if p.kind not in _VARIADIC and is_context(p.name, hints)), "")
    answered = answered_parameter(function, answer)
    return [p for p in parameters if p.name not in (context, answered)], context, answered


def answered_parameter(function: Function, answer: Any) -> str:
    """The name of the parameter that is annotated with the class of the answer to the step's hold; empty if none is."""
    if answer is None:
        return ""
    types = hints_of(function).types
    return next((name for name in parameters_of(function) if name in types and mentions(types[name], answer)), "")


def _assign(function: Function, slots: Sequence[_Slot], answer: Any = None) -> dict[str, _Part]:
    """Which parameter gets what (semantics: "Binding"). Raises DefinitionError where it cannot be."""
    arguments, _, _ = _arguments(function, answer)
    plain = [p for p in arguments if p.kind not in _VARIADIC]
    has_rest = len(plain) < len(arguments)
    required = [p.name for p in plain if p.default is MISSING]
    named = _by_name(slots)
    if len(slots) == 1 and (not slots[0].is_choice or len(plain) <= 1):
        return _first(function, plain, required)
    if _is_by_name(plain, required, named, slots):
        return {p.name: named[p.name] for p in plain if p.name in named}
    if len(plain) == 1 and not has_rest:
        return {plain[0].name: _Part()}
    if len(required) <= len(slots) and (len(slots) <= len(plain) or has_rest):
        return {p.name: _Part(number) for number, p in enumerate(plain[: len(slots)])}
    raise _cannot_bind(function, slots, required)


def _first(function: Function, plain: list[inspect.Parameter], required: list[str]) -> dict[str, _Part]:
    """One payload goes to the first parameter; a function without parameters only waits for it."""
    if len(required) > 1 or (required and plain[0].name != required[0]):
        message = f"{_name(function)} receives one payload, and has {len(required)} parameters without a default."
        raise DefinitionError(message, hint="Give the others defaults, or subscribe to what they need as well.")
    return {plain[0].name: _Part(0)} if plain else {}


def _is_by_name(
    plain: list[inspect.Parameter], required: list[str], named: Mapping[str, _Part], slots: Sequence[_Slot]
) -> bool:
    names = {p.name for p in plain}
    if names <= named.keys():
        return True
    covered = {named[name].slot for name in names if name in named}
    return set(required) <= named.keys() and len(covered) == len(slots)


def _cannot_bind(function: Function, slots: Sequence[_Slot], required: list[str]) -> DefinitionError:
    names = ", ".join(_by_name(slots))
    message = (
        f"{_name(function)} receives {len(slots)} payloads, and its parameters are {', '.join(required) or 'none'}."
    )
    return DefinitionError(message, hint=f"Name the parameters after the subscriptions ({names}), or take one dict.")


def check_binding(function: Function, terms: Sequence[Term], answer: Any = None) -> None:
    """Refuse a function whose parameters can never be given what its subscriptions receive."""
    if terms:
        _assign(function, _slots(terms), answer)
        return
    for parameter in parameters_of(function).values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            message = f"Entry {_name(function)} takes *{parameter.name}, but the input of a flow goes by names."
            raise DefinitionError(message, hint=f"Take one list instead: {parameter.name}: list.")


def expected_types(function: Function, terms: Sequence[Term], answer: Any = None) -> dict[str, Any]:
    """The annotation of the parameter that receives each topic, where one parameter takes one payload."""
    slots = _slots(terms)
    types = hints_of(function).types
    return {
        (part.topic or slots[part.slot].topics[0]): types[name]
        for name, part in _assign(function, slots, answer).items()
        if name in types and not part.is_everything and (part.topic or not slots[part.slot].is_choice)
    }


class Binder:
    """The way from payloads to arguments, made once for a step.

    `fallback` gives annotations, by topic, for parameters that have none (see `returns.ReturnTypes.received_by`); `answer`
    is the class of the answer to the step's hold, which the parameter annotated with it receives.
    """

    def __init__(
        self,
        function: Function,
        terms: Sequence[Term],
        *,
        fallback: Mapping[str, Any] | None = None,
        answer: Any = None,
    ) -> None:
        self._name = _name(function)
        hints = hints_of(function)
        self._types = {**dict.fromkeys(hints.unresolved, Any), **hints.types}
        self._slots = _slots(terms)
        self._labels = _labels(self._slots)
        self._fallback = fallback or {}
        self._parameters = [*parameters_of(function).values()]
        arguments, self._context, self._answered = _arguments(function, answer)
        parts = _assign(function, self._slots, answer) if terms else {}
        takes = {name: self._take(name, part) for name, part in parts.items()}
        if self._context:
            takes[self._context] = _take_context
        if self._answered:
            takes[self._answered] = _take_answer
        self._args, self._kwargs = _places(function, takes)
        self._rest = self._rest_of(parts)
        self._checks = {} if terms else {p.name: checker(self._types.get(p.name, MISSING)) for p in arguments}

    def bind(self, received: Received, ctx: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments from `(topic, payload)` pairs in the order of the terms. Raises InvalidPayload."""
        args = [take(received, ctx) for take in self._args]
        kwargs = {name: take(received, ctx) for name, take in self._kwargs}
        if self._rest is not None:
            self._rest(received, args, kwargs)
        return tuple(args), kwargs

    def bind_input(self, values: Mapping[str, Any], ctx: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """An entry's arguments from the input of the run; fields of other entries are left out."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self._parameters:
            name = parameter.name
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                kwargs |= {key: value for key, value in values.items() if key not in self._checks}
            elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                args.append(self._input(parameter, values, ctx))
            elif name in values or name in (self._context, self._answered) or parameter.default is MISSING:
                kwargs[name] = self._input(parameter, values, ctx)
        return tuple(args), kwargs

    def _input(self, parameter: inspect.Parameter, values: Mapping[str, Any], ctx: Any) -> Any:
        name = parameter.name
        if name == self._context:
            return ctx
        if name == self._answered:
            return ctx.resolved
        if name in values:
            return self._checked(self._checks[name], values[name], name, "the input")
        if parameter.default is not MISSING:
            return parameter.default
        message = f"The input has no {name!r}, and {self._name} needs it."
        raise InvalidPayload(message, hint=f"Start the flow with {name}=..., or give the parameter a default.")

    def _take(self, name: str, part: _Part) -> Take:
        annotation = self._types.get(name, MISSING)
        if part.is_everything:
            return self._take_everything(name, checker(annotation))
        slot, number = self._slots[part.slot], part.slot
        if part.topic:
            return self._take_if_it_came(name, part, annotation)
        if slot.is_choice:
            return self._take_pair(name, number, checker(annotation))
        if annotation is MISSING:
            annotation = self._fallback.get(slot.topics[0], MISSING)
        check = checker(annotation)
        if check is None:
            return lambda received, _: received[number][1]
        if slot.form is Form.KEEP:
            check = _keeping_attributes(check)
        return self._take_checked(name, number, check)

    def _take_checked(self, name: str, number: int, check: Check) -> Take:
        def take(received: Received, ctx: Any) -> Any:
            topic, value = received[number]
            try:
                return check(value)
            except Misfit as misfit:
                raise self._invalid(misfit, name, self._said(topic)) from None

        return take

    def _take_if_it_came(self, name: str, part: _Part, annotation: Any) -> Take:
        check = checker(self._fallback.get(part.topic, MISSING) if annotation is MISSING else annotation)

        def take(received: Received, ctx: Any) -> Any:
            topic, value = received[part.slot]
            return self._checked(check, value, name, self._said(topic)) if topic == part.topic else None

        return take

    def _take_pair(self, name: str, number: int, check: Check | None) -> Take:
        def take(received: Received, ctx: Any) -> Any:
            topic, value = received[number]
            return self._checked(check, (self._labels[topic], value), name, self._said(topic))

        return take

    def _take_everything(self, name: str, check: Check | None) -> Take:
        def take(received: Received, ctx: Any) -> Any:
            everything = {self._labels[topic]: value for topic, value in received}
            return self._checked(check, everything, name, " and ".join(map(self._said, self._labels)))

        return take

    def _rest_of(self, parts: Mapping[str, _Part]) -> Callable[[Received, list[Any], dict[str, Any]], None] | None:
        """What fills `*args` (payloads in order) and `**kwargs` (by name) with the payloads that are not bound yet."""
        kinds = {p.kind for p in self._parameters if p.kind in _VARIADIC}
        bound = {part.slot for part in parts.values()}
        free = [number for number in range(len(self._slots)) if number not in bound]
        if not kinds or not free:
            return None
        names = {topic: _identifier(label) for topic, label in self._labels.items()}

        def fill(received: Received, args: list[Any], kwargs: dict[str, Any]) -> None:
            left = [received[number] for number in free]
            if inspect.Parameter.VAR_POSITIONAL in kinds:
                args.extend(value for _, value in left)
            else:
                kwargs.update({names[topic]: value for topic, value in left})

        return fill

    def _said(self, topic: str) -> str:
        return repr(self._labels.get(topic, topic))

    def _checked(self, check: Check | None, value: Any, name: str, source: str) -> Any:
        if check is None:
            return value
        try:
            return check(value)
        except Misfit as misfit:
            raise self._invalid(misfit, name, source) from None

    def _invalid(self, misfit: Misfit, name: str, source: str) -> InvalidPayload:
        field = f"{name}.{misfit.field}" if misfit.field else name
        more = f" (and {misfit.more} more)" if misfit.more else ""
        problem = "missing" if misfit.kind == "missing" else f"{short_repr(misfit.value)}. {misfit.problem}"
        message = f"{source} does not fit {self._name}: {field} is {problem}{more}."
        return InvalidPayload(message, hint=f"Change the annotation of {name!r}, or what {source} carries.")


def _take_context(received: Received, ctx: Any) -> Any:
    return ctx


def _take_answer(received: Received, ctx: Any) -> Any:
    return ctx.resolved


def _name(function: Function) -> str:
    return f"{getattr(function, '__name__', 'the function')}()"


def _places(function: Function, takes: Mapping[str, Take]) -> tuple[list[Take], list[tuple[str, Take]]]:
    """By position as long as no parameter is left out, else by name. A default fills a gap where only a position will do."""
    args: list[Take] = []
    kwargs: list[tuple[str, Take]] = []
    parameters = [*parameters_of(function).values()]
    only = [n for n, p in enumerate(parameters) if p.kind is inspect.Parameter.POSITIONAL_ONLY and p.name in takes]
    for number, parameter in enumerate(parameters):
        take = takes.get(parameter.name)
        is_gap = take is None and number < max(only, default=-1)
        if is_gap:
            args.append(_always(parameter.default))
        elif take is not None and parameter.kind in _POSITIONAL and len(args) == number:
            args.append(take)
        elif take is not None:
            kwargs.append((parameter.name, take))
    return args, kwargs


def _always(value: Any) -> Take:
    return lambda _, __: value


def _keeping_attributes(check: Check) -> Check:
    """A list that carries `.failed` stays one: pydantic makes a plain list of it."""

    def kept(value: Any) -> Any:
        checked = check(value)
        if type(value) is list or not isinstance(value, list) or type(checked) is not list:
            return checked
        again: list[Any] = copy.copy(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        again[:] = checked
        return again

    return kept
