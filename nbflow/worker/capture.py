"""Makes what a task prints, logs, warns and draws arrive while it runs.

`Capture` puts the tape behind stdout, stderr, logging and warnings of a worker process. `shipping.py` carries it away.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from nbflow.worker.context import running
from nbflow.worker.tape import Tape

__all__ = ["Capture"]


class Capture:
    """Set up once in a worker process."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def install(self) -> None:
        os.dup2(self._tape.fd, 1)
        os.dup2(self._tape.fd, 2)
        sys.stdout = _Lines(self._tape, "stdout", "info")
        sys.stderr = _Lines(self._tape, "stderr", "warning")
        handler = _Records(self._tape)
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
        logging.captureWarnings(capture=True)

    def fresh(self) -> None:
        """Before a task: what a process outside left over is dropped, and each place may warn again."""
        if self._tape.size():
            self._tape.clear()
        mutated: Callable[[], None] | None = getattr(warnings, "_filters_mutated", None)
        if mutated is not None:
            mutated()
        if "tqdm" in sys.modules:
            _progress_of_tqdm(sys.modules["tqdm"])

    @staticmethod
    def finish_lines() -> None:
        """After a task: a last line without an end is a line."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Lines):
                stream.end_line()


class _Lines(io.TextIOBase):
    """stdout or stderr as Python code sees it: whole lines become records."""

    def __init__(self, tape: Tape, source: str, level: str) -> None:
        super().__init__()
        self._tape, self._source, self._level = tape, source, level
        self._open = ""

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1 if self._source == "stdout" else 2

    def isatty(self) -> bool:
        return False

    def write(self, s: str, /) -> int:
        *lines, self._open = (self._open + s).split("\n")
        for line in lines:
            self._line(line)
        return len(s)

    def end_line(self) -> None:
        if self._open:
            line, self._open = self._open, ""
            self._line(line)

    def _line(self, line: str) -> None:
        shown = line.rstrip("\r").rsplit("\r", 1)[-1][:8192]
        if shown:
            self._tape.record("log", {"level": self._level, "message": shown, "source": self._source})


class _Records(logging.Handler):
    """The standard logging, warnings included."""

    _LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for number, name in self._LEVELS if record.levelno >= number), "debug")
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        source = "warnings" if record.name == "py.warnings" else "logging"
        self._tape.record("log", {"level": level, "message": message[:8192], "source": source, "logger": record.name})


def _progress_of_tqdm(tqdm: Any) -> None:
    """Bars of tqdm tell progress instead of drawing lines."""
    bar = getattr(getattr(tqdm, "std", None), "tqdm", None)
    if bar is None or getattr(bar, "nbflow", False):
        return

    def display(self: Any, *_: Any, **__: Any) -> None:
        context = running.get()
        if context is not None:
            context.progress(self.n, self.total, self.desc or "")

    bar.display, bar.nbflow = display, True
