"""The short form of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.chaos import Chaos

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.mark.timeout(600)
def test_no_law_is_broken_whoever_is_killed_cut_or_restarted(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, seed=7, workers=2)
    assert chaos.run(40, 8, restart_every_s=3) == []
    assert len(chaos.started) == 40
    assert sum(chaos.deeds.values()) > 5, chaos.deeds
