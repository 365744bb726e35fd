"""How a step's wish to start a flow becomes a run that can begin: its code found, its input validated, encoded and signed.
Nothing begins here; the script that takes the completion makes the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from nbflow.define.awaits import answer_type
from nbflow.define.inputs import FlowInput
from nbflow.errors import CommandRefused, SignatureMismatch, UnknownFlow, nearest
from nbflow.model.along import MOST_LEVELS, Along, Companion
from nbflow.model.artifacts import StagedArtifacts
from nbflow.model.codec import Codec
from nbflow.model.ids import task_name
from nbflow.model.runs import along_signature_parts, graph_text, run_fields, start_text
from nbflow.model.versions import Version
from nbflow.worker.started import Start, Started
from nbflow.worker.task import Job

if TYPE_CHECKING:
    from nbflow.define.bundle import LoadedFlow
    from nbflow.worker.execute import Executor

__all__ = ["Parent", "StartReads", "Starter"]


@dataclass(frozen=True, slots=True)
class Parent:
    """What a run hands on to those that it starts: the code that it brought along, its queue, its priority, who started it
    (JSON), and how many levels are above it."""

    along: str = ""
    signature: str = ""
    queue: str = ""
    priority: str = ""
    by: str = "{}"
    depth: int = 0


class StartReads(Protocol):
    """What is read and owned for it."""

    def parent(self, run: str) -> Parent: ...
    def newest(self, flow: str) -> tuple[int, str] | None:
        """The newest published version, and its record."""
        ...

    def own_code(self, run: str, code: str) -> bool:
        """The run owns `plan:…` or `bundle:…` from then on. Whether it is there."""
        ...


class Starter:
    """Makes starts for the tasks of one executor."""

    def __init__(self, reads: StartReads, executor: Executor) -> None:
        self._reads, self._executor = reads, executor
        self._read: dict[str, Along] = {}
        self._inputs: dict[str, FlowInput] = {}

    def start(self, job: Job, flow: str, values: Any, number: int) -> Start:
        """The `number`-th run that this attempt starts. UnknownFlow, InputInvalid, PayloadError, or CommandRefused at too
        many levels."""
        parent = self._reads.parent(job.run)
        if parent.depth + 2 > MOST_LEVELS:
            raise CommandRefused(
                f"The run {job.run[:8]} is {parent.depth + 1} levels below the first, and cannot start {flow!r}: at most "
                f"{MOST_LEVELS} levels of runs start each other.",
                hint="Let the recursion end earlier, or loop inside a flow.",
            )
        along = self._along(job, parent)
        found = along.flows.get(flow) or self._published(job, flow, along)
        store = self._executor.artifacts
        sketch = StagedArtifacts(store)  # what is only on its way from one flow's classes to the other's
        staged = StagedArtifacts(sketch)
        text = self._input(job, found, values, sketch, staged)
        graph = graph_text(found.graph, staged)
        digests = staged.digests
        staged.flush(lambda _: store)
        return self._signed(job, parent, found, number, texts=(text, graph), owns=[*digests, along.codes])

    def _signed(
        self, job: Job, parent: Parent, found: Companion, number: int, *, texts: tuple[str, str], owns: list[str]
    ) -> Start:
        (text, graph), signer = texts, self._executor.signer
        run = hashlib.sha256(f"child:{job.run}:{job.task}:{job.attempt}:{number}".encode()).hexdigest()[:32]
        told: dict[str, Any] = {"version": found.version} if found.version else {}
        told["parent"] = {"run": job.run, "flow": job.flow, "task": task_name(job.step, job.index)}
        more = f",{json.dumps(told, separators=(',', ':'))[1:-1]}"
        fields = {
            **run_fields(signer, run, found.flow, plan=found.plan, bundle=found.bundle, text=text, queue=parent.queue),
            "start": start_text(text, found.bundle, found.fingerprints, graph=graph, by=parent.by, more=more),
            "priority": parent.priority,
            "by": parent.by,
        }
        if parent.along:
            fields |= {"along": parent.along, "alongsig": signer.sign(*along_signature_parts(run, parent.along))}
            owns = [parent.along, *owns]
        if found.version:
            fields["version"] = str(found.version)
        return Start(Started(run, found.flow), {**fields, "owns": " ".join(filter(None, owns))})

    # -- whose code ---------------------------------------------------------------------------------------------------

    def _along(self, job: Job, parent: Parent) -> Along:
        """What the run brought along: its code is that of its launch."""
        if not parent.along:
            return Along()
        if not self._executor.signer.verify(parent.signature, *along_signature_parts(job.run, parent.along)):
            raise SignatureMismatch(
                f"The code that the run {job.run[:8]} brought along is not the one that was signed.",
                hint="Somebody changed it in the server; start the run again.",
            )
        if parent.along not in self._read:
            self._read = {parent.along: Along.read(self._executor.artifacts.get(parent.along))}
        return self._read[parent.along]

    def _published(self, job: Job, flow: str, along: Along) -> Companion:
        found = self._reads.newest(flow)
        if found is None:
            raise UnknownFlow(
                f"The step {job.step!r} starts the flow {flow!r}, which neither came along with the run nor is published.",
                hint=nearest(flow, along.flows)
                or "Hand over the flow itself, ctx.start_flow(flow, …), or publish it first.",
            )
        version = Version.verified(found[1], flow, found[0], self._executor.signer)
        if not all(
            self._reads.own_code(job.run, code) for code in (f"plan:{version.plan}", f"bundle:{version.bundle}")
        ):
            raise CommandRefused(
                f"Version {version.number} of flow {flow!r} was removed just now.",
                hint="Try again: that takes the newest.",
            )
        return Companion(flow, version.plan, version.bundle, version.fingerprints, version.graph, version.number)

    # -- what it is given ---------------------------------------------------------------------------------------------

    def _input(self, job: Job, found: Companion, values: Any, sketch: StagedArtifacts, staged: StagedArtifacts) -> str:
        """The input as the flow's entries want it. Between the two flows lies what lies between steps: the written text, for
        each has classes of its own."""
        here = self._executor.codec(job)
        sent = Codec(types=here.types, signer=here.signer, artifacts=sketch).encode(values, name="input")
        loaded = self._executor.flow(found.bundle, found.flow)
        there = Codec(types=loaded.types, signer=here.signer, artifacts=staged, open_pickles=True)
        with loaded.world.entered():
            entries = self._entries(loaded)
            given = there.decode(sent)
            named = (
                entries.bind((), cast("Mapping[str, Any]", given))
                if isinstance(given, Mapping)
                else entries.bind([given], {})
            )
            return there.encode(entries.validate(named), name="input")

    def _entries(self, loaded: LoadedFlow) -> FlowInput:
        if loaded.digest not in self._inputs:
            steps = {name: step for name, step in loaded.steps.items() if step.spec.is_entry}
            answers = {name: answer_type(step.spec.hold) for name, step in steps.items()}
            made = FlowInput(loaded.name, {name: step.function for name, step in steps.items()}, answers)
            self._inputs = {**dict([*self._inputs.items()][-15:]), loaded.digest: made}
        return self._inputs[loaded.digest]
