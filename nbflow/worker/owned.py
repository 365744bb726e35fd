"""An artifact store that notes what a task writes, so that its run can own it."""

from __future__ import annotations

from typing import Any

from nbflow.model.artifacts import Blob
from nbflow.store.artifacts import StoredArtifacts
from nbflow.worker.port import WorkerReads

__all__ = ["OwnedArtifacts"]


class OwnedArtifacts:
    """`put` and `get` of the store; `reads.written` holds the digests until the run owns them."""

    def __init__(self, store: StoredArtifacts, reads: WorkerReads) -> None:
        self._store, self._reads = store, reads

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        self._reads.written.add(digest)
        self._store.put(digest, blob, ref)

    def get(self, digest: str) -> Blob:
        return self._store.get(digest)
