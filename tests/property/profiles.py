"""How many examples a property takes: a few in a usual run, many with `--hypothesis-profile=proof`, or as many as
`NBFLOW_TEST_EXAMPLES` says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["examples"]

_UNUSUAL = 20
settings.register_profile("proof", max_examples=100 * _UNUSUAL)


def examples(usual: int) -> settings:
    """Settings of a property that takes so many examples in a usual run."""
    times = settings.default.max_examples / 100 if settings.default is not None else 1
    count = int(os.environ.get("NBFLOW_TEST_EXAMPLES", "0")) or int(usual * max(1, times))
    return settings(
        max_examples=count,
        deadline=None,  # the machine is shared
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )
