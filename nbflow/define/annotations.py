"""What the annotations of a function say, and a check made of one.

A name that cannot be resolved is no error here: it may be defined in a later cell, or for type checkers only. This
module knows neither steps nor topics.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from nbflow.define.forms import Nothing

__all__ = [
    "MISSING",
    "Check",
    "Hints",
    "Misfit",
    "checker",
    "element_type",
    "hints_of",
    "is_context",
    "is_lazy",
    "mentions",
    "misfit_of",
    "parameters_of",
    "result_type",
    "short_repr",
]

Function = Callable[..., Any]
Check = Callable[[Any], Any]
"""Takes a value and returns it as its annotation wants it, or raises `Misfit`."""

MISSING: Final[Any] = inspect.Parameter.empty
"""Where there is no annotation."""

_EXACT: Final = (bool, int, float, str, bytes, list, dict)
_LAZY: Final = {
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
}
_ELEMENTS: Final = _LAZY | {
    list,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.Collection,
    collections.abc.Set,
}
_PYDANTIC: Final = ConfigDict(arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class Hints:
    """The annotations of a function: what they are, and the text of those that cannot be resolved (yet)."""

    types: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unresolved: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def result(self) -> Any:
        return self.types.get("return", MISSING)


_known_hints: WeakKeyDictionary[Function, Hints] = WeakKeyDictionary()
_known_parameters: WeakKeyDictionary[Function, Mapping[str, inspect.Parameter]] = WeakKeyDictionary()


def parameters_of(function: Function) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function, in order."""
    known = _known_parameters.get(function)
    if known is None:
        known = _known_parameters[function] = _signature(function).parameters
    return known


def hints_of(function: Function) -> Hints:
    """The annotations of a function, with strings resolved in its globals, each on its own.

    Those that are text are read anew each time: a class may come, or be defined again, in another cell.
    """
    known = _known_hints.get(function)
    if known is None:
        known = _read_hints(function)
        if not any(isinstance(annotation, str) for annotation in _annotations(function).values()):
            _known_hints[function] = known
    return known


def _read_hints(function: Function) -> Hints:
    try:
        return Hints(typing.get_type_hints(function, include_extras=True))
    except Exception:  # noqa: BLE001 - a string annotation is code of the user and may raise anything
        return _read_one_by_one(function)


def _read_one_by_one(function: Function) -> Hints:
    names = getattr(inspect.unwrap(function), "__globals__", {})
    found: dict[str, Any] = {}
    unresolved: dict[str, str] = {}
    for name, annotation in _annotations(function).items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= typing.get_type_hints(holder, globalns=names, include_extras=True)
        except Exception:  # noqa: BLE001 - as above
            unresolved[name] = annotation if isinstance(annotation, str) else repr(annotation)
    return Hints(found, unresolved)


def _annotations(function: Function) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - there is none before 3.14

        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)
    return function.__annotations__


def _signature(function: Function) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - there is none before 3.14

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def is_context(name: str, hints: Hints) -> bool:
    """Whether the parameter of that name is given the context: it is called `ctx`, or annotated `Context`."""
    if name == "ctx":
        return True
    text = hints.unresolved.get(name)
    if text is not None:
        return text.strip("'\"").rpartition(".")[2] == "Context"  # imported for type checkers only
    annotation = hints.types.get(name)
    home = getattr(annotation, "__module__", "") or ""
    return getattr(annotation, "__name__", "") == "Context" and home.partition(".")[0] == "nbflow"


def result_type(function: Function) -> Any:
    """What the function's result is annotated with, as it is sent: a generator's is a list. MISSING if unknown."""
    result = hints_of(function).result
    if result is typing.NoReturn or result is typing.Never:
        return MISSING
    if typing.get_origin(result) in _LAZY:
        element = element_type(result)
        spread = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        return list[element] if spread and element is not MISSING else MISSING
    options = [option for option in _options(result) if option is not Nothing]
    if len(options) == len(_options(result)):
        return result
    return typing.Union[tuple(options)] if options else MISSING  # noqa: UP007 - made of a tuple


