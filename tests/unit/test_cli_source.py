"""`--from`: a notebook, a script, a module are read without anything being started."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import typer

from nbflow.cli.source import opened
from nbflow.define import registry
from nbflow.define.bundle import make_bundle, open_bundle
from nbflow.errors import DefinitionError, UnknownFlow
from nbflow.model.signing import Signer
from tests.unit.test_cli_cells import notebook

FLOW = """
    from nbflow import Flow
    etl = Flow("etl")

    @etl.entry
    def numbers(count: int = 3) -> list[int]:
        return list(range(count))
"""


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


def script(path: Path, *parts: str) -> str:
    path.write_text("\n".join(map(dedent, parts)))
    return str(path)


def test_a_launch_ends_its_own_cell_and_what_misses_its_run_is_skipped(tmp_path: Path) -> None:
    """Law: flows that are defined after a launch are found, and no cell of that kind counts as failed."""
    path = notebook(
        tmp_path / "etl.ipynb",
        dedent(FLOW),
        "run = etl.start()\nraise SystemExit('never')",
        "run.result",
        "@etl.step(numbers)\ndef total(values: list[int]) -> int:\n    return sum(values)",
    )
    with opened(str(path)) as source:
        assert [step.name for step in source.flow("etl").steps()] == ["numbers", "total"]
        assert [(skipped.cell, skipped.is_expected) for skipped in source.skipped] == [
            ("etl.ipynb#cell-2", True),
            ("etl.ipynb#cell-3", True),
        ]
        assert source.failed == []


def test_no_except_clause_of_the_author_catches_a_launch(tmp_path: Path) -> None:
    cell = "try:\n    etl.start()\nexcept Exception:\n    etl = None"
    with opened(str(notebook(tmp_path / "x.ipynb", dedent(FLOW), cell, "assert etl is not None"))) as source:
        assert [skipped.cell for skipped in source.skipped] == ["x.ipynb#cell-2"]


def test_a_cell_that_fails_by_itself_is_told_with_its_line(tmp_path: Path) -> None:
    path = notebook(tmp_path / "x.ipynb", "x = 1\nimport not_there", dedent(FLOW))
    with opened(str(path)) as source:
        assert list(source.flows) == ["etl"]
        (skipped,) = source.failed
    assert skipped.reason == "line 2: ModuleNotFoundError: No module named 'not_there'"


def test_a_definition_that_is_refused_is_told_even_after_a_launch(tmp_path: Path) -> None:
    bad = "@etl.step(numbers, nonsense=1)\ndef total(values): ..."
    with opened(str(notebook(tmp_path / "x.ipynb", dedent(FLOW), "etl.start()", bad))) as source:
        assert [(skipped.cell, skipped.is_definition) for skipped in source.failed] == [("x.ipynb#cell-3", True)]


def test_cells_that_are_tagged_are_left_out_or_may_fail(tmp_path: Path) -> None:
    left_out = {"cell_type": "code", "metadata": {"tags": ["nbflow-skip"]}, "source": "raise RuntimeError"}
    failing = {"cell_type": "code", "metadata": {"tags": ["raises-exception"]}, "source": "1 / 0"}
    with opened(str(notebook(tmp_path / "x.ipynb", left_out, failing, dedent(FLOW)))) as source:
        assert list(source.flows) == ["etl"]
        assert source.failed == []


def test_what_every_cell_has_in_jupyter_is_there(tmp_path: Path) -> None:
    """Law: magics, `display`, `get_ipython`, top-level await and `from __future__` in an earlier cell."""
    path = notebook(
        tmp_path / "x.ipynb",
        "from __future__ import annotations\n%load_ext nbflow\n!ls\nfiles = !ls",
        "import asyncio\nawait asyncio.sleep(0)\ndisplay(1)\nget_ipython().run_line_magic('matplotlib', 'inline')",
        dedent(FLOW) + "\ndef later(x: NotDefined): ...\nassert files is None",
    )
    with opened(str(path)) as source:
        assert source.skipped == []
        assert list(source.flows) == ["etl"]


def test_nothing_comes_out_and_nothing_goes_in(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Law: what a notebook prints would spoil the command's output; what it asks would wait for ever."""
    path = notebook(tmp_path / "x.ipynb", "print('loud')", "input('who?')", dedent(FLOW))
    with opened(str(path)) as source:
        assert [skipped.reason.split(":")[1].strip() for skipped in source.failed] == ["EOFError"]
    assert capfd.readouterr() == ("", "")


