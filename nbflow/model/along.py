"""The code that a run brings along for runs that its steps start: which flows there are, and as what. Data only; the
record is an artifact of the run, and its digest is signed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nbflow.model.artifacts import Blob, digest_of

__all__ = ["MOST_LEVELS", "Along", "Companion"]

MOST_LEVELS = 32
"""So deep may runs start runs; the first of them is one level."""


@dataclass(frozen=True, slots=True)
class Companion:
    """A flow that may be started: its plan and its bundle by digest, what its start tells, and the number of the published
    version that it is, 0 for code that was at hand."""

    flow: str
    plan: str
    bundle: str
    fingerprints: Mapping[str, str]
    graph: dict[str, Any]
    version: int = 0


@dataclass(frozen=True, slots=True)
class Along:
    """All of them, by name. A run that was started by another one brings along what that one did."""

    flows: Mapping[str, Companion] = field(default_factory=dict[str, Companion])

    @classmethod
    def of(cls, companions: Iterable[Companion]) -> Along:
        return cls({companion.flow: companion for companion in companions})

    def __bool__(self) -> bool:
        return bool(self.flows)

    @property
    def codes(self) -> str:
        """What a run owns because of it, as the scripts take it: `plan:… bundle:…`."""
        parts = {
            f"{kind}:{code}"
            for one in self.flows.values()
            for kind, code in (("plan", one.plan), ("bundle", one.bundle))
        }
        return " ".join(sorted(parts))

    def blob(self) -> bytes:
        """The record."""
        return json.dumps([asdict(self.flows[name]) for name in sorted(self.flows)], separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """The name of the record."""
        return digest_of(self.blob())

    @classmethod
    def read(cls, blob: Blob) -> Along:
        """From a record."""
        return cls.of(Companion(**one) for one in json.loads(bytes(blob)))
