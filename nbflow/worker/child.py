"""A worker process as its supervisor has it: started, let through its gate, and known to have ended and why."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass

from nbflow.model import veil
from nbflow.worker.lifeline import Lifeline
from nbflow.worker.slots import anonymous_file
from nbflow.worker.tape import Tape

__all__ = ["SECRETS", "Child", "cause_of_end", "spawn"]

SECRETS = ("NBFLOW_REDIS_URL", "NBFLOW_SECRET")
"""They go through the gate: the environment that a process was started with can be read by all code in it."""
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "ARROW_NUM_THREADS",
)


@dataclass(slots=True)
class Child:
    """Its pid, its name at RQ, what tells its end, its tape, the gate it is told through, the values of secrets that it
    read, when it began."""

    pid: int
    line: Lifeline
    tape: Tape
    gate: int
    values: int
    born: float
    name: str = ""

    def admit(self, slot: int, name: str) -> None:
        """Through the gate: the worker learns its slot and its name, and begins."""
        self.name, self.born = name, time.monotonic()
        with contextlib.suppress(OSError):
            told = {"slot": slot, "name": name, "secrets": {name: os.environ.get(name, "") for name in SECRETS}}
            os.write(self.gate, json.dumps(told).encode() + b"\n")

    def tell(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def learn_its_secrets(self) -> None:
        """Before its last words are told: they may hold what it would have masked."""
        veil.learn_from(self.values)

    def reap(self) -> str:
        """Why it ended, in words; '' if it ended well."""
        _, status, usage = os.wait4(self.pid, 0)
        return cause_of_end(status, usage.ru_maxrss)

    def close(self) -> None:
        """Nothing of it is needed any more. One that waits at its gate reads an end of file and goes."""
        self.line.close()
        for fd in (self.tape.fd, self.gate, self.values):
            os.close(fd)


def cause_of_end(status: int, peak: int) -> str:
    """In words, of what `wait` says and the peak memory as `getrusage` does; '' if it ended well."""
    if os.WIFSIGNALED(status):
        mib = peak / (1024 if sys.platform != "darwin" else 1024 * 1024)
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}, peak memory {mib:.0f} MiB"
    code = os.WEXITSTATUS(status)
    return f"exit code {code}" if code else ""


def spawn(slots_fd: int, share: int) -> Child:
    """A worker process that imports what it needs and waits at its gate. `share` is its number of cores."""
    tape, values, line = Tape(), anonymous_file("nbflow-values"), Lifeline.make()
    tape.tell_mark()
    gate_read, gate_write = os.pipe()
    handed = [slots_fd, tape.fd, gate_read, values, *([line.held] if line.held >= 0 else [])]
    command = [sys.executable, "-P", "-m", "nbflow.worker.process", *map(str, handed)]
    environment = dict.fromkeys(_THREADS, str(share)) | os.environ | {"NBFLOW_WORKER_OF": str(os.getpid())}
    for name in SECRETS:
        environment.pop(name, None)
    pid = _spawn_with(handed, command, environment)
    os.close(gate_read)
    line.begin(pid)
    return Child(pid, line, tape, gate_write, values, time.monotonic())


def _spawn_with(handed: list[int], command: list[str], environment: dict[str, str]) -> int:
    """Hand these descriptors to this child, and to no later one."""
    for fd in handed:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(sys.executable, command, environment)
    finally:
        for fd in handed:
            os.set_inheritable(fd, False)
