"""Whether the end of an attempt may be kept for other runs: only if nothing of it comes from what another run has otherwise.

The script keeps it (`lua/parts/cache.lua`); here is said what it needs for that.
"""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet

from nbflow.model.artifacts import artifacts_of
from nbflow.model.codec import Codec
from nbflow.model.definition import StepSpec
from nbflow.worker.task import Ending

__all__ = ["MOST_ARTIFACTS", "kept"]

MOST_ARTIFACTS = 100
"""So many artifacts an end may refer to: a run that takes it over comes to own all of them in one script."""

_OF_ITS_PLACE = frozenset({"index", "key"})
_ORDER = ("start_flow", "state", "run_id", "attempt", "idempotency_key", "trigger", "input")


def kept(ending: Ending, looked: AbstractSet[str], step: StepSpec, codec: Codec) -> Ending:
    """The ending of a step with `cache=`, with what is said to the script, or with the reason why it is not kept."""
    own = looked - {"input"} if step.is_entry else looked  # the input is what an entry receives
    reason = next((f"ctx.{name}" for name in _ORDER if name in own), "")
    artifacts = set[str]()
    if not reason:
        texts = [ending.data, *(part for part in ending.emits if isinstance(part, str))]
        artifacts = artifacts_of(texts, codec.artifacts.get) if codec.artifacts is not None else artifacts
        reason = f"{len(artifacts)} artifacts" if len(artifacts) > MOST_ARTIFACTS else ""
    if reason:
        ending.data = f'{ending.data[:-1]},"uncached":{json.dumps(reason)}}}'
        return ending
    place = "1" if own & _OF_ITS_PLACE else ""
    pairs = [part for digest in sorted(artifacts) for part in (digest, "")]
    ending.emits[:0] = ["", "keep", place, len(artifacts), *pairs]
    return ending
