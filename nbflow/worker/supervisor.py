"""The supervisor: starts N workers and a warm spare, renews their leases, hears RQ's commands for them, sees a death at
once and gives the task back, interrupts and kills.

It imports nothing heavy (no redis-py, no rq, no pydantic): 17 MB, and always quick to answer. What it knows of a
worker is its process, its slot of shared memory and its tape.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from nbflow.errors import CommandRefused, NbflowError
from nbflow.model.ids import is_queue_name
from nbflow.store.keys import Keys
from nbflow.store.scripts import load_scripts, upload
from nbflow.store.wire import ReplyError, Wire, connect, refusal, shown_url
from nbflow.worker.lifeline import Lifeline
from nbflow.worker.shipping import last_words
from nbflow.worker.slots import Slots
from nbflow.worker.tape import Tape

__all__ = ["Supervisor", "main"]

GRACE_S = 5.0
_QUICK_DEATHS, _QUICK_S = 6, 5.0
"""So many workers, one after the other, that die soon and without having ended a task, and the supervisor gives up."""
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "ARROW_NUM_THREADS",
)


@dataclass(slots=True)
class _Child:
    """A worker process: its pid, its name at RQ, what tells its end, its tape, the gate it is told through, when it
    began."""

    pid: int
    name: str
    line: Lifeline
    tape: Tape
    gate: int
    born: float

    def close(self) -> None:
        """Its end is known: nothing of it is needed any more."""
        self.line.close()
        for fd in (self.tape.fd, self.gate):
            os.close(fd)


class Supervisor:
    """Keeps `concurrency` workers working on `queues` until it is told to end."""

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        concurrency: int,
        queues: list[str],
        lease_s: float,
        beat_s: float,
        spares: int = 1,
    ) -> None:
        self.url, self.concurrency, self.queues, self.spares = url, concurrency, queues, spares
        self.lease_s, self.beat_s = lease_s, beat_s
        self.keys = Keys(namespace)
        self.scripts = load_scripts(self.keys)
        self.slots = Slots(n=concurrency)
        self.wire = connect(url, timeout=30)
        self._know(self.wire)
        self.wire.on_open = self._know
        self.ear = connect(url)
        self.poll = select.poll()
        self.poll.register(self.ear.fileno(), select.POLLIN)
        self.base = f"{socket.gethostname()}.{os.getpid()}"
        self.count = 0
        self.workers: dict[int, _Child] = {}
        self.warm: list[_Child] = []
        self.kill_at: dict[int, tuple[int, float]] = {}
        self.leaving: set[int] = set()
        self.overdue: set[int] = set()
        self.stopping = False
        self.quick_deaths = 0

    def _know(self, wire: Wire) -> None:
        upload(wire.call, self.scripts)

    # -- processes --------------------------------------------------------------------------------------------------

    def _spawn(self, slot: int, name: str) -> _Child:
        """A worker process that begins at once, or, with slot -1, a warm spare that waits at its gate."""
        tape, line = Tape(), Lifeline.make()
        gate_read, gate_write = os.pipe()
        for fd in (self.slots.fd, tape.fd, gate_read):
            os.set_inheritable(fd, True)
        command = [sys.executable, "-P", "-m", "nbflow.worker.worker", str(self.slots.fd), str(tape.fd), str(gate_read)]
        pid = os.posix_spawn(sys.executable, command, self._environment())
        os.close(gate_read)
        line.begin(pid)
        child = _Child(pid, name, line, tape, gate_write, time.monotonic())
        if slot >= 0:
            self._admit(child, slot, name)
        return child

    def _environment(self) -> dict[str, str]:
        share = str(max(1, (os.cpu_count() or 1) // self.concurrency))
        return dict.fromkeys(_THREADS, share) | os.environ | {"NBFLOW_WORKER_OF": str(os.getpid())}

    def _admit(self, child: _Child, slot: int, name: str) -> None:
        """Through the gate: the worker learns its slot and its name, and begins."""
        child.name, child.born = name, time.monotonic()
        with contextlib.suppress(OSError):
            os.write(child.gate, json.dumps({"slot": slot, "name": name}).encode() + b"\n")
        self.poll.register(child.line.watch, select.POLLIN)
        self.workers[slot] = child
        self.ear.send("SUBSCRIBE", f"rq:pubsub:{name}")

    def _fill(self, slot: int) -> None:
        self.count += 1
        name = f"{self.base}.{self.count}"
        if self.warm:
            self._admit(self.warm.pop(0), slot, name)
        else:
            self._spawn(slot, name)

    def _died(self, slot: int) -> None:
        child = self.workers.pop(slot)
        jobs, _ = self.slots.sums(slot)
        self.poll.unregister(child.line.watch)
        _, status, usage = os.wait4(child.pid, 0)
        cause = _cause(status, usage.ru_maxrss)
        if slot in self.overdue:
            self.overdue.remove(slot)
            cause = f"timeout: {cause}"
        with contextlib.suppress(ReplyError):
            shipped = self.slots.shipped(slot)
            last_words(
                self._tell, self.scripts["append"], self.keys, worker=child.name, tape=child.tape, shipped=shipped
            )
        self._try(*self.scripts["giveback"].command(worker=child.name, cause=cause))
        child.close()
        self.slots.clear(slot)
        self.kill_at.pop(slot, None)
        self.ear.send("UNSUBSCRIBE", f"rq:pubsub:{child.name}")
        if slot in self.leaving:
            self.stopping = self.stopping or not self.workers
        elif not self.stopping:
            self._replace(slot, child, cause, jobs)

    def _replace(self, slot: int, child: _Child, cause: str, jobs: int) -> None:
        quick = cause and not jobs and time.monotonic() - child.born < _QUICK_S
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        if cause:
            print(f"nbflow: worker {child.name} ended ({cause}); another takes its place", file=sys.stderr, flush=True)
        if self.quick_deaths >= _QUICK_DEATHS:
            print("nbflow: workers end as soon as they begin; giving up", file=sys.stderr, flush=True)
            self.stop()
        else:
            self._fill(slot)

    def interrupt(self, slot: int, lease: int | None = None) -> None:
        """Raise `Canceled` in the task that runs under this lease (by default the current one); killed after a grace."""
        running, _ = self.slots.running(slot)
        if running and lease in (None, running):
            self.slots.aim(slot, running)
            self.kill_at[slot] = (running, time.monotonic() + GRACE_S)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.workers[slot].pid, signal.SIGUSR1)

    def _kill_overdue(self) -> None:
        for slot in self.workers:
            deadline = self.slots.deadline(slot)
            if deadline and time.monotonic_ns() > deadline + GRACE_S * 1e9:  # its own alarm could not end it
                self.overdue.add(slot)
                os.kill(self.workers[slot].pid, signal.SIGKILL)
        for slot, (lease, due) in list(self.kill_at.items()):
            if self.slots.running(slot)[0] != lease:
                del self.kill_at[slot]
            elif time.monotonic() >= due:
                os.kill(self.workers[slot].pid, signal.SIGKILL)

    # -- Redis ------------------------------------------------------------------------------------------------------

    def _ask(self, *command: Any) -> Any:
        """Beat, tick and give back may be said twice; so a broken connection is only a delay."""
        return self.wire.ask(*command)

    def _try(self, *command: Any) -> Any:
        """A refusal is told and ends nobody: the workers live on, and the next tick tries again what is still due."""
        try:
            return self._ask(*command)
        except ReplyError as error:
            print(f"nbflow: {refusal(self.url, error)}", file=sys.stderr, flush=True)
            return None

    def _tell(self, *command: Any) -> Any:
        """Logs, which wait for nothing: a full server does without them."""
        try:
            return self.wire.call(*command)
        except OSError:
            return self.wire.again(*command, patience_s=5)

    def _hear(self) -> None:
        """RQ's commands: stop a job, kill its process, shut down."""
        try:
            messages = self.ear.arrived()
        except OSError:
            self._listen_again()
            return
        for message in messages:
            if message[0] == b"message":
                self._obey(message[1].decode().rpartition(":")[2], message[2])

    def _listen_again(self) -> None:
        self.poll.unregister(self.ear.fileno())
        self.ear.again("PING")
        self.poll.register(self.ear.fileno(), select.POLLIN)
        for child in self.workers.values():
            self.ear.send("SUBSCRIBE", f"rq:pubsub:{child.name}")

    def _obey(self, name: str, payload: bytes) -> None:
        slot = next((slot for slot, child in self.workers.items() if child.name == name), None)
        try:
            order: dict[str, Any] = dict(json.loads(payload))
        except (TypeError, ValueError):
            return
        if slot is None:
            return
        match order.get("command"):
            case "stop-job" | "stop-execution":
                self.interrupt(slot, order.get("lease"))
            case "kill-horse":
                os.kill(self.workers[slot].pid, signal.SIGKILL)
            case "shutdown":
                self.leaving.add(slot)  # somebody wants one worker less
                os.kill(self.workers[slot].pid, signal.SIGTERM)
            case _:
                pass

    def _beat(self) -> None:
        rows: list[Any] = []
        now = time.monotonic_ns()
        for slot, child in self.workers.items():
            jobs, seconds = self.slots.sums(slot)
            lease, since = self.slots.running(slot)
            long = lease if lease and now - since > self.beat_s * 0.9e9 else ""
            rows += [child.name, jobs, f"{seconds:.6f}", long]
        lost = self._ask(*self.scripts["beat"].command(*rows, lease_ms=int(self.lease_s * 1000)))
        self._drop({name.decode() for name in lost})
        self._try(*self.scripts["tick"].command())
        self._kill_overdue()

    def _drop(self, lost: set[str]) -> None:
        """Workers that were given up while nothing was heard of us: what they do counts no more."""
        for slot, child in self.workers.items():
            if child.name in lost and time.monotonic() - child.born > self.lease_s and slot not in self.kill_at:
                if self.slots.running(slot)[0]:
                    self.interrupt(slot)
                else:
                    os.kill(child.pid, signal.SIGKILL)

    # -- life -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until SIGTERM or SIGINT: then each worker ends its task and goes; a second signal kills."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        for slot in range(self.concurrency):
            self._fill(slot)
        due = time.monotonic() + self.beat_s
        while not self.stopping or self.workers:
            for fd, _ in self.poll.poll(max(0.0, due - time.monotonic()) * 1000):
                self._attend(fd)
            if not self.stopping and len(self.warm) < self.spares:
                self.warm.append(self._spawn(-1, "-"))
            if time.monotonic() >= due:
                self._beat()
                due = time.monotonic() + self.beat_s
        self._dismiss_spares()

    def _attend(self, fd: int) -> None:
        if fd == self.ear.fileno():
            self._hear()
            return
        slot = next((slot for slot, child in self.workers.items() if child.line.watch == fd), None)
        if slot is not None:
            self._died(slot)

    def _on_signal(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        sent = signal.SIGKILL if self.stopping else signal.SIGTERM
        self.stopping = True
        for child in self.workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, sent)

    def _dismiss_spares(self) -> None:
        for child in self.warm:
            child.close()  # an end of file at its gate
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)


