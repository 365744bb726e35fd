"""Code travels: to workers that were started before it existed, in another environment, in the version of its launch."""

from __future__ import annotations

import importlib
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from nbflow import Flow
from nbflow.app import Nbflow
from tests.site import SECRET, Site, wait_until


def _environment_without_the_notebook(folder: Path) -> str:
    """A virtual environment that has the packages of this one (and nbflow), and none of our folders."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    import nbflow

    source = Path(nbflow.__file__).parents[1]
    (packages / "others.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{source}\n")
    return str(folder / "bin" / "python")


NOTEBOOK = """
import sys
from dataclasses import dataclass
from nbflow import Flow
from nbflow.app import Nbflow, use

use(Nbflow(sys.argv[1], secret=sys.argv[2]))
flow = Flow("of-a-notebook", queue="elsewhere")
FACTOR = 7

@dataclass
class Order:
    total: int

def helper(n):
    return n * FACTOR

@flow.entry
def make(n: int) -> Order:
    return Order(helper(n))

@flow.step(make)
def where(order: Order) -> tuple[str, int, str]:
    return sys.executable, order.total, type(order).__name__

print(flow.start(n=6).wait(30, progress=False).result)
"""


def test_a_notebooks_flow_runs_on_a_worker_of_another_environment_that_was_there_before(
    site: Site, tmp_path: Path
) -> None:
    python = _environment_without_the_notebook(tmp_path / "elsewhere")
    before = site.living()
    workers = site.start_workers(1, queues="elsewhere", python=python, cwd="/")
    try:
        wait_until(lambda: site.living() > before, what=workers.log.read_text)
        notebook = tmp_path / "notebook.py"
        notebook.write_text(NOTEBOOK)
        command = [sys.executable, str(notebook), site.server.url, SECRET]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str((python, 42, "Order"))
    finally:
        workers.stop()


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project directory with a helper module beside the notebook, and this process working in it."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    module = project / "myhelper_of_flow.py"
    module.write_text("def answer():\n    return 'old'\n")
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.chdir(project)
    return module


def _flow_that_asks_the_helper() -> Flow:
    helper: Any = importlib.import_module("myhelper_of_flow")
    flow = Flow("edited-helper", queue="edit")

    @flow.entry
    def wait_for(gate: Path, begun: Path) -> int:
        import os
        import time

        begun.touch()
        while not gate.exists():
            time.sleep(0.01)
        return os.getpid()

    @flow.step(wait_for)
    def ask(pid: int) -> tuple[int, str]:
        return pid, helper.answer()

    @flow.step(ask)
    def ask_inside(before: tuple[int, str]) -> tuple[int, str, str]:
        from myhelper_of_flow import answer  # pyright: ignore[reportMissingImports]

        return *before, answer()

    return flow


def test_an_edited_helper_counts_from_the_next_start_on(site: Site, helper: Path, tmp_path: Path) -> None:
    """Law: the run in flight stays on the old code, the next one has the new, on the same warm worker."""
    nbflow = Nbflow(site.server.url, secret=SECRET, project=helper.parent)
    workers = site.start_workers(1, queues="edit")
    flow = _flow_that_asks_the_helper()
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    try:
        first = flow.options(on=nbflow).start(gate=gate, begun=begun)
        wait_until(begun.exists, what=workers.log.read_text)
        helper.write_text("def answer():\n    return 'new, and longer'\n")
        second = flow.options(on=nbflow).start(gate=gate, begun=begun)
        gate.touch()
        old, new = (run.wait(30, progress=False).result for run in (first, second))
        assert old[1:] == ("old", "old")
        assert new[1:] == ("new, and longer", "new, and longer")
        assert old[0] == new[0]
    finally:
        workers.stop()
        nbflow.close()


def test_a_class_redefined_between_two_starts_is_another_class_to_each_run(site: Site) -> None:
    flow = site.flow()

    def define(word: str) -> None:
        class Said:
            def say(self) -> str:
                return word

        @flow.entry
        def say() -> str:
            return Said().say()

    results: list[str] = []
    for word in ("one", "two", "three"):
        define(word)
        results.append(flow.start().wait(20, progress=False).result)
    assert results == ["one", "two", "three"]
