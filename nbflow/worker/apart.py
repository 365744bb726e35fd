"""Executes a task in a process of its own (`isolation="process"`), while the worker waits for it, renews nothing and holds
the lease. What the process leaves of itself is its ending; one that dies without a word takes nobody with it.

The process is forked from a stem (`stem.py`), which is started with the first such task and lives as long as the worker.
Its end is the kernel's matter: supervisor, worker, stem and process each die with the one before.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass

from nbflow.errors import InternalError
from nbflow.worker.child import cause_of_end
from nbflow.worker.exchange import Exchange
from nbflow.worker.orders import GRACE_S, INTERRUPT, KILL, STATUS
from nbflow.worker.slots import Slots
from nbflow.worker.tape import Tape
from nbflow.worker.task import Ending, Job

__all__ = ["Apart", "Died", "Origin"]

LOOK_S = 1.0
_TRIES = 3
_SILENT = "it ended without a word"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a stem begins with: the environment that the worker began with, what is told through a pipe because all code in
    a process can read the environment that it was started with, and the file to which the values of secrets are told."""

    environment: dict[str, str]
    secrets: dict[str, str]
    values: int


@dataclass(frozen=True, slots=True)
class Died:
    """The process ended without an ending: why, in words that `giveback.lua` understands."""

    cause: str


@dataclass(slots=True)
class _Process:
    """The stem, and what we share with it. `gate` is what ends it with us where no kernel does."""

    pid: int
    exchange: Exchange
    orders: int
    answers: int
    gate: int

    def close(self) -> None:
        for fd in (self.orders, self.answers, self.gate, self.exchange.fd):
            with contextlib.suppress(OSError):
                os.close(fd)

    def tell(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Apart:
    """The worker's side; all of it in its main thread."""

    def __init__(self, origin: Origin, slots: Slots, slot: int, tape: Tape) -> None:
        self._origin, self._slots, self._slot, self._tape = origin, slots, slot, tape
        self._stem: _Process | None = None
        self._end: _Overdue | None = None
        os.register_at_fork(after_in_child=self._forked)

    def execute(self, job: Job, worker: str, lease: int) -> Ending | Died:
        self._slots.set_apart(self._slot, is_apart=True)
        self._end = _Overdue(self._slots, self._slot, lease)
        try:
            stem = self._ordered(job, worker, lease)
            cause = self._watch(stem, self._end)
            ended = stem.exchange.take_ending()
            if stem is not self._stem:
                stem.close()
            return Died(cause) if ended is None else ended
        finally:
            self._end = None
            self._slots.set_apart(self._slot, is_apart=False)
            self._slots.expire(self._slot, 0)  # it may have died in the middle of a timed step

    def pass_on(self) -> None:
        """An interrupt came; it is meant for the process."""
        if self._end is not None and self._end.is_aimed_at() and self._stem is not None:
            self._stem.tell(INTERRUPT)

    def _ordered(self, job: Job, worker: str, lease: int) -> _Process:
        """The stem, with the order to fork. One that died while nothing was asked of it is replaced."""
        cause = ""
        for _ in range(_TRIES):
            stem = self._stem = self._stem or self._start()
            stem.exchange.put_job(job, worker, lease)
            try:
                os.write(stem.orders, b"\n")
                return stem
            except BrokenPipeError:
                cause = self._bury(stem)
                stem.close()
        raise InternalError(f"No process can be started for {job.task!r} ({cause}).", hint="Look at the worker's log.")

    def _watch(self, stem: _Process, end: _Overdue) -> str:
        """Until the process has ended; why, as far as it did not end well."""
        ears = select.poll()
        ears.register(stem.answers, select.POLLIN)
        while not ears.poll(LOOK_S * 1000):  # a signal is answered in between, and the rest waited for
            if end.is_aimed_at():
                stem.tell(INTERRUPT)  # the first may have come before there was a process
            if end.has_come():
                stem.tell(KILL)
        answer = os.read(stem.answers, STATUS.size)
        if len(answer) < STATUS.size:  # the stem itself died, and its process with it
            return end.in_words(self._bury(stem))
        return end.in_words(cause_of_end(*STATUS.unpack(answer)) or _SILENT)

    def _bury(self, stem: _Process) -> str:
        """It is waited for: by then its process is as good as dead."""
        self._stem = None
        try:
            _, status, usage = os.wait4(stem.pid, 0)
        except ChildProcessError:  # a step of this worker waited for any child
            return _SILENT
        return cause_of_end(status, usage.ru_maxrss) or _SILENT

    def _start(self) -> _Process:
        orders, answers, gate = os.pipe(), os.pipe(), os.pipe()
        exchange = Exchange()
        handed = [self._slots.fd, self._tape.fd, self._origin.values, exchange.fd, orders[0], answers[1], gate[0]]
        command = [sys.executable, "-P", "-m", "nbflow.worker.stem", str(os.getpid()), *map(str, handed)]
        for fd in handed:
            os.set_inheritable(fd, True)
        try:
            pid = os.posix_spawn(sys.executable, command, self._origin.environment, setsigmask=(INTERRUPT, KILL))
        finally:
            for fd in handed:
                os.set_inheritable(fd, False)
        for fd in (orders[0], answers[1], gate[0]):
            os.close(fd)
        told = {"slot": self._slot, "mark": self._tape.mark.decode(), "secrets": self._origin.secrets}
        with contextlib.suppress(BrokenPipeError):  # the order that follows says it
            os.write(orders[1], json.dumps(told).encode() + b"\n")
        return _Process(pid, exchange, orders[1], answers[0], gate[1])

    def _forked(self) -> None:
        """A fork of the worker must not keep the stem, nor be taken for its worker."""
        if self._stem is not None:
            self._stem.close()
            self._stem = None


class _Overdue:
    """When the process is to be killed: a grace after it was interrupted, or after the deadline of its step."""

    def __init__(self, slots: Slots, slot: int, lease: int) -> None:
        self._slots, self._slot, self._lease = slots, slot, lease
        self._aimed_at = 0.0
        self._killed_for = ""

    def is_aimed_at(self) -> bool:
        """Whether the supervisor interrupts it; the grace begins when that is first seen."""
        if self._slots.target(self._slot) != self._lease:
            return False
        self._aimed_at = self._aimed_at or time.monotonic()
        return True

    def has_come(self) -> bool:
        if self.is_aimed_at() and time.monotonic() >= self._aimed_at + GRACE_S:
            self._killed_for = self._killed_for or "stopped"
        deadline = self._slots.deadline(self._slot)
        if deadline and time.monotonic_ns() > deadline + GRACE_S * 1e9:
            self._killed_for = self._killed_for or "timeout"
        return bool(self._killed_for)

    def in_words(self, cause: str) -> str:
        return f"{self._killed_for}: {cause}" if self._killed_for else cause
