"""One attempt of one task: open the code, check that the run is ours, bind what it receives, call the step, say how it
ended. It knows no queue and no lease; what it must read it reads through a `Fetch`.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from nbflow.define.answers import answer_of
from nbflow.define.awaits import answer_type
from nbflow.define.bundle import LoadedFlow, open_bundle
from nbflow.define.plan import Route, routes
from nbflow.define.returns import ReturnTypes
from nbflow.define.signature import Binder
from nbflow.define.world import World
from nbflow.errors import BundleUnsigned, InternalError, PackageMissing, PythonMismatch, SignatureMismatch
from nbflow.model.artifacts import ArtifactStore
from nbflow.model.awaits import Await
from nbflow.model.codec import Codec
from nbflow.model.definition import FlowSpec, Form, StepSpec, Term, failed_topic
from nbflow.model.events import Event
from nbflow.model.ids import index_sort_key
from nbflow.model.runs import run_signature_parts, trigger_signature_parts
from nbflow.model.signing import Signer
from nbflow.worker import coroutines
from nbflow.worker.context import Context, Port, TaskFacts, running
from nbflow.worker.ending import Attempt, failure
from nbflow.worker.interrupts import Guard
from nbflow.worker.joining import result_of
from nbflow.worker.task import Ending, Job

__all__ = ["Call", "Executor", "Fetch", "KeptList"]

_BUNDLES = 16
_RUNS = 10_000
_INSTALLED_MS, _NEVER_MS = 300_000, 10**12


class Fetch(Protocol):
    """What an execution reads beside what the claim handed over."""

    def bundle(self, digest: str) -> bytes | None: ...
    def emitted(self, run: str, topic: str) -> dict[str, str]: ...
    def events(self, run: str) -> Iterator[Event]: ...


class KeptList(list[Any]):
    """What `collect(..., failures="keep")` hands over: the payloads, and `.failed`, the failures by key or index."""

    failed: dict[Any, Any]


@dataclass(slots=True)
class _Code:
    """A bundle that was opened, and what was made of it once."""

    flow: LoadedFlow
    routes: dict[str, Route]
    binders: dict[str, Binder]
    codec: Codec
    keys: dict[str, Callable[[Any], Any]]


class Call(NamedTuple):
    """A step's function, and all that it is called with."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: Context


