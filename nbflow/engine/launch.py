"""Launching a run: code, plan and input signed and stored, then one script that makes the run or changes nothing."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbflow.define.bundle import Bundle
from nbflow.define.plan import Plan
from nbflow.errors import InternalError, KeyTaken
from nbflow.model.artifacts import digest_of, references
from nbflow.model.codec import Codec
from nbflow.model.ids import RunId, new_run_id
from nbflow.model.runs import run_signature_parts
from nbflow.model.signing import Signer
from nbflow.store.connect import Store, translated

__all__ = ["Launcher", "Order", "who"]

GRAPH_INLINE = 4096


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
        text = codec.encode(dict(order.input))
        graph = self._graph(order, codec)
        run = new_run_id()
        owned = references(text) | references(graph)
        if owned:
            with translated(self._store.url):
                self._store.client.sadd(self._store.keys.owned(run), *owned)
        reply = self._say(order, run, text, graph)
        if reply[0] == b"KEY":
            if owned:
                self._store.client.delete(self._store.keys.owned(run))
            return self._taken(order, reply)
        return run

    def _say(self, order: Order, run: RunId, text: str, graph: str) -> list[Any]:
        named = self._named(order, run, text, graph)
        for _ in range(3):
            reply = self._store.run_script("launch", **named)
            if reply[0] != b"MISSING":
                return reply
            self._upload(order, reply[1].decode())
        raise InternalError(f"The server does not keep what a launch of {order.flow!r} uploads.")

    def _named(self, order: Order, run: RunId, text: str, graph: str) -> dict[str, Any]:
        digest = hashlib.sha256(text.encode()).hexdigest()
        parts = run_signature_parts(run, order.flow, order.plan.digest, order.bundle.digest, digest, order.queue)
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
        ref = {"$ref": digest_of(blob), "kind": "json", "type": "dict", "bytes": len(blob)}
        codec.artifacts.put(ref["$ref"], blob, ref)
        return json.dumps(ref, separators=(",", ":"))

    def _upload(self, order: Order, what: str) -> None:
        with translated(self._store.url):
            if what == "plan":
                self._store.client.hset(self._store.keys.plan(order.plan.digest), mapping=dict(order.plan.table))
            else:
                self._store.client.set(self._store.keys.bundle(order.bundle.digest), order.bundle.blob)

    def _taken(self, order: Order, reply: list[Any]) -> RunId:
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
    return told | ({"notebook": os.path.basename(notebook)} if notebook else {})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
