"""What is signed of a run: the launcher signs it, the worker verifies it before it opens anything."""

from __future__ import annotations

__all__ = ["run_signature_parts", "trigger_signature_parts"]


def run_signature_parts(
    run: str, flow: str, *, plan: str, bundle: str, input_digest: str, queue: str
) -> tuple[str, ...]:
    """The parts in their order; the first names what is signed. `queue` is the run's own, or empty."""
    return ("run", run, flow, plan, bundle, input_digest, queue)


def trigger_signature_parts(run: str, trigger: str) -> tuple[str, ...]:
    """The same for what a run is told of what started it (JSON)."""
    return ("trigger", run, trigger)
