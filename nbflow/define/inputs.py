"""The input of a flow: the parameters and defaults of its entries, as pydantic models.

Each entry is asked for its own parameters; what no entry knows is an error. Nothing here starts anything.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from nbflow.define.annotations import (
    MISSING,
    Misfit,
    hints_of,
    is_context,
    is_lazy,
    misfit_of,
    parameters_of,
    short_repr,
)
from nbflow.define.signature import answered_parameter
from nbflow.errors import DefinitionError, InputInvalid, nearest

__all__ = ["FlowInput", "schema_of"]

Function = Callable[..., Any]
Fields = dict[str, tuple[Any, Any]]
"""Name of a parameter -> (annotation, default); `MISSING` where there is no default."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    fields: Fields
    takes_all: bool
    model: type[BaseModel]


class FlowInput:
    """What a flow can be started with, made once from its entries (step name -> function)."""

    def __init__(self, flow: str, entries: Mapping[str, Function], answers: Mapping[str, Any] | None = None) -> None:
        self.flow = flow
        self._made_of = _sources(entries)
        answers = answers or {}
        self._entries = [_entry(flow, name, function, answers.get(name)) for name, function in entries.items()]
        self._fields: Fields = {}
        for entry in reversed(self._entries):  # of two entries with one parameter the first is shown
            self._fields |= entry.fields
        self._takes_all = any(entry.takes_all for entry in self._entries)
        order = [name for entry in self._entries for name in entry.fields]
        ordered = {name: self._fields[name] for name in dict.fromkeys(order)}
        self._fields = ordered
        self.model = _model(flow, ordered, takes_all=self._takes_all)

    @property
    def names(self) -> list[str]:
        """The fields in the order of the parameters."""
        return [*self._fields]

    def is_of(self, entries: Mapping[str, Function]) -> bool:
        """Whether it still tells the truth about these entries. The class behind an annotation that is text may have
        been defined anew."""
        return self._made_of == _sources(entries)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The named values of a call `start(value)` or `start(folder=...)`. Nothing is validated."""
        if not args:
            return dict(kwargs)
        if len(args) > 1 or len(self._fields) != 1:
            message = f"Flow {self.flow!r} takes its input by name, because it is not one value."
            raise InputInvalid(message, hint=f"Write start({', '.join(f'{name}=...' for name in self._fields)}).")
        (name,) = self._fields
        if name in kwargs:
            message = f"The input {name!r} of flow {self.flow!r} is given twice."
            raise InputInvalid(message, hint="Give it once, by position or by name.")
        return {name: args[0], **kwargs}

    def known(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the values that the flow takes."""
        return {name: value for name, value in values.items() if self._takes_all or name in self._fields}

    def validate(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values as the entries want them, with defaults that all entries share. Raises InputInvalid."""
        if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"The input of flow {self.flow!r} is {short_repr(values)}, and not values by name."
            raise InputInvalid(
                message, hint=f"Give a dict: {{{', '.join(f'{name!r}: ...' for name in self._fields)}}}."
            )
        self._refuse_unknown(values)
        asked = [self._ask(entry, values) for entry in self._entries]
        agreed: dict[str, Any] = {name: value for name, value in values.items() if name not in self._fields}
        for name in self._fields:
            found = [answer[name] for answer in asked if name in answer]
            if len(found) == 1 or self._is_shared(name):
                agreed[name] = found[0]
            elif name in values:
                agreed[name] = values[name]  # each entry reads it in its own way when it runs
        return agreed

    def _is_shared(self, name: str) -> bool:
        declared = [entry.fields[name] for entry in self._entries if name in entry.fields]
        return all(_same(one[0], declared[0][0]) and _same(one[1], declared[0][1]) for one in declared)

    def _refuse_unknown(self, values: Mapping[str, Any]) -> None:
        unknown = [name for name in values if name not in self._fields]
        if unknown and not self._takes_all:
            takes = nearest(unknown[0], self._fields) or "It takes no input."
            message = f"Flow {self.flow!r} has no input {unknown[0]!r} (given: {short_repr(values[unknown[0]])})."
            raise InputInvalid(message, hint=takes)

    def _ask(self, entry: _Entry, values: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: values[name] for name in entry.fields if name in values}
        try:
            valid = entry.model.model_validate(own)
        except ValidationError as error:
            raise self._invalid(entry, misfit_of(error)) from None
        attributes = {info.alias or name: name for name, info in entry.model.model_fields.items()}
        return {name: getattr(valid, attributes[name]) for name in entry.fields}

    def _invalid(self, entry: _Entry, misfit: Misfit) -> InputInvalid:
        field = misfit.field
        more = f" (and {misfit.more} more)" if misfit.more else ""
        if misfit.kind == "missing" and field in entry.fields:
            message = f"Flow {self.flow!r} needs the input {field!r} (entry {entry.name!r}){more}."
            return InputInvalid(message, hint=f"Add {field}=... to start, or give the parameter a default.")
        message = (
            f"Input {field!r} of flow {self.flow!r} is {short_repr(misfit.value)}, "
            f"which entry {entry.name!r} does not take: {misfit.problem}{more}."
        )
        return InputInvalid(message, hint=f"Give {field.partition('.')[0]}= another value.")


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of an input; without the fields that JSON cannot say, if there are such."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a default that JSON cannot say is left out, and that is all
            return model.model_json_schema()
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        fields = {info.alias or name: dict[str, Any]() for name, info in model.model_fields.items()}
        required = [info.alias or name for name, info in model.model_fields.items() if info.is_required()]
        return {"type": "object", "properties": fields, "required": required}


def _sources(entries: Mapping[str, Function]) -> list[tuple[str, Function, Mapping[str, Any]]]:
    return [(name, function, hints_of(function).types) for name, function in entries.items()]


def _entry(flow: str, name: str, function: Function, answer: Any) -> _Entry:
    hints = hints_of(function)
    fields: Fields = {}
    takes_all, answered = False, answered_parameter(function, answer)
    for parameter in parameters_of(function).values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_all = True
        elif parameter.name == answered or is_context(parameter.name, hints):
            continue
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            fields[parameter.name] = (hints.types.get(parameter.name, Any), parameter.default)
    return _Entry(name, fields, takes_all, _model(f"{flow}.{name}", fields, takes_all=False))


def _model(name: str, fields: Fields, *, takes_all: bool) -> type[BaseModel]:
    config = ConfigDict(
        extra="allow" if takes_all else "forbid",
        arbitrary_types_allowed=True,
        populate_by_name=False,
        protected_namespaces=(),
    )
    definitions: dict[str, Any] = {_attribute(field): _definition(field, *fields[field]) for field in fields}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic's advice on names, which are the user's parameters
            return create_model(name, __config__=config, **definitions)
    except (PydanticUserError, TypeError, NameError) as error:
        message = f"No input can be made of the parameters of {name!r}: {str(error).splitlines()[0]}"
        raise DefinitionError(message, hint="Change the annotations of the entry.") from error


def _attribute(field: str) -> str:
    """A name that pydantic takes: not private, and not one that every model has (`json`, `copy`)."""
    return f"input_{field.lstrip('_')}" if field.startswith("_") or hasattr(BaseModel, field) else field


def _definition(field: str, annotation: Any, default: Any) -> tuple[Any, Any]:
    annotation = Any if is_lazy(annotation) else annotation
    alias = field if _attribute(field) != field else None
    return annotation, Field(alias=alias) if default is MISSING else Field(default, alias=alias)


def _same(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001 - a default may be a frame, which does not like to be compared
        return False
