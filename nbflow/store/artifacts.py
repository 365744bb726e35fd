"""Where the bytes of artifacts lie: up to 8 MiB in Redis, beyond that in a directory or an fsspec URL.

Content-addressed: a digest that is there is done. Bytes are verified against their digest when they are read, a mapped
file once a process. It calls a client it is given and translates none of that client's errors.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from nbflow.errors import ArtifactMissing, PayloadError
from nbflow.model.artifacts import Blob
from nbflow.store.shelves import Shelf, shelf_at, verified

__all__ = ["BlobCache", "RedisClient", "StoredArtifacts"]

_LIMIT = 8 * 1024 * 1024
_CACHE_BYTES = 256 * 1024 * 1024
_ASK_FIRST_ABOVE = 64 * 1024
"""A larger blob is not sent before asking whether it is there."""


class RedisClient(Protocol):
    """What is needed of redis-py's client, with answers as bytes."""

    def get(self, name: str, /) -> Any: ...
    def set(self, name: str, value: bytes, /) -> Any: ...
    def exists(self, *names: str) -> Any: ...
    def delete(self, *names: str) -> Any: ...


class Owning(Protocol):
    """Whoever is to own an artifact before its bytes are written (see `owners.py`)."""

    def own(self, digest: str, *blob: bytes) -> bool: ...
    def confirm(self, digest: str) -> None: ...


class StoredArtifacts:
    """The artifact store of a namespace. `key` spells the Redis key of a digest; `directory` is a directory or a URL
    that every worker reaches, or None: then nothing beyond `limit` bytes can be stored. `folder` names the namespace's
    own folder there, once it is needed: others may use the same place, and count for themselves."""

    def __init__(
        self,
        client: RedisClient,
        key: Callable[[str], str],
        directory: str | Path | None = None,
        *,
        folder: Callable[[], str] = lambda: "",
        limit: int = _LIMIT,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self._client = client
        self._key = key
        self._directory, self._folder = directory, folder
        if directory:
            shelf_at(directory)  # what is no place at all is refused now
        self._limit = limit
        self._cache = BlobCache(cache_bytes)

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        """Store the bytes. PayloadError if they are too many for Redis and there is nowhere else."""
        size = len(blob)
        if size > self._limit:
            self._place(size).put(digest, blob)
        elif size <= _ASK_FIRST_ABOVE or not self._client.exists(self._key(digest)):
            self._client.set(self._key(digest), bytes(blob))

    def put_owned(self, owner: Owning, digest: str, blob: Blob) -> None:
        """The same for an owner, which owns the digest before its bytes are written."""
        size = len(blob)
        if size > self._limit:
            place = self._place(size)
            owner.own(digest)
            place.put(digest, blob)
            owner.confirm(digest)
        elif size <= _ASK_FIRST_ABOVE or not owner.own(digest):
            owner.own(digest, bytes(blob))

    def get(self, digest: str) -> Blob:
        """The bytes, verified. ArtifactMissing if they are neither in Redis nor in the artifact store."""
        cached = self._cache.get(digest)
        if cached is not None:
            return cached
        raw: bytes | None = self._client.get(self._key(digest))
        if raw is not None:
            self._cache.put(digest, verified(digest, raw))
            return raw
        blob = self._shelf.get(digest) if self._shelf else None
        if blob is None:
            raise self._missing(digest)
        if isinstance(blob, bytes):  # a mapped file is the kernel's to cache, and each caller's own
            self._cache.put(digest, blob)
        return blob

    def delete(self, digest: str) -> None:
        """Remove the bytes wherever they lie; what is not there is no error."""
        self._cache.drop(digest)
        self._client.delete(self._key(digest))
        if self._shelf:
            self._shelf.delete(digest)

    # -- sweeping (see `dust.py`) -----------------------------------------------------------------------------------

    @property
    def has_place(self) -> bool:
        """Whether there is a directory or a URL beside the server."""
        return bool(self._directory)

    def set_aside(self, digest: str) -> None:
        """Give the bytes another name, under which only sweepers and a reader in need look."""
        self._cache.drop(digest)
        if self._shelf:
            self._shelf.set_aside(digest)

    def put_back(self, digest: str) -> None:
        """Somebody owns them after all."""
        if self._shelf:
            self._shelf.put_back(digest)

    def drop_aside(self, digest: str) -> None:
        """Nobody does: remove what was set aside, by whichever sweeper."""
        if self._shelf:
            self._shelf.drop_aside(digest)

    def strays(self, older_s: float) -> list[str]:
        """Artifacts beside the server that nobody has written lately. What a killed writer left half done is removed."""
        return self._shelf.strays(older_s) if self._shelf else []

    def size_of_place(self) -> tuple[int, int] | None:
        """How many artifacts lie beside the server, and how many bytes."""
        return self._shelf.size() if self._shelf else None

    @cached_property
    def _shelf(self) -> Shelf | None:
        return shelf_at(self._directory, self._folder()) if self._directory else None

    def _place(self, size: int) -> Shelf:
        if self._shelf is None:
            raise PayloadError(
                f"An artifact of {size / 1e6:.0f} MB is too large for Redis (limit {self._limit / 1e6:.0f} MB), and "
                "there is no artifact store.",
                hint="Set NBFLOW_ARTIFACTS to a directory or URL that every worker can reach.",
            )
        return self._shelf

    def _missing(self, digest: str) -> ArtifactMissing:
        where = f"nor in {self._shelf}" if self._shelf else "and NBFLOW_ARTIFACTS names no other place"
        return ArtifactMissing(
            f"The artifact {digest[:12]} is not in Redis {where}.",
            hint="Set NBFLOW_ARTIFACTS to the place that the worker wrote to, or run the step again.",
        )


class BlobCache:
    """Blobs by digest, the latest used kept, bounded in bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()  # a follower and the kernel read at once

    def get(self, digest: str) -> bytes | None:
        with self._lock:
            blob = self._blobs.get(digest)
            if blob is not None:
                self._blobs.move_to_end(digest)
            return blob

    def put(self, digest: str, blob: bytes) -> None:
        with self._lock:
            if len(blob) > self._most or digest in self._blobs:
                return
            self._blobs[digest] = blob
            self._bytes += len(blob)
            while self._bytes > self._most:
                self._bytes -= len(self._blobs.popitem(last=False)[1])

    def drop(self, digest: str) -> None:
        with self._lock:
            self._bytes -= len(self._blobs.pop(digest, b""))

    def __len__(self) -> int:
        return len(self._blobs)
