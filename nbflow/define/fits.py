"""Whether a value of one annotation can ever fit another: a guess that speaks only when it is sure.

pydantic turns text into numbers, dicts into models and lists into sets; what it may turn counts as fitting.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import pathlib
import types
import typing
import uuid
from typing import Any, Final

from pydantic import BaseModel

__all__ = ["holds_no_elements", "never_fits", "spelled"]

_SCALARS: Final = (
    bool, int, float, complex, str, bytes, bytearray, decimal.Decimal, enum.Enum, pathlib.PurePath, uuid.UUID,
    dt.date, dt.time, dt.timedelta,
)  # fmt: skip
_SEQUENCES: Final = (list, tuple, set, frozenset)


def never_fits(sent: Any, expected: Any) -> bool:
    """Whether no value annotated `sent` can be one annotated `expected`. False whenever that is not certain."""
    sent, expected = _bare(sent), _bare(expected)
    if sent is expected:
        return False
    options = _options(sent)
    if len(options) > 1 or len(_options(expected)) > 1:
        return all(never_fits(one, other) for one in options for other in _options(expected))
    sent_class, expected_class = _class(sent), _class(expected)
    if sent_class is None or expected_class is None:
        return False
    if _never_becomes(sent_class, expected_class):
        return True
    return _kind(sent_class) == _kind(expected_class) == "sequence" and _elements_never_fit(sent, expected)


def holds_no_elements(annotation: Any) -> bool:
    """Whether a value of that annotation is certainly one thing, and no list of things."""
    cls = _class(_bare(annotation))
    return cls is not None and len(_options(_bare(annotation))) == 1 and _kind(cls) in ("none", "scalar", "model")


def spelled(annotation: Any) -> str:
    """An annotation as its author would write it."""
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__.rpartition(".")[2]
    return inspect.formatannotation(annotation)


def _bare(annotation: Any) -> Any:
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return type(None) if annotation is None else annotation


def _options(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _class(annotation: Any) -> type[Any] | None:
    """The class behind an annotation; None where there is none, or where a class stands for many others."""
    cls = typing.get_origin(annotation) or annotation
    if not isinstance(cls, type) or cls in (object, Any):
        return None
    if cls.__module__ in ("typing", "collections.abc", "numbers", "numpy") or inspect.isabstract(cls):
        return cls if cls.__module__ == "numpy" and cls.__name__ == "ndarray" else None
    is_open = getattr(cls, "_is_protocol", False) or typing.is_typeddict(cls)
    has_own_rules = hasattr(cls, "__get_pydantic_core_schema__") and not issubclass(cls, BaseModel)
    return None if is_open or has_own_rules else cls


def _never_becomes(sent: type[Any], expected: type[Any]) -> bool:
    if issubclass(sent, expected) or issubclass(expected, sent):
        return False
    kinds = _kind(sent), _kind(expected)
    if kinds[1] == "model":
        return kinds[0] in ("none", "other", "sequence") or (kinds[0] == "model" and _is_strict_model(expected))
    if kinds == ("scalar", "scalar"):  # pydantic makes numbers of text, but never text of numbers
        return issubclass(expected, str | bytes) and issubclass(sent, bool | int | float | complex)
    if kinds[0] == kinds[1]:
        return kinds[0] == "other"
    return not (kinds[0] == "other" and issubclass(sent, collections.abc.Sized) and kinds[1] == "mapping")


def _is_strict_model(expected: type[Any]) -> bool:
    return not (issubclass(expected, BaseModel) and expected.model_config.get("from_attributes"))


def _kind(cls: type[Any]) -> str:
    if cls is type(None):
        return "none"
    if issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls):
        return "model"
    if issubclass(cls, _SCALARS):
        return "scalar"
    if issubclass(cls, _SEQUENCES):
        return "sequence"
    return "mapping" if issubclass(cls, dict) else "other"


def _elements_never_fit(sent: Any, expected: Any) -> bool:
    """Lists of what never fits; an empty list always does, but it is not what was meant."""
    one, other = typing.get_args(sent), typing.get_args(expected)
    is_tuple = any(typing.get_origin(annotation) is tuple for annotation in (sent, expected))
    return bool(one and other and not is_tuple and never_fits(one[0], other[0]))
