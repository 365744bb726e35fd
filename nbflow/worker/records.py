"""What a record holds: strict JSON of bounded size, whatever a step hands over, and no value of a secret. Only standard
library here."""

from __future__ import annotations

import json
import math
from typing import Any, cast

from nbflow.model import veil

__all__ = ["KINDS", "MAX_MESSAGE", "MAX_RECORD", "json_text", "record_text"]

KINDS = frozenset(("log", "progress", "metric", "artifact"))
"""What a worker tells of its task as it goes. All other events are the store's to write."""

MAX_MESSAGE = 8192
MAX_RECORD = 64 << 10
"""Bytes of one record. Artifacts are bounded where they are encoded."""

_NAME, _VALUE, _FIELDS, _DEPTH = 500, 1000, 20, 20


def _text(value: object) -> str:
    try:
        return str(value)
    except TimeoutError:  # a step's own timeout may strike here
        raise
    except Exception:  # noqa: BLE001 - whatever it raises, a log is no reason for a step to fail
        return f"<{type(value).__name__}>"


_STRICT = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_text)


def json_text(data: Any) -> bytes:
    """Strict JSON in one line. Raises ValueError, TypeError or RecursionError for what JSON cannot say."""
    return _STRICT.encode(data).encode("utf-8", "replace")


def record_text(kind: str, data: dict[str, Any]) -> bytes:
    """Strict JSON of this data, and how that is made of data that JSON cannot say or that is too large:

    floats that are no numbers become "NaN", "Infinity", "-Infinity"; keys and values of other types become text; of a
    pair of surrogates that is none, "?". What is shortened says so: `cut` is the size that it would have had.
    """
    if kind == "artifact":  # encoded, bounded and strict already
        return json_text(data | {"name": veil.masked(_text(data.get("name")))[:_NAME]})
    if veil.known:
        data = veil.masked_tree(_clean(data))  # before anything is cut, or half of a value would be left
    try:
        text = json_text(data) if _has_plain_names(data) else json_text(_clean(data))
    except (TypeError, ValueError, RecursionError):
        text = json_text(_clean(data))
    return text if len(text) <= MAX_RECORD else _shortened(data, len(text))


def _has_plain_names(data: dict[str, Any]) -> bool:
    fields = data.get("fields")
    return fields is None or "".join(fields).isprintable()


def _clean(value: Any, above: tuple[int, ...] = ()) -> Any:
    """The same as plain JSON values; `above` are the containers that it lies in."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() < 4096 else f"a whole number of {value.bit_length()} bits"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (dict, list, tuple)):
        return _clean_members(cast("Any", value), above)
    return _text(cast("object", value))


def _clean_members(value: Any, above: tuple[int, ...]) -> Any:
    if id(value) in above or len(above) >= _DEPTH:
        return "…"
    above = (*above, id(value))
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {_name(key): _clean(member, above) for key, member in items}
    return [_clean(member, above) for member in value]


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _name(key: object) -> str:
    """A key is printable text."""
    name = key if isinstance(key, str) else _text(key)
    return name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name)


def _shortened(data: dict[str, Any], size: int) -> bytes:
    """Cut to what fits. The parts that nbflow itself puts in stay what they are."""
    kept: dict[str, Any] = {}
    for key, value in _clean(data).items():
        if key == "fields" and isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            kept[key] = {name[:_NAME]: _brief(fields[name], _VALUE) for name in list(fields)[:_FIELDS]}
        else:
            kept[key] = _brief(value, MAX_MESSAGE if key == "message" else _VALUE)
    text = json_text(kept | {"cut": size})
    if len(text) > MAX_RECORD:
        kept["fields"] = "…"
        text = json_text({key: value for key, value in kept.items() if key in _OURS} | {"cut": size})
    return text


_OURS = ("level", "message", "source", "fields", "logger", "done", "total", "name", "value", "step")


def _brief(value: Any, most: int) -> Any:
    """The value, or the beginning of its text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else json_text(value).decode()
    return value if len(text) <= most else text[: most - 1] + "…"
