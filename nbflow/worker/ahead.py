"""Packages that are imported before a task needs them: what one process of a supervisor used, its spares import in time.
Only packages, never code of a flow."""

from __future__ import annotations

import contextlib
import importlib
import sys

from nbflow.worker.slots import Slots

__all__ = ["import_ahead", "tell_packages"]


def import_ahead(names: list[str]) -> None:
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # whatever it is, the task that needs the package will say it better
                importlib.import_module(name)


def tell_packages(slots: Slots) -> None:
    """The packages of this process that are neither Python's own nor a task's, beside those that others told."""
    tops = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__spec__", None)}
    own = {name for name in tops - sys.stdlib_module_names if not name.startswith("_") and name != "nbflow"}
    slots.packages = sorted(own.union(slots.packages))
