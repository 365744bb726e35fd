"""Which cell is running: what the registry needs to follow the cells of a notebook.

JupyterLab sends the cell's id in the metadata of its execute request, and ipykernel keeps that request as the parent of
everything the cell does. nbval, consoles and plain IPython send no id: then there is no cell to follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from IPython.core.getipython import get_ipython

from nbflow.define import registry
from nbflow.define.registry import CellId

__all__ = ["end_cell", "install", "locate_cell", "uninstall"]


def locate_cell() -> CellId | None:
    """`(cell id, id of the execute request)` of the cell that is running, on whichever thread of it."""
    get_parent = getattr(get_ipython(), "get_parent", None)  # ipykernel's shell has it, plain IPython's has not
    parent = _mapping(get_parent() if callable(get_parent) else None)
    cell = _mapping(parent.get("metadata")).get("cellId")
    request = _mapping(parent.get("header")).get("msg_id")
    return CellId(cell, request) if isinstance(cell, str) and cell and isinstance(request, str) else None


def install() -> None:
    """Let the registry ask here. Doing it again changes nothing."""
    registry.cell_locator = locate_cell


def uninstall() -> None:
    """Let the registry know no cells again, unless somebody else has told it how."""
    if registry.cell_locator is locate_cell:
        registry.cell_locator = _nowhere


def end_cell(result: object = None) -> None:
    """After each cell: what an earlier text of it defined, and this one does not, leaves its flow.

    A cell that failed has not come to its end: what it would have defined again stays as it was.
    """
    cell = locate_cell()
    if cell is not None and getattr(result, "success", True):
        registry.end_cell(cell)


def _nowhere() -> None:
    return None


def _mapping(value: object) -> Mapping[str, object]:
    empty: Mapping[str, object] = {}
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else empty
