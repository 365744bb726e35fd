"""The input of a start as it is typed: `name=value`, a JSON document, or `@file`. Reads and names; decides no types but text or not."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["TypedInput", "read_document", "read_inputs", "read_value"]

_PAIR = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)
_DOTTED = re.compile(r"([^\W\d][\w.-]*)=(.*)", re.DOTALL)


@dataclass(slots=True)
class TypedInput:
    """What was typed. `texts` holds the values of `name=value` as they were typed; `whole` is a document that is no object."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    texts: dict[str, str] = field(default_factory=dict[str, str])
    whole: list[Any] = field(default_factory=list[Any])

    def fitted(self, model: type[BaseModel]) -> dict[str, Any]:
        """The values by name. Of `name=2013` the model says whether it is the number or the text."""
        fields = {info.alias or name: name for name, info in model.model_fields.items()}
        return self.values | {
            name: _fitted(model, fields.get(name), text, self.values[name]) for name, text in self.texts.items()
        }


def read_value(texts: Sequence[str], said_as: str, *, dotted: bool = False) -> Any:
    """One value: a document, or what is named, as a dict; None if nothing is given. `dotted` allows fields of fields as names."""
    try:
        typed = read_inputs(texts, (), dotted=dotted)
    except typer.BadParameter as error:
        error.param_hint = said_as
        raise
    if typed.whole:
        return typed.whole[0]
    return typed.values if texts else None


def read_inputs(options: Sequence[str], pairs: Sequence[str], *, dotted: bool = False) -> TypedInput:
    """The input of all `--input` and of the `name=value` behind the flow. BadParameter if it cannot be read, or names
    something twice."""
    typed = TypedInput()
    for text in (*options, *pairs):
        pair = (_DOTTED if dotted else _PAIR).fullmatch(text)
        if pair:
            _add(typed, {pair[1]: _value(pair[2])})
            typed.texts[pair[1]] = pair[2]
        elif text in pairs:
            _refuse(f"{text!r} is not name=value.")
        else:
            _add_document(typed, read_document(text))
    if typed.whole and (typed.values or len(typed.whole) > 1):
        _refuse("a value without a name must be the whole input.")
    return typed


def read_document(text: str) -> Any:
    """JSON, or what lies in `@file`. BadParameter if it cannot be read."""
    if text.startswith("@"):
        text = _file(text[1:])
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(f"it is neither name=value nor JSON nor @file ({error}).")


def _file(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}.")


def _add_document(typed: TypedInput, document: Any) -> None:
    if isinstance(document, dict):
        _add(typed, cast("dict[str, Any]", document))
    else:
        typed.whole.append(document)


def _add(typed: TypedInput, values: dict[str, Any]) -> None:
    for name in values:
        if name in typed.values:
            _refuse(f"{name!r} is given twice.")
    typed.values |= values


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)  # NaN is no JSON: it stays the text, which a float field reads


def _fitted(model: type[BaseModel], attribute: str | None, text: str, value: Any) -> Any:
    if attribute is None or isinstance(value, str):
        return value
    from pydantic import ValidationError

    try:
        model.__pydantic_validator__.validate_assignment(model.model_construct(), attribute, value)
    except ValidationError:
        return text
    return value


def _refuse(reason: str) -> NoReturn:
    raise typer.BadParameter(reason, param_hint="--input")
