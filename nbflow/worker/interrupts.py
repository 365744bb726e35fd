"""How a task is interrupted: by a signal that raises in its code, only there, only if it is meant for it, and once.

The supervisor writes the lease it means into shared memory and sends SIGUSR1; SIGALRM ends what takes longer than its
`timeout=`. A conversation with the server that user code causes is shielded: what comes meanwhile is raised after it.
Code that Python cannot interrupt (a long call into C) is killed by the supervisor after a grace.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

from nbflow.errors import Canceled
from nbflow.worker.context import StepTimeout
from nbflow.worker.slots import Slots

__all__ = ["Guard", "Interrupts", "Unguarded", "forget_in_children", "handler_of"]

handler_of: Callable[[int], Any] = import_module("_signal").getsignal
"""`signal.getsignal`, without an enum made of what is none: 0.02 µs instead of 2.2, three times a task."""


class Guard(Protocol):
    """Told when user code begins and ends."""

    def enter(self, timeout_s: float | None) -> None: ...
    def leave(self) -> None: ...


class Unguarded:
    """For executions that nobody interrupts."""

    def enter(self, timeout_s: float | None) -> None:
        """Nothing to arm."""

    def leave(self) -> None:
        """Nothing was armed."""

    @contextmanager
    def shielded(self) -> Generator[None]:
        yield


def forget_in_children() -> None:
    """A child that user code forks is no worker: signals mean to it what they mean to any process. (A pool ends its
    children by SIGTERM, and would wait for ever for one that takes it as a worker does.)"""
    os.register_at_fork(after_in_child=_as_any_process)


def _as_any_process() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)


class Interrupts:
    """The guard of a worker process; all of it happens in the main thread."""

    def __init__(self, slots: Slots, slot: int) -> None:
        self._slots, self._slot = slots, slot
        self._lease = self._interrupted = 0
        self._inside = False
        self._due: float | None = None
        self.on_idle_alarm: Callable[[], None] = lambda: None
        """What an alarm is for that comes while no user code runs."""
        self.on_interrupt: Callable[[], None] = lambda: None
        """Who else is told that the supervisor interrupts."""

    def install(self) -> None:
        """Before each task: an earlier one may have set handlers of its own."""
        for number in (signal.SIGUSR1, signal.SIGALRM):
            if handler_of(number) != self._on_interrupt:
                signal.signal(number, self._on_interrupt)

    def begin(self, lease: int) -> None:
        """The next task is executed under this lease."""
        self._lease = lease

    def enter(self, timeout_s: float | None) -> None:
        if timeout_s is not None:
            self._due = time.monotonic() + timeout_s
            self._slots.expire(self._slot, time.monotonic_ns() + int(timeout_s * 1e9))
            signal.setitimer(signal.ITIMER_REAL, timeout_s)
        self._inside = True
        self._raise_if_meant()

    def leave(self) -> None:
        self._inside = False
        if self._due is not None:
            self._due = None
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._slots.expire(self._slot, 0)

    @contextmanager
    def shielded(self) -> Generator[None]:
        inside, self._inside = self._inside, False
        try:
            yield
        finally:
            self._inside = inside
            self._raise_if_meant()

    def _on_interrupt(self, number: int, *_: object) -> None:
        self._raise_if_meant()
        if number == signal.SIGUSR1:
            self.on_interrupt()
        elif not self._inside:
            self.on_idle_alarm()

    def _raise_if_meant(self) -> None:
        """Once for a lease: `finally` blocks must run."""
        if not self._inside or self._interrupted == self._lease:
            return
        if self._slots.target(self._slot) == self._lease:
            self._interrupted = self._lease
            raise Canceled("the task was interrupted")
        if self._due is not None and time.monotonic() >= self._due:
            self._interrupted = self._lease
            raise StepTimeout("the step took longer than its timeout")
