"""Runs that go on from an earlier one: resume, fork, restart. What of it is taken over is read and written here, once, by
the process that has the secret; what then happens the scripts decide, task by task (`lua/parts/reuse.lua`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nbflow.define.bundle import Bundle, open_bundle
from nbflow.define.flow import FlowDefinition
from nbflow.define.plan import Plan, digest_of_table
from nbflow.engine.earlier import StoredRun
from nbflow.engine.launch import Order
from nbflow.engine.options import Options
from nbflow.engine.reuse import EarlierRun, KeyFunctions, Outcome, Rewriter
from nbflow.engine.staged import Past
from nbflow.errors import CommandRefused, NotEnded, SignatureMismatch, UnknownRun
from nbflow.model.along import Along
from nbflow.model.artifacts import artifacts_of
from nbflow.model.codec import Codec
from nbflow.model.definition import FlowSpec
from nbflow.model.encoder import to_json
from nbflow.model.history import End, History, history
from nbflow.model.runs import along_signature_parts, run_signature_parts, trigger_signature_parts
from nbflow.model.signing import Signer
from nbflow.store.connect import Store, translated
from nbflow.store.log import RunLog

__all__ = [
    "Code",
    "How",
    "Origin",
    "Taken",
    "is_older",
    "new_code",
    "old_code",
    "order_of",
    "read_origin",
    "take",
    "trigger_of",
]

How = Literal["resume", "fork", "restart"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that is gone on from, up to `at`. `line` is the first run that it was itself resumed from. Its own queue and
    priority go along: that is where the workers are."""

    run: str
    flow: str
    how: How
    at: str | None
    history: History
    earlier: EarlierRun
    line: str
    queue: str = ""
    priority: int | None = None

    @property
    def options(self) -> Options:
        """How the new run is started: neither the key nor the tags go along."""
        return Options(queue=self.queue, priority=self.priority)

    def __post_init__(self) -> None:
        if not self.history.found:
            raise CommandRefused(
                f"The run {self.run[:8]} has no event {self.at!r}.",
                hint="Take an id of run.events.",
            )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a new run takes over, by task, and what `flow.start` tells of it; `state` is values as JSON."""

    outcomes: dict[str, Outcome]
    state: dict[str, str]
    told: dict[str, Any]
    line: str


@dataclass(frozen=True, slots=True)
class Code:
    """The code that goes on: an order for it, without input where that is copied as it is, and what writes its payloads."""

    order: Order
    spec: FlowSpec
    codec: Codec
    keys: KeyFunctions = field(default_factory=dict[str, Any])


def read_origin(store: Store, run: str, how: How, at: str | None = None) -> Origin:
    """Read it, or refuse: UnknownRun, NotEnded for a resume of a run that goes on, CommandRefused for an event that is
    not there."""
    stored = StoredRun(store, run)
    if not stored.fields.get("flow"):
        raise UnknownRun(f"There is no run {run!r}.", hint="nbflow.runs() lists them.")
    status = stored.fields.get("status")
    if how == "resume" and status == "running":
        raise NotEnded(
            f"The run {run[:8]} goes on, and only one that has ended can be resumed.",
            hint="Wait for its end or cancel it; run.fork(at=…) takes what a run that goes on has done so far.",
        )
    fields = stored.fields
    told = history(run, RunLog(store).read(run, logs=at is not None), at)
    priority = int(fields["priority"]) if "priority" in fields else None
    line = fields.get("line") or run
    return Origin(run, fields["flow"], how, at, told, stored, line, fields.get("queue", ""), priority)


def new_code(origin: Origin, flow: FlowDefinition, order: Order, codec: Codec) -> Code:
    """The flow as it is defined now, for the input that the earlier run had. InputInvalid if it does not fit any more."""
    given = codec.decode_value(origin.history.view.input)
    order = replace(order, input=flow.validate_input(given))
    return Code(order, flow.spec(), codec, {step.name: step.key for step in flow.steps()})


def old_code(store: Store, signer: Signer, origin: Origin, codec: Codec) -> Code:
    """The code that the earlier run was launched with, verified. For a process in which its flow is not defined."""
    stored = StoredRun(store, origin.run)
    fields, start = stored.fields, origin.history.view.start
    plan, bundle, queue = fields.get("plan", ""), fields.get("bundle", ""), fields.get("queue", "")
    parts = run_signature_parts(
        origin.run, origin.flow, plan=plan, bundle=bundle, input_digest=fields.get("inputdigest", ""), queue=queue
    )
    if not signer.verify(fields.get("sig", ""), *parts):
        raise SignatureMismatch(
            f"The run {origin.run[:8]} was not signed with the secret of this process, or was changed since.",
            hint="Use the NBFLOW_SECRET that it was started with.",
        )
    with translated(store.url):
        blob: Any = store.client.get(store.keys.bundle(bundle))
        table: Any = store.text.hgetall(store.keys.plan(plan))
    if blob is None or digest_of_table(table) != plan:
        raise SignatureMismatch(
            f"The code of the run {origin.run[:8]} is not the one that was signed.",
            hint="Somebody changed it in the server; run the cells of the flow and resume there.",
        )
    loaded = open_bundle(blob, bundle, signer)
    graph: Any = start.get("graph") or {}
    packed = Bundle(bundle, blob, origin.history.fingerprints, loaded.types, [])
    order = Order(
        origin.flow,
        Plan(table, plan),
        packed,
        {},
        codec.decode_value(graph) if "$ref" in graph else graph,
        queue=origin.queue,
        priority=origin.priority,
        text=fields.get("input", "{}"),
        along=_along(signer, origin, fields, codec),
    )
    spec = FlowSpec(origin.flow, tuple(step.spec for step in loaded.steps.values()))
    return Code(order, spec, codec)


def _along(signer: Signer, origin: Origin, fields: Mapping[str, str], codec: Codec) -> Along:
    """The flows that it brought along to start, verified."""
    digest = fields.get("along", "")
    if not digest or codec.artifacts is None:
        return Along()
    if not signer.verify(fields.get("alongsig", ""), *along_signature_parts(origin.run, digest)):
        raise SignatureMismatch(
            f"The code that the run {origin.run[:8]} brought along is not the one that was signed.",
            hint="Somebody changed it in the server; run the cells of the flow and resume there.",
        )
    return Along.read(codec.artifacts.get(digest))


def trigger_of(signer: Signer, origin: Origin) -> str:
    """What started the earlier run, verified: the run that goes on from it was started by the same."""
    told = origin.earlier.field("trigger") or ""
    signature = origin.earlier.field("triggersig") or ""
    if told and not signer.verify(signature, *trigger_signature_parts(origin.run, told)):
        raise SignatureMismatch(
            f"What started the run {origin.run[:8]} is not what was signed.",
            hint="Somebody changed it in the server; start the flow again.",
        )
    return told


def take(
    origin: Origin,
    spec: FlowSpec,
    fingerprints: Mapping[str, str],
    codec: Codec,
    keys: KeyFunctions,
    *,
    changed: bool = False,
) -> Taken:
    """What the code takes over. `changed`: nothing of steps whose code is another one by now."""
    is_anew = origin.how == "restart"
    ends = (
        []
        if is_anew
        else [end for end in origin.history.ends.values() if not (changed and is_older(end, fingerprints))]
    )
    rewriter = Rewriter(spec, origin.earlier, codec, keys, _renamed(origin, fingerprints))
    made = [(end, rewriter.outcome(end)) for end in ends]
    outcomes = {end.task: outcome for end, outcome in made if outcome is not None}
    older = _older([end for end, outcome in made if outcome is not None], origin.history, fingerprints)
    told_state = {} if is_anew else origin.history.view.state
    state = {key: value for key, value in told_state.items() if key not in origin.history.fading}
    told = {
        "forkedFrom": origin.run,
        "forkedAt": origin.at,
        "reused": None if is_anew else len(outcomes),
        "older": older or None,
        "state": state or None,
    }
    return Taken(
        outcomes,
        {key: to_json(value) for key, value in state.items()},
        {name: value for name, value in told.items() if value is not None},
        origin.line if origin.how == "resume" else "",
    )


def order_of(origin: Origin, code: Code, trigger: str = "", *, changed: bool = False) -> Order:
    """What is to be launched; `trigger` is what started the earlier run."""
    taken = take(origin, code.spec, code.order.bundle.fingerprints, code.codec, code.keys, changed=changed)
    past = _past_of(origin, taken, code.codec, code.order.text)
    return replace(code.order, trigger=trigger, past=past, is_anew=origin.how == "restart")


def _past_of(origin: Origin, taken: Taken, codec: Codec, text: str) -> Past:
    """The same as it is put into the server; `text` is the input where that is copied."""
    texts = [part for outcome in taken.outcomes.values() for part in (outcome.data, *map(str, outcome.emits))]
    get = codec.artifacts.get if codec.artifacts is not None else None
    artifacts = artifacts_of([text, *texts], get) if get is not None else set[str]()
    entries = {task: outcome.text() for task, outcome in taken.outcomes.items()}
    return Past(origin.run, taken.told, entries, taken.state, frozenset(artifacts), taken.line)


def is_older(end: End, fingerprints: Mapping[str, str]) -> bool:
    """Whether the code of the step has changed since the task was executed."""
    return end.fingerprint != fingerprints.get(end.step)


def _older(ends: list[End], told: History, fingerprints: Mapping[str, str]) -> dict[str, list[int]]:
    """By step: how many of its tasks are taken over from older code, of how many it had."""
    older = Counter(end.step for end in ends if is_older(end, fingerprints))
    had = Counter(task.step for task in told.view.tasks.values())
    return {step: [count, had[step]] for step, count in older.items()}


def _renamed(origin: Origin, fingerprints: Mapping[str, str]) -> frozenset[str]:
    before = origin.history.fingerprints
    return frozenset(step for step, print_ in fingerprints.items() if before.get(step) != print_)
