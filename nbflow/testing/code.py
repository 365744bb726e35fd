"""The code of a flow, packed, signed and opened again as on a launch and a worker; made once, used for many runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nbflow.define.bundle import make_bundle
from nbflow.define.flow import FlowDefinition
from nbflow.define.limits import limits_of
from nbflow.define.lint import check_startable
from nbflow.define.plan import compile_plan, routes
from nbflow.define.world import World
from nbflow.engine.launch import who
from nbflow.local.project import find_project
from nbflow.model.artifacts import MemoryArtifacts
from nbflow.model.codec import Codec
from nbflow.model.ids import step_id
from nbflow.model.runs import run_signature_parts
from nbflow.model.signing import Signer
from nbflow.picture.flow_picture import picture_of
from nbflow.settings import settings
from nbflow.testing.decisions import Decisions, Task
from nbflow.testing.graph import Graph
from nbflow.testing.limits import Limit
from nbflow.worker.context import Context
from nbflow.worker.execute import Executor
from nbflow.worker.interrupts import Guard
from nbflow.worker.task import Ending, Job

__all__ = ["Code", "Execution", "Order"]

Function = Callable[..., Any]

_SECRET = b"of runs in process"
"""No secret: nothing signed with it leaves the process, and nothing comes in. It is fixed, so that digests are."""


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


class Code:
    """A flow as it is now, ready to be executed. `replaced` are other bodies for some of its steps; in `artifacts` lies what
    earlier runs made, which a run that goes on from one of them refers to."""

    def __init__(self, flow: FlowDefinition, replaced: Mapping[str, Function], artifacts: MemoryArtifacts) -> None:
        check_startable(flow)
        self.spec = flow.spec()
        self.graph, self.routes, self.plan = Graph(self.spec), routes(self.spec), compile_plan(self.spec)
        self._signer, self._artifacts = Signer(_SECRET), artifacts
        specs = self.graph.specs
        steps = {
            step.name: (specs[step.name], replaced.get(step.name, step.function), step.key) for step in flow.steps()
        }
        root = settings().project or find_project().root
        self.bundle = make_bundle(flow.name, steps, signer=self._signer, project=root)
        self.codec = Codec(types=self.bundle.types, signer=self._signer, artifacts=self._artifacts, open_pickles=True)
        self._reads = _Reads(self.bundle.blob)
        self.executor = _Executor(self._reads, self._signer, self._artifacts)
        self.limits = {step.name: limits_of(self.spec, step) for step in self.spec.steps}
        self._picture = picture_of(self.spec).to_json()

    def step_entry(self, step: str) -> dict[str, Any] | None:
        """The step in the plan table."""
        return self._entries.get(step)

    @cached_property
    def _entries(self) -> dict[str, dict[str, Any]]:
        entries = {field: text for field, text in self.plan.table.items() if field.startswith("step:")}
        return {field.partition(":")[2]: json.loads(text) for field, text in entries.items()}

    @cached_property
    def world(self) -> World:
        """What the code finds when it imports; opens the bundle."""
        return self.executor.world(self.job(Order("", "", "", ""), Execution(Task("")), None, ()))

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

    def begin(self, decisions: Decisions) -> None:
        """Executions read from this run from now on."""
        self._reads.decisions = decisions

    def job(self, order: Order, what: Execution, key: str | None, payloads: tuple[bytes | None, ...]) -> Job:
        """A task as a claim hands it over."""
        task, spec = str(what.task), self.graph.specs.get(what.task.step)
        return Job(
            step_id(order.run, task, what.attempt), order.run, task, what.attempt, spec.queue if spec else "", key,
            what.recovered, self.plan.digest, self.bundle.digest, order.signature, self.spec.name, order.digest, "",
            payloads,
        )  # fmt: skip


_told: list[dict[str, str]] = []


def _who() -> dict[str, str]:
    if not _told:
        _told.append(who())
    return _told[0]


class _Reads:
    """What executions read beside what they are handed."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self.decisions: Decisions | None = None

    def bundle(self, digest: str) -> bytes | None:
        return self._blob

    def emitted(self, run: str, topic: str) -> dict[str, str]:
        assert self.decisions is not None
        return self.decisions.topics[topic].emitted


class _Executor(Executor):
    """The executor of workers. Ctrl-C ends the run for the person who pressed it, not the attempt."""

    was_stopped = False

    def _call(self, function: Function, args: Any, kwargs: Any, context: Context, guard: Guard) -> Any:
        try:
            return super()._call(function, args, kwargs, context, guard)
        except KeyboardInterrupt:
            self.was_stopped = True
            raise
