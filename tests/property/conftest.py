"""A proof takes as long as it takes: the limits of a usual run, and those that tests name, are no limits to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.property.profiles import is_a_proof

DAY_S = 24 * 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_a_proof() and item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(DAY_S), append=False)
