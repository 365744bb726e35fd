"""Commands to runs that exist. Each is one script; what must follow (interrupting workers) may be lost and repeated."""

from __future__ import annotations

import contextlib
import json

from nbflow.errors import RunEnded, StoreError, UnknownRun
from nbflow.store.connect import Store, translated
from nbflow.store.keys import RQ

__all__ = ["cancel"]


def cancel(store: Store, run: str, reason: str = "", by: dict[str, str] | None = None) -> None:
    """End a run. Its queued tasks are removed, its running ones are interrupted, and nothing of it counts any more.

    Raises UnknownRun, and RunEnded for a run that is over.
    """
    reply = store.run_script("cancel", id=run, reason=json.dumps(reason), by=json.dumps(by or {}))
    if reply[0] == b"UNKNOWN":
        raise UnknownRun(f"There is no run {run!r}.", hint="nbflow.runs() lists them.")
    if reply[0] == b"ENDED":
        raise RunEnded(
            f"The run {run[:8]} is {reply[1].decode()} already.", hint="Start it again with flow.start(...)."
        )
    with contextlib.suppress(StoreError), translated(store.url):  # it is canceled; workers do the rest if we cannot
        for worker, lease in zip(reply[1::2], reply[2::2], strict=True):
            order = {"command": "stop-job", "lease": int(lease)}
            store.text.publish(f"{RQ}:pubsub:{worker.decode()}", json.dumps(order))  # pyright: ignore[reportUnknownMemberType]
        while store.client.exists(f"{store.keys.namespace}:slices") and store.run_script("slice"):
            pass
