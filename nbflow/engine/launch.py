"""Launching a run: code, plan and input signed and stored, then one script that makes the run or changes nothing."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbflow.define.bundle import Bundle
from nbflow.define.plan import Plan
from nbflow.errors import InternalError, KeyTaken, ServerUnreachable, StoreError
from nbflow.model.artifacts import StagedArtifacts, digest_of
from nbflow.model.codec import Codec
from nbflow.model.ids import RunId, new_run_id
from nbflow.model.runs import run_signature_parts
from nbflow.model.signing import Signer
from nbflow.store.connect import Store, translated
from nbflow.store.wire import shown_url

__all__ = ["Launcher", "Order", "who"]

GRAPH_INLINE = 4096
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


class Launcher:
    """Launches runs into one store."""

    def __init__(self, store: Store, signer: Signer) -> None:
        self._store, self._signer = store, signer

    def launch(self, order: Order, codec: Codec) -> RunId:
        """The id of the run. The same key with the same input gives the id of the run that has it; with another input
        KeyTaken. Nothing of a run exists before the script that makes all of it."""
        staged = None if codec.artifacts is None else StagedArtifacts(codec.artifacts)
        writer = Codec(types=codec.types, signer=codec.signer, artifacts=staged)
        text = writer.encode(dict(order.input), name="input")
        graph = self._graph(order, writer)
        run = new_run_id()
        try:
            self._own(run, staged)
            reply = self._say(order, run, text, graph)
        except StoreError as error:
            if not isinstance(error, ServerUnreachable):  # then it may have been launched
                self._disown(run, staged)
            raise
        if reply[0] in (b"KEY", b"FULL"):
            self._disown(run, staged)
            return self._refused(order, reply)
        return run

    def _own(self, run: RunId, staged: StagedArtifacts | None) -> None:
        """The run owns its artifacts before they are there: nobody takes them for forgotten."""
        if staged is None or not staged.digests:
            return
        self._check_room(staged.size)
        with translated(self._store.url):
            self._store.client.sadd(self._store.keys.owned(run), *staged.digests)
            staged.flush()

    def _disown(self, run: RunId, staged: StagedArtifacts | None) -> None:
        """Nothing came of the run. Its artifacts stay: another run may have the same by now."""
        if staged is not None:
            with contextlib.suppress(StoreError), translated(self._store.url):
                self._store.client.delete(self._store.keys.owned(run))

    def _check_room(self, size: int) -> None:
        """Refuse before anything is sent what the script would refuse after it: code and artifacts lie there by then."""
        client: Any = self._store.client
        with translated(self._store.url):
            memory = client.info("memory")
        most = int(memory.get("maxmemory") or 0)
        if most and int(memory["used_memory"]) + size >= FULL_AT * most:
            raise self._full(100 * int(memory["used_memory"]) // most)

    def _full(self, percent: int) -> StoreError:
        return StoreError(
            f"The server at {shown_url(self._store.url)} is full: {min(percent, 100)} % of its maxmemory is used, and the runs "
            "that are under way need the rest.",
            hint="Give it more memory, or remove what it need not keep, then start again.",
        )

    def _say(self, order: Order, run: RunId, text: str, graph: str) -> list[Any]:
        named = self._named(order, run, text, graph)
        for _ in range(3):
            reply = self._store.run_script("launch", **named)
            if reply[0] != b"MISSING":
                return reply
            self._check_room(len(order.bundle.blob))
            self._upload(order, reply[1].decode())
        raise InternalError(f"The server does not keep what a launch of {order.flow!r} uploads.")

    def _named(self, order: Order, run: RunId, text: str, graph: str) -> dict[str, Any]:
        digest = hashlib.sha256(text.encode()).hexdigest()
        parts = run_signature_parts(
            run, order.flow, plan=order.plan.digest, bundle=order.bundle.digest, input_digest=digest, queue=order.queue
        )
        start = (
            f'{{"input":{text},"bundle":"{order.bundle.digest}","fingerprints":{json.dumps(order.bundle.fingerprints)},'
            f'"graph":{graph},"by":{json.dumps(who())}}}'
        )
        return {
            "id": run,
            "flow": order.flow,
            "plan": order.plan.digest,
            "bundle": order.bundle.digest,
            "sig": self._signer.sign(*parts),
            "input": text,
            "inputdigest": digest,
            "start": start,
            "key": order.key,
            "tags": json.dumps(order.tags),
            "queue": order.queue,
            "by": json.dumps(who()),
        }

    def _graph(self, order: Order, codec: Codec) -> str:
        text = json.dumps(order.graph, separators=(",", ":"))
        if len(text) <= GRAPH_INLINE or codec.artifacts is None:
            return text
        blob = text.encode()
        digest = digest_of(blob)
        ref: dict[str, Any] = {"$ref": digest, "kind": "json", "type": "dict", "bytes": len(blob)}
        codec.artifacts.put(digest, blob, ref)
        return json.dumps(ref, separators=(",", ":"))

    def _upload(self, order: Order, what: str) -> None:
        with translated(self._store.url):
            if what == "plan":
                self._store.client.hset(
                    self._store.keys.plan(order.plan.digest),
                    items=[part for pair in order.plan.table.items() for part in pair],
                )
            else:
                self._store.client.set(self._store.keys.bundle(order.bundle.digest), order.bundle.blob)

    def _refused(self, order: Order, reply: list[Any]) -> RunId:
        if reply[0] == b"FULL":
            raise self._full(int(reply[1]))
        other = RunId(reply[1].decode())
        if reply[2] == b"same":
            return other
        raise KeyTaken(
            f"The key {order.key!r} of flow {order.flow!r} belongs to the run {other[:8]}, which has another input.",
            hint="Use another key, or the same input to get that run.",
        )


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
