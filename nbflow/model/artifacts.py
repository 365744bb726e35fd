"""What a payload refers to instead of holding it: the store's protocol, the reference, and what a view shows of it.

An artifact is bytes named by their digest. This module knows nothing of Redis, directories, frames or pickles.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from nbflow.errors import ArtifactMissing, PayloadError

__all__ = [
    "ArtifactStore",
    "Blob",
    "MemoryArtifacts",
    "Refused",
    "StagedArtifacts",
    "Unopened",
    "artifacts_of",
    "digest_of",
    "references",
]

Blob = bytes | bytearray | memoryview

# Within a string the quotes would be escaped, and a user's key that begins with $ is not written as a key.
_REFERENCE = re.compile(r'"\$ref":"([0-9a-f]{32})"')
_OF_KIND = re.compile(r'"\$ref":"([0-9a-f]{32})","kind":"(\w+)"')


class ArtifactStore(Protocol):
    """Where artifacts lie. A digest that is there already need not be written again."""

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        """Store the bytes. `ref` is the reference as it stands in the payload, for those who count or list."""
        ...

    def get(self, digest: str) -> Blob:
        """The bytes, verified. A writable memoryview is the caller's own: writing into it harms nobody.
        ArtifactMissing if they are not there."""
        ...


class MemoryArtifacts:
    """An artifact store in a dict, for one process: in-process runs and tests."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.refs: dict[str, dict[str, Any]] = {}

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        self.blobs.setdefault(digest, bytes(blob))
        self.refs.setdefault(digest, ref)

    def get(self, digest: str) -> Blob:
        try:
            return self.blobs[digest]
        except KeyError:
            raise ArtifactMissing(
                f"The artifact {digest[:12]} is not in this process.", hint="Read it in the process that made it."
            ) from None


class StagedArtifacts:
    """Keeps what is put until `flush`, so that a value of which another part cannot travel leaves nothing behind."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._waiting: dict[str, tuple[Blob, dict[str, Any]]] = {}

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(len(blob) for blob, _ in self._waiting.values())

    @property
    def digests(self) -> list[str]:
        return list(self._waiting)

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        self._waiting.setdefault(digest, (blob, ref))

    def get(self, digest: str) -> Blob:
        return self._waiting[digest][0] if digest in self._waiting else self._store.get(digest)

    def flush(self, through: Callable[[ArtifactStore], ArtifactStore] = lambda store: store) -> None:
        """Put what waits into the store, or through something before it."""
        store = through(self._store)
        for digest, (blob, ref) in self._waiting.items():
            store.put(digest, blob, ref)
        self._waiting.clear()


class Refused(Exception):
    """A value cannot travel; the codec makes a PayloadError of it. On its way up each container adds its piece of the path, the innermost first."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.path: list[str] = []

    def as_payload_error(self, name: str) -> PayloadError:
        place = name + "".join(reversed(self.path))
        return PayloadError(f"`{place}` {self.reason}.", hint=self.hint)


@dataclass(frozen=True, slots=True, eq=False)
class Unopened:
    """What stands for a part of a payload that is not opened here: a pickle in a view, an object whose class is not
    known, the rest of a preview. `content` holds the fields of an object that was written by fields."""

    kind: str
    label: str = ""
    size: int | None = None
    content: Any = field(default=None, repr=False)

    def __repr__(self) -> str:
        size = "" if self.size is None else f", {self.size:,} {'more' if self.kind == 'more' else 'bytes'}"
        return f"<{self.kind} {self.label or '…'}{size}, not opened here>"


def digest_of(blob: Blob) -> str:
    """The name of the bytes: the first 32 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(blob).hexdigest()[:32]


def references(text: str) -> set[str]:
    """The digests that a payload's text refers to. Those inside an artifact of kind "json" are in that one's text."""
    return set(_REFERENCE.findall(text))


def artifacts_of(texts: Iterable[str], get: Callable[[str], Blob]) -> set[str]:
    """The digests of all artifacts that payloads refer to, also of those that only an artifact of kind "json" names."""
    found: set[str] = set()
    front = [pair for text in texts for pair in _OF_KIND.findall(text)]
    while front:
        digest, kind = front.pop()
        if digest not in found:
            found.add(digest)
            if kind == "json":
                front += _OF_KIND.findall(bytes(get(digest)).decode("utf-8", "replace"))
    return found
