"""The walk that writes a value as JSON: the payload law from the sender's side.

`is_plain` is the short way: what JSON holds as it is, is not walked twice. Everything else becomes tagged nodes
`{"$t": tag, "v": …}` and references `{"$ref": digest, …}`. A dict whose keys JSON cannot hold, or could take for one of
these, is written as pairs.
"""

# The types of users' values are unknown here by their nature.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import base64
import json
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

from nbflow.model import foreign, veil
from nbflow.model.artifacts import ArtifactStore, Blob, Refused, digest_of
from nbflow.model.records import write_model, write_record
from nbflow.model.scalars import LARGEST_PLAIN_INT, WRITERS, Node, is_unicode, number, text, whole
from nbflow.model.signing import Signer
from nbflow.model.types import TypeTable

__all__ = ["DEEPEST", "LARGEST_INLINE", "Encoder", "is_plain", "secret_in", "to_json"]

DEEPEST = 100
"""Levels of containers. JSON nests up to three times as deep, and every reader must be able to follow."""

LARGEST_INLINE = 1024
"""Bytes, and arrays, up to this size stand in the text itself."""

to_json: Callable[[Any], str] = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode


def is_plain(value: Any, depth: int = DEEPEST) -> bool:
    """Whether JSON holds the value as it is. NaN, lone surrogates and keys with `$` are left for the text to show."""
    kind: Any = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    elif kind is list:
        items = value
    elif kind is int:
        return -LARGEST_PLAIN_INT <= value <= LARGEST_PLAIN_INT
    else:
        return kind is str or kind is float or kind is bool or value is None
    if depth <= 0:
        return False
    for item in items:
        kind: Any = type(item)
        if kind is str or kind is float or kind is bool or item is None:
            continue
        if not is_plain(item, depth - 1):
            return False
    return True


def secret_in(name: str) -> tuple[str, str]:
    """What is said of a payload that holds a secret's value: it cannot be masked there, as what is received is what was sent."""
    return f"holds the value of the secret {name!r}", f"Send Secret({name!r}) itself; who receives it calls .get()."


