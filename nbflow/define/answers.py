"""Answers to holds: checked by who gives one, and made an object of the hold's model again where the step receives it."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from nbflow.define.annotations import Misfit, misfit_of, short_repr
from nbflow.define.signature import InvalidPayload
from nbflow.errors import CommandRefused
from nbflow.model.awaits import Await

__all__ = ["answer_of", "check_answer", "plain_answer"]


def check_answer(hold: Await, task: str, data: Any) -> Any:
    """An answer in plain JSON, as it is kept. CommandRefused names what does not fit the hold's model."""
    model = getattr(hold, "model", None)
    if model is None:
        return data
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    try:
        return adapter.dump_python(_fitting(adapter, data), mode="json")
    except Misfit as misfit:
        raise CommandRefused(_said(model, task, misfit), hint="Nothing was changed; answer again.") from None


def plain_answer(data: Any) -> Any:
    """An answer that is an object, as JSON has it: the run's code knows a class of that name, which is another one."""
    if isinstance(data, BaseModel) or dataclasses.is_dataclass(data):
        adapter: TypeAdapter[Any] = TypeAdapter(type(data))
        return adapter.dump_python(data, mode="json")
    return data


def answer_of(hold: Await, task: str, data: Any) -> Any:
    """What was kept as an answer, as an object of the hold's model. InvalidPayload if it does not fit."""
    model = getattr(hold, "model", None)
    if model is None:
        return data
    try:
        return _fitting(TypeAdapter(model), data)
    except Misfit as misfit:
        raise InvalidPayload(_said(model, task, misfit), hint="It was changed in the server.") from None


def _fitting(adapter: TypeAdapter[Any], data: Any) -> Any:
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        raise misfit_of(error) from None


def _said(model: Any, task: str, misfit: Misfit) -> str:
    name = getattr(model, "__name__", "what was asked for")
    if misfit.kind == "missing":
        return f"The answer to {task!r} lacks {misfit.field!r}, which {name} needs."
    field = misfit.field or "it"
    return f"The answer to {task!r} is no {name}: {field} is {short_repr(misfit.value)}. {misfit.problem}."
