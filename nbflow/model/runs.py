"""What is signed of a run: the launcher signs it, the worker verifies it before it opens anything; and how the start of a
run is written, whoever starts it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nbflow.model.artifacts import ArtifactStore, digest_of
from nbflow.model.signing import Signer

__all__ = [
    "along_signature_parts",
    "graph_text",
    "run_fields",
    "run_signature_parts",
    "start_text",
    "trigger_signature_parts",
]

GRAPH_INLINE = 4096


def run_signature_parts(
    run: str, flow: str, *, plan: str, bundle: str, input_digest: str, queue: str
) -> tuple[str, ...]:
    """The parts in their order; the first names what is signed. `queue` is the run's own, or empty."""
    return ("run", run, flow, plan, bundle, input_digest, queue)


def trigger_signature_parts(run: str, trigger: str) -> tuple[str, ...]:
    """The same for what a run is told of what started it (JSON)."""
    return ("trigger", run, trigger)


def along_signature_parts(run: str, digest: str) -> tuple[str, ...]:
    """The same for the code that a run brings along for runs that it starts."""
    return ("along", run, digest)


def run_fields(signer: Signer, run: str, flow: str, *, plan: str, bundle: str, text: str, queue: str) -> dict[str, str]:
    """What the scripts are given of a run's code and input, signed."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    parts = run_signature_parts(run, flow, plan=plan, bundle=bundle, input_digest=digest, queue=queue)
    code = {"flow": flow, "plan": plan, "bundle": bundle, "sig": signer.sign(*parts)}
    return {**code, "input": text, "inputdigest": digest, "queue": queue}


def start_text(text: str, bundle: str, fingerprints: Mapping[str, str], *, graph: str, by: str, more: str = "") -> str:
    """The data of `flow.start`; `more` is JSON that goes on."""
    told = f'"bundle":"{bundle}","fingerprints":{json.dumps(fingerprints)}'
    return f'{{"input":{text},{told},"graph":{graph},"by":{by}{more}}}'


def graph_text(graph: dict[str, Any], artifacts: ArtifactStore | None) -> str:
    """The picture of a flow as its start tells it: above 4 KiB the reference to an artifact."""
    text = json.dumps(graph, separators=(",", ":"))
    if len(text) <= GRAPH_INLINE or artifacts is None:
        return text
    blob = text.encode()
    digest = digest_of(blob)
    ref: dict[str, Any] = {"$ref": digest, "kind": "json", "type": "dict", "bytes": len(blob)}
    artifacts.put(digest, blob, ref)
    return json.dumps(ref, separators=(",", ":"))
