"""A published version of a flow: what it is, as data, and its signed record. Nothing here reads or writes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from nbflow.errors import SignatureMismatch
from nbflow.model.signing import Signer

__all__ = ["KEPT", "Version"]

KEPT = 100
"""So many versions of a flow are kept; older ones go. Runs that they started keep their code."""


@dataclass(frozen=True, slots=True)
class Version:
    """The code of a flow as it was published: the digests of its plan and its bundle, its graph, the JSON schema of its
    input. `again` is the number of the version that this one repeats, 0 for new code."""

    flow: str
    number: int
    plan: str
    bundle: str
    fingerprints: dict[str, str]
    graph: dict[str, Any]
    input: dict[str, Any]
    note: str = ""
    published_ms: int = 0
    by: dict[str, str] = field(default_factory=dict[str, str])
    again: int = 0
    deadline_s: float | None = None

    def is_same_code(self, other: Version) -> bool:
        """Whether a start would do the same. The pickle's own digest differs from process to process."""
        mine, theirs = ((one.plan, one.fingerprints, one.graph, one.input, one.deadline_s) for one in (self, other))
        return mine == theirs

    def signed(self, signer: Signer) -> str:
        """The record that is stored: signature and JSON."""
        return signer.seal("version", json.dumps(asdict(self), separators=(",", ":")))

    @classmethod
    def verified(cls, record: str, flow: str, number: int, signer: Signer) -> Version:
        """The version of a stored record. SignatureMismatch if it is not signed with the secret, or stands in a place that
        is not its own."""
        text = signer.unseal("version", record)
        if text is not None:
            version = cls(**json.loads(text))
            if (version.flow, version.number) == (flow, number):
                return version
        raise SignatureMismatch(
            f"Version {number} of flow {flow!r} was not signed with this secret, or was changed since.",
            hint="Use the NBFLOW_SECRET of who published it, or publish the flow again.",
        )
