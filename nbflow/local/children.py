"""Child processes that do not outlive their parent, even when it is killed with -9, and that are started again.

Linux has a signal for that (PR_SET_PDEATHSIG). Elsewhere a tiny guard process beside the child waits for the end of a
pipe whose other end only the parent holds. The parent must have one thread only: the signal is bound to the thread that
started the child.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Child", "Tended", "open_log", "spawn"]

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT = 1_000_000
_HEALTHY_S = 10.0
_LONGEST_PAUSE_S = 30.0
_GUARD = "import os, sys; sys.stdin.buffer.read(); os.kill(int(sys.argv[1]), int(sys.argv[2]))"


@dataclass(slots=True)
class Child:
    """A child process. `started` is by `time.monotonic`."""

    process: subprocess.Popen[bytes]
    started: float
    guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def ended(self) -> int | None:
        """Its exit code once it is over, else None."""
        code = self.process.poll()
        if code is not None:
            self._dismiss_guard()
        return code

    def tell(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def end(self, grace_s: float) -> None:
        """Ask it to end (SIGTERM), and make it end (SIGKILL) after the grace."""
        self.tell(signal.SIGTERM)
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        """Before the child's pid can be another's: the guard must not outlive what it guards."""
        if self.guard is not None:
            self.guard.kill()
            self.guard.wait()
            if self.guard.stdin is not None:
                self.guard.stdin.close()
            self.guard = None


class Tended:
    """A child that is started again when it ends. One that ends within ten seconds waits twice as long each time."""

    def __init__(self, start: Callable[[], Child]) -> None:
        self._start = start
        self.child = start()
        self.failures = 0
        self._not_before = 0.0

    @property
    def pid(self) -> int:
        return self.child.pid

    def tend(self, now: float) -> bool:
        """Whether it had ended and was started again. `now` is by `time.monotonic`."""
        if self.child.ended() is None:
            if now - self.child.started > _HEALTHY_S:
                self.failures = 0
            return False
        if not self._not_before:
            self.failures = 0 if now - self.child.started > _HEALTHY_S else self.failures + 1
            pause = min(0.1 * 2**self.failures, _LONGEST_PAUSE_S) if self.failures else 0.0
            self._not_before = now + pause
        if now < self._not_before:
            return False
        self._not_before = 0.0
        self.child = self._start()
        return True


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    on_parent_death: signal.Signals,
    environment: Mapping[str, str] | None = None,
    keep: Sequence[int] = (),
    guarded: bool = sys.platform != "linux",
) -> Child:
    """Start a child that gets the signal when this process ends, however that comes about. Its output goes to `log`;
    it inherits the descriptors in `keep`."""
    before_exec = None if guarded else _bind_to_parent(on_parent_death)
    with open_log(log) as out:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=None if environment is None else dict(environment),
            pass_fds=tuple(keep),
            preexec_fn=before_exec,  # noqa: PLW1509 - the keeper has one thread
        )
    guard = _guard(process.pid, on_parent_death) if guarded else None
    return Child(process, time.monotonic(), guard)


@contextlib.contextmanager
def open_log(path: Path) -> Generator[int]:
    """The log, to append to; beyond a megabyte the old one is put aside, and one old one is kept."""
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_suffix(".old.log"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _bind_to_parent(number: signal.Signals) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: loading takes locks
    parent = os.getpid()

    def bind() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call: nobody would ever signal us
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


def _guard(pid: int, number: signal.Signals) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-I", "-S", "-c", _GUARD, str(pid), str(int(number))]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
