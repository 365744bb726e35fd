"""What a step's `concurrency=` and `rate=`, and a flow's, are in the plan table: names of limits, which all runs of the flow
share, and where the scripts find the field that divides them.

    [id, n, ms, source, path]     ms is 0 of a concurrency; source and path only with a key

A key is a dotted field of a payload that the step receives (of its input, for an entry), `customer.id`; where the step
has several subscriptions, with the name of one before it: `order.received.customer.id`. A flow's key is one of the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nbflow.errors import DefinitionError
from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, topic_label
from nbflow.model.policy import Concurrency, seconds

__all__ = ["check_limit_key", "limits_of"]

Limit = list[Any]
_GATHERED = (Form.COLLECT, Form.KEEP, Form.COMPLETED)


def limits_of(flow: FlowSpec, step: StepSpec) -> list[Limit]:
    """The limits of a task of the step: those with a key first, the flow's last. In this order a task is put aside where
    few others wait (parts/limits.lua)."""
    limits: list[Limit] = []
    if step.concurrency is not None:
        found = _source(step.name, step.terms, step.concurrency)
        limits.append(_limit(f"c:{flow.name}:{step.name}", step.concurrency, found))
    if step.rate is not None:
        limits.append([f"r:{flow.name}:{step.name}", step.rate.n, round(seconds(step.rate.per) * 1000)])
    if flow.concurrency is not None:
        limits.append(_limit(f"c:{flow.name}", flow.concurrency, (["i"], flow.concurrency.path)))
    return sorted(limits, key=len, reverse=True)


def check_limit_key(step: str, terms: Sequence[Term], concurrency: Concurrency | None) -> None:
    """DefinitionError for a key that is no field of anything that the step receives."""
    if concurrency is not None:
        _source(step, terms, concurrency)


def _limit(name: str, concurrency: Concurrency, where: tuple[list[str], list[str]]) -> Limit:
    limit: Limit = [name, concurrency.n, 0]
    if concurrency.key is not None:
        source, path = where
        limit = [name if name.count(":") == 2 else f"{name}:", concurrency.n, 0, source, path]
    return limit


def _source(step: str, terms: Sequence[Term], concurrency: Concurrency) -> tuple[list[str], list[str]]:
    """Where the payload lies, as `bind` of the plan says it, and the path in it."""
    if concurrency.key is None:
        return [], []
    if not terms:
        return ["i"], concurrency.path
    payloads = dict(_payloads(terms))
    for label in sorted(payloads, key=len, reverse=True):
        if concurrency.key.startswith(f"{label}."):
            return payloads[label], concurrency.key.removeprefix(f"{label}.").split(".")
    if len(terms) == 1 and len(payloads) == 1:
        return next(iter(payloads.values())), concurrency.path
    raise _no_payload(step, concurrency.key, list(payloads))


def _payloads(terms: Sequence[Term]) -> Iterator[tuple[str, list[str]]]:
    """The payloads of which a script can see a field, by what people call them."""
    for term in terms:
        for topic in term.topics if term.form not in _GATHERED else ():
            yield topic_label(topic), ["e" if term.form is Form.EACH else "p", topic]


def _no_payload(step: str, key: str, labels: list[str]) -> DefinitionError:
    message = f"The key {key!r} of the concurrency of step {step!r} is no field of a payload that it receives."
    if not labels:
        return DefinitionError(message, hint="What is collected has no key: leave out key=, or limit a step before it.")
    shown = ", ".join(repr(f"{label}.field") for label in labels)
    return DefinitionError(message, hint=f"Write one of: {shown}.")
