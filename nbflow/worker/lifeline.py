"""How a supervisor learns that a worker ended, and how a worker ends with its supervisor.

On Linux the kernel tells both: a pidfd becomes readable, and PR_SET_PDEATHSIG kills. Elsewhere (macOS) pipes do: a
process that ends closes its end, and the other side reads an end of file.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import sys
import threading
from dataclasses import dataclass

__all__ = ["Lifeline", "die_with_gate", "die_with_parent", "end_with", "keep_private"]


@dataclass(slots=True)
class Lifeline:
    """`held` is what is handed to the child (-1 if nothing is needed); `watch` becomes readable when the child has ended."""

    held: int = -1
    watch: int = -1

    @classmethod
    def make(cls) -> Lifeline:
        """Before the child is started."""
        if hasattr(os, "pidfd_open"):
            return cls()
        watch, held = os.pipe()
        return cls(held, watch)

    def begin(self, pid: int) -> None:
        """After the child was started."""
        if self.held >= 0:
            os.close(self.held)
            self.held = -1
        else:
            self.watch = os.pidfd_open(pid)

    def close(self) -> None:
        os.close(self.watch)


def die_with_parent(parent: int) -> None:
    """In the child, as early as can be: end at once when the parent has ended, where the kernel can see to it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def die_with_gate(gate: int) -> None:
    """In the child, elsewhere: end when the parent, which keeps its end of this pipe open, has ended."""
    if sys.platform != "linux":
        threading.Thread(target=end_with, args=(gate,), name="nbflow-lifeline", daemon=True).start()


def end_with(gate: int) -> None:
    """Wait for the end of file, then end this process whatever it does."""
    while os.read(gate, 4096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def keep_private(*fds: int) -> None:
    """In the child, as early as can be: no program that it starts inherits these, and no fork of it keeps the pipes
    among them open, by which supervisor and worker know each other's end. (A fork goes on writing to the tape.)"""
    pipes: list[int] = []
    for fd in fds:
        os.set_inheritable(fd, False)
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            pipes.append(fd)
    os.register_at_fork(after_in_child=lambda: _close(pipes))


def _close(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
