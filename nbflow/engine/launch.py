"""Launching a run: code, plan and input signed and stored, then one script that makes the run or changes nothing."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from nbflow.define.bundle import Bundle
from nbflow.define.plan import Plan
from nbflow.engine.staged import Past, stage
from nbflow.errors import CommandRefused, InternalError, KeyTaken, ServerUnreachable, StoreError, UnknownRun
from nbflow.model.along import Along
from nbflow.model.artifacts import StagedArtifacts
from nbflow.model.codec import Codec
from nbflow.model.encoder import to_json
from nbflow.model.ids import RunId, new_run_id
from nbflow.model.runs import along_signature_parts, graph_text, run_fields, start_text, trigger_signature_parts
from nbflow.model.signing import Signer
from nbflow.store.connect import Store, translated
from nbflow.store.owners import Owner, owned_by
from nbflow.store.wire import shown_url

__all__ = ["Launcher", "Order", "who"]

BATCH = 100
"""So many launches go to the server at once: nobody waits longer than they take."""
FULL_AT = 0.9
"""The part of maxmemory from which on nothing is started (in `launch.lua` too)."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to launch. `input` is validated already; `graph` is the picture of the flow as plain data."""

    flow: str
    plan: Plan
    bundle: Bundle
    input: Mapping[str, Any]
    graph: dict[str, Any]
    key: str = ""
    tags: tuple[str, ...] = ()
    queue: str = ""
    priority: int | None = None
    delay: str = ""
    """As `launch.lua` takes it: milliseconds from then on, or `@` and a moment in milliseconds since 1970."""
    version: int = 0
    """The number of the published version that it starts, whose code the server has; 0 for code at hand."""
    text: str = ""
    """The input where it is encoded already; then `input` does not count."""
    owned: frozenset[str] = frozenset()
    """The artifacts of that, which lie in the store. (Those of an earlier run's input are owned with its past.)"""
    past: Past | None = None
    """What is taken over from an earlier run."""
    trigger: str = ""
    """What starts it, as JSON."""
    by: Mapping[str, str] | None = None
    """Who starts it, if that is not this process."""
    along: Along = field(default_factory=Along)
    """The flows that its steps may start, as they are now."""
    parcels: tuple[Order, ...] = ()
    """Their code, where it is at hand."""
    is_anew: bool = False
    """Nothing that other runs kept is taken over (`cache=` of steps)."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A run that is about to be launched: what the script is given, and the artifacts of its input."""

    order: Order
    run: RunId
    named: dict[str, Any]
    fields: tuple[Any, ...]
    staged: StagedArtifacts | None


