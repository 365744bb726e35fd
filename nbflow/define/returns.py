"""What the annotations of the emitters say about what each step of a flow receives.

Used for parameters without an annotation, and by the lint. Where the annotation may not tell what is emitted (several
topics, an emit by hand), nothing is said.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nbflow.define.annotations import MISSING, element_type, result_type
from nbflow.model.definition import FlowSpec, Form, StepSpec

__all__ = ["ReturnTypes", "emits_by_hand"]

Function = Callable[..., Any]


def emits_by_hand(function: Function) -> bool:
    """Whether the body mentions `emit` or `emit_each`: then its result may not be what it emits."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is None or not {"emit", "emit_each"}.isdisjoint(code.co_names)


class ReturnTypes:
    """What the annotations of the emitters say about what each step of a flow receives."""

    def __init__(self, spec: FlowSpec, functions: Mapping[str, Function]) -> None:
        self._functions = functions
        self._mapped = {step.name for step in spec.steps if step.is_mapped}
        self._emitters: dict[str, list[StepSpec]] = {}
        for step in spec.steps:
            for topic in step.emits:
                self._emitters.setdefault(topic, []).append(step)
        self._payloads: dict[str, Any] = {}

    def received_by(self, step: StepSpec) -> dict[str, Any]:
        """The annotation of what comes of each topic the step subscribes to; topics of which nothing is known are
        left out."""
        received = {topic: self._received(topic, term.form) for term in step.terms for topic in term.topics}
        return {topic: annotation for topic, annotation in received.items() if annotation is not MISSING}

    def _received(self, topic: str, form: Form) -> Any:
        payload = self._payload(topic)
        is_list = form in (Form.COLLECT, Form.KEEP) or (
            form is Form.COMPLETED and topic.partition(":")[2] in self._mapped
        )
        return list[payload] if is_list and payload is not MISSING else payload

    def _payload(self, topic: str) -> Any:
        if topic not in self._payloads:
            self._payloads[topic] = self._read(topic)
        return self._payloads[topic]

    def _read(self, topic: str) -> Any:
        kind, colon, step = topic.partition(":")
        if kind == "failed" and colon:
            return dict
        if colon:
            result = self._result(step)
            return element_type(result) if kind == "each" else result
        found = [self._emitted(step) for step in self._emitters.get(topic, ())]
        return found[0] if found and all(annotation == found[0] for annotation in found) else MISSING

    def _emitted(self, step: StepSpec) -> Any:
        function = self._functions.get(step.name)
        if len(step.emits) != 1 or function is None or emits_by_hand(function):
            return MISSING
        return self._result(step.name)

    def _result(self, step: str) -> Any:
        function = self._functions.get(step)
        return MISSING if function is None else result_type(function)
