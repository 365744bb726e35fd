"""Deleting runs now, which their retention would delete later: one, or all that ended before some time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from nbflow.errors import CommandRefused, UnknownRun
from nbflow.model.definition import FlowSpec
from nbflow.model.policy import Duration, seconds
from nbflow.store.artifacts import StoredArtifacts
from nbflow.store.connect import Store, translated
from nbflow.store.dust import find_strays, sweep
from nbflow.store.index import Index, RunRow

__all__ = ["ENDED", "delete", "forget_kept", "prunable", "prune", "remove_rest", "sweep_all", "with_retention"]

MANY = 500
ENDED = ("completed", "failed", "canceled")


def delete(store: Store, run: str) -> None:
    """Delete a run that has ended, with all its keys and the artifacts that no other run refers to.

    Raises UnknownRun, and CommandRefused for a run that lives.
    """
    reply = store.run_script("delete", id=run)
    while reply[0] == b"MORE":  # tasks that a cancel has left
        reply = store.run_script("delete", id=run)
    if reply[0] == b"UNKNOWN":
        raise UnknownRun(
            f"There is no run {run!r}.", hint="nbflow.runs() lists them; it may have been deleted already."
        )
    if reply[0] == b"LIVE":
        raise CommandRefused(
            f"The run {run[:8]} is {reply[1].decode()}, and only one that has ended can be deleted.",
            hint=f"Cancel it first: nbflow.run({run[:8]!r}).cancel(), or `nbflow cancel {run[:8]}`.",
        )
    remove_rest(store, run)


def remove_rest(store: Store, run: str = "") -> None:
    """Remove what is left of a deleted run; without one, of all that are, and of those that are due."""
    while store.run_script("retire"):
        with translated(store.url):
            if run and not store.client.exists(store.keys.gone(run)):
                return


def sweep_all(store: Store, artifacts: StoredArtifacts) -> int:
    """Remove artifacts beside the server that no run refers to any more; how many were looked after."""
    done = 0
    client: Any = store.client
    if artifacts.has_place:
        store.run_script("swept")  # of nothing: the server knows the script from here on
    with translated(store.url):
        while swept := sweep(artifacts, client.execute_command, store.keys, store.scripts["swept"]):
            done += swept
    return done


def prune(store: Store, artifacts: StoredArtifacts, found: Iterable[RunRow]) -> None:
    """Delete these, what is due, and what lies beside the server for nobody."""
    for row in found:
        with contextlib.suppress(UnknownRun):  # its own time was over meanwhile
            delete(store, row.id)
    remove_rest(store)
    client: Any = store.client
    with translated(store.url):
        find_strays(artifacts, client.execute_command, store.keys)
    sweep_all(store, artifacts)


def forget_kept(store: Store) -> int:
    """Let go of what steps with `cache=` keep for other runs; how many ends that were."""
    text: Any = store.text
    done, key = 0, store.keys.cached()
    with translated(store.url):
        while some := text.zrangebyscore(key, "(0", "+inf", start=0, num=MANY):
            done += text.zadd(key, dict.fromkeys(some, 0), xx=True, ch=True)
    remove_rest(store)
    return done


def with_retention(spec: FlowSpec, usual: str) -> FlowSpec:
    """The flow as it is launched: where it does not say how long its runs are kept, they are as usual."""
    if spec.retention_s is not None:
        return spec
    return replace(spec, retention_s=math.inf if usual == "never" else seconds(usual, "NBFLOW_RETENTION"))


def prunable(index: Index, older: Duration, *, flow: str | None = None, status: str | None = None) -> Iterator[RunRow]:
    """The runs that ended longer ago than that, the oldest end of each status first."""
    before_ms = index.now_ms() - int(seconds(older, "How old a run must be") * 1000)
    for which in ENDED if status is None else (status,):
        for row in index.ended_before(which, before_ms):
            if flow in (None, row.flow):
                yield row