class Launcher:
    """Launches runs into one store."""

    def __init__(self, store: Store, signer: Signer) -> None:
        self._store, self._signer = store, signer

    def launch(self, order: Order, codec: Codec) -> RunId:
        """The id of the run. The same key with the same input gives the id of the run that has it; with another input
        KeyTaken. Nothing of a run exists before the script that makes all of it."""
        return self._launch(self._prepared(order, codec))

    def launch_many(self, orders: Sequence[Order], codec: Codec) -> list[RunId]:
        """The same for many orders of one code, in few round trips. The first one brings the code along. A server that
        becomes full on the way ends it: the runs before that are launched, and the error says how many."""
        runs = [self.launch(order, codec) for order in orders[:1]]
        for at in range(1, len(orders), BATCH):
            refused = self._launch_batch([self._prepared(order, codec) for order in orders[at : at + BATCH]], runs)
            if refused is not None:
                refused.message += f" {len(runs)} of {len(orders)} runs were started."
                raise refused
        return runs

    def fire(self, order: Order, codec: Codec, script: str = "fire", **more: Any) -> tuple[RunId, list[Any]]:
        """Say `fire` or `pull` with this order and the arguments that it takes beside: the run that would be, and the reply.
        If that is not OK, nothing came of the run."""
        prepared = self._prepared(order, codec)
        try:
            self._own(prepared.run, prepared.staged, order.owned)
            reply: list[Any] = self._store.run_script(script, *prepared.fields, **prepared.named, **more)
        except StoreError as error:
            if not isinstance(error, ServerUnreachable):
                self._disown(prepared.run, prepared.staged)
            raise
        if reply[0] != b"OK":
            self._disown(prepared.run, prepared.staged)
        return prepared.run, reply

    def _launch_batch(self, batch: list[_Prepared], runs: list[RunId]) -> StoreError | None:
        """Adds the runs that were launched, and gives the first refusal."""
        refused: StoreError | None = None
        for one in batch:
            self._own(one.run, one.staged, one.order.owned)
        replies: list[Any] = self._store.run_script_many("launch", [(one.fields, one.named) for one in batch])
        for one, reply in zip(batch, replies, strict=True):
            try:
                failed = isinstance(reply, Exception)  # said again alone: it is loaded then, or tells what is wrong
                runs.append(self._launch(one) if failed else self._settled(one, reply))
            except StoreError as error:
                refused = refused or error
        return refused

    def _prepared(self, order: Order, codec: Codec) -> _Prepared:
        staged = None if codec.artifacts is None else StagedArtifacts(codec.artifacts)
        writer = Codec(types=codec.types, signer=codec.signer, artifacts=staged)
        text = order.text or writer.encode(dict(order.input), name="input")
        if order.along and staged is not None:
            staged.put(order.along.digest, order.along.blob(), {"kind": "json"})
        run = new_run_id()
        named = self._named(order, run, text, graph_text(order.graph, staged))
        return _Prepared(order, run, named, self._fields(order, run), staged)

    def _launch(self, prepared: _Prepared) -> RunId:
        run, staged = prepared.run, prepared.staged
        try:
            self._own(run, staged, prepared.order.owned)
            if prepared.order.past is not None:
                stage(self._store, run, prepared.order.past)
            reply = self._say(prepared)
        except (StoreError, UnknownRun) as error:
            if not isinstance(error, ServerUnreachable):  # then it may have been launched
                self._disown(run, staged)
            raise
        return self._settled(prepared, reply)

    def _settled(self, prepared: _Prepared, reply: list[Any]) -> RunId:
        """The run, once the script has answered: ours, or the one that has the key."""
        if reply[0] == b"MISSING":  # it went while we launched
            return self._launch(prepared)
        if reply[0] in (b"KEY", b"FULL"):
            self._disown(prepared.run, prepared.staged)
            return self._refused(prepared.order, reply)
        if prepared.order.past is not None:
            self._slice()
        return prepared.run

    def _slice(self) -> None:
        """Take over the rest now: there may be nothing for a worker to be woken for. If this ends here, workers go on."""
        with contextlib.suppress(StoreError), translated(self._store.url):
            while self._store.client.exists(f"{self._store.keys.namespace}:slices") and self._store.run_script("slice"):
                pass

    @contextmanager
    def keeping(self, staged: StagedArtifacts) -> Generator[list[str]]:
        """Inside the block somebody owns these artifacts, which are there: a script says there whose they are to be."""
        holder, digests = new_run_id(), staged.digests
        try:
            self._own(holder, staged)
            yield digests
        finally:
            if digests:
                self._disown(holder, staged)

    def _own(self, run: RunId, staged: StagedArtifacts | None, owned: Iterable[str] = ()) -> None:
        """The run owns its artifacts before they are there: nobody takes them for forgotten. `owned` are there."""
        for digest in owned:
            self._store.run_script("own", run=run, digest=digest, how="start")
        if staged is None or not staged.digests:
            return
        self._check_room(staged.size)
        owner = Owner(run, partial(self._store.run_script, "own"), is_launched=False)
        with translated(self._store.url):
            staged.flush(partial(owned_by, owner))

    def _disown(self, run: RunId, staged: StagedArtifacts | None) -> None:
        """Nothing came of the run, and it owns nothing any more."""
        if staged is not None:
            with contextlib.suppress(StoreError), translated(self._store.url):
                self._store.text.zadd(self._store.keys.retire(), {run: 0}, xx=True)
                self._store.run_script("retire")

    def _check_room(self, size: int) -> None:
        """Refuse before anything is sent what the script would refuse after it: code and artifacts lie there by then."""
        client: Any = self._store.client
        with translated(self._store.url):
            memory = client.info("memory")
        most = int(memory.get("maxmemory") or 0)
        if most and int(memory["used_memory"]) + size >= FULL_AT * most:
            raise self.full(100 * int(memory["used_memory"]) // most)

    def full(self, percent: int) -> StoreError:
        """What is said when so much of the memory is used."""
        return StoreError(
            f"The server at {shown_url(self._store.url)} is full: {min(percent, 100)} % of its maxmemory is used, and the runs "
            "that are under way need the rest.",
            hint="Give it more memory, or remove what it need not keep, then start again.",
        )

    def _say(self, prepared: _Prepared) -> list[Any]:
        order = prepared.order
        for _ in range(3 + 2 * len(order.along.flows)):
            reply = self._store.run_script("launch", *prepared.fields, **prepared.named)
            if reply[0] != b"MISSING":
                return reply
            if reply[1] == b"past" and order.past is not None:
                stage(self._store, prepared.run, order.past)
                continue
            if order.version:
                raise CommandRefused(
                    f"Version {order.version} of flow {order.flow!r} is not there any more.",
                    hint="Start it again: that takes the newest version.",
                )
            self._check_room(len(order.bundle.blob))
            self.upload(order, reply[1].decode())
        raise InternalError(f"The server does not keep what a launch of {order.flow!r} uploads.")

    def _named(self, order: Order, run: RunId, text: str, graph: str) -> dict[str, Any]:
        plan, bundle, by = order.plan.digest, order.bundle.digest, json.dumps(who() if order.by is None else order.by)
        return {
            **run_fields(self._signer, run, order.flow, plan=plan, bundle=bundle, text=text, queue=order.queue),
            "id": run,
            "start": start_text(text, bundle, order.bundle.fingerprints, graph=graph, by=by, more=_told(order)),
            "key": order.key,
            "tags": json.dumps(order.tags),
            "priority": "" if order.priority is None else order.priority,
            "delay": order.delay,
            "by": by,
        }

    def _fields(self, order: Order, run: RunId) -> tuple[Any, ...]:
        """Further fields of the run's hash, in pairs."""
        fields: tuple[Any, ...] = ("version", order.version) if order.version else ()
        fields += order.past.fields() if order.past else ()
        fields += ("anew", 1) if order.is_anew else ()
        if order.along:
            digest = order.along.digest
            signature = self._signer.sign(*along_signature_parts(run, digest))
            fields += ("along", digest, "alongsig", signature, "owns", order.along.codes)
        if not order.trigger:
            return fields
        signature = self._signer.sign(*trigger_signature_parts(run, order.trigger))
        return (*fields, "trigger", order.trigger, "triggersig", signature)

    def upload(self, order: Order, what: str) -> None:
        """Bring the plan or the bundle to the server, for an hour if nobody comes to own it; `plan:…` is that of a flow that
        is brought along."""
        what, _, digest = what.partition(":")
        if digest and digest != (order.plan.digest if what == "plan" else order.bundle.digest):
            order = self._parcel(order, what, digest)
        if what == "plan":
            parts = [part for pair in order.plan.table.items() for part in pair]
            self._store.run_script("upload", *parts, kind="plan", digest=order.plan.digest)
        else:
            self._store.run_script("upload", order.bundle.blob, kind="bundle", digest=order.bundle.digest)

    @staticmethod
    def _parcel(order: Order, what: str, digest: str) -> Order:
        for other in order.parcels:
            if digest == (other.plan.digest if what == "plan" else other.bundle.digest):
                return other
        raise CommandRefused(
            f"The code of a flow that flow {order.flow!r} starts is not in the server any more.",
            hint="Start it where both flows are defined.",
        )

    def _refused(self, order: Order, reply: list[Any]) -> RunId:
        if reply[0] == b"FULL":
            raise self.full(int(reply[1]))
        other = RunId(reply[1].decode())
        if reply[2] == b"same":
            return other
        raise KeyTaken(
            f"The key {order.key!r} of flow {order.flow!r} belongs to the run {other[:8]}, which has another input.",
            hint="Use another key, or the same input to get that run.",
        )


def _told(order: Order) -> str:
    """What `flow.start` tells beside the rest, as JSON that goes on."""
    version = f',"version":{order.version}' if order.version else ""
    trigger = f',"trigger":{order.trigger}' if order.trigger else ""
    return version + trigger + (f",{to_json(order.past.told)[1:-1]}" if order.past else "")


def who() -> dict[str, str]:
    """Who starts: user and host, and the notebook if it is known."""
    told = {"user": _user(), "host": socket.gethostname()}
    notebook = os.environ.get("JPY_SESSION_NAME", "")
    return told | ({"notebook": Path(notebook).name} if notebook else {})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
