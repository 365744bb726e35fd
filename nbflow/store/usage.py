"""What takes how much room: runs by flow, code, artifacts here and beside the server.

Counts are exact. Sizes of runs and code are estimated from a sample, so that the answer costs the same for a million
runs; those of artifacts are exact up to `MOST` of them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbflow.store.artifacts import StoredArtifacts
from nbflow.store.connect import Store, translated

__all__ = ["UsageRow", "usage"]

SAMPLE = 20
"""Runs of a flow, and topics of a run, that are measured."""
MOST = 10_000
_OF_A_RUN = ("flow", "log", "run", "state", "keys", "open", "owned")


@dataclass(frozen=True, slots=True)
class UsageRow:
    """`what`: runs | code | artifacts | cache | files | server. `is_estimate`: the bytes come from a sample."""

    what: str
    name: str
    count: int
    bytes: int
    is_estimate: bool = False


def usage(store: Store, artifacts: StoredArtifacts) -> list[UsageRow]:
    """What takes how much, the largest of a kind first."""
    client: Any = store.client
    with translated(store.url):
        runs = [_of_flow(store, name) for name in sorted(_members(store, store.keys.flows()))]
        rows = [*sorted(runs, key=lambda row: -row.bytes), *_counted(store)]
        info: Any = client.info("memory")
    kept = _kept(store)
    rows += [kept] if kept.count else []
    rows.append(UsageRow("server", "memory in use", 1, int(info["used_memory"])))
    beside = artifacts.size_of_place()
    return rows if beside is None else [*rows, UsageRow("files", "artifacts beside the server", *beside)]


def _members(store: Store, key: str) -> list[str]:
    text: Any = store.text
    return list(text.smembers(key))


def _of_flow(store: Store, flow: str) -> UsageRow:
    text: Any = store.text
    key = store.keys.flow_runs(flow)
    count, some = int(text.zcard(key)), list(text.zrandmember(key, SAMPLE))
    sizes = [_of_run(store, run) for run in some]
    mean = sum(sizes) / len(sizes) if sizes else 0
    return UsageRow("runs", flow, count, round(mean * count), count > len(sizes))


def _of_run(store: Store, run: str) -> int:
    text: Any = store.text
    space = store.keys.namespace
    kept = text.hget(store.keys.plan(text.hget(store.keys.run(run), "plan") or ""), "kept")
    topics: list[str] = json.loads(kept or "[]")
    measured = topics[:SAMPLE]
    own = _memory(store, [f"{space}:{kind}:{run}" for kind in _OF_A_RUN])
    of_topics = _memory(store, [f"{space}:{kind}:{run}:{topic}" for topic in measured for kind in ("emits", "order")])
    return own + round(of_topics * len(topics) / max(1, len(measured)))


def _kept(store: Store) -> UsageRow:
    """Ends of tasks that are kept for other runs."""
    text: Any = store.text
    with translated(store.url):
        count, some = int(text.zcard(store.keys.cached())), list(text.zrandmember(store.keys.cached(), SAMPLE))
        size = _memory(store, [store.keys.kept_end(digest) for digest in some])
    return UsageRow("cache", "kept results", count, round(size * count / max(1, len(some))), count > len(some))


def _memory(store: Store, keys: list[str]) -> int:
    client: Any = store.client
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.execute_command("MEMORY", "USAGE", key)
        return sum(size or 0 for size in pipe.execute())


def _counted(store: Store) -> Iterator[UsageRow]:
    """Plans, bundles and artifacts, by what their owners count."""
    text: Any = store.text
    found: dict[str, list[str]] = {"plan": [], "bundle": [], "artifact": []}
    for field, _ in itertools.islice(text.hscan_iter(store.keys.owners(), count=1000), 1_000_000):
        kind, _, digest = field.partition(":")
        found.setdefault(kind, []).append(digest)
    for kind, what, spelled in (
        ("plan", "code", store.keys.plan),
        ("bundle", "code", store.keys.bundle),
        ("artifact", "artifacts", store.keys.artifact),
    ):
        measured = found[kind][: MOST if kind == "artifact" else SAMPLE]
        size = _memory(store, [spelled(digest) for digest in measured])
        whole = round(size * len(found[kind]) / max(1, len(measured)))
        yield UsageRow(what, f"{kind}s", len(found[kind]), whole, len(measured) < len(found[kind]))
