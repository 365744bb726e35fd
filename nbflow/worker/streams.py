"""`sys.stdout` and `sys.stderr` of a worker process: what is printed becomes records, a line each.

They cannot be closed and refuse nothing that a file of text can do, so that code written for a terminal runs as it is.
"""

from __future__ import annotations

import codecs
import io
import threading
from typing import TYPE_CHECKING, Any

from nbflow.model import veil
from nbflow.worker.records import MAX_MESSAGE
from nbflow.worker.tape import Tape

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Lines"]


class Lines(io.TextIOBase):
    """Pieces are kept until their line ends, or until it is longer than a message may be."""

    encoding = "utf-8"  # pyright: ignore[reportIncompatibleVariableOverride, reportAssignmentType]
    errors = "replace"  # pyright: ignore[reportIncompatibleVariableOverride, reportAssignmentType]
    line_buffering, write_through, mode = True, False, "w"

    def __init__(self, tape: Tape, source: str, level: str) -> None:
        super().__init__()
        self._tape, self._source, self._level = tape, source, level
        self._pieces: list[str] = []
        self._length = 0
        self._lock = threading.RLock()
        self._flushes = False
        self.name = f"<{source}>"
        self.buffer = _Bytes(self)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1 if self._source == "stdout" else 2

    def isatty(self) -> bool:
        return False

    def reconfigure(self, **_: Any) -> None:
        """It is UTF-8 and by lines, whatever is asked for."""

    def close(self) -> None:
        """It stays open: the next task writes to it too."""

    def flush(self) -> None:
        if self._flushes:
            self.end_line()

    def write(self, s: str, /) -> int:
        with self._lock:
            *lines, rest = s.split("\n")
            for line in lines:
                self._add(line)
                self.end_line()
            if rest:
                self._add(rest)
        return len(s)

    def _add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length > MAX_MESSAGE:
            self._cut()

    def _cut(self) -> None:
        """Too long: what a carriage return wrote over goes; full messages of the rest are told, and no more is kept."""
        line = "".join(self._pieces)
        text = _shown(line)
        whole = veil.safe_cut(text, len(text) - len(text) % MAX_MESSAGE)
        self._say(text[:whole])
        rest = text[whole:] + ("\r" if line.endswith("\r") else "")
        self._pieces, self._length = [rest], len(rest)

    def end_line(self) -> None:
        with self._lock:
            if self._pieces:
                line = "".join(self._pieces)
                self._pieces, self._length = [], 0
                self._say(line)

    def _say(self, line: str) -> None:
        text = veil.masked(_shown(line))
        for at in range(0, len(text), MAX_MESSAGE):
            message = text[at : at + MAX_MESSAGE]
            self._tape.record("log", {"level": self._level, "message": message, "source": self._source})

    def forked(self) -> None:
        """In a fork: the line that is open is its parent's; its own last line is told when it flushes, as it ends
        without us."""
        self._lock = threading.RLock()
        self._pieces, self._length = [], 0
        self._flushes = True


def _shown(line: str) -> str:
    """What a terminal would show of it."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line


class _Bytes(io.BufferedIOBase):
    """`sys.stdout.buffer`: bytes become the text they are in UTF-8."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.raw = self  # pyright: ignore[reportAttributeAccessIssue]

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._lines.fileno()

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """As the text stays open."""

    def flush(self) -> None:
        self._lines.flush()

    def write(self, buffer: ReadableBuffer, /) -> int:
        raw = bytes(buffer)
        self._lines.write(self._decoder.decode(raw))
        return len(raw)
