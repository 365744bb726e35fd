"""What a step sees and does beside its payloads when it runs in process: logs, state, input, artifacts; what it prints;
and the limit of its time. Nothing is decided here."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from nbflow.errors import Canceled
from nbflow.testing.code import Order
from nbflow.testing.record import Record
from nbflow.worker.capture import Records
from nbflow.worker.context import StepTimeout
from nbflow.worker.execute import Executor
from nbflow.worker.kept import RunState
from nbflow.worker.port import drawn
from nbflow.worker.records import record_text
from nbflow.worker.started import Start
from nbflow.worker.starting import Starter
from nbflow.worker.state import Change
from nbflow.worker.streams import Lines
from nbflow.worker.tape import Tape
from nbflow.worker.task import Job

__all__ = ["Output", "TaskPort", "TimeLimit", "received_preview"]


class Executes(Protocol):
    """What executes the tasks of a flow, and makes what they start."""

    @property
    def executor(self) -> Executor: ...
    @property
    def starter(self) -> Starter: ...


class TaskPort:
    """The `Port` of one execution. From a thread that outlives it nothing counts any more."""

    def __init__(self, job: Job, record: Record, state: RunState, code: Executes, order: Order, *, line: str) -> None:
        self._job, self._record, self._state, self._executor, self._order = job, record, state, code.executor, order
        self._line, self._starter = line, code.starter
        self._lock = threading.RLock()
        self.is_over = False

    def record(self, kind: str, data: dict[str, Any]) -> None:
        if not self.is_over:  # bounded and strict, as on the way from a worker
            self._add(kind, json.loads(record_text(kind, data)))

    def read_input(self) -> Any:
        return self._executor.input(self._job, self._order.text.encode())

    def read_trigger(self) -> str:
        return self._order.trigger

    def read_state(self, key: str | None) -> dict[str, str]:
        with self._lock:
            return self._state.read(key)

    def state(self, change: Change) -> str:
        with self._lock:
            if self.is_over:
                raise Canceled("this execution is over")
            reply, text = self._state.change(change, lambda data: self._add("state", data))
        return change.outcome(reply, text)

    def keep(self, name: str, value: Any) -> None:
        text = self._executor.codec(self._job).encode(drawn(value))
        self.record("artifact", {"name": name, "ref": json.loads(text)})

    def start_flow(self, flow: str, values: Any, number: int) -> Start:
        return self._starter.start(self._job, flow, values, number)

    def line(self) -> str:
        return self._line

    def is_canceled(self) -> bool:
        return self.is_over

    def _add(self, kind: str, data: dict[str, Any]) -> None:
        self._record.add(kind, self._job.task, self._job.attempt, data)


class _Recorder(Protocol):
    def record(self, kind: str, data: dict[str, Any]) -> None: ...


class Output:
    """Lines that steps print and log, as records of the one that runs. Only what goes through Python: C libraries and
    subprocesses write where the process writes."""

    def __init__(self) -> None:
        tape = cast("Tape", self)  # all that they need of one is `record`
        self._out, self._err = Lines(tape, "stdout", "info"), Lines(tape, "stderr", "warning")
        self._handler = Records(tape)
        self._to: _Recorder | None = None

    def record(self, kind: str, data: dict[str, Any]) -> None:
        if self._to is not None:
            self._to.record(kind, data)

    @contextmanager
    def captured(self) -> Generator[None]:
        """stdout, stderr and logging are these inside the block, and what they were after it."""
        before, root = (sys.stdout, sys.stderr), logging.getLogger()
        level = root.level
        sys.stdout, sys.stderr = self._out, self._err
        root.addHandler(self._handler)
        root.setLevel(min(level or logging.INFO, logging.INFO))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            root.removeHandler(self._handler)
            root.setLevel(level)

    @contextmanager
    def of(self, port: _Recorder) -> Generator[None]:
        """What is written inside the block is that task's."""
        self._to = port
        try:
            yield
        finally:
            self._out.end_line()
            self._err.end_line()
            self._to = None


class TimeLimit:
    """The guard of executions in process. It knows the real time only: a step that takes longer than its `timeout=` is
    interrupted if it runs in the main thread, and fails afterwards if that is not possible."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._disarm: Callable[[], None] | None = None

    def enter(self, timeout_s: float | None) -> None:
        if timeout_s is not None:
            self._due = time.monotonic() + timeout_s
            self._disarm = self._arm(timeout_s)

    def leave(self) -> None:
        due, self._due = self._due, None
        disarm, self._disarm = self._disarm, None
        if disarm is not None:
            disarm()
        if due is not None and time.monotonic() >= due:
            raise StepTimeout("the step took longer than its timeout")

    def _arm(self, timeout_s: float) -> Callable[[], None] | None:
        """The one timer of the process may be in use, by a test runner for example: it gets it back."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            return None
        left_s, _ = signal.getitimer(signal.ITIMER_REAL)
        if 0 < left_s <= timeout_s:
            return None
        began, before = time.monotonic(), signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)

        def disarm() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if left_s:
                signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s - (time.monotonic() - began)))

        return disarm

    def _on_alarm(self, *_: object) -> None:
        if self._due is not None:
            self._due = None  # once: `finally` blocks must run
            raise StepTimeout("the step took longer than its timeout")


def received_preview(payloads: list[tuple[bool, bytes | None]]) -> dict[str, Any]:
    """What the task receives, where that is short."""
    shown = [payload or b"null" for is_shown, payload in payloads if is_shown]
    text = b",".join(shown)
    if not shown or len(text) > 200:
        return {}
    return {"input": json.loads(text if len(shown) == 1 else b"[" + text + b"]")}
