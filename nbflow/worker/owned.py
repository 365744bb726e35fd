"""The artifact store of a worker: what a task writes, the run of that task owns from then on."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbflow.model.artifacts import Blob
from nbflow.store.artifacts import StoredArtifacts
from nbflow.store.dust import own_folder
from nbflow.store.keys import Keys
from nbflow.store.owners import Owner
from nbflow.worker.port import WorkerReads

__all__ = ["OwnedArtifacts", "stored_artifacts"]


def stored_artifacts(reads: WorkerReads, keys: Keys, directory: str | None) -> StoredArtifacts:
    """Where artifacts lie, as this worker reaches it."""
    return StoredArtifacts(reads, keys.artifact, directory or None, folder=partial(own_folder, reads.ask, keys))


class OwnedArtifacts:
    """`put` and `get` of the store, for the run that `reads` is at."""

    def __init__(self, store: StoredArtifacts, reads: WorkerReads) -> None:
        self._store, self._reads = store, reads

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        self._store.put_owned(Owner(self._reads.run, self._reads.own), digest, blob)

    def get(self, digest: str) -> Blob:
        return self._store.get(digest)
