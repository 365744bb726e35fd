"""Makes what a task prints, logs, warns and draws arrive while it runs.

`Capture` puts the tape behind stdout, stderr, logging and warnings of a worker process. `shipping.py` carries it away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from nbflow.model import veil
from nbflow.worker.bars import bars_tell_progress
from nbflow.worker.records import MAX_MESSAGE
from nbflow.worker.streams import Lines
from nbflow.worker.tape import Tape

__all__ = ["Capture", "Records"]


class Capture:
    """Set up once in a worker process."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        seen = os.fstat(tape.fd)
        self._inode, self._device = seen.st_ino, seen.st_dev
        self._out, self._err = Lines(tape, "stdout", "info"), Lines(tape, "stderr", "warning")
        self._handler = Records(tape)
        self._root, self._py_warnings = logging.getLogger(), logging.getLogger("py.warnings")
        self._showwarning: Any = None

    def install(self) -> None:
        self._take_descriptors()
        sys.stdout, sys.stderr = self._out, self._err
        self._take_logging()
        self._take_warnings()
        bars_tell_progress()
        os.register_at_fork(after_in_child=self._forked)

    def fresh(self) -> None:
        """Before a task: what a process outside left over is dropped, what the task before put in our place goes, and
        each place may warn again."""
        self._take_streams()
        self._take_back()
        if self._descriptors():
            self._tape.clear()
        mutated: Callable[[], None] | None = getattr(warnings, "_filters_mutated", None)
        if mutated is not None:
            mutated()

    def finish_lines(self) -> None:
        """After a task: a last line without an end is a line."""
        self._take_streams()
        self._out.end_line()
        self._err.end_line()

    def _take_streams(self) -> None:
        """What a task put in their place tells the rest it holds, and goes."""
        if sys.stdout is self._out and sys.stderr is self._err:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # whatever it is
                stream.flush()
        sys.stdout, sys.stderr = self._out, self._err

    def _take_back(self) -> None:
        root = self._root
        if root.level != logging.INFO or root.handlers != [self._handler] or root.disabled or root.manager.disable:
            self._take_logging()
        if warnings.showwarning is not self._showwarning or self._py_warnings.disabled:
            self._take_warnings()

    def _descriptors(self) -> int:
        """See that 1 and 2 are the tape still; its size. (One look at each: a look costs 0.7 µs.)"""
        try:
            out, err = os.fstat(1), os.fstat(2)
            if out.st_ino == err.st_ino == self._inode and out.st_dev == err.st_dev == self._device:
                return out.st_size
        except OSError:  # closed
            pass
        self._take_descriptors()
        return self._tape.size()

    def _take_descriptors(self) -> None:
        for fd in (1, 2):
            os.dup2(self._tape.fd, fd)

    def _take_logging(self) -> None:
        """Handlers that were put in are not closed: whoever made them may have them elsewhere too."""
        self._root.handlers[:] = [self._handler]
        self._root.setLevel(logging.INFO)
        self._root.disabled = False
        logging.disable(logging.NOTSET)

    def _take_warnings(self) -> None:
        logging.captureWarnings(capture=True)
        self._py_warnings.disabled = False
        if self._showwarning is None:
            self._showwarning = warnings.showwarning
        warnings.showwarning = self._showwarning

    def _forked(self) -> None:
        self._out.forked()
        self._err.forked()


class Records(logging.Handler):
    """The standard logging, warnings included. Like its own handlers it never raises into the code that logs."""

    _LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except TimeoutError:  # the step's own: its signal may strike here
            raise
        except Exception:  # noqa: BLE001 - a log is no reason for a step to fail
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        level = next((name for number, name in self._LEVELS if record.levelno >= number), "debug")
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        source = "warnings" if record.name == "py.warnings" else "logging"
        said = {"level": level, "message": veil.masked(message)[:MAX_MESSAGE], "source": source, "logger": record.name}
        self._tape.record("log", said)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the library's
        """What it would print, as one message: where the call is and what is wrong with it."""
        if not logging.raiseExceptions:
            return
        what = record.msg[:500] if isinstance(record.msg, str) else type(record.msg).__name__
        said = f"{traceback.format_exc(limit=-1)}Logged at {record.pathname}:{record.lineno}: {what}"
        self._tape.record("log", {"level": "warning", "message": veil.masked(said)[:MAX_MESSAGE], "source": "stderr"})
