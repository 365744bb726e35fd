"""The project directory: where it is, what `.nbflow/` in it holds, and its secret.

`.nbflow/` ignores itself for git. Nothing here starts a process or reads the settings.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nbflow.errors import NbflowError, SecretMissing

__all__ = ["FOLDER", "Project", "find_project", "write_privately"]

FOLDER = ".nbflow"
_MARKS = (FOLDER, "pyproject.toml", ".git")
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Project:
    """A project directory. `root` is absolute."""

    root: Path

    @property
    def folder(self) -> Path:
        """`.nbflow/`, whether it is there or not."""
        return self.root / FOLDER

    @property
    def stack_folder(self) -> Path:
        """Where the stack of this interpreter lies. Each environment has its own: what one pickles another may not open."""
        name = f"{sys.implementation.name}-{sys.version_info[0]}{sys.version_info[1]}"
        mark = hashlib.sha256(os.path.realpath(sys.prefix).encode()).hexdigest()[:8]
        return self.folder / f"{name}-{mark}"

    def make_folder(self) -> Path:
        """`.nbflow/`, there now, private, with the `.gitignore` by which it ignores itself."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            ignore = self.folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("# made by nbflow: state of this machine\n*\n", encoding="utf-8")
        except OSError as error:
            raise NbflowError(
                f"{self.folder} cannot be made ({error.strerror or error}).",
                hint="Make the project directory writable, set NBFLOW_PROJECT to another, or NBFLOW_REDIS_URL to a server.",
            ) from error
        return self.folder

    def make_stack_folder(self) -> Path:
        self.make_folder()
        self.stack_folder.mkdir(mode=0o700, exist_ok=True)
        return self.stack_folder

    def secret(self) -> bytes:
        """The secret of the embedded server, made at the first call. Two processes that make it at once get the same."""
        path = self.make_folder() / "secret"
        if not path.exists():
            _link_into_place(path, secrets.token_hex(_SECRET_BYTES))
        _insist_on_privacy(path)
        secret = path.read_bytes().strip()
        if len(secret) < _SECRET_BYTES:
            raise SecretMissing(f"{path} holds no secret.", hint="Delete the file; the next start makes a new one.")
        return secret


def find_project(start: Path | None = None) -> Project:
    """The project of a folder (default: the current one): the nearest folder upwards with `.nbflow/`, `pyproject.toml`
    or `.git`, else the folder itself."""
    here = (start or Path.cwd()).expanduser().resolve()
    marked = (folder for folder in (here, *here.parents) if any((folder / mark).exists() for mark in _MARKS))
    return Project(next(marked, here))


def write_privately(path: Path, text: str) -> None:
    """Put the text there for its owner only, in one step: a reader sees the old text or the new one."""
    temporary = _private_file(path, text)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _link_into_place(path: Path, text: str) -> None:
    """Put the text there unless something is there: of two writers the first one stays."""
    temporary = _private_file(path, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was first, and its secret is the secret
    except OSError:
        if not path.exists():  # a file system without hard links
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _private_file(path: Path, text: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mkstemp makes it 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _insist_on_privacy(path: Path) -> None:
    status = path.stat()
    if os.name != "posix":
        return
    if status.st_uid != os.geteuid():
        raise SecretMissing(f"{path} belongs to another user.", hint="Use a project directory of your own.")
    if status.st_mode & 0o077:
        path.chmod(0o600)
