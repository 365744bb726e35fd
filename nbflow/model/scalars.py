"""The law for single values: each type beside how it is written and how it is read.

Only exact types are here: a subclass of `str` or `datetime` is another type and must not come back as its base. A
writer returns a tagged node, or None when this very value has something that the node could not hold.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

__all__ = ["LARGEST_PLAIN_INT", "READERS", "WRITERS", "Node", "is_unicode", "number", "text", "whole"]

Node = dict[str, Any]

LARGEST_PLAIN_INT = 2**53 - 1
"""Larger integers are tagged: a browser would round them."""

_LONGEST_DECIMAL_BITS = 13_000  # Python refuses to read more than 4300 decimal digits


def is_unicode(value: str) -> bool:
    """Whether it can be written as UTF-8, that is, has no lone surrogate."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(value: str) -> str | Node:
    if is_unicode(value):
        return value
    return {"$t": "str", "v": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}


def whole(value: int) -> int | Node:
    if -LARGEST_PLAIN_INT <= value <= LARGEST_PLAIN_INT:
        return value
    return {"$t": "int", "v": str(value) if value.bit_length() <= _LONGEST_DECIMAL_BITS else hex(value)}


def number(value: float) -> float | Node:
    if value - value == 0.0:  # neither NaN nor infinite
        return value
    return {"$t": "float", "v": repr(value)}


def _datetime(value: datetime) -> Node | None:
    return _with_zone({"$t": "datetime", "v": value.isoformat()}, value)


def _time(value: time) -> Node | None:
    return _with_zone({"$t": "time", "v": value.isoformat()}, value)


def _with_zone(node: Node, value: datetime | time) -> Node | None:
    zone = value.tzinfo
    if value.fold:
        node["fold"] = 1
    if type(zone) is ZoneInfo and zone.key:
        node["zone"] = zone.key
    elif type(zone) is timezone:
        return _with_name(node, zone)
    elif zone is not None:
        return None
    return node


def _with_name(node: Node, zone: timezone) -> Node | None:
    name, offset = zone.tzname(None), zone.utcoffset(None)
    if offset.microseconds:  # fromisoformat of 3.11 takes an offset below a second for UTC
        node["offset"] = [offset.days, offset.seconds, offset.microseconds]
    if name != timezone(offset).tzname(None):
        node["name"] = name
    return node if is_unicode(name) else None


def _read_moment(kind: type[datetime | time], node: Node) -> Any:
    value = kind.fromisoformat(node["v"])
    zone: tzinfo | None = value.tzinfo
    if "zone" in node:
        zone = ZoneInfo(node["zone"])
    elif zone is not None and ("name" in node or "offset" in node):
        offset = timedelta(*node["offset"]) if "offset" in node else zone.utcoffset(None) or timedelta()
        zone = timezone(offset, node["name"]) if "name" in node else timezone(offset)
    return value.replace(tzinfo=zone, fold=1 if node.get("fold") else 0)


def _path(tag: str, kind: Callable[[str], Any]) -> tuple[Callable[[Any], Node | None], Callable[[Node], Any]]:
    def write(value: Any) -> Node | None:
        spelled = str(value)
        return {"$t": tag, "v": text(spelled)} if kind(spelled) == value else None

    def read(node: Node) -> Any:
        spelled = node["v"]
        return kind(_read_text(spelled) if isinstance(spelled, dict) else spelled)

    return write, read


def _decimal(value: Decimal) -> Node:
    return {"$t": "decimal", "v": str(value)}


def _base64(tag: str) -> Callable[[Any], Node]:
    return lambda value: {"$t": tag, "v": base64.b64encode(value).decode()}


def _read_base64(node: Node) -> bytes:
    return base64.b64decode(node["v"], validate=True)


def _read_text(node: Any) -> str:
    return _read_base64(node).decode("utf-8", "surrogatepass")


def _read_int(node: Node) -> int:
    spelled: str = node["v"]
    return int(spelled, 16) if "x" in spelled else int(spelled)


def _read_number(value: Any) -> float:
    return float(value["v"] if isinstance(value, dict) else value)  # pyright: ignore[reportUnknownArgumentType]


def _read_whole(value: Any) -> int:
    return _read_int(value) if isinstance(value, dict) else int(value)  # pyright: ignore[reportUnknownArgumentType]


_posix, _read_posix = _path("posixpath", PurePosixPath)
_windows, _read_windows = _path("windowspath", PureWindowsPath)
_here, _read_here = _path("path", PosixPath)  # on the other kind of system the reader refuses: it has no equal
_there, _read_there = _path("winpath", WindowsPath)

WRITERS: dict[type, Callable[[Any], Node | None]] = {
    datetime: _datetime,
    date: lambda value: {"$t": "date", "v": value.isoformat()},
    time: _time,
    timedelta: lambda value: {"$t": "timedelta", "v": [value.days, value.seconds, value.microseconds]},
    UUID: lambda value: {"$t": "uuid", "v": str(value)},
    Decimal: _decimal,
    complex: lambda value: {"$t": "complex", "v": [number(value.real), number(value.imag)]},
    range: lambda value: {"$t": "range", "v": [whole(value.start), whole(value.stop), whole(value.step)]},
    bytes: _base64("bytes"),
    bytearray: _base64("bytearray"),
    PurePosixPath: _posix,
    PureWindowsPath: _windows,
    PosixPath: _here,
    WindowsPath: _there,
}

READERS: dict[str, Callable[[Node], Any]] = {
    "str": _read_text,
    "int": _read_int,
    "float": _read_number,
    "datetime": lambda node: _read_moment(datetime, node),
    "date": lambda node: date.fromisoformat(node["v"]),
    "time": lambda node: _read_moment(time, node),
    "timedelta": lambda node: timedelta(*node["v"]),
    "uuid": lambda node: UUID(node["v"]),
    "decimal": lambda node: Decimal(node["v"]),
    "complex": lambda node: complex(*map(_read_number, node["v"])),
    "range": lambda node: range(*map(_read_whole, node["v"])),
    "bytes": _read_base64,
    "bytearray": lambda node: bytearray(_read_base64(node)),
    "posixpath": _read_posix,
    "windowspath": _read_windows,
    "path": _read_here,
    "winpath": _read_there,
}