def test_functions_travel_by_value_and_show_their_lines(tmp_path: Path) -> None:
    """Law: what ran is `__main__` while the source is open; a worker's traceback names the cell and shows its line."""
    cell = (
        "import beside\ndef half(n): return n / beside.zero\n\n@etl.step(numbers)\ndef bad(values):\n    return half(1)"
    )
    (tmp_path / "beside.py").write_text("zero = 0\n")
    main, path = sys.modules["__main__"], [*sys.path]
    signer = Signer(b"secret")
    with opened(str(notebook(tmp_path / "x.ipynb", dedent(FLOW), cell))) as source:
        flow = source.flow("etl")
        codes = {step.name: (step.spec, step.function, step.key) for step in flow.steps()}
        assert {function.__module__ for _, function, _ in codes.values()} == {"__main__"}
        bundle = make_bundle("etl", codes, signer=signer, project=tmp_path)
    assert (sys.modules["__main__"], sys.path) == (main, path)
    sys.modules.pop("beside")
    loaded = open_bundle(bundle.blob, bundle.digest, signer)
    with loaded.world.entered(), pytest.raises(ZeroDivisionError) as caught:
        loaded.steps["bad"].function([1])
    with loaded.world.entered():
        told = "".join(traceback.format_exception(caught.value))
    assert 'File "x.ipynb#cell-2", line 2, in half' in told
    assert "return n / beside.zero" in told


def test_a_script_is_read_statement_by_statement(tmp_path: Path) -> None:
    """Law: a launch in its midst hides nothing; what it does as a program is not done; its name is `__main__`."""
    path = script(
        tmp_path / "etl.py",
        FLOW,
        """
        assert __name__ == "__main__" and __file__.endswith("etl.py")
        run = etl.start()
        print(run.result)

        @etl.step(numbers)
        def total(values: list[int]) -> int:
            return sum(values)

        if __name__ == "__main__":
            raise RuntimeError("a program")
        """,
    )
    with opened(path) as source:
        assert [step.name for step in source.flow("etl").steps()] == ["numbers", "total"]
        assert source.failed == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [("x = 1\nimport not_there", "x.py, line 2: ModuleNotFound"), ("x = (", "x.py does not compile: line 1")],
)
def test_a_script_that_fails_before_any_launch_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem), opened(script(tmp_path / "x.py", text)):
        pass


def test_a_module_is_imported_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script(tmp_path / "flows_of_mine.py", FLOW)
    try:
        with opened("flows_of_mine") as source:
            assert source.flow("etl").steps()[0].function.__module__ == "flows_of_mine"
    finally:
        sys.modules.pop("flows_of_mine", None)


def test_a_module_that_starts_something_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script(tmp_path / "starts_itself.py", FLOW, "etl.start()")
    with (
        pytest.raises(DefinitionError, match=r"starts the flow 'etl' when it is imported.*__main__"),
        opened("starts_itself"),
    ):
        pass


@pytest.mark.parametrize("where", ["nope.ipynb", "nope.py", "a/b", "no.such.module", "not an identifier"])
def test_what_is_not_there_is_wrong_usage(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.BadParameter, match="there is no"), opened(where):
        pass


def test_a_flow_that_is_missing_is_told_with_the_skipped_cells(tmp_path: Path) -> None:
    path = notebook(tmp_path / "x.ipynb", "import not_there", dedent(FLOW))
    with opened(str(path)) as source, pytest.raises(UnknownFlow) as caught:
        source.flow("elt")
    assert "x.ipynb#cell-1: line 1: ModuleNotFoundError" in caught.value.message
    assert caught.value.hint == "Did you mean 'etl'?"


def test_flows_of_before_are_not_the_source_s(tmp_path: Path) -> None:
    registry.define("other")
    with opened(script(tmp_path / "etl.py", FLOW)) as source:
        assert list(source.flows) == ["etl"]


def test_launches_are_possible_again_afterwards(tmp_path: Path) -> None:
    with opened(script(tmp_path / "etl.py", FLOW)) as source:
        flow: Any = source.flow("etl")
        with pytest.raises(Exception, match="count"):  # and not LaunchDisabled: it goes as far as the input
            flow.start(count="many", nonsense=1)
