"""The law for instances of known classes: dataclasses, pydantic models, named tuples and enum members, field by field.

A class counts only if the type table has it, and an instance only if its fields are all there is to it: whatever has
more state, or its own idea of pickling, is refused here (None) and travels as a pickle. Restoring runs no `__init__`.
"""

# The types of users' values are unknown here by their nature.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from enum import Enum, Flag
from types import MemberDescriptorType
from typing import Any

from nbflow.model.scalars import Node, text

__all__ = ["Walk", "read_record", "write_record"]

Walk = Callable[[Any, str], Any]
"""Writes the value of a field, which it is given with its name."""

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a `class` statement


def write_record(value: Any, label: str, walk: Walk) -> Node | None:
    """The node of an instance whose class has this label, or None if fields alone cannot say what it is."""
    kind: Any = type(value)
    if issubclass(kind, Enum):
        return _write_member(value, label)
    if not _pickles_plainly(kind):
        return None
    if issubclass(kind, tuple):
        return _write_named(value, label, walk)
    if dataclasses.is_dataclass(kind):
        return _write_dataclass(value, label, walk)
    return None


def read_record(tag: str, node: Node, kind: type[Any], revive: Callable[[Any], Any]) -> Any:
    """The instance that a node tells of. Raises TypeError if the class is of another sort than the node says."""
    reader, fits = _READERS[tag]
    if not fits(kind):
        raise TypeError(f"{kind.__qualname__} is no {tag}")
    return reader(node, kind, revive)


def _pickles_plainly(kind: type[Any]) -> bool:
    model = _base_model()
    if model is not None and issubclass(kind, model):
        return False
    state = getattr(kind, "__getstate__", None)
    own = state is not getattr(object, "__getstate__", None) and getattr(state, "__module__", "") != "dataclasses"
    return kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__ and not own


# Enum members


def _write_member(value: Enum, label: str) -> Node | None:
    kind: Any = type(value)
    name = value._name_
    if name is not None and kind.__members__.get(name) is value:  # pyright: ignore[reportUnnecessaryComparison]
        return {"$t": "enum", "type": label, "v": name}
    bits = value._value_
    if isinstance(value, Flag) and type(bits) is int and kind(bits) == value:
        return {"$t": "enum", "type": label, "bits": bits}
    return None


def _read_member(node: Node, kind: type[Any], revive: Callable[[Any], Any]) -> Any:
    return kind(node["bits"]) if "bits" in node else kind.__members__[node["v"]]


# Named tuples


def _write_named(value: Any, label: str, walk: Walk) -> Node | None:
    names = getattr(value, "_fields", None)
    if not isinstance(names, tuple) or len(names) != len(value) or getattr(value, "__dict__", None):
        return None
    fields = zip(names, tuple.__iter__(value), strict=True)
    return {"$t": "named", "type": label, "v": {name: walk(item, name) for name, item in fields}}


def _read_named(node: Node, kind: type[Any], revive: Callable[[Any], Any]) -> Any:
    fields = node["v"]
    return tuple.__new__(kind, [revive(fields[name]) for name in kind._fields])


# Dataclasses


def _write_dataclass(value: Any, label: str, walk: Walk) -> Node | None:
    kind: Any = type(value)
    if kind.__new__ is not object.__new__ or not all(base.__flags__ & _HEAP_TYPE for base in kind.__mro__[:-1]):
        return None
    names = {field.name for field in dataclasses.fields(kind)}
    state = _state(value)
    if state is None or not names.issuperset(state) or any(_is_computed(kind, name) for name in state):
        return None
    return {"$t": "data", "type": label, "v": {name: walk(item, name) for name, item in state.items()}}


def _state(value: Any) -> dict[str, Any] | None:
    """All that the instance holds, of `__dict__` and of slots; None if it is of another shape."""
    state: Any = object.__getstate__(value)  # 3.11: the C function, whatever the class says
    if state is None:
        return {}
    if isinstance(state, dict):
        return state  # pyright: ignore[reportUnknownVariableType]
    plain, slots = state
    return {**(plain or {}), **slots}


def _is_computed(kind: type[Any], name: str) -> bool:
    found = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
    return hasattr(type(found), "__set__") and not isinstance(found, MemberDescriptorType)


def _read_dataclass(node: Node, kind: type[Any], revive: Callable[[Any], Any]) -> Any:
    names = {field.name for field in dataclasses.fields(kind)}
    value = object.__new__(kind)
    for name, item in node["v"].items():
        if name not in names or _is_computed(kind, name):
            raise TypeError(f"{kind.__qualname__} has no field {name}")
        object.__setattr__(value, name, revive(item))  # frozen ones too, and no __setattr__ of the class
    return value


# pydantic models


def write_model(value: Any, label: str, walk: Walk) -> Node | None:
    """As `write_record`, for a pydantic model: its fields, which of them were set, extras and private attributes."""
    kind: Any = type(value)
    model = _base_model()
    if model is None or not isinstance(value, model) or not _is_plain_model(kind, model):
        return None
    state = model.__getstate__(value)
    fields: dict[str, Any] = state["__dict__"]
    if not fields.keys() <= kind.model_fields.keys():
        return None  # a cached property, which only a pickle keeps
    node: Node = {"$t": "model", "type": label, "v": {name: walk(item, name) for name, item in fields.items()}}
    node["set"] = sorted(state["__pydantic_fields_set__"])
    for key, part in (("extra", "__pydantic_extra__"), ("private", "__pydantic_private__")):
        if state[part] is not None:
            node[key] = [[text(name), walk(item, name)] for name, item in state[part].items()]
    return node


def _is_plain_model(kind: type[Any], model: Any) -> bool:
    names = ("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__new__")
    return all(getattr(kind, name) is getattr(model, name) for name in names)


def _read_model(node: Node, kind: type[Any], revive: Callable[[Any], Any]) -> Any:
    if not node["v"].keys() <= kind.model_fields.keys():
        raise TypeError(f"{kind.__qualname__} has other fields")

    def pairs(key: str) -> dict[str, Any] | None:
        return {revive(name): revive(item) for name, item in node[key]} if key in node else None

    value: Any = object.__new__(kind)
    state = {"__dict__": {name: revive(item) for name, item in node["v"].items()}}
    state |= {"__pydantic_extra__": pairs("extra"), "__pydantic_private__": pairs("private")}
    state["__pydantic_fields_set__"] = set(node["set"])  # pyright: ignore[reportArgumentType]
    _base_model().__setstate__(value, state)
    return value


def _base_model() -> Any:
    """The BaseModel of pydantic, if pydantic was imported: without it no value can be one."""
    return getattr(sys.modules.get("pydantic.main"), "BaseModel", None)


def _is_model(kind: type[Any]) -> bool:
    model = _base_model()
    return model is not None and issubclass(kind, model)


_READERS: dict[str, tuple[Callable[[Node, type[Any], Callable[[Any], Any]], Any], Callable[[type[Any]], bool]]] = {
    "enum": (_read_member, lambda kind: issubclass(kind, Enum)),
    "named": (_read_named, lambda kind: issubclass(kind, tuple) and hasattr(kind, "_fields")),
    "data": (_read_dataclass, dataclasses.is_dataclass),
    "model": (_read_model, _is_model),
}
