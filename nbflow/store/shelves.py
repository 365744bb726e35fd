"""Places for the bytes of artifacts beside the server: a directory, or a URL that fsspec knows.

A name is there with all its bytes or not at all. A sweeper sets a name aside before it decides (`dust.py`); a reader that
comes in between finds it there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

from nbflow.errors import NbflowError, SignatureMismatch, StoreError
from nbflow.model.artifacts import Blob, digest_of

__all__ = ["Directory", "Remote", "Shelf", "shelf_at", "verified"]

_ASIDE, _WRITING = ".dust-", ".writing-"


class Shelf(Protocol):
    """What both kinds do."""

    def put(self, digest: str, blob: Blob) -> None: ...
    def get(self, digest: str) -> Blob | None: ...
    def delete(self, digest: str) -> None: ...
    def set_aside(self, digest: str) -> None: ...
    def put_back(self, digest: str) -> None: ...
    def drop_aside(self, digest: str) -> None: ...
    def size(self) -> tuple[int, int]: ...
    def strays(self, older_s: float) -> list[str]: ...


class Directory:
    """A directory: `<2 digits>/<digest>`, written whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._verified: set[str] = set()

    def put(self, digest: str, blob: Blob) -> None:
        path = self._path(digest)
        try:
            if _size_of(path) == len(blob):
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, blob)
        except OSError as error:
            raise StoreError(
                f"The artifact store {self._root} cannot be written: {error}.",
                hint="Check that it exists, is writable and has room (NBFLOW_ARTIFACTS).",
            ) from error

    def _write(self, path: Path, blob: Blob) -> None:
        handle, spelled = tempfile.mkstemp(prefix=_WRITING, dir=path.parent)
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
            blob = self._map(digest)
        except OSError as error:
            raise StoreError(f"The artifact store {self._root} cannot be read: {error}.", hint="Check it.") from error
        if blob is not None and digest not in self._verified:
            verified(digest, blob)
            self._verified.add(digest)
        return blob

    def delete(self, digest: str) -> None:
        self._verified.discard(digest)
        self._path(digest).unlink(missing_ok=True)

    def set_aside(self, digest: str) -> None:
        path = self._path(digest)
        with contextlib.suppress(FileNotFoundError), self._translated():
            path.rename(path.parent / f"{_ASIDE}{digest}-{secrets.token_hex(6)}")

    def put_back(self, digest: str) -> None:
        for aside in self._aside(digest):
            with contextlib.suppress(FileNotFoundError), self._translated():  # another sweeper was faster
                aside.replace(self._path(digest))

    def drop_aside(self, digest: str) -> None:
        self._verified.discard(digest)
        for aside in self._aside(digest):
            with self._translated():
                aside.unlink(missing_ok=True)

    def size(self) -> tuple[int, int]:
        sizes = [size for path in self._root.glob("??/*") if (size := _size_of(path)) is not None]
        return len(sizes), sum(sizes)

    def strays(self, older_s: float) -> list[str]:
        found: list[str] = []
        for path in self._root.glob("??/*"):
            with contextlib.suppress(FileNotFoundError), self._translated():
                if time.time() - path.stat().st_mtime < older_s:
                    continue
                if path.name.startswith(_WRITING):
                    path.unlink(missing_ok=True)
                else:
                    found.append(path.name.removeprefix(_ASIDE).partition("-")[0])
        return found

    def _map(self, digest: str) -> Blob | None:
        for place in self._places(digest):
            with contextlib.suppress(FileNotFoundError), place.open("rb") as file:
                empty = os.fstat(file.fileno()).st_size == 0  # which cannot be mapped
                return b"" if empty else memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        return None

    def _places(self, digest: str) -> Iterator[Path]:
        """Where to look: it may be set aside, and put back, in between."""
        yield self._path(digest)
        yield from self._aside(digest)
        yield self._path(digest)

    def _aside(self, digest: str) -> Iterator[Path]:
        yield from self._path(digest).parent.glob(f"{_ASIDE}{digest}-*")

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"The artifact store {self._root} cannot be swept: {error}.", hint="Check it.") from error

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def __str__(self) -> str:
        return str(self._root)


class Remote:
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
        for place in self._places(digest):
            with contextlib.suppress(FileNotFoundError), self._translated():
                return verified(digest, self._system.cat_file(place))
        return None

    def delete(self, digest: str) -> None:
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(digest))

    def set_aside(self, digest: str) -> None:
        path = self._path(digest)
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self._system.mv(path, f"{path.rpartition('/')[0]}/{_ASIDE}{digest}-{secrets.token_hex(6)}")

    def put_back(self, digest: str) -> None:
        for aside in self._aside(digest):
            with self._translated(), contextlib.suppress(FileNotFoundError):
                self._system.mv(aside, self._path(digest))

    def drop_aside(self, digest: str) -> None:
        for aside in self._aside(digest):
            with self._translated(), contextlib.suppress(FileNotFoundError):
                self._system.rm_file(aside)

    def size(self) -> tuple[int, int]:
        with self._translated():
            found: dict[str, Any] = self._system.find(self._root, detail=True)
        return len(found), sum(int(entry.get("size") or 0) for entry in found.values())

    def _places(self, digest: str) -> Iterator[str]:
        """Where to look: it may be set aside, and put back, in between."""
        yield self._path(digest)
        yield from self._aside(digest)
        yield self._path(digest)

    def strays(self, older_s: float) -> list[str]:
        """None: a URL's own rules for what is old do better."""
        return []

    def _aside(self, digest: str) -> list[str]:
        with self._translated():
            self._system.invalidate_cache()
            return list(self._system.glob(f"{self._path(digest).rpartition('/')[0]}/{_ASIDE}{digest}-*"))

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


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _open_url(fsspec: Any, url: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise StoreError(
            f"The artifact store {url} cannot be opened: {error}.", hint="Check NBFLOW_ARTIFACTS."
        ) from error


def shelf_at(directory: str | Path, folder: str = "") -> Directory | Remote:
    """The place of that name, a directory or a URL, or a folder in it."""
    spelled = str(directory)
    if isinstance(directory, str) and "://" in spelled and not spelled.startswith("file://"):
        return Remote(f"{spelled.rstrip('/')}/{folder}" if folder else spelled)
    return Directory(Path(spelled.removeprefix("file://")).expanduser() / folder)


def verified(digest: str, blob: Any) -> Any:
    if digest_of(blob) != digest:
        raise SignatureMismatch(
            f"The artifact {digest[:12]} is not what was written: its bytes have changed.", hint="Run the step again."
        )
    return blob