class Executor:
    """Executes tasks, one at a time, in the thread it was made in."""

    def __init__(
        self, fetch: Fetch, signer: Signer, artifacts: ArtifactStore, on_open: Callable[[], None] = lambda: None
    ) -> None:
        self._on_open = on_open
        self._fetch, self._signer, self._artifacts = fetch, signer, artifacts
        self._codes: OrderedDict[str, _Code] = OrderedDict()
        self._verified: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._pid = os.getpid()

    def execute(self, job: Job, port: Port, guard: Guard) -> Ending:
        """The ending of the attempt. The guard is told when user code begins and ends: only there may it be
        interrupted. Never raises but for what ends the process."""
        start = time.perf_counter()
        attempt: Attempt | None = None
        received: Any = None
        try:
            attempt = self.attempt(job)
            code, step = self._open(job.bundle, job.run), attempt.step
            code.flow.world.activate()
            context = Context(self._facts(job, step), port)
            if step.hold is not None:
                context.resolved = self._resolved(code, job, step.hold)
            received = self._received(code, job, step)
            if job.joins:
                return attempt.joined(*result_of(job, self._fetch.events, code.codec), time.perf_counter() - start)
            args, kwargs = self._bind(code, job, step, received, context)
            value = self._call(code.flow.steps[step.name].function, args, kwargs, context, guard)
            took_s = time.perf_counter() - start
            return attempt.completed(value, context.emissions, context.starts, took_s, looked=context.looked)
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is how its attempt ended
            guard.leave()
            took = time.perf_counter() - start
            if attempt is None:
                return replace(failure(error, took), opened=False, **_lacks(error))
            return attempt.failed(error, took, _plain(received))

    def attempt(self, job: Job) -> Attempt:
        """What turns the end of this attempt into what is written of it. A TrustError if the task is not one of ours."""
        self._verify(job)
        code = self._open(job.bundle, job.run)
        step = self._step(code, job)
        return Attempt(job, step, code.routes[step.name], code.codec, code.keys)

    def world(self, job: Job) -> World:
        """What the task's code finds when it imports."""
        return self._open(job.bundle, job.run).flow.world

    def function(self, job: Job) -> Callable[..., Any]:
        """The step's function."""
        return self._open(job.bundle, job.run).flow.steps[job.step].function

    def call(self, job: Job, port: Port) -> Call:
        """What would be called with what, and in which context; within the world of its code."""
        step, code = self.attempt(job).step, self._open(job.bundle, job.run)
        context = Context(self._facts(job, step), port)
        if step.hold is not None:
            context.resolved = self._resolved(code, job, step.hold)
        args, kwargs = self._bind(code, job, step, self._received(code, job, step), context)
        return Call(code.flow.steps[step.name].function, args, kwargs, context)

    def codec(self, job: Job) -> Codec:
        """The codec of the task's flow: it knows the classes of its payloads."""
        return self._open(job.bundle, job.run).codec

    def flow(self, bundle: str, name: str) -> LoadedFlow:
        """The code of another flow, verified."""
        loaded = self._open(bundle, name).flow
        if loaded.name != name:
            raise SignatureMismatch(
                f"The code {bundle[:8]} is of flow {loaded.name!r}, and not of {name!r}.", hint="Start the run again."
            )
        return loaded

    @property
    def signer(self) -> Signer:
        return self._signer

    @property
    def artifacts(self) -> ArtifactStore:
        return self._artifacts

    def input(self, job: Job, text: bytes) -> Any:
        """The run's input, which must be the one that was signed."""
        if hashlib.sha256(text).hexdigest() != job.input_digest:
            raise SignatureMismatch(
                f"The input of the run {job.run[:8]} is not the one that was signed.",
                hint="Somebody changed it in the server; start the run again.",
            )
        return self.codec(job).decode(text)

    def trigger(self, job: Job, text: bytes | None, signature: bytes | None) -> str:
        """What the run was told of what started it, which must be what was signed; empty for one started by hand."""
        told = (text or b"").decode()
        if told and not self._signer.verify((signature or b"").decode(), *trigger_signature_parts(job.run, told)):
            raise SignatureMismatch(
                f"What started the run {job.run[:8]} is not what was signed.",
                hint="Somebody changed it in the server; start the run again.",
            )
        return told

    # -- trust ------------------------------------------------------------------------------------------------------

    def _verify(self, job: Job) -> None:
        """The run was launched by somebody who has the secret, with this plan, this bundle and this input."""
        if not job.signature:
            raise BundleUnsigned(
                f"The run {job.run[:8]} carries no signature.", hint="Start it with nbflow, which signs it."
            )
        parts = run_signature_parts(
            job.run, job.flow, plan=job.plan, bundle=job.bundle, input_digest=job.input_digest, queue=job.run_queue
        )
        signed = (*parts, job.signature)
        if self._verified.get(job.run) == signed:
            return
        if not self._signer.verify(job.signature, *parts):
            raise SignatureMismatch(
                f"The run {job.run[:8]} was not signed with this worker's secret, or was changed since.",
                hint="Give launcher and worker the same NBFLOW_SECRET, then start the run again.",
            )
        self._verified[job.run] = signed
        if len(self._verified) > _RUNS:
            self._verified.popitem(last=False)

    def _step(self, code: _Code, job: Job) -> StepSpec:
        """The step of the task, which the signed code must know, on the queue it names."""
        loaded = code.flow.steps.get(job.step)
        if (
            loaded is None
            or (job.run_queue or loaded.spec.queue) != job.queue
            or bool(job.index) != loaded.spec.is_mapped
        ):
            raise SignatureMismatch(
                f"The task {job.task!r} on queue {job.queue!r} is not one of the signed plan.",
                hint="Somebody else wrote it; look who has access to the server.",
            )
        return loaded.spec

    def _open(self, bundle: str, of: str) -> _Code:
        code = self._codes.get(bundle)
        if code is None:
            blob = self._fetch.bundle(bundle)
            if blob is None:
                raise InternalError(f"The bundle {bundle} of the run {of[:8]} is not in the store.")
            code = self._codes[bundle] = self._prepare(open_bundle(blob, bundle, self._signer))
            self._on_open()
            if len(self._codes) > _BUNDLES:
                self._codes.popitem(last=False)
        else:
            self._codes.move_to_end(bundle)
        return code

    def _prepare(self, flow: LoadedFlow) -> _Code:
        spec = FlowSpec(flow.name, tuple(step.spec for step in flow.steps.values()))
        functions = {name: step.function for name, step in flow.steps.items()}
        with flow.world.entered():
            expected = ReturnTypes(spec, functions)
            binders = {
                step.name: Binder(
                    functions[step.name], step.terms, fallback=expected.received_by(step), answer=answer_type(step.hold)
                )
                for step in spec.steps
            }
        codec = Codec(types=flow.types, signer=self._signer, artifacts=self._artifacts, open_pickles=True)
        keys = {name: step.key for name, step in flow.steps.items() if step.key is not None}
        return _Code(flow, routes(spec), binders, codec, keys)

    # -- receiving --------------------------------------------------------------------------------------------------

    @staticmethod
    def _facts(job: Job, step: StepSpec) -> TaskFacts:
        return TaskFacts(job.run, job.flow, step.name, job.index, job.key, job.attempt, step.emits, step.timeout_s)

    def _received(self, code: _Code, job: Job, step: StepSpec) -> Any:
        """The input (a dict) of an entry; else (topic, payload) pairs in the order of the subscriptions."""
        if step.is_entry:
            return self.input(job, job.payloads[0] or b"")
        payloads = iter(job.payloads)
        pairs: list[tuple[str, Any]] = []
        for position, term in enumerate(step.terms):
            pairs += self._term(code, job, term, position, payloads)
        return pairs

    @staticmethod
    def _resolved(code: _Code, job: Job, hold: Await) -> Any:
        """What ended the hold: the last of what the claim handed over. Whoever wrote it, it must fit the hold's model."""
        text = job.payloads[-1] if job.payloads else None
        value = None if text is None else code.codec.decode(text)
        return value if value is None else answer_of(hold, job.task, value)

    def _term(self, code: _Code, job: Job, term: Term, position: int, payloads: Any) -> list[tuple[str, Any]]:
        decode = code.codec.decode
        if term.any_of:
            topic = next(payloads).decode()
            return [(topic, decode(next(payloads)))]
        if term.form in (Form.COLLECT, Form.KEEP) or (term.form is Form.COMPLETED and self._is_mapped(code, term)):
            gathered = self._gather(code, job, term.topics[0])
            if term.form is Form.KEEP:
                gathered = self._keep(code, job, gathered, position)
            return [(term.topics[0], gathered)]
        return [(topic, decode(next(payloads))) for topic in term.topics]

    @staticmethod
    def _is_mapped(code: _Code, term: Term) -> bool:
        return code.flow.steps[term.topics[0].partition(":")[2]].spec.is_mapped

    def _gather(self, code: _Code, job: Job, topic: str) -> list[Any]:
        texts = self._fetch.emitted(job.run, topic)
        return [code.codec.decode(texts[index]) for index in sorted(texts, key=index_sort_key)]

    def _keep(self, code: _Code, job: Job, gathered: list[Any], position: int) -> KeptList:
        kept = KeptList(gathered)
        kept.failed = {}
        for step in code.routes[job.step].wanted_failures.get(position, ()):
            for failed in self._gather(code, job, failed_topic(step)):
                name = failed["key"] if failed["key"] is not None else failed["index"]
                kept.failed[step if name is None else name] = failed
        return kept

    def _bind(self, code: _Code, job: Job, step: StepSpec, received: Any, context: Context) -> tuple[Any, Any]:
        binder = code.binders[step.name]
        return binder.bind_input(received, context) if step.is_entry else binder.bind(received, context)

    # -- calling ----------------------------------------------------------------------------------------------------

    def _call(self, function: Callable[..., Any], args: Any, kwargs: Any, context: Context, guard: Guard) -> Any:
        token = running.set(context)
        try:
            guard.enter(context.facts.timeout_s)
            value = function(*args, **kwargs)
            if inspect.iscoroutine(value):
                value = coroutines.run(value)
            if inspect.isgenerator(value):
                value = list(value)
            return value
        finally:
            guard.leave()
            running.reset(token)
            if os.getpid() != self._pid:  # user code forked, and the child came back here: it has no business
                os._exit(0)


def _lacks(error: BaseException) -> dict[str, Any]:
    """What of an ending says that another worker may do it: a package may be installed meanwhile, Python stays as it is."""
    if not isinstance(error, PackageMissing | PythonMismatch):
        return {}
    return {"lacks": error.message, "again_ms": _INSTALLED_MS if isinstance(error, PackageMissing) else _NEVER_MS}


def _plain(received: Any) -> Any:
    """What `failed(step)` shows as the input: the one payload, or a dict by topic."""
    if isinstance(received, list):
        pairs: list[tuple[str, Any]] = received  # pyright: ignore[reportUnknownVariableType]
        return pairs[0][1] if len(pairs) == 1 else dict(pairs)
    return received
