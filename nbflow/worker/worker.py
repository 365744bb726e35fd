"""A worker process: a registered RQ worker that executes each task in its main thread, one round trip a task.

It has no heartbeat and listens to nobody: the supervisor does that for it. Its loop is: execute, settle (which hands
over the next task), and so on; when nothing waits, one blocking pop of a wake token, then a claim.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import rq
import rq.serializers

from nbflow.errors import ServerUnreachable, StoreError
from nbflow.model import veil
from nbflow.model.signing import Signer
from nbflow.store.connect import translated
from nbflow.store.dust import sweep
from nbflow.store.format import refuse_other_format
from nbflow.store.keys import Keys
from nbflow.store.scripts import Scripts
from nbflow.store.wire import ReplyError, Wire, connect, is_passing
from nbflow.worker.apart import Apart, Died, Origin
from nbflow.worker.bench import Bench
from nbflow.worker.interrupts import forget_in_children, handler_of
from nbflow.worker.reckon import reckon
from nbflow.worker.shipping import Shipper, Shipping
from nbflow.worker.slots import Slots
from nbflow.worker.tape import Tape
from nbflow.worker.task import Ending, Job, job_from_reply

__all__ = ["ALL_QUEUES", "FlowWorker", "rq_queue"]

WAIT_S, WAIT_ALL_S = 5, 1
SWEEP_S = 60.0
ANSWER_S = 5.0
ALL_QUEUES = "*"
SETTLE_ARGS = ("worker", "want", "job", "lease", "next", "run", "task", "attempt", "queue", "long", "outcome", "data")


class _Stop(BaseException):
    """The worker is to end, and waits for nothing."""


class FlowWorker(rq.SimpleWorker):
    """RQ's registration, keys and names; our loop."""

    def __init__(
        self,
        queues: list[Any],
        *,
        slots: Slots,
        slot: int,
        tape: Tape,
        url: str,
        keys: Keys,
        scripts: Scripts,
        signer: Signer,
        artifacts: str,
        all_queues: bool,
        lease_s: float,
        beat_s: float,
        origin: Origin,
        **options: Any,
    ) -> None:
        base: Any = super()  # RQ leaves some parameters of its constructor untyped
        base.__init__(queues, serializer=rq.serializers.JSONSerializer, **options)
        self._slots, self._slot, self._url = slots, slot, url
        self._stopping = self._waiting = self._holds = False
        self._lease = 0
        self._due, self._sweep_due = math.inf, time.monotonic() + SWEEP_S
        self._all_queues, self._lease_ms = all_queues, int(lease_s * 1000)
        self._long_ns = int(beat_s * 0.5e9)  # a beat shows what runs for nine tenths of one: none of those is missed
        self.scripts, self._keys = scripts, keys
        self.wire = connect(url, scripts=scripts)
        refuse_other_format(self.wire.call, keys)
        self._bench = Bench(
            self.wire, keys, scripts, signer=signer, artifacts=artifacts, tape=tape, slots=slots, slot=slot
        )
        self._apart = Apart(origin, slots, slot, tape)
        self._shipper = Shipper(tape, self.scripts["append"], slots, slot, partial(veil.learn_from, origin.values))
        self._interrupts, self._reads = self._bench.interrupts, self._bench.reads
        self._interrupts.on_idle_alarm, self._interrupts.on_interrupt = self._leave, self._apart.pass_on
        self._home = os.getcwd()  # noqa: PTH109 - as text: it is gone back to before each task

    def subscribe(self) -> None:
        """The supervisor hears RQ's commands."""

    # -- signals ----------------------------------------------------------------------------------------------------

    def _on_stop(self, *_: object) -> None:
        self._stopping = True
        if self._waiting:
            raise _Stop
        if not self._holds:  # the server has this long to answer what it was asked, whatever that is
            signal.setitimer(signal.ITIMER_REAL, ANSWER_S)

    def _leave(self) -> None:
        if self._may_leave():
            raise _Stop

    # -- the loop ---------------------------------------------------------------------------------------------------

    def work(self, *_: Any, **__: Any) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Until SIGTERM, or until this worker was given up. Registration ends with the supervisor's give-back: RQ's own
        `register_death` would delete the set that names what we hold."""
        self._interrupts.install()
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        forget_in_children()
        self.wire.gives_up = self._may_leave
        try:
            # A lease comes before the name is known to RQ: whoever dies from here on is given back when it is over.
            due_ms = int(self._ask(("TIME",))[0]) * 1000 + self._lease_ms
            self._ask(("ZADD", self._keys.workers(), due_ms, self.name))
            with translated(self._url):
                self.register_birth()
                self.set_state("idle")
            self._ask(self.scripts["beat"].command(self.name, 0, 0, "", lease_ms=self._lease_ms))  # no task before that
            self._slots.begin(self._slot, 0, time.monotonic_ns())  # from now on, who does not know us has given us up
            self._bench.capture.install()
            self._shipper.start(self._second_wire)
            self._loop()
        except _Stop:
            pass
        except (OSError, ServerUnreachable):
            if not self._may_leave():
                raise
        return True

    def _may_leave(self) -> bool:
        """Told to end, and without a result in hand, this worker waits for no server that is away. (A claim whose answer
        got lost is given back by the supervisor, or when its lease is over.)"""
        return self._stopping and not self._holds

    def _second_wire(self) -> Wire:
        return connect(self._url, scripts=self.scripts)

    def _loop(self) -> None:
        self._look_for_queues()
        reply = self._claim("idle")
        while True:
            if reply is None:
                reply = self._wait()
            job = job_from_reply(reply)
            ended, took_ns = self._execute(job)
            status, reply = self._lose(job, ended) if isinstance(ended, Died) else self._settle(job, ended, took_ns)
            if status == b"STALE" or self._stopping:
                return

    def _execute(self, job: Job) -> tuple[Ending | Died, int]:
        self._holds = True
        self._bench.capture.fresh()
        self._as_it_was()
        start = time.monotonic_ns()
        self._slots.begin(self._slot, self._lease, start)
        self._shipper.begin(Shipping(self.name, job.id, self._lease, job.run, job.task, job.attempt))
        place = self._apart if job.is_apart else self._bench
        ended = place.execute(job, self.name, self._lease)
        self._shipper.end(self.wire)
        took = time.monotonic_ns() - start
        self._slots.end(self._slot, took / 1e9)
        return ended, took

    def _as_it_was(self) -> None:
        """What an earlier task may have changed and this one must not find: the folder, the handlers of our signals."""
        os.chdir(self._home)
        if handler_of(signal.SIGTERM) != self._on_stop:
            signal.signal(signal.SIGTERM, self._on_stop)
        self._interrupts.install()

    def _settle(self, job: Job, ended: Ending, took_ns: int) -> tuple[bytes, list[bytes | None] | None]:
        if not ended.opened and not self._reads.is_of_run(job):
            self._reads.forget(job, self.name, self._lease)
            self._holds = False
            return b"FORGOTTEN", None if self._stopping else self._claim("busy")
        lease, self._lease = self._lease, self._lease + 1
        ended = ended.settled()
        command = (
            "EVALSHA", self.scripts["settle"].sha, len(self._queue_keys), *self._queue_keys,
            self.name, "0" if self._stopping else "1", job.id, lease, self._lease, job.run, job.task, job.attempt, job.queue,
            "1" if took_ns > self._long_ns else "0", ended.outcome, ended.data, *ended.emits,
        )  # fmt: skip
        status, reply, slices, *due_ms = self._ask(command)
        self._tick_in(*due_ms)
        self._holds = False
        if ended.delay_ms is not None:
            self._tick_in(ended.delay_ms)
        if slices and not self._stopping:
            self._slice()
        self._tick_if_due()
        if reply is None and status != b"STALE" and not self._stopping and (slices or status == b"AGAIN"):
            reply = self._claim("busy")
        return status, reply

    def _lose(self, job: Job, died: Died) -> tuple[bytes, list[bytes | None] | None]:
        """The process of an isolated task is dead. The task goes back, and most likely comes to us again."""
        lose = self.scripts["lose"].command(worker=self.name, job=job.id, lease=self._lease, cause=died.cause)
        status = self._ask(lose)
        self._holds = False
        return status, None if self._stopping or status == b"STALE" else self._claim("idle")

    def _claim(self, was: str) -> list[bytes | None] | None:
        """The next task; what is left to be sliced is sliced on the way, until there is a task or nothing of either."""
        while True:
            reply, slices, *due_ms = self._claim_once(was)
            self._tick_in(*due_ms)
            if slices:
                self._slice()
            if reply is not None or not slices or self._stopping:
                return reply

    def _claim_once(self, was: str) -> Sequence[Any]:
        self._lease += 1
        named = {"worker": self.name, "next": self._lease}
        claim = self.scripts["claim"]
        try:
            return self.wire.call(*claim.command(keys=self._queue_keys, was=was, **named))
        except OSError:
            return self.wire.again(*claim.command(keys=self._queue_keys, was="again", **named))
        except ReplyError as error:
            if is_passing(error):
                return None, 0  # we hold nothing: look again after the next pop, where a stop may come between
            raise

    def _wait(self) -> list[bytes | None]:
        """Idle. The claim after the time-out is the safety net of a lost token."""
        while True:
            self._waiting = True  # a stop may end the pop, never a claim
            try:
                if self._stopping:
                    raise _Stop
                patience_s = self._patience_s()
                self.wire.call_within(patience_s, "BLPOP", *self._tokens, patience_s)
            except (OSError, ReplyError) as error:
                if isinstance(error, ReplyError) and not is_passing(error):
                    raise
                self._waiting = False
                self.wire.again("PING")
            finally:
                self._waiting = False
            self._tick_if_due()
            self._sweep_if_due()
            self._look_for_queues()
            reply = self._claim("idle")
            if reply is not None:
                return reply

    def _patience_s(self) -> float:
        """How long to wait for a token: not beyond what is due by then. (0 would be for ever.)"""
        longest = WAIT_ALL_S if self._all_queues else WAIT_S
        return max(0.001, min(longest, self._due - time.monotonic()))

    def _tick_in(self, ms: int | None = None) -> None:
        """What this worker put off is due then: an attempt, or a task for which a rate has no room."""
        if ms is not None:
            self._due = min(self._due, time.monotonic() + ms / 1000)

    def _tick_if_due(self) -> None:
        """The supervisor ticks once a second; what this worker itself put off is due to the millisecond."""
        if time.monotonic() >= self._due:
            _, due_ms, asked = self._ask(self.scripts["tick"].command())
            reckon(asked, lambda *command: self._ask(command), self.scripts["reckon"])
            self._due = math.inf if due_ms == b"" else time.monotonic() + int(due_ms) / 1000

    def _sweep_if_due(self) -> None:
        """Idle: a look at artifacts beside the server that nobody needs, a few at a time. No script reaches there."""
        if time.monotonic() >= self._sweep_due:
            self._sweep_due = time.monotonic() + SWEEP_S
            with contextlib.suppress(StoreError):
                sweep(self._bench.artifacts, self._reads.ask, self._keys, self.scripts["swept"], 20)

    def _look_for_queues(self) -> None:
        """The queues to serve. A worker of all queues looks whenever it is idle which there are by now."""
        if self._all_queues:
            mine = {self._keys.rq_queue_name(name.decode()) for name in self._ask(("SMEMBERS", self._keys.queues()))}
            for name in sorted(mine.difference(queue.name for queue in self.queues)):
                self._serve(name)
        self._queue_keys = [queue.key for queue in self.queues]
        self._tokens = [self._keys.wake(queue.name.removeprefix(self._keys.queue_prefix)) for queue in self.queues]

    def _serve(self, name: str) -> None:
        """One queue more, and RQ's tools shall see it."""
        self.queues.append(rq_queue(name, self.connection))
        self._ask(("HSET", self.key, "queues", ",".join(queue.name for queue in self.queues)))
        self._ask(("SADD", f"rq:workers:{name}", self.key))

    def _slice(self) -> None:
        """Make the next jobs of a map that was counted but not made yet: one script, so that nobody waits long."""
        self._ask(self.scripts["slice"].command())

    def _ask(self, command: tuple[Any, ...]) -> Any:
        """Say it; when the answer got lost, or the server is full, say the same again until it is taken. Every script
        we say may come twice."""
        return self.wire.ask(*command)


def rq_queue(name: str, connection: Any) -> rq.Queue:
    return rq.Queue(name, connection=connection, serializer=rq.serializers.JSONSerializer)