class Encoder:
    """One encoding. It keeps the containers that are open on the way down, to find a cycle."""

    def __init__(self, types: TypeTable, signer: Signer | None, artifacts: ArtifactStore | None) -> None:
        self._types = types
        self._signer = signer
        self._artifacts = artifacts
        self._open: set[int] = set()

    def tree(self, value: Any) -> Any:
        """The value as what `json` writes exactly. Refused, with the path so far, if some part cannot travel."""
        kind: Any = type(value)
        if kind is str:
            return text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return whole(value)
        if kind is float:
            return number(value)
        container = _CONTAINERS.get(kind)
        if container is not None:
            return self._within(value, container)
        if kind in WRITERS:
            return self._scalar(value, kind)
        return self._instance(value, kind)

    def refer(self, kind: str, blob: Blob, said: dict[str, Any]) -> Node:
        """Put the bytes and return the reference."""
        if self._artifacts is None:
            raise Refused(f"is kept as an artifact ({kind}), and there is no artifact store", "Give the codec one.")
        if veil.known and (found := veil.found_in(blob)) is not None:
            raise Refused(*secret_in(found))
        digest = digest_of(blob)
        ref: Node = {"$ref": digest, "kind": kind, **said, "bytes": len(blob)}
        self._artifacts.put(digest, blob, ref)
        return ref

    def _part(self, value: Any, spell: Callable[[Any], str], place: Any) -> Any:
        """A part of a container. Its piece of the path is spelled only if it is needed: a key's repr may be dear."""
        try:
            return self.tree(value)
        except Refused as refused:
            refused.path.append(spell(place))
            raise

    def _field(self, value: Any, name: str) -> Any:
        return self._part(value, ".{}".format, name)

    def _within(self, value: Any, write: Callable[[Encoder, Any], Any]) -> Any:
        mark = id(value)
        if mark in self._open:
            raise Refused("contains itself", "Return a value without cycles; refer to parts by a key.")
        if len(self._open) >= DEEPEST:
            raise Refused(f"is nested deeper than {DEEPEST} levels", "Return a flatter value.")
        self._open.add(mark)
        try:
            return write(self, value)
        finally:
            self._open.discard(mark)

    def _scalar(self, value: Any, kind: type) -> Node:
        if kind is bytes and len(value) > LARGEST_INLINE and self._artifacts is not None:
            return self.refer("bytes", value, {})
        return WRITERS[kind](value) or self._pickle(value)

    def _instance(self, value: Any, kind: type) -> Any:
        label = self._types.label(kind)
        if label is not None:
            node = self._within(value, lambda _, item: self._record(item, label))
            if node is not None:
                return node
        elif foreign.root_of(kind) in foreign.ROOTS:
            node = self._foreign(value)
            if node is not None:
                return node
        return self._pickle(value)

    def _record(self, value: Any, label: str) -> Node | None:
        return write_record(value, label, self._field) or write_model(value, label, self._field)

    def _foreign(self, value: Any) -> Node | None:
        node = foreign.write_scalar(value)
        if node is not None:
            return node
        packed = foreign.pack(value)
        if packed is None:
            return None
        kind, blob, said = packed
        if kind == "tensor" and len(blob) <= LARGEST_INLINE:
            return {"$t": "tensor", **said, "v": base64.b64encode(blob).decode()}
        return self.refer(kind, blob, said)

    def _pickle(self, value: Any) -> Node:
        from nbflow.model import pickles  # noqa: PLC0415 - cloudpickle is loaded by who needs it

        return self.refer("pickle", pickles.pack(value, self._types, self._signer), {"type": pickles.type_name(value)})

    def _items(self, values: Any) -> list[Any]:
        return [self._part(item, _AT, i) for i, item in enumerate(values)]

    def _dict(self, value: dict[Any, Any]) -> Any:
        if all(type(key) is str and key[:1] != "$" and is_unicode(key) for key in value):
            return {key: self._part(item, _at_key, key) for key, item in value.items()}
        return {"$t": "dict", "v": self._pairs(value)}

    def _pairs(self, value: Any) -> list[Any]:
        return [
            [self._part(key, _AT_KEYS, i), self._part(item, _at_key, key)]
            for i, (key, item) in enumerate(value.items())
        ]

    def _set(self, value: Any, tag: str) -> Node:
        # sorted: the order of a set differs between processes, and equal inputs must have equal texts
        return {"$t": tag, "v": sorted((self._part(item, _AT, "…") for item in value), key=to_json)}

    def _mapping(self, value: Any, tag: str) -> Node:
        return self._pickle(value) if vars(value) else {"$t": tag, "v": self._pairs(value)}

    def _deque(self, value: Any) -> Node:
        return {"$t": "deque", "v": self._items(value), "maxlen": value.maxlen}

    def _slice(self, value: slice) -> Node:
        return {"$t": "slice", "v": self._items((value.start, value.stop, value.step))}


# ruff: noqa: SLF001 - the table is the class's own
# pyright: reportPrivateUsage=false
_AT = "[{}]".format
_AT_KEYS = ".keys()[{}]".format

_CONTAINERS: dict[type, Callable[[Encoder, Any], Any]] = {
    dict: Encoder._dict,
    list: Encoder._items,
    tuple: lambda encoder, value: {"$t": "tuple", "v": encoder._items(value)},
    set: lambda encoder, value: encoder._set(value, "set"),
    frozenset: lambda encoder, value: encoder._set(value, "frozenset"),
    deque: Encoder._deque,
    slice: Encoder._slice,
    Counter: lambda encoder, value: encoder._mapping(value, "counter"),
    OrderedDict: lambda encoder, value: encoder._mapping(value, "ordered"),
}


def _at_key(key: Any) -> str:
    try:
        spelled = repr(key)
    except Exception:  # noqa: BLE001 - a user's repr, or an integer of too many digits: the error is another one
        spelled = f"<{type(key).__name__}>"
    return f"[{spelled if len(spelled) <= 80 else spelled[:79] + '…'}]"
