"""The README's notebook and the tutorial run as they are written, cell by cell, on a local stack of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ("README.md", "## Five minutes in a notebook")
TUTORIAL = ("docs/tutorial/first-flow.md", "## 1. Load the extension")

_FENCE = re.compile(r"^```python( raises)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_RAISES = """\
try:
{body}
except Exception as error:
    print(type(error).__name__)
else:
    raise AssertionError("this cell should fail")
"""


def cells(page: str, heading: str) -> list[str]:
    """The Python blocks from the heading on, up to the next of its level, as parts of a script."""
    text = (ROOT / page).read_text("utf-8")
    section = text[text.index(heading) :]
    if page == "README.md":
        section = section.split("\n## ", 1)[0]
    return [_plain(body, raises=bool(raises)) for raises, body in _FENCE.findall(section)]


def _plain(body: str, *, raises: bool) -> str:
    lines = "\n".join(line for line in body.splitlines() if not line.startswith("%"))
    return _RAISES.format(body=textwrap.indent(lines, "    ")) if raises else lines


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project directory; its stack is ended."""
    (tmp_path / "pyproject.toml").write_text("")
    yield tmp_path
    run(tmp_path, "-m", "nbflow", "down", "--now")


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("NBFLOW_")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return subprocess.run(
        [sys.executable, *words], cwd=project, env=own | {"PYTHONPATH": path, "NBFLOW_WORKERS": "2"}, capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.mark.parametrize(("page", "heading"), [README, TUTORIAL], ids=["readme", "tutorial"])
def test_the_cells_of_a_page_run_in_their_order(project: Path, page: str, heading: str) -> None:
    found = cells(page, heading)
    assert len(found) > 3
    end = "\nassert run.status == 'completed', run.error\nprint('the end')\n"
    (project / "page.py").write_text("\n\n".join(found) + end)
    done = run(project, "page.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the end\n")
