"""What the keeper writes down about its stack, the locks that say whether it lives, and how to know a process again.

A pid alone names nobody: after a crash it may be another process's. A lock ends with the process that holds it, so it
is the truth; the record only says how to reach what the lock proves.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nbflow.local.project import write_privately

if sys.platform != "win32":
    import fcntl

__all__ = ["Lock", "Record", "StackFiles", "birth_of", "is_alive"]


@dataclass(frozen=True, slots=True)
class StackFiles:
    """The files of one stack's folder."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "keeper.json"

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper for its life."""
        return self.folder / "keeper.lock"

    @property
    def server_lock(self) -> Path:
        """Held by the server itself for its life: two servers must never write one append-only file."""
        return self.folder / "server.lock"

    @property
    def starter_lock(self) -> Path:
        """Held by who starts a keeper, until it is ready."""
        return self.folder / "starter.lock"

    @property
    def wish(self) -> Path:
        """How many workers there should be, for the keeper to read at SIGHUP."""
        return self.folder / "workers"

    @property
    def keeper_log(self) -> Path:
        return self.folder / "keeper.log"

    @property
    def server_log(self) -> Path:
        return self.folder / "server.log"

    @property
    def workers_log(self) -> Path:
        return self.folder / "workers.log"


@dataclass(frozen=True, slots=True)
class Record:
    """What a keeper says about its stack. `started` is in seconds since 1970, `trouble` a sentence or nothing. One that is
    `ending` must not be used any more."""

    pid: int
    birth: str
    url: str
    socket: str
    started: float
    workers: int
    server_pid: int
    supervisor_pid: int = 0
    trouble: str = ""
    host: str = ""
    ending: bool = False

    def write(self, path: Path) -> None:
        write_privately(path, json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> Record | None:
        """The record, or None when there is none that can be read."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return Record(**{field.name: raw[field.name] for field in fields(Record)})
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Lock:
    """An exclusive lock on a file, held until `release` or the end of all processes that hold its descriptor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Whether the lock is ours now; waits for it at most so long."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + timeout_s
        while not _try_lock(descriptor):
            if time.monotonic() >= end:
                os.close(descriptor)
                return False
            time.sleep(0.01)
        self._descriptor = descriptor
        return True

    @property
    def descriptor(self) -> int:
        return self._descriptor

    @property
    def is_in_place(self) -> bool:
        """Whether the locked file is still the one at its path; not so when somebody deleted the folder."""
        try:
            there = self.path.stat()
        except OSError:
            return False
        held = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def birth_of(pid: int) -> str:
    """A text that no later process of the same pid has; empty when there is no such process or only its remains."""
    if sys.platform == "linux":
        return _birth_on_linux(pid)
    words = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    out = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split(maxsplit=1)
    return "" if len(out) < 2 or out[0].startswith("Z") else out[1].strip()


def is_alive(pid: int, birth: str) -> bool:
    return bool(birth) and birth_of(pid) == birth


def _birth_on_linux(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    rest = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return "" if rest[0] in ("Z", "X") else f"{boot[:8]}-{rest[19]}"


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True  # nothing is started there
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
