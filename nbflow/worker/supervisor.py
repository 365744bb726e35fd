"""The supervisor: starts N workers and a warm spare, renews their leases, hears RQ's commands for them, sees a death at
once and gives the task back, interrupts and kills.

It imports nothing heavy (no redis-py, no rq, no pydantic): 17 MB, and always quick to answer. What it knows of a
worker is its process, its slot of shared memory and its tape.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from nbflow.errors import ServerUnreachable
from nbflow.model.plain import block
from nbflow.store.keys import Keys
from nbflow.store.scripts import Scripts
from nbflow.store.wire import ReplyError, connect, refusal, shown_url
from nbflow.worker.child import Child, spawn
from nbflow.worker.herald import Herald
from nbflow.worker.orders import GRACE_S
from nbflow.worker.reckon import reckon
from nbflow.worker.shipping import last_words
from nbflow.worker.slots import Slots

__all__ = ["Supervisor"]

_APART_S = 10.0
"""A worker whose task has a process of its own kills that process when the grace is over, and has so long for it."""
_ANSWER_S = 10.0
"""A server that is silent for so long is taken for gone; whatever is asked here may be asked again."""
_AWAY_S = 2.0
"""Told to end, the server is left alone for so long after it did not answer: one wait for all workers, not one for each."""
_GOODBYE_S = 5.0
"""After the second word to end: until then it may be said to the server what the killed workers held."""
_SOONEST_S = 0.05
"""Timers may be due all the time; so long a supervisor lets them wait."""
_SLICES = 10
"""Of runs that go, at a beat: 5,000 keys."""
_QUICK_DEATHS, _QUICK_S = 6, 5.0
"""So many workers, one after the other, that die soon and without having ended a task, and the supervisor gives up."""


class _Enough(BaseException):
    """The time for goodbyes is over, whatever is waited for."""


class Supervisor:
    """Keeps `concurrency` workers working on `queues` until it is told to end."""

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        concurrency: int,
        lease_s: float,
        beat_s: float,
        spares: int = 1,
    ) -> None:
        self.url, self.concurrency, self.spares = url, concurrency, spares
        self.lease_s, self.beat_s = lease_s, beat_s
        self.next_s = beat_s
        self.keys = Keys(namespace)
        self.scripts = Scripts(self.keys)
        self.slots = Slots(n=concurrency)
        self.wire = connect(url, timeout=_ANSWER_S, scripts=self.scripts)
        self.wire.call(*self.scripts["beat"].command(lease_ms=0))  # of nobody: whoever lacks a right is told so now
        self.ear = connect(url)
        for wire in (self.wire, self.ear):
            wire.gives_up = lambda: self.asked > 0
        self.poll = select.poll()
        self.poll.register(self.ear.fileno(), select.POLLIN)
        self.base = (
            f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}"  # containers share host names and pids
        )
        self.count = 0
        self.workers: dict[int, Child] = {}
        self.warm: list[Child] = []
        self.kill_at: dict[int, tuple[int, float]] = {}
        self.leaving: set[int] = set()
        self.overdue: set[int] = set()
        self.stopped: set[int] = set()
        self.herald = Herald()
        self.stopping = False
        self.asked = self.heard = 0
        self.away_until = 0.0
        self.quick_deaths = 0
        self.gave_up = False

    # -- processes --------------------------------------------------------------------------------------------------

    def _spawn(self) -> Child:
        return spawn(self.slots.fd, max(1, (os.cpu_count() or 1) // self.concurrency))

    def _fill(self, slot: int) -> None:
        self.count += 1
        child = self.warm.pop(0) if self.warm else self._spawn()
        child.admit(slot, f"{self.base}.{self.count}")
        self.poll.register(child.line.watch, select.POLLIN)
        self.workers[slot] = child
        self.ear.send("SUBSCRIBE", f"rq:pubsub:{child.name}")

    def _died(self, slot: int) -> None:
        child = self.workers.pop(slot)
        was_used = self.slots.sums(slot)[0] > 0 or self.slots.running(slot)[0] > 0
        self.poll.unregister(child.line.watch)
        cause = child.reap()
        if cause and slot in self.overdue:
            cause = f"timeout: {cause}"
        elif cause and slot in self.stopped and slot in self.kill_at:
            cause = f"stopped: {cause}"
        self.overdue.discard(slot)
        self.stopped.discard(slot)
        with contextlib.suppress(ReplyError, OSError, ServerUnreachable):
            child.learn_its_secrets()
            shipped = self.slots.shipped(slot)
            last_words(
                self._tell, self.scripts["append"], self.keys, worker=child.name, tape=child.tape, shipped=shipped
            )
        self._try(*self.scripts["giveback"].command(worker=child.name, cause=cause))
        child.close()
        self.slots.clear(slot)
        self.kill_at.pop(slot, None)
        with contextlib.suppress(OSError):
            self.ear.send("UNSUBSCRIBE", f"rq:pubsub:{child.name}")
        if slot in self.leaving:
            self.stopping = self.stopping or not self.workers
        elif not self.stopping:
            self._replace(slot, child, cause, was_used=was_used)

    def _replace(self, slot: int, child: Child, cause: str, *, was_used: bool) -> None:
        quick = cause and not was_used and time.monotonic() - child.born < _QUICK_S
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        if cause:
            print(f"nbflow: worker {child.name} ended ({cause}); another takes its place", file=sys.stderr, flush=True)
        if self.quick_deaths >= _QUICK_DEATHS:
            print("nbflow: workers end as soon as they begin; giving up", file=sys.stderr, flush=True)
            self.gave_up = True
            self.stop()
        else:
            self._fill(slot)

    def interrupt(self, slot: int, lease: int | None = None) -> None:
        """Raise `Canceled` in the task that runs under this lease (by default the current one); killed after a grace."""
        if isinstance(lease, int):
            self.slots.aim(slot, lease)  # it may not have begun what it has just been given: then it never enters it
        running, _ = self.slots.running(slot)
        if running and lease in (None, running):
            self.slots.aim(slot, running)
            self.kill_at[slot] = (running, time.monotonic() + GRACE_S)
            self.workers[slot].tell(signal.SIGUSR1)

    def _kill_overdue(self) -> None:
        for slot in self.workers:
            deadline, grace_s = self.slots.deadline(slot), GRACE_S + self._more_s(slot)
            if deadline and time.monotonic_ns() > deadline + grace_s * 1e9:  # its own alarm could not end it
                self.overdue.add(slot)
                self.workers[slot].tell(signal.SIGKILL)
        for slot, (lease, due) in list(self.kill_at.items()):
            if self.slots.running(slot)[0] != lease:
                del self.kill_at[slot]
                self.stopped.discard(slot)
            elif time.monotonic() >= due + self._more_s(slot):
                self.workers[slot].tell(signal.SIGKILL)

    def _more_s(self, slot: int) -> float:
        return _APART_S if self.slots.is_apart(slot) else 0.0

    # -- Redis ------------------------------------------------------------------------------------------------------

    def _try(self, *command: Any) -> Any:
        """Beat, tick and give back may be said twice; so a broken connection is only a delay. A refusal is told and ends
        nobody: the workers live on, and the next tick tries again what is still due."""
        try:
            return self._unless_away(self.wire.ask, *command)
        except ReplyError as error:
            print(f"nbflow: {block(refusal(self.url, error))}", file=sys.stderr, flush=True)
        except (OSError, ServerUnreachable):
            if not self.asked:  # we end, and there is no server to end with: leases run out by themselves
                raise
        return None

    def _tell(self, *command: Any) -> Any:
        """Logs, which wait for nothing: a full server does without them."""
        return self._unless_away(self._tell_soon, *command)

    def _tell_soon(self, *command: Any) -> Any:
        try:
            return self.wire.call(*command)
        except OSError:
            return self.wire.again(*command, patience_s=5)

    def _unless_away(self, say: Callable[..., Any], *command: Any) -> Any:
        if time.monotonic() < self.away_until:
            raise ConnectionError(f"{shown_url(self.url)} did not answer just now")
        try:
            return say(*command)
        except (OSError, ServerUnreachable):
            if self.asked:
                self.away_until = time.monotonic() + _AWAY_S
            raise

    def _hear(self) -> None:
        """RQ's commands: stop a job, kill its process, shut down."""
        try:
            messages = self.ear.arrived()
        except OSError:
            self._listen_again()
            return
        for message in messages:
            if isinstance(message, ReplyError):
                raise refusal(self.url, message)
            if message[0] == b"message":
                self._obey(message[1].decode().rpartition(":")[2], message[2])

    def _listen_again(self) -> None:
        self.poll.unregister(self.ear.fileno())
        try:
            self.ear.again("PING")
        except (OSError, ServerUnreachable):
            return  # we were told to end meanwhile
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
                self._stop_job(slot, order)
            case "kill-horse":
                self.workers[slot].tell(signal.SIGKILL)
            case "shutdown":
                self.leaving.add(slot)  # somebody wants one worker less
                self.workers[slot].tell(signal.SIGTERM)
            case _:
                pass

    def _stop_job(self, slot: int, order: dict[str, Any]) -> None:
        """Ours name the lease they mean, RQ's the job: it must be the one that runs."""
        lease = order.get("lease")
        if "job_id" in order:
            running, _ = self.slots.running(slot)
            executions = f"{self.keys.rq_worker(self.workers[slot].name)}:executions"
            if not self._try("SISMEMBER", executions, f"{order['job_id']}:{running}"):
                return
            self.stopped.add(slot)
        self.interrupt(slot, lease)

    def _beat(self) -> None:
        rows: list[Any] = []
        registered: set[bytes] = set()
        now = time.monotonic_ns()
        for slot, child in self.workers.items():
            jobs, seconds = self.slots.sums(slot)
            lease, since = self.slots.running(slot)
            long = lease if lease and now - since > self.beat_s * 0.9e9 else ""
            rows += [child.name, jobs, f"{seconds:.6f}", long]
            if since:
                registered.add(child.name.encode())
        lost = self._try(*self.scripts["beat"].command(*rows, lease_ms=int(self.lease_s * 1000)))
        self._drop({name.decode() for name in registered.intersection(lost or ())})
        self._tick()
        self._retire()
        self._kill_overdue()

    def _tick(self) -> None:
        """What is due; and what is due before the next beat is done when it is."""
        reply = self._try(*self.scripts["tick"].command("schedules"))
        _, due_ms, asked, offers = reply or ((), b"", (), ())
        self.herald.tell(offers)
        reckon(asked, self._try, self.scripts["reckon"])
        self.next_s = self.beat_s if due_ms == b"" else min(self.beat_s, max(_SOONEST_S, int(due_ms) / 1000))

    def _retire(self) -> None:
        """Runs whose retention is over go, in slices; what is not done now is at the next beat."""
        for _ in range(_SLICES):
            if not self._try(*self.scripts["retire"].command()):
                return

    def _drop(self, lost: set[str]) -> None:
        """Workers that were given up while nothing was heard of us: what they do counts no more. (One that
        had not registered at that beat is not among them, however long it takes.)"""
        for slot, child in self.workers.items():
            if child.name in lost and slot not in self.kill_at:
                if self.slots.running(slot)[0]:
                    self.interrupt(slot)
                else:
                    child.tell(signal.SIGKILL)

    # -- life -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until SIGTERM or SIGINT: then each worker ends its task and goes; a second signal kills, and ends this within
        5 s even if the server does not answer."""
        try:
            self._run(self._open_ears())
        except _Enough:
            self._kill_all()
            print("nbflow: what the killed workers held is taken over when their leases are over", file=sys.stderr)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _run(self, ears: int) -> None:
        for slot in range(self.concurrency):
            self._fill(slot)
        due = time.monotonic() + self.beat_s
        while not self.stopping or self.workers:
            for fd, _ in self.poll.poll(max(0.0, due - time.monotonic()) * 1000):
                self._attend(fd, ears)
            if not self.stopping and len(self.warm) < self.spares:
                self.warm.append(self._spawn())
            if time.monotonic() >= due:
                self._beat()
                due = time.monotonic() + self.next_s
        for child in self.warm:
            child.close()
            child.reap()
        self.herald.close()

    def _open_ears(self) -> int:
        """A descriptor that becomes readable at each signal: what is to be done is done between two other things, never
        in the middle of one (a worker that is just being started would be overlooked)."""
        ears, mouth = os.pipe()
        for fd in (ears, mouth):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        signal.signal(signal.SIGALRM, self._enough)
        self.poll.register(ears, select.POLLIN)
        return ears

    def _note(self, *_: object) -> None:
        self.asked += 1
        if self.asked == 2:
            signal.setitimer(signal.ITIMER_REAL, _GOODBYE_S)

    def _enough(self, *_: object) -> None:
        raise _Enough

    def _kill_all(self) -> None:
        for child in self.workers.values():
            child.tell(signal.SIGKILL)

    def _attend(self, fd: int, ears: int) -> None:
        if fd == ears:
            self._hear_signals(ears)
        elif fd == self.ear.fileno():
            self._hear()
        else:
            slot = next((slot for slot, child in self.workers.items() if child.line.watch == fd), None)
            if slot is not None:
                self._died(slot)

    def _hear_signals(self, ears: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(ears, 512)
        while self.heard < self.asked:
            self.heard += 1
            self.stop()

    def stop(self) -> None:
        """Workers end the task they have, and go; said again, they are killed."""
        sent = signal.SIGKILL if self.stopping else signal.SIGTERM
        self.stopping = True
        for child in self.workers.values():
            child.tell(sent)
