"""`%load_ext nbflow`: what it puts into the shell, and how it takes all of it out again.

Loading says nothing, starts nothing and can be repeated; unloading leaves the shell as it was.
"""

from __future__ import annotations

from typing import Any

from nbflow.notebook import cells, errors
from nbflow.notebook.display import RunProgress, forget_line, show_run
from nbflow.notebook.magics import NbflowMagics
from nbflow.watch.progress import show_progress_with
from nbflow.watch.run import show_runs_with

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(ip: Any) -> None:
    """Put the magic, its completion, the cell locator and the short errors into the shell."""
    if _magics(ip) is not None:
        return
    magics = NbflowMagics(ip)
    ip.register_magics(magics)
    ip.Completer.custom_matchers.append(magics.matcher)
    ip.events.register("post_run_cell", cells.end_cell)
    ip.events.register("post_run_cell", forget_line)
    cells.install()
    errors.install(ip)
    if getattr(ip, "kernel", None) is not None:  # on a terminal the line of the terminal is the better one
        show_progress_with(RunProgress)
        show_runs_with(show_run)


def unload_ipython_extension(ip: Any) -> None:
    """Take everything out. In a shell that has nothing of it, it does nothing."""
    magics = _magics(ip)
    if magics is None:
        return
    ip.magics_manager.magics["line"].pop("nbflow", None)
    ip.magics_manager.registry.pop(NbflowMagics.__name__, None)
    matchers = ip.Completer.custom_matchers
    matchers[:] = [matcher for matcher in matchers if matcher is not magics.matcher]
    ip.events.unregister("post_run_cell", cells.end_cell)
    ip.events.unregister("post_run_cell", forget_line)
    cells.uninstall()
    errors.uninstall(ip)
    show_progress_with(None)
    show_runs_with(None)


def _magics(ip: Any) -> NbflowMagics | None:
    return ip.magics_manager.registry.get(NbflowMagics.__name__)
