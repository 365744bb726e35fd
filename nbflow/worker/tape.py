"""What a task writes, in the order it wrote it: one anonymous file that stands behind file descriptors 1 and 2.

C libraries and subprocesses write plain lines. Python's `print`, `logging`, warnings, progress and metrics write
records: a line of RECORD and a JSON list `[type, data]`. A write to a file never waits for a reader, and what was
written outlives a killed worker: the supervisor holds the same file and reads the rest. Only standard library here.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, cast

from nbflow.worker.slots import anonymous_file

__all__ = ["MAX_TAPE_BYTES", "Tape", "entries"]

RECORD = "\x1e"
MAX_LINE = 8192
MAX_LINES = 2000
MAX_TAPE_BYTES = 64 << 20
"""Of one task; what comes after is dropped and said."""

PAGE = 4096
_PUNCH_HOLE = 0x02 | 0x01  # of linux/falloc.h: punch a hole and keep the size
_fallocate: Any = ctypes.CDLL(None).fallocate if sys.platform == "linux" else None

Entry = tuple[str, dict[str, Any]]


class Tape:
    """The file. Offsets are bytes since the task began."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = anonymous_file("nbflow-tape") if fd is None else fd
        fcntl.fcntl(self.fd, fcntl.F_SETFL, fcntl.fcntl(self.fd, fcntl.F_GETFL) | os.O_APPEND)

    def record(self, kind: str, data: dict[str, Any]) -> None:
        if self.size() < MAX_TAPE_BYTES:
            os.write(self.fd, f"{RECORD}{json.dumps([kind, data], default=str)}\n".encode("utf-8", "replace"))

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def read(self, start: int, end: int) -> bytes:
        return os.pread(self.fd, end - start, start)

    def clear(self) -> None:
        os.ftruncate(self.fd, 0)

    def forget(self, start: int, end: int) -> None:
        """The bytes are in Redis: give their memory back. Offsets stay as they are."""
        if _fallocate is not None and end - start >= PAGE:
            _fallocate(self.fd, _PUNCH_HOLE, ctypes.c_int64(start), ctypes.c_int64(end - start))


def entries(raw: bytes, *, final: bool) -> tuple[list[Entry], int]:
    """The first whole lines of a piece of tape (at most MAX_LINES) as (type, data), and how many bytes they took.
    `final`: the last line has no end and is taken too."""
    found: list[Entry] = []
    at = 0
    for _ in range(MAX_LINES):
        end = raw.find(b"\n", at)
        if end < 0 and not (final and at < len(raw)):
            break
        stop = end if end >= 0 else len(raw)
        found += _line(raw[at:stop].decode("utf-8", "replace"))
        at = min(stop + 1, len(raw))
    return found, at


def _line(line: str) -> Iterator[Entry]:
    plain, mark, record = line.partition(RECORD)
    plain = plain.rsplit("\r", 1)[-1] if not plain.endswith("\r") else plain.rstrip("\r").rsplit("\r", 1)[-1]
    if plain:
        yield "log", {"level": "info", "message": plain[:MAX_LINE], "source": "output"}
    if mark:
        yield _record(record)


def _record(text: str) -> Entry:
    try:
        kind, data = json.loads(text)
        if isinstance(kind, str) and isinstance(data, dict):
            return kind, cast("dict[str, Any]", data)
    except ValueError:
        pass
    return "log", {"level": "info", "message": text[:MAX_LINE], "source": "output"}
