"""What of a notebook or script is run, and what is left out."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from nbflow.cli.cells import notebook_cells, script_tree, without_magics
from nbflow.errors import CommandRefused


def notebook(path: Path, *cells: str | dict[str, Any], **metadata: Any) -> Path:
    made = [
        {"cell_type": "code", "metadata": {}, "source": [cell]} if isinstance(cell, str) else cell for cell in cells
    ]
    path.write_text(json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("%load_ext nbflow", "pass"),
        ("!pip install x", "pass"),
        ("    !ls", "    pass"),
        ("files = !ls *.csv", "files = None"),
        ("a, b = %sql select 1", "a, b = None"),
        ("flow?", "pass"),
        ("flow.start??", "pass"),
        ("?flow", "pass"),
        ("%env KEY=it's", "pass"),
        ("!echo $(cat", "pass"),
    ],
)
def test_a_magic_line_is_left_out(line: str, left: str) -> None:
    before = "if True:\n    pass\n" if line.startswith(" ") else "x = 1\n"
    assert without_magics(f"{before}{line}\ny = 2") == f"{before}{left}\ny = 2\n"


@pytest.mark.parametrize(
    "cell",
    ['text = """\n%matplotlib inline\n!ls\n"""\n', "x = (7\n% 4)\n", "await run\n", "# %magic\n", "", "x = 'why?'\n"],
)
def test_python_stays_as_it_is(cell: str) -> None:
    """Law: only a line that Python refuses is taken for a magic."""
    assert without_magics(cell).strip("\n") == cell.strip("\n")


def test_lines_keep_their_numbers() -> None:
    text = "%load_ext nbflow\n!pip install \\\n    x\nx = 1 / 0"
    assert without_magics(text).splitlines() == ["pass", "pass", "", "x = 1 / 0"]


def test_a_cell_for_a_magic_is_left_out_and_one_that_is_timed_is_not() -> None:
    assert without_magics("%%bash\nls") == ""
    assert without_magics("\n%%html\n<p>") == ""
    assert without_magics("%%time\nx = 1") == "pass\nx = 1\n"


def test_an_error_of_syntax_stays_where_it_is() -> None:
    assert without_magics("%load_ext nbflow\nx = = 1") == "pass\nx = = 1\n"


def test_code_cells_are_counted_as_jupyter_counts_them(tmp_path: Path) -> None:
    text = {"cell_type": "markdown", "metadata": {}, "source": "# hello"}
    tagged = {"cell_type": "code", "metadata": {"tags": ["nbflow-skip"]}, "source": "no"}
    failing = {"cell_type": "code", "metadata": {"tags": ["raises-exception"]}, "source": "1/0"}
    cells = notebook_cells(notebook(tmp_path / "etl.ipynb", "a = 1", text, tagged, failing))
    assert [cell.name for cell in cells] == ["etl.ipynb#cell-1", "etl.ipynb#cell-2", "etl.ipynb#cell-3"]
    assert [(cell.is_left_out, cell.may_fail) for cell in cells] == [(False, False), (True, False), (False, True)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("not json", "holds no JSON"),
        ('{"worksheets": []}', "no notebook of format 4"),
        ('{"cells": [], "metadata": {"kernelspec": {"language": "R"}}}', "a notebook in R"),
    ],
)
def test_what_is_no_notebook_in_python_is_refused_with_a_sentence(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "x.ipynb"
    path.write_text(content)
    with pytest.raises(CommandRefused, match=problem):
        notebook_cells(path)


def test_what_a_script_does_as_a_program_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "etl.py"
    path.write_text('x = 1\nif "__main__" == __name__:\n    run()\nelse:\n    y = 2\nif __name__ != "x":\n    z = 3\n')
    kept = ast.unparse(script_tree(path))
    assert "run()" not in kept
    assert "y = 2" in kept
    assert "z = 3" in kept
