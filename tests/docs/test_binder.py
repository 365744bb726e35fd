"""What Binder is told fits what the package says of itself."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINDER = ROOT / "binder"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_binder_installs_this_checkout_with_extras_that_exist() -> None:
    """Law: repo2docker runs pip in the repository's root, so `.` is this checkout."""
    lines = (BINDER / "requirements.txt").read_text("utf-8").splitlines()
    (line,) = [line for line in lines if not line.startswith("#")]
    found = re.fullmatch(r"-e \.\[([\w,]+)\]", line)
    assert found
    assert set(found[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_binder_has_a_python_that_will_do() -> None:
    """Law: `python-x.y`, which is what repo2docker reads, and not below what the package needs."""
    found = re.fullmatch(r"python-3\.(\d+)\n", (BINDER / "runtime.txt").read_text("utf-8"))
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert found
    assert least
    assert int(found[1]) >= int(least[1])


def test_what_runs_after_the_build_can_run() -> None:
    script = BINDER / "postBuild"
    assert os.access(script, os.X_OK)
    assert script.read_text("utf-8").startswith("#!")
