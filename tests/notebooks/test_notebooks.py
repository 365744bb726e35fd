"""Every notebook runs, on a stack of its own, and shows what it showed when it was saved."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NOTEBOOKS = sorted((HERE.parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A project directory of its own, whose stack is ended afterwards."""
    own = os.environ | {"NBFLOW_PROJECT": str(tmp_path_factory.mktemp("notebooks")), "NBFLOW_WORKERS": "2"}
    for name in ("NBFLOW_REDIS_URL", "NBFLOW_SECRET"):
        own.pop(name, None)
    yield own
    subprocess.run([sys.executable, "-m", "nbflow", "down"], env=own, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_showed(notebook: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--nbval", "--nbval-current-env"]
    command += ["--nbval-cell-timeout=200", f"--nbval-sanitize-with={HERE / 'sanitize.cfg'}"]
    command += ["-o", "timeout=280", "-W", "default", str(notebook)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=notebook.parent)
    assert done.returncode == 0, done.stdout[-6000:]