def element_type(annotation: Any) -> Any:
    """The annotation of the elements of a collection; MISSING if it does not say."""
    annotation = _plain(annotation)
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin in _ELEMENTS and arguments:
        return arguments[0]
    return arguments[0] if origin is tuple and len(arguments) == 2 and arguments[1] is ... else MISSING


def is_lazy(annotation: Any) -> bool:
    """Whether pydantic would give an iterator that can be read once (`Iterable[int]`) instead of what was sent."""
    if (typing.get_origin(annotation) or (isinstance(annotation, type) and annotation)) in _LAZY:
        return True
    return any(is_lazy(argument) for argument in typing.get_args(annotation) if not isinstance(argument, list))


def mentions(annotation: Any, cls: type[Any]) -> bool:
    """Whether it is that class, or the class or None."""
    return any(_plain(option) is cls for option in _options(_plain(annotation)))


def _plain(annotation: Any) -> Any:
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _options(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


class Misfit(Exception):
    """A value does not fit its annotation. `field` is the way into the value, empty for the whole."""

    def __init__(self, field: str, value: Any, problem: str, *, kind: str = "", more: int = 0) -> None:
        super().__init__(field, problem)
        self.field = field
        self.value = value
        self.problem = problem
        self.kind = kind
        self.more = more


def misfit_of(error: ValidationError) -> Misfit:
    """The first thing that pydantic found, and how many more there are."""
    found = error.errors(include_url=False, include_context=False)
    first = found[0]
    problem = re.sub(r"^Value error, ", "", first["msg"])
    place = ".".join(str(part) for part in first["loc"])
    return Misfit(place, first.get("input"), problem, kind=first["type"], more=len(found) - 1)


def checker(annotation: Any) -> Check | None:
    """A check that is as fast as the annotation allows; None where there is nothing to check."""
    plain = _plain(annotation)
    if any(plain is open_type for open_type in (MISSING, Any, object)):
        return None
    if isinstance(plain, typing.TypeVar | str | typing.ForwardRef):
        return None
    if is_lazy(plain):
        return _instance_checker(typing.get_origin(plain) or plain)
    if any(annotation is cls for cls in _EXACT):
        return _exact_checker(annotation)
    adapter = _adapter(annotation)
    if adapter is not None:
        return _adapter_checker(adapter)
    return _instance_checker(annotation)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """What pydantic understands by itself comes first; arbitrary classes may hide inside a container (`list[DataFrame]`)."""
    for config in (None, _PYDANTIC):
        if config is not None and typing.get_origin(annotation) is None:
            return None
        try:
            return TypeAdapter(annotation, config=config)
        except (PydanticUserError, TypeError, NameError):
            continue
    return None


def _adapter_checker(adapter: TypeAdapter[Any]) -> Check:
    validate = adapter.validator.validate_python

    def check(value: Any) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise misfit_of(error) from None

    return check


def _exact_checker(cls: type[Any]) -> Check:
    slow = _adapter_checker(TypeAdapter(cls))

    def check(value: Any) -> Any:
        return value if type(value) is cls else slow(value)

    return check


def _instance_checker(cls: Any) -> Check | None:
    try:
        isinstance(None, cls)
    except TypeError:  # a Protocol that is not for run time, or no class at all
        return None

    def check(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        raise Misfit("", value, f"Input should be an instance of {cls.__name__}", kind="is_instance_of")

    return check


_repr: Final = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60
_repr.maxdict = _repr.maxlist = _repr.maxtuple = _repr.maxset = 3


def short_repr(value: Any) -> str:
    """A value in at most a line. A large one (a frame, an array) is called by its type."""
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {getattr(value, 'shape', '?')}"
    try:
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001 - a __repr__ of the user's
        return f"a {type(value).__name__}"
    return text if "\n" not in text else f"a {type(value).__name__}"
