"""Matches: dotted fields of a payload and the values that they must have. The scripts compare the same way
(`parts/awaits.lua`), and `tests/property/test_waits.py` holds the two together. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from nbflow.errors import DefinitionError

__all__ = ["Matches", "Received", "checked_field", "checked_match", "field_in", "fits", "received"]

_EXACT = 2**53

Matches = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Received:
    """The value of a dotted field of what is received; without a field, all of it."""

    field: str


def received(field: str | None = None) -> Received:
    """In a match, the value of a dotted field of what the step receives (of several payloads the first; of an entry, the
    input): `OnEvent("order.paid", match={"order": received("id")})`. In the input of a trigger, a field of its payload, or
    without a field all of it: `flow.on(paid, input={"order": received("order.id"), "event": received()})`."""
    return Received("" if field is None else checked_field(field))


def checked_field(name: object) -> str:
    """A dotted field of a payload; DefinitionError for what is none."""
    if not isinstance(name, str) or not name or not all(name.split(".")):
        raise DefinitionError(f"{name!r} is no dotted field of a payload.", hint="Write it as 'order.id'.")
    return name


def checked_match(match: object, whose: str) -> Matches:
    """The pairs of a match. `whose` is how errors call what it belongs to: `OnEvent`."""
    if match is None:
        return ()
    if not isinstance(match, Mapping):
        raise DefinitionError(f"{whose}(match={match!r}) is no dict.", hint="Write match={'order.id': 7}.")
    pairs = cast("Mapping[str, Any]", match)
    return tuple((checked_field(name), _checked_value(name, value, whose)) for name, value in pairs.items())


def _checked_value(name: str, value: Any, whose: str) -> Any:
    """A value that a script compares as exactly as Python does."""
    is_plain = value is None or isinstance(value, str | bool) or (isinstance(value, Received) and value.field)
    is_number = isinstance(value, int | float) and value == value and abs(value) <= _EXACT  # noqa: PLR0124 - NaN
    if not is_plain and not is_number:
        message = f"{whose}(match={{{name!r}: {value!r}}}) cannot be compared."
        raise DefinitionError(message, hint="Match text, numbers up to 2**53, true, false, None, or received('field').")
    return value


def fits(matches: Iterable[tuple[str, Any]], payload: Any, got: Any = None) -> bool:
    """Whether a payload (JSON as it lies) has these values in its fields. `got` is what `received` looks into."""
    for name, wanted in matches:
        value = field_in(got, wanted.field) if isinstance(wanted, Received) else (wanted,)
        found = field_in(payload, name)
        if not found or not value or isinstance(found[0], dict | list):
            return False
        if isinstance(found[0], bool) is not isinstance(value[0], bool) or found[0] != value[0]:
            return False
    return True


def field_in(value: Any, path: str) -> tuple[Any] | tuple[()]:
    """The value of a dotted field, if there is one; of an empty path, the whole."""
    for part in path.split(".") if path else ():
        if not isinstance(value, dict) or part not in value:
            return ()
        value = cast("dict[str, Any]", value)[part]
    return (value,)
