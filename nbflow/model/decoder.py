"""The walk that reads a value from JSON: the payload law from the receiver's side. It imports nothing that data names."""

# The types of users' values are unknown here by their nature.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import base64
import json
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, NoReturn

from nbflow.errors import ArtifactMissing, NbflowError, PayloadError, nearest
from nbflow.model import foreign
from nbflow.model.artifacts import ArtifactStore, Blob, Unopened
from nbflow.model.records import read_record
from nbflow.model.scalars import READERS, Node
from nbflow.model.signing import Signer
from nbflow.model.types import TypeTable

__all__ = ["Decoder", "from_json"]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


from_json: Callable[[str], Any] = json.JSONDecoder(parse_constant=_refuse_constant).decode


class Decoder:
    """Reads trees. A part that must not, or cannot, be opened here becomes `Unopened`, if this reader is a view."""

    def __init__(
        self, types: TypeTable, signer: Signer | None, artifacts: ArtifactStore | None, open_pickles: bool
    ) -> None:
        self._types = types
        self._signer = signer
        self._artifacts = artifacts
        self._open_pickles = open_pickles

    def value(self, tree: Any) -> Any:
        """The value of a tree. PayloadError if it is not what an encoder writes."""
        try:
            return self.revive(tree)
        except NbflowError:
            raise
        except Exception as error:  # a damaged payload fails in as many ways as there are types
            raise PayloadError(
                f"A payload is damaged: {type(error).__name__}: {str(error)[:200]}.", hint="Run the step again."
            ) from error

    def revive(self, node: Any) -> Any:
        kind: Any = type(node)
        if kind is list:
            return [self.revive(item) for item in node]
        if kind is not dict:
            return node
        if "$t" in node:
            return self._tagged(node)
        if "$ref" in node:
            return self._artifact(node)
        return {key: self.revive(item) for key, item in node.items()}

    def _tagged(self, node: Node) -> Any:
        tag = node["$t"]
        if tag in READERS:
            return READERS[tag](node)
        if tag in _CONTAINERS:
            return _CONTAINERS[tag](self, node)
        if tag in ("enum", "named", "data", "model"):
            return self._record(tag, node)
        if tag in foreign.TAGS:
            return foreign.read_scalar(tag, node, self.revive)
        if tag == "tensor":
            return foreign.unpack("tensor", base64.b64decode(node["v"], validate=True))
        if tag == "more":
            return Unopened("more", str(node.get("of", "")), _size(node.get("n")))
        raise PayloadError(
            f"A payload has a value of the unknown kind {tag!r}.", hint="Use the newest nbflow here too."
        )

    def _record(self, tag: str, node: Node) -> Any:
        label = str(node["type"])
        kind = self._types.get(label)
        if kind is not None:
            return read_record(tag, node, kind, self.revive)
        if not self._open_pickles:
            return Unopened(tag, label, content=self.revive(node.get("v", node.get("bits"))))
        raise PayloadError(
            f"A payload holds a `{label}`, which is not part of the flow's code here.",
            hint=nearest(label, self._types.labels()) or "Start the run anew with the flow as it is now.",
        )

    def _artifact(self, ref: Node) -> Any:
        kind = ref["kind"]
        if kind == "pickle" and not self._open_pickles:
            return Unopened("pickle", str(ref.get("type", "")), _size(ref.get("bytes")))
        return _OPENERS[kind](self, self._blob(str(ref["$ref"])))

    def _blob(self, digest: str) -> Blob:
        if self._artifacts is None:
            raise ArtifactMissing(f"There is no artifact store to read {digest[:12]} from.", hint="Give the codec one.")
        return self._artifacts.get(digest)

    def _unpickle(self, blob: Blob) -> Any:
        from nbflow.model import pickles  # noqa: PLC0415 - cloudpickle is loaded by who needs it

        return pickles.unpack(blob, self._types, self._signer)

    def _items(self, node: Node) -> list[Any]:
        return [self.revive(item) for item in node["v"]]

    def _pairs(self, node: Node) -> list[tuple[Any, Any]]:
        return [(self.revive(key), self.revive(item)) for key, item in node["v"]]


def _size(said: Any) -> int | None:
    return said if isinstance(said, int) else None


# ruff: noqa: SLF001 - the tables are the class's own
# pyright: reportPrivateUsage=false
_CONTAINERS: dict[str, Callable[[Decoder, Node], Any]] = {
    "tuple": lambda decoder, node: tuple(decoder._items(node)),
    "set": lambda decoder, node: set(decoder._items(node)),
    "frozenset": lambda decoder, node: frozenset(decoder._items(node)),
    "dict": lambda decoder, node: dict(decoder._pairs(node)),
    "counter": lambda decoder, node: Counter(dict(decoder._pairs(node))),
    "ordered": lambda decoder, node: OrderedDict(decoder._pairs(node)),
    "deque": lambda decoder, node: deque(decoder._items(node), node["maxlen"]),
    "slice": lambda decoder, node: slice(*decoder._items(node)),
}

_OPENERS: dict[str, Callable[[Decoder, Blob], Any]] = {
    "json": lambda decoder, blob: decoder.revive(from_json(str(blob, "utf-8"))),
    "bytes": lambda _, blob: bytes(blob),
    "pickle": lambda decoder, blob: decoder._unpickle(blob),
    "arrow": lambda _, blob: foreign.unpack("arrow", blob),
    "tensor": lambda _, blob: foreign.unpack("tensor", blob),
}
