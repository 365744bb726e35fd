"""Where the bytes of artifacts lie: up to 8 MiB in Redis, beyond that in a directory or an fsspec URL.

Content-addressed: a digest that is there is done. Bytes are verified against their digest when they are read, a mapped
file once a process. It calls a client it is given and translates none of that client's errors.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from nbflow.errors import ArtifactMissing, NbflowError, PayloadError, SignatureMismatch, StoreError
from nbflow.model.artifacts import Blob, digest_of

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


class StoredArtifacts:
    """The artifact store of a namespace. `key` spells the Redis key of a digest; `directory` is a directory or a URL
    that every worker reaches, or None: then nothing beyond `limit` bytes can be stored."""

    def __init__(
        self,
        client: RedisClient,
        key: Callable[[str], str],
        directory: str | Path | None = None,
        *,
        limit: int = _LIMIT,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self._client = client
        self._key = key
        self._shelf = _shelf(directory)
        self._limit = limit
        self._cache = BlobCache(cache_bytes)

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        """Store the bytes. PayloadError if they are too many for Redis and there is nowhere else."""
        size = len(blob)
        if size > self._limit:
            self._place(size).put(digest, blob)
        elif size <= _ASK_FIRST_ABOVE or not self._client.exists(self._key(digest)):
            self._client.set(self._key(digest), bytes(blob))

    def get(self, digest: str) -> Blob:
        """The bytes, verified. ArtifactMissing if they are neither in Redis nor in the artifact store."""
        cached = self._cache.get(digest)
        if cached is not None:
            return cached
        raw: bytes | None = self._client.get(self._key(digest))
        if raw is not None:
            self._cache.put(digest, _verified(digest, raw))
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

    def _place(self, size: int) -> _Directory | _Remote:
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


class _Directory:
    """A directory: `<2 digits>/<digest>`, written whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._verified: set[str] = set()

    def put(self, digest: str, blob: Blob) -> None:
        path = self._path(digest)
        try:
            if path.exists() and path.stat().st_size == len(blob):
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, blob)
        except OSError as error:
            raise StoreError(
                f"The artifact store {self._root} cannot be written: {error}.",
                hint="Check that it exists, is writable and has room (NBFLOW_ARTIFACTS).",
            ) from error

    def _write(self, path: Path, blob: Blob) -> None:
        handle, spelled = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
        temporary = Path(spelled)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())  # a name that exists is taken for whole, after a crash too
            temporary.chmod(0o644)  # mkstemp's 0600 would shut out workers of another user
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def get(self, digest: str) -> Blob | None:
        """The file, mapped privately: the caller may write into it, and neither file nor other callers see it."""
        try:
            with self._path(digest).open("rb") as file:
                empty = os.fstat(file.fileno()).st_size == 0  # which cannot be mapped
                blob = b"" if empty else memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"The artifact store {self._root} cannot be read: {error}.", hint="Check it.") from error
        if digest not in self._verified:
            _verified(digest, blob)
            self._verified.add(digest)
        return blob

    def delete(self, digest: str) -> None:
        self._verified.discard(digest)
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def __str__(self) -> str:
        return str(self._root)


class _Remote:
    """A place that fsspec knows: a bucket, a server. Writing one object is whole or not at all there."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec  # pyright: ignore[reportMissingTypeStubs] # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise StoreError(f"The artifact store {url} needs fsspec.", hint="Install nbflow[fsspec].") from error
        self._url = url
        system, root = _open_url(fsspec, url)
        self._system: Any = system
        self._root: str = root

    def put(self, digest: str, blob: Blob) -> None:
        path = self._path(digest)
        with self._translated():
            if not self._system.exists(path):
                self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._system.pipe_file(path, bytes(blob))

    def get(self, digest: str) -> Blob | None:
        try:
            with self._translated():
                return _verified(digest, self._system.cat_file(self._path(digest)))
        except FileNotFoundError:
            return None

    def delete(self, digest: str) -> None:
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(digest))

    @contextlib.contextmanager
    def _translated(self) -> Any:
        try:
            yield
        except (FileNotFoundError, NbflowError):
            raise
        except Exception as error:  # each file system has its own
            raise StoreError(f"The artifact store {self._url} does not answer: {error}.", hint="Check it.") from error

    def _path(self, digest: str) -> str:
        return f"{self._root.rstrip('/')}/{digest[:2]}/{digest}"

    def __str__(self) -> str:
        return self._url


def _open_url(fsspec: Any, url: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise StoreError(
            f"The artifact store {url} cannot be opened: {error}.", hint="Check NBFLOW_ARTIFACTS."
        ) from error


def _shelf(directory: str | Path | None) -> _Directory | _Remote | None:
    if directory is None or directory == "":
        return None
    spelled = str(directory)
    if isinstance(directory, str) and "://" in spelled and not spelled.startswith("file://"):
        return _Remote(spelled)
    return _Directory(Path(spelled.removeprefix("file://")).expanduser())


def _verified(digest: str, blob: Any) -> Any:
    if digest_of(blob) != digest:
        raise SignatureMismatch(
            f"The artifact {digest[:12]} is not what was written: its bytes have changed.", hint="Run the step again."
        )
    return blob
