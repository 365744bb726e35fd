"""What a task writes, in the order it wrote it: one anonymous file that stands behind file descriptors 1 and 2.

C libraries and subprocesses write plain lines. Python's `print`, `logging`, warnings, progress and metrics write
records: a line of the tape's mark and a JSON list `[type, data]`. The mark is random and only the worker and its
supervisor know it, so that what a step prints is text, whatever it looks like. A write to a file never waits for a
reader, and what was written outlives a killed worker: the supervisor holds the same file and reads the rest. Only
standard library here.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn, cast

from nbflow.model import veil
from nbflow.worker.records import KINDS, MAX_MESSAGE, record_text
from nbflow.worker.slots import anonymous_file

__all__ = ["MAX_LINES", "MAX_TAPE_BYTES", "Entry", "Tape", "cut", "entries"]

RECORD = b"\x1e"
MAX_LINES = 2000
MAX_TAPE_BYTES = 64 << 20
"""Of one task; what comes after is dropped and said."""

PAGE = 4096
_TOKEN = 16
_PUNCH_HOLE = 0x02 | 0x01  # of linux/falloc.h: punch a hole and keep the size
_fallocate: Any = ctypes.CDLL(None).fallocate if sys.platform == "linux" else None

Entry = tuple[str, dict[str, Any]]


class Tape:
    """The file. Offsets are bytes since the task began. With `fd`, the tape that another process made for this one; `mark` is
    its mark, else that lies in it."""

    def __init__(self, fd: int | None = None, mark: bytes = b"") -> None:
        self.fd = anonymous_file("nbflow-tape") if fd is None else fd
        fcntl.fcntl(self.fd, fcntl.F_SETFL, fcntl.fcntl(self.fd, fcntl.F_GETFL) | os.O_APPEND)
        self.mark = mark or RECORD + (os.urandom(_TOKEN // 2).hex().encode() if fd is None else self._told())

    def tell_mark(self) -> None:
        """For the process that gets this tape: the mark is the first that lies in it, and in no place that lasts."""
        os.write(self.fd, self.mark[len(RECORD) :])

    def _told(self) -> bytes:
        token = self.read(0, _TOKEN)
        self.clear()
        return token

    def record(self, kind: str, data: dict[str, Any]) -> None:
        if self.size() < MAX_TAPE_BYTES:
            os.write(self.fd, b'%b["%b",%b]\n' % (self.mark, kind.encode(), record_text(kind, data)))

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


def entries(raw: bytes, mark: bytes, *, final: bool, most: int = MAX_LINES) -> tuple[list[Entry], int]:
    """The first whole lines of a piece of tape (at most `most`) as (type, data), and how many bytes they took.
    `final`: the last line has no end and is taken too."""
    found: list[Entry] = []
    at = 0
    for _ in range(most):
        end = raw.find(b"\n", at)
        if end < 0 and not (final and at < len(raw)):
            break
        stop = end if end >= 0 else len(raw)
        found += _line(raw[at:stop], mark)
        at = min(stop + 1, len(raw))
    return found, at


def cut(raw: bytes, mark: bytes) -> tuple[list[Entry], int]:
    """The same of a piece of a line that is longer than the piece: plain text, up to where a record may begin.
    Nothing, if the piece begins with a record: that needs to be read whole."""
    at = raw.find(mark)
    if at < 0:
        at = raw.find(RECORD, len(raw) - len(mark) + 1)
    taken = raw[: veil.safe_cut(raw, len(raw))] if at < 0 else raw[:at]
    return list(_line(taken, mark)), len(taken)


def _line(line: bytes, mark: bytes) -> Iterator[Entry]:
    before, is_record, record = line.partition(mark)
    plain = veil.masked(before.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2])
    for at in range(0, len(plain), MAX_MESSAGE):
        yield _output(plain[at : at + MAX_MESSAGE])
    if is_record:
        yield _record(record)


def _output(text: str) -> Entry:
    return "log", {"level": "info", "message": text, "source": "output"}


def _record(text: bytes) -> Entry:
    try:
        kind, data = json.loads(text, parse_constant=_refuse)
        if kind in KINDS and isinstance(data, dict):
            return kind, cast("dict[str, Any]", data)
    except (ValueError, TypeError, RecursionError):
        pass
    return _output(text.decode("utf-8", "replace")[:MAX_MESSAGE])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
