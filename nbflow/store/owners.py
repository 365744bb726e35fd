"""Whose an artifact is: a run owns a digest, counted once, before its bytes are written (`lua/parts/owners.lua`).

So the last owner to go may take the bytes along: whoever comes to own the digest at that moment finds them missing, and
writes them. What writes artifacts for a run writes them through here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbflow.errors import Canceled
from nbflow.model.artifacts import ArtifactStore, Blob
from nbflow.store.artifacts import StoredArtifacts

__all__ = ["OwnedArtifacts", "Owner", "owned_by"]


@dataclass(frozen=True, slots=True)
class Owner:
    """A run. `say` calls the script `own`; what a run that is to be launched owns goes after an hour if it is not."""

    run: str
    say: Callable[..., Any]
    is_launched: bool = True

    def own(self, digest: str, *blob: bytes) -> bool:
        """Own it, with the bytes where the server is to hold them. Whether they are there; Canceled if the run is gone."""
        return self._say(digest, *blob, how="run" if self.is_launched else "start")

    def confirm(self, digest: str) -> None:
        """The bytes lie in the artifact store now. If the run was deleted meanwhile, they are swept from there."""
        self._say(digest, how="there" if self.is_launched else "start")

    def _say(self, digest: str, *blob: bytes, how: str) -> bool:
        reply = self.say(*blob, run=self.run, digest=digest, how=how)
        if reply == b"GONE":
            raise Canceled("the run was deleted: what it writes no longer counts")
        return bool(reply == b"OK")


class OwnedArtifacts:
    """An artifact store as one owner writes into it."""

    def __init__(self, store: StoredArtifacts, owner: Owner) -> None:
        self._store, self._owner = store, owner

    def put(self, digest: str, blob: Blob, ref: dict[str, Any]) -> None:
        self._store.put_owned(self._owner, digest, blob)

    def get(self, digest: str) -> Blob:
        return self._store.get(digest)


def owned_by(owner: Owner, store: ArtifactStore) -> ArtifactStore:
    """The store as this owner writes into it. One that lives in a process only has nothing to count."""
    return OwnedArtifacts(store, owner) if isinstance(store, StoredArtifacts) else store
