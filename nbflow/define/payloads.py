"""What a payload from outside is as the input of a flow: of a trigger, and in a trial. Nothing is started here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nbflow.define.asked import shown
from nbflow.define.inputs import FlowInput
from nbflow.errors import InputInvalid, nearest
from nbflow.model.matching import Received, field_in

__all__ = ["Mapped", "input_of", "mapped"]

Mapped = tuple[dict[str, Any], dict[str, str]]
"""What is fixed of an input; and by parameter, the dotted field of the payload that it gets."""


def mapped(flow: str, values: Mapping[str, Any], taken: FlowInput) -> Mapped:
    """The same of what somebody wrote. InputInvalid for what the flow does not take, also if all is fixed already."""
    if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"The input {shown(values)} of flow {flow!r} is no values by name."
        raise InputInvalid(message, hint="Give a dict: {'order': received('order.id')}.")
    known = taken.known(values)
    unknown = [name for name in values if name not in known]
    if unknown:
        message = f"Flow {flow!r} has no input {unknown[0]!r}."
        raise InputInvalid(message, hint=nearest(unknown[0], taken.names) or "It takes no input.")
    takes = {name: value.field for name, value in values.items() if isinstance(value, Received)}
    fixed = {name: value for name, value in values.items() if name not in takes}
    if not takes:
        taken.validate(fixed)
    return fixed, takes


def input_of(how: Mapped | None, payload: Any, taken: FlowInput) -> dict[str, Any]:
    """What a payload is as the input of a flow. Nothing is validated.

    Without a mapping a dict is the input by name, of which what the flow does not take is left out; anything else is the one
    value of a flow that takes one, and None is no input.
    """
    if how is not None:
        fixed, takes = how
        found = {name: field_in(payload, path) for name, path in takes.items()}
        return {**fixed, **{name: value[0] for name, value in found.items() if value}}
    if payload is None:
        return {}
    if isinstance(payload, dict):
        return taken.known(cast("dict[str, Any]", payload))
    return taken.bind([payload], {})
