"""kill -9 at a few of the points at which a process can die, spread over its life; `make proof` tries each of them.

After each: nothing is lost, nothing completed twice, the run has ended with its result, no key is without an owner.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.fault.crashes import QUEUES, ROLES, CrashSite, open_crash_site
from tests.fault.points import Point, When

pytestmark = [pytest.mark.fault, pytest.mark.slow]

TRIED = {"worker": 2, "isolated": 1, "machine": 1, "supervisor": 1, "launcher": 2, "ticker": 2, "remover": 2}


@pytest.fixture(scope="module", params=QUEUES)
def crash_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[CrashSite]:
    with open_crash_site(tmp_path_factory.mktemp("crash"), QUEUES[request.param]) as site:
        yield site


@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", ROLES)
def test_whoever_dies_at_whichever_write_the_run_ends_as_if_nothing_had_been(crash_site: CrashSite, role: str) -> None:
    writes = crash_site.count_writes(role)
    assert writes > 3, "the writes of this role are not counted"
    fired = 0
    for i in range(TRIED[role]):
        n = max(1, (2 * i + 1) * writes // (2 * TRIED[role]))
        whens: tuple[When, ...] = ("before", "after")
        fired += sum(crash_site.try_point(Point(role, n, when)) for when in whens)
    assert fired >= TRIED[role], "hardly anybody died"
