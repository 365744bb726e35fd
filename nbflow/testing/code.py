"""The code of a flow, packed, signed and opened again as on a launch and a worker; made once, used for many runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nbflow.define.bundle import Bundle, make_bundle
from nbflow.define.caching import code_names
from nbflow.define.flow import FlowDefinition
from nbflow.define.limits import limits_of
from nbflow.define.lint import check_startable
from nbflow.define.plan import compile_plan, routes
from nbflow.define.sources import Project
from nbflow.define.world import World, undisturbed
from nbflow.engine.launch import who
from nbflow.local.project import find_project
from nbflow.model.along import Along, Companion
from nbflow.model.artifacts import MemoryArtifacts
from nbflow.model.codec import Codec
from nbflow.model.events import Event
from nbflow.model.ids import step_id
from nbflow.model.runs import along_signature_parts, run_signature_parts
from nbflow.model.signing import Signer
from nbflow.picture.flow_picture import picture_of
from nbflow.settings import settings
from nbflow.testing.decisions import Decisions, Task
from nbflow.testing.graph import Graph
from nbflow.testing.limits import Limit
from nbflow.watch.replay import ReplayedLog
from nbflow.worker.context import Context
from nbflow.worker.execute import Executor
from nbflow.worker.interrupts import Guard
from nbflow.worker.starting import Parent, Starter
from nbflow.worker.task import Ending, Job

__all__ = ["Code", "Execution", "Order"]

Function = Callable[..., Any]

_SECRET = b"of runs in process"
"""No secret: nothing signed with it leaves the process, and nothing comes in. It is fixed, so that digests are."""


Group = tuple[str, str, str, dict[str, str]]
"""Of an ending: topic, mode, text, payloads by index."""


@dataclass(frozen=True, slots=True)
class Order:
    """One run to do: its id, and its input as text, signed; `trigger` is what started it, as JSON."""

    run: str
    text: str
    digest: str
    signature: str
    trigger: str = ""


@dataclass(slots=True, eq=False)
class Execution:
    """An attempt of a task that waits, or is under way; then `ending` is how it will end."""

    task: Task
    attempt: int = 1
    recovered: int = 0
    ending: Ending | None = None
    limits: tuple[Limit, ...] = ()
    joins: str = ""
    """The run that it awaits, as `Job` has it; then `emitted` is what it emitted beside."""
    emitted: list[Group] = field(default_factory=list[Group])


class Code:
    """A flow as it is now, ready to be executed. `replaced` are other bodies for some of its steps; in `artifacts` lies what
    earlier runs made, which a run that goes on from one of them refers to."""

    def __init__(self, flow: FlowDefinition, replaced: Mapping[str, Function], artifacts: MemoryArtifacts) -> None:
        check_startable(flow)
        self.spec = flow.spec()
        self.graph, self.routes = Graph(self.spec), routes(self.spec)
        self._signer, self._artifacts = Signer(_SECRET), artifacts
        specs = self.graph.specs
        steps = {
            step.name: (specs[step.name], replaced.get(step.name, step.function), step.key) for step in flow.steps()
        }
        root = settings().project or find_project().root
        keys = {step.name: step.key for step in flow.steps()}
        with undisturbed():
            self.bundle = make_bundle(flow.name, steps, signer=self._signer, project=root)
            names = code_names(self.spec, self.bundle.fingerprints, keys, Project(root))
        self.plan = compile_plan(self.spec, names)
        self.codec = Codec(types=self.bundle.types, signer=self._signer, artifacts=self._artifacts, open_pickles=True)
        self.reads = _Reads(self.bundle)
        self.executor = _Executor(self.reads, self._signer, self._artifacts)
        self.starter = Starter(self.reads, self.executor)
        self.limits = {step.name: limits_of(self.spec, step) for step in self.spec.steps}
        self._picture = picture_of(self.spec).to_json()

    def step_entry(self, step: str) -> dict[str, Any] | None:
        """The step in the plan table."""
        return self._entries.get(step)

    @cached_property
    def _entries(self) -> dict[str, dict[str, Any]]:
        entries = {field: text for field, text in self.plan.table.items() if field.startswith("step:")}
        return {field.partition(":")[2]: json.loads(text) for field, text in entries.items()}

    @property
    def world(self) -> World:
        """What the code finds when it imports; opens the bundle, once. (A cached property of Python 3.11 has a lock for all
        codes, and opening waits for its turn among threads that want this one.)"""
        return self.executor.flow(self.bundle.digest, self.spec.name).world

    def order(self, run: str, values: Mapping[str, Any], trigger: str = "") -> Order:
        """The run with this input, which is validated already. PayloadError if it cannot travel."""
        text = self.codec.encode(dict(values), name="input")
        digest = hashlib.sha256(text.encode()).hexdigest()
        parts = run_signature_parts(
            run, self.spec.name, plan=self.plan.digest, bundle=self.bundle.digest, input_digest=digest, queue=""
        )
        return Order(run, text, digest, self._signer.sign(*parts), trigger)

    def start(self, order: Order) -> dict[str, Any]:
        """What `flow.start` tells."""
        told = {"bundle": self.bundle.digest, "fingerprints": self.bundle.fingerprints, "graph": self._picture}
        trigger = {"trigger": json.loads(order.trigger)} if order.trigger else {}
        return {"input": json.loads(order.text), **told, "by": _who(), **trigger}

    def bring(self, codes: Iterable[Code]) -> None:
        """The code of the flows that its steps, or theirs, may start."""
        there = list(codes)
        along = Along.of(code.companion for code in there)
        if along:
            self._artifacts.put(along.digest, along.blob(), {"kind": "json"})
        for code in (self, *there):
            code.reads.blobs |= {other.bundle.digest: other.bundle.blob for other in (self, *there)}
            code.reads.along, code.reads.sign = along.digest if along else "", self._signer.sign

    @property
    def companion(self) -> Companion:
        return Companion(self.spec.name, self.plan.digest, self.bundle.digest, self.bundle.fingerprints, self._picture)

    def job(self, order: Order, what: Execution, key: str | None, payloads: tuple[bytes | None, ...]) -> Job:
        """A task as a claim hands it over."""
        task, spec = str(what.task), self.graph.specs.get(what.task.step)
        return Job(
            step_id(order.run, task, what.attempt), order.run, task, what.attempt, spec.queue if spec else "", key,
            what.recovered, self.plan.digest, self.bundle.digest, order.signature, self.spec.name, order.digest, "",
            payloads, what.joins,
        )  # fmt: skip


_told: list[dict[str, str]] = []


def _who() -> dict[str, str]:
    if not _told:
        _told.append(who())
    return _told[0]


class _Reads:
    """What executions read beside what they are handed, of any run of the family."""

    def __init__(self, bundle: Bundle) -> None:
        self.blobs = {bundle.digest: bundle.blob}
        self.along = ""
        self.sign: Callable[..., str] = lambda *_: ""
        self.depths: dict[str, int] = {}
        self._runs: dict[str, tuple[Decisions, ReplayedLog]] = {}

    def know(self, run: str, decisions: Decisions, record: ReplayedLog, depth: int) -> None:
        """A run, how far it is, and how many levels are above it."""
        self._runs[run], self.depths[run] = (decisions, record), depth

    def bundle(self, digest: str) -> bytes | None:
        return self.blobs.get(digest)

    def emitted(self, run: str, topic: str) -> dict[str, str]:
        return self._runs[run][0].topics[topic].emitted

    def events(self, run: str) -> Iterator[Event]:
        return self._runs[run][1].read(run, logs=False)

    def parent(self, run: str) -> Parent:
        signature = self.sign(*along_signature_parts(run, self.along)) if self.along else ""
        return Parent(self.along, signature, by=json.dumps(_who()), depth=self.depths[run])

    def newest(self, flow: str) -> tuple[int, str] | None:
        return None  # nothing is published in a process

    def own_code(self, run: str, code: str) -> bool:
        return True


class _Executor(Executor):
    """The executor of workers. Ctrl-C ends the run for the person who pressed it, not the attempt."""

    was_stopped = False

    def _call(self, function: Function, args: Any, kwargs: Any, context: Context, guard: Guard) -> Any:
        try:
            return super()._call(function, args, kwargs, context, guard)
        except KeyboardInterrupt:
            self.was_stopped = True
            raise
