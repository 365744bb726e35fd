"""What a person does to one task: cancel it, have it tried again, give its result, look at it in a debugger."""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from nbflow.engine.codecs import Codecs, opening
from nbflow.engine.launch import who
from nbflow.errors import Canceled, CommandRefused, RunEnded, UnknownRun
from nbflow.model.artifacts import MemoryArtifacts, StagedArtifacts
from nbflow.model.codec import Codec
from nbflow.model.events import Event
from nbflow.model.signing import Signer
from nbflow.store.artifacts import StoredArtifacts
from nbflow.store.connect import Store, translated
from nbflow.store.owners import Owner, owned_by
from nbflow.watch.task import DebugCall, TaskAttempt
from nbflow.worker.by_hand import ending_by_hand
from nbflow.worker.context import running
from nbflow.worker.execute import Call, Executor
from nbflow.worker.kept import RunState
from nbflow.worker.task import Job, job_from_reply
from nbflow.worker.unheard import Unheard

__all__ = ["Hands"]

_SLICES = 20
"""So many slices of what follows are done by who acts; workers do the rest."""


class Hands:
    """Acts on tasks of one store. The code of a run is opened only once its signature is verified."""

    def __init__(self, store: Store, signer: Signer, artifacts: StoredArtifacts, codecs: Codecs) -> None:
        self._store, self._signer, self._artifacts, self._codecs = store, signer, artifacts, codecs

    def cancel(self, at: TaskAttempt, reason: str) -> bool:
        """End a task without a result. False if this attempt is not under way any more."""
        return self._act(at, "cancel", {"reason": reason or "by_hand", "by": who()})

    def retry(self, at: TaskAttempt, reason: str) -> bool:
        """Have a task tried again at once."""
        told = {"error": reason or "tried again by hand", "traceback": "", "reason": "by_hand", "by": who()}
        return self._act(at, "retry", told | {"delay": 0, "nextAttempt": at.attempt + 1})

    def complete(self, at: TaskAttempt, value: Any, emits: Mapping[str, Any], reason: str) -> bool:
        """Give the result of a task, and what it emits. It is encoded as a worker would, and the run owns what lies
        elsewhere before it is said."""
        staged = StagedArtifacts(self._artifacts)
        executor, job = Executor(_Reads(self._store), self._signer, staged), self._job(at)
        with opening:
            attempt = executor.attempt(job)
            theirs = self._as_theirs(at.run, attempt.codec, [value, dict(emits)])
            with executor.world(job).entered():  # the functions that name elements are the author's
                ending = ending_by_hand(attempt, executor.function(job), *theirs())
        told = json.loads(ending.data) | {"by": who()} | ({"reason": reason} if reason else {})
        self._own(at.run, staged)
        return self._act(at, "complete", told, *ending.emits)

    def debug(self, at: TaskAttempt) -> DebugCall:
        """The step's function and what the task received."""
        executor, job = Executor(_Reads(self._store), self._signer, self._artifacts), self._job(at)
        with translated(self._store.url):
            fields = cast("dict[bytes, bytes]", self._store.client.hgetall(self._store.keys.run(at.run)))
            kept = cast("dict[str, str]", self._store.text.hgetall(self._store.keys.state(at.run)))
        state = RunState(kept, lambda: 0, lambda _: None)
        port = Unheard(job, executor, {name.decode(): value for name, value in fields.items()}, state)
        with opening, executor.world(job).entered():
            call = executor.call(job, port)
        return DebugCall(call.function, call.args, call.kwargs, lambda: _within(executor, job, call))

    def _as_theirs(self, run: str, codec: Codec, values: Any) -> Any:
        """Objects of classes of this process, as the run's code has them: a way to open what was packed here."""
        memory = MemoryArtifacts()
        known: dict[str, Any] = {"signer": self._signer, "artifacts": memory, "open_pickles": True}
        text = Codec(types=self._codecs.of_run(run).types, **known).encode(values, name="value")
        return lambda: Codec(types=codec.types, **known).decode(text)

    def _own(self, run: str, staged: StagedArtifacts) -> None:
        owner = Owner(run, lambda *blob, **named: self._store.run_script("own", *blob, **named))
        try:
            with translated(self._store.url):
                staged.flush(lambda store: owned_by(owner, store))
        except Canceled:
            raise _unknown(run) from None

    def _job(self, at: TaskAttempt) -> Job:
        reply = self._store.run_script("peek", **at._asdict())
        if not reply:
            raise _unknown(at.run)
        return job_from_reply(reply)

    def _act(self, at: TaskAttempt, what: str, data: dict[str, Any], *emits: Any) -> bool:
        text = json.dumps(data, separators=(",", ":"))
        reply = self._store.run_script("act", *emits, **at._asdict(), what=what, data=text, nonce=uuid.uuid4().hex)
        match reply[0]:
            case b"UNKNOWN":
                raise _unknown(at.run)
            case b"ENDED":
                raise RunEnded(
                    f"The run {at.run[:8]} is {reply[1].decode()} already.",
                    hint="run.resume() executes what is missing.",
                )
            case b"QUEUED":
                raise CommandRefused(
                    f"The task {at.task!r} waits for a worker already.", hint=f"See run.why({at.task!r})."
                )
            case b"HELD":
                raise CommandRefused(
                    f"The task {at.task!r} was not tried yet: it waits for what its hold= says.",
                    hint=f"End its wait with run.resolve({at.task!r}, ...).",
                )
            case b"GONE":
                return False
            case _:
                self._slice()
                return True

    def _slice(self) -> None:
        with translated(self._store.url):
            for _ in range(_SLICES):
                if not self._store.client.exists(f"{self._store.keys.namespace}:slices"):
                    return
                self._store.run_script("slice")


def _unknown(run: str) -> UnknownRun:
    return UnknownRun(f"There is no run {run!r} (any more).", hint="nbflow.runs() lists them.")


@contextmanager
def _within(executor: Executor, job: Job, call: Call) -> Generator[None]:
    """Where a step is called: its modules are those of its run, and `nbflow.current()` is its context."""
    with executor.world(job).entered():
        token = running.set(call.context)
        try:
            yield
        finally:
            running.reset(token)


class _Reads:
    """What is read of a run beside a task itself."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def bundle(self, digest: str) -> bytes | None:
        with translated(self._store.url):
            blob: Any = self._store.client.get(self._store.keys.bundle(digest))
        return blob

    def events(self, run: str) -> Iterator[Event]:
        """No run that it awaited: what is done by hand takes no result of one."""
        return iter(())

    def emitted(self, run: str, topic: str) -> dict[str, str]:
        with translated(self._store.url):
            found: Any = self._store.text.hgetall(self._store.keys.emits(run, topic))
        return found