def _cause(status: int, peak_kib: int) -> str:
    """Why a process ended, in words; '' if it ended well."""
    if os.WIFSIGNALED(status):
        peak = peak_kib / 1024 if sys.platform != "darwin" else peak_kib / 1024 / 1024
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}, peak memory {peak:.0f} MiB"
    code = os.WEXITSTATUS(status)
    return f"exit code {code}" if code else ""


def main(argv: list[str] | None = None) -> int:
    """`python -m nbflow.worker.supervisor --concurrency 2 --queues default`; the server and the secret by NBFLOW_*."""
    try:
        return _supervise(_options(argv))
    except NbflowError as error:
        print(error, file=sys.stderr)
        return 1


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nbflow worker")
    parser.add_argument("--url", default=os.environ.get("NBFLOW_REDIS_URL", "redis://127.0.0.1:6379/0"))
    parser.add_argument("--namespace", default=os.environ.get("NBFLOW_NAMESPACE", "nbflow"))
    workers = int(_number_in("NBFLOW_WORKERS", 0)) or os.cpu_count() or 1
    parser.add_argument("--concurrency", type=int, default=workers)
    parser.add_argument("--queues", default="default")
    parser.add_argument("--lease", type=float, default=_number_in("NBFLOW_LEASE_S", 10))
    parser.add_argument("--beat", type=float, default=float(os.environ.get("NBFLOW_HEARTBEAT_S", "1")))
    parser.add_argument("--spares", type=int, default=1)
    options = parser.parse_args(argv)
    for queue in options.queues.split(","):
        if queue != "*" and not is_queue_name(queue):
            raise CommandRefused(
                f"A queue cannot be called {queue!r}.",
                hint="Use at most 100 letters, digits, '_', '-' and '.'; several queues are divided by commas.",
            )
    return options


def _number_in(variable: str, default: float) -> float:
    """What a variable says. This module reads it by itself: it does without pydantic."""
    text = os.environ.get(variable, "")
    try:
        return float(text or default)
    except ValueError:
        raise CommandRefused(f"{variable} cannot be {text!r}: it is no number.", hint="Correct or unset it.") from None


def _supervise(options: argparse.Namespace) -> int:
    os.environ |= {
        "NBFLOW_REDIS_URL": options.url,
        "NBFLOW_NAMESPACE": options.namespace,
        "NBFLOW_QUEUES": options.queues,
    }
    try:
        supervisor = Supervisor(
            options.url,
            namespace=options.namespace,
            concurrency=options.concurrency,
            queues=options.queues.split(","),
            lease_s=options.lease,
            beat_s=options.beat,
            spares=options.spares,
        )
    except ReplyError as error:
        raise refusal(options.url, error) from error
    print(
        f"nbflow: {options.concurrency} workers on {options.queues} at {shown_url(options.url)}",
        file=sys.stderr,
        flush=True,
    )
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
