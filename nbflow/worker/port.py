"""What a task reads and writes on its way, over the worker's one connection: state, input, artifacts, gathered topics."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nbflow.errors import Canceled
from nbflow.model.codec import Codec
from nbflow.model.events import Event, event_from_fields
from nbflow.store.keys import Keys
from nbflow.store.scripts import Script, Scripts
from nbflow.store.wire import Wire
from nbflow.worker.execute import Executor
from nbflow.worker.started import Start
from nbflow.worker.starting import Parent, Starter
from nbflow.worker.state import Change
from nbflow.worker.tape import Tape
from nbflow.worker.task import Job

__all__ = ["Desk", "WorkerPort", "WorkerReads", "drawn"]


PAGE = 1000


class WorkerReads:
    """Reads by the wire, and what an artifact store needs of a client. `run` is that of the task at hand: it owns what is
    written."""

    def __init__(self, wire: Wire, keys: Keys, scripts: Scripts) -> None:
        self._wire, self._keys = wire, keys
        self._own, self._recall = scripts["own"], scripts["recall"]
        self.run = ""

    def ask(self, *command: Any) -> Any:
        return self._wire.ask(*command)

    def get(self, key: str) -> bytes | None:
        return self.ask("GET", key)

    def set(self, key: str, value: Any) -> Any:
        return self.ask("SET", key, bytes(value))

    def exists(self, *keys: str) -> int:
        return self.ask("EXISTS", *keys)

    def delete(self, *keys: str) -> int:
        return self.ask("DEL", *keys)

    def bundle(self, digest: str) -> bytes | None:
        return self.get(self._keys.bundle(digest))

    def emitted(self, run: str, topic: str) -> dict[str, str]:
        flat = self.ask("HGETALL", self._keys.emits(run, topic))
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def is_of_run(self, job: Job) -> bool:
        """Whether the run made this job, for a step of its plan: not so if somebody else put it into a queue."""
        return bool(
            self.ask("SISMEMBER", self._keys.open(job.run), job.id)
            and self.ask("HEXISTS", self._keys.plan(job.plan), f"step:{job.step}")
        )

    def forget(self, job: Job, worker: str, lease: int) -> None:
        """Drop a job that no run made."""
        self.ask("SREM", f"{self._keys.rq_worker(worker)}:executions", f"{job.id}:{lease}")
        self.ask("SREM", self._keys.open(job.run), job.id)
        self.ask("DEL", self._keys.rq_job(job.id))

    def own(self, *blob: bytes, **named: str) -> Any:
        return self.ask(*self._own.command(*blob, **named))

    def input(self, run: str) -> bytes:
        return self.ask("HGET", self._keys.run(run), "input")

    def events(self, run: str) -> Iterator[Event]:
        """The deciding events of another run, a page at a time; none if it is not there."""
        flow = (self.ask("HGET", self._keys.run(run), "flow") or b"").decode()
        last = "0-0"
        while flow and (entries := self.ask("XRANGE", self._keys.stream(run), f"({last}", "+", "COUNT", PAGE)):
            for event_id, flat in entries:
                texts = [part.decode() for part in flat]
                last = event_id.decode()
                yield event_from_fields(last, dict(zip(texts[::2], texts[1::2], strict=True)), run, flow)

    def parent(self, run: str) -> Parent:
        """What the run hands on to those that it starts."""
        found = self.ask("HMGET", self._keys.run(run), "along", "alongsig", "queue", "priority", "by", "depth")
        along, signature, queue, priority, by, depth = [(part or b"").decode() for part in found]
        return Parent(along, signature, queue, priority, by or "{}", int(depth or 0))

    def newest(self, flow: str) -> tuple[int, str] | None:
        """The newest published version of a flow, and its record."""
        number = self.ask("HGET", self._keys.versions(flow), "newest")
        record = number and self.ask("HGET", self._keys.versions(flow), number)
        return (int(number), record.decode()) if record else None

    def own_code(self, run: str, code: str) -> bool:
        return self.own(run=run, digest=code, how="run") == b"OK"

    def line(self, run: str) -> str:
        return (self.ask("HGET", self._keys.run(run), "line") or run.encode()).decode()

    def trigger(self, run: str) -> tuple[bytes | None, bytes | None]:
        """What the run was told of what started it, and its signature."""
        text, signature = self.ask("HMGET", self._keys.run(run), "trigger", "triggersig")
        return text, signature

    def state(self, run: str, key: str = "") -> dict[str, str]:
        """All of it, or one value, as far as its time is not over."""
        flat = self.ask(*self._recall.command(run=run, key=key))
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def holds(self, worker: str, execution: str) -> bool:
        return bool(self.ask("SISMEMBER", f"{self._keys.rq_worker(worker)}:executions", execution))


@dataclass
class Desk:
    """What the ports of a worker share: the way to the server, the tape, the executor. One conversation at a time, and
    none is cut in the middle by an interruption."""

    reads: WorkerReads
    script: Script
    tape: Tape
    executor: Executor
    shield: Callable[[], AbstractContextManager[None]]
    lock: threading.RLock = field(default_factory=threading.RLock)
    nonces: Iterator[int] = field(default_factory=itertools.count)

    def port(self, job: Job, worker: str, lease: int) -> WorkerPort:
        self.reads.run = job.run
        return WorkerPort(self, job, worker, lease)

    @cached_property
    def starter(self) -> Starter:
        return Starter(self.reads, self.executor)

    @contextmanager
    def talk(self) -> Generator[None]:
        is_main = threading.current_thread() is threading.main_thread()
        with self.lock, self.shield() if is_main else nullcontext():
            yield


@dataclass(slots=True)
class WorkerPort:
    """The `Port` of one task's context. User code may call it from any of its threads, also from one that outlives the
    task: then it says that this execution is over, and touches no other."""

    desk: Desk
    job: Job
    worker: str
    lease: int
    is_over: bool = False

    @contextmanager
    def _talk(self) -> Generator[Job]:
        with self.desk.talk():
            if self.is_over:
                raise Canceled("this execution is over")
            yield self.job

    def record(self, kind: str, data: dict[str, Any]) -> None:
        if not self.is_over:
            self.desk.tape.record(kind, data)

    def read_input(self) -> Any:
        with self._talk() as job:
            return self.desk.executor.input(job, self.desk.reads.input(job.run) or b"")

    def read_trigger(self) -> str:
        with self._talk() as job:
            return self.desk.executor.trigger(job, *self.desk.reads.trigger(job.run))

    def read_state(self, key: str | None) -> dict[str, str]:
        with self._talk() as job:
            return self.desk.reads.state(job.run, key or "")

    def state(self, change: Change) -> str:
        with self._talk() as job:
            reply = self.desk.reads.ask(
                *self.desk.script.command(
                    worker=self.worker, job=job.id, lease=self.lease, run=job.run, task=job.task, attempt=job.attempt,
                    operation=change.operation, key=change.key, value=change.text, stays=change.stays, was=change.was,
                    nonce=f"{os.getpid()}:{next(self.desk.nonces)}",
                )
            )  # fmt: skip
        if reply[0] == b"LOST":
            raise Canceled("this execution was given up: its changes of state no longer count")
        return change.outcome(reply[0].decode(), str(reply[1], "utf-8") if isinstance(reply[1], bytes) else "")

    def keep(self, name: str, value: Any) -> None:
        with self._talk() as job:
            text = self._codec(job).encode(drawn(value))
        self.record("artifact", {"name": name, "ref": json.loads(text)})

    def line(self) -> str:
        with self._talk() as job:
            return self.desk.reads.line(job.run)

    def start_flow(self, flow: str, values: Any, number: int) -> Start:
        with self._talk() as job:
            return self.desk.starter.start(job, flow, values, number)

    def is_canceled(self) -> bool:
        if self.is_over:
            return True
        with self._talk() as job:
            return not self.desk.reads.holds(self.worker, f"{job.id}:{self.lease}")

    def _codec(self, job: Job) -> Codec:
        return self.desk.executor.codec(job)


def drawn(value: Any) -> Any:
    """A figure is kept as the PNG it draws."""
    if type(value).__module__.startswith("matplotlib") and hasattr(value, "savefig"):
        out = io.BytesIO()
        value.savefig(out, format="png")
        return out.getvalue()
    return value
