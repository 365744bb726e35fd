"""How many examples a property takes. In a usual run a few, and the same ones each time: it judges the change, not the
day's luck. With `--hypothesis-profile=proof` a hundred times as many, drawn anew: 20,000 of the scripts against the model on
each server; `NBFLOW_TEST_EXAMPLES` names a number."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["examples", "is_a_proof"]

_USUAL, _TIMES = 100, 100
_WANTED = int(os.environ.get("NBFLOW_TEST_EXAMPLES", "0"))
settings.register_profile("usual", derandomize=not _WANTED, deadline=None)  # the machine is shared
settings.register_profile("proof", derandomize=False, deadline=None, max_examples=_USUAL * _TIMES)
settings.load_profile("usual")  # `--hypothesis-profile` is loaded after this


def examples(usual: int) -> settings:
    """Settings of a property that takes so many examples in a usual run."""
    return settings(
        max_examples=_WANTED or (usual * _TIMES if is_a_proof() else usual),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


def is_a_proof() -> bool:
    """Whether more is drawn than in a usual run. To be asked when the command line was read."""
    return bool(_WANTED) or (settings.default is not None and settings.default.max_examples > _USUAL)
