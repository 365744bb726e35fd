"""What a task reads and writes on its way, over the worker's one connection: state, input, artifacts, gathered topics."""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from nbflow.errors import Canceled, CommandRefused, PayloadError
from nbflow.model.codec import Codec
from nbflow.store.keys import Keys
from nbflow.store.scripts import Script
from nbflow.store.wire import Wire
from nbflow.worker.execute import Executor
from nbflow.worker.tape import Tape
from nbflow.worker.task import Job

__all__ = ["WorkerPort", "WorkerReads"]


class WorkerReads:
    """Reads by the wire, and what an artifact store needs of a client. Digests that were written are remembered until
    the task is over."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire, self._keys = wire, keys
        self.written: set[str] = set()

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

    def own(self, run: str, digests: set[str]) -> None:
        self.ask("SADD", self._keys.owned(run), *digests)

    def input(self, run: str) -> bytes:
        return self.ask("HGET", self._keys.run(run), "input")

    def state(self, run: str) -> dict[str, str]:
        flat = self.ask("HGETALL", self._keys.state(run))
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def state_value(self, run: str, key: str) -> bytes | None:
        return self.ask("HGET", self._keys.state(run), key)

    def holds(self, worker: str, execution: str) -> bool:
        return bool(self.ask("SISMEMBER", f"{self._keys.rq_worker(worker)}:executions", execution))


class WorkerPort:
    """The `Port` of a context on a worker. User code may call it from any of its threads."""

    def __init__(
        self,
        reads: WorkerReads,
        script: Script,
        tape: Tape,
        executor: Executor,
        *,
        shield: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._reads, self._script, self._tape, self._executor, self._shield = reads, script, tape, executor, shield
        self._lock = threading.RLock()
        self._nonces = itertools.count(1)
        self._job: Job | None = None
        self._worker, self._lease = "", 0

    def begin(self, job: Job, worker: str, lease: int) -> None:
        self._job, self._worker, self._lease = job, worker, lease

    @contextmanager
    def _talk(self) -> Generator[Job]:
        """One conversation at a time, and none is cut in the middle by an interruption."""
        is_main = threading.current_thread() is threading.main_thread()
        with self._lock, self._shield() if is_main else nullcontext():
            assert self._job is not None
            yield self._job

    def record(self, kind: str, data: dict[str, Any]) -> None:
        self._tape.record(kind, data)

    def read_input(self) -> Any:
        with self._talk() as job:
            return self._executor.input(job, self._reads.input(job.run) or b"")

    def read_state(self, key: str | None) -> dict[str, Any]:
        with self._talk() as job:
            if key is None:
                return {name: json.loads(text) for name, text in self._reads.state(job.run).items()}
            text = self._reads.state_value(job.run, key)
            return {} if text is None else {key: json.loads(text)}

    def state(self, operation: str, key: str, value: Any) -> Any:
        text = "" if operation == "delete" else _state_text(key, value)
        with self._talk() as job:
            reply = self._reads.ask(
                *self._script.command(
                    worker=self._worker, job=job.id, lease=self._lease, run=job.run, task=job.task, attempt=job.attempt,
                    operation=operation, key=key, value=text, nonce=next(self._nonces),
                )
            )  # fmt: skip
        if reply[0] == b"LOST":
            raise Canceled("this execution was given up: its changes of state no longer count")
        if reply[0] == b"NUMBER":
            raise CommandRefused(
                f"The state {key!r} is {reply[1].decode()[:60]}, which is no number.",
                hint="Use ctx.state.set to replace it.",
            )
        return json.loads(reply[1]) if reply[1] else None

    def keep(self, name: str, value: Any) -> None:
        with self._talk() as job:
            text = self._codec(job).encode(_drawn(value))
        self._tape.record("artifact", {"name": name, "ref": json.loads(text)})

    def is_canceled(self) -> bool:
        with self._talk() as job:
            return not self._reads.holds(self._worker, f"{job.id}:{self._lease}")

    def own_artifacts(self, run: str) -> None:
        """The run owns what its task wrote, before anything refers to it."""
        if self._reads.written:
            self._reads.own(run, self._reads.written)
            self._reads.written.clear()

    def _codec(self, job: Job) -> Codec:
        return self._executor.codec(job)


def _state_text(key: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PayloadError(
            f"The state {key!r} is no JSON value ({error}).", hint="Keep text, numbers, lists and dicts; emit the rest."
        ) from error


def _drawn(value: Any) -> Any:
    """A figure is kept as the PNG it draws."""
    if type(value).__module__.startswith("matplotlib") and hasattr(value, "savefig"):
        out = io.BytesIO()
        value.savefig(out, format="png")
        return out.getvalue()
    return value
