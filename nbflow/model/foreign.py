"""The way to the doors of numpy, pandas, pyarrow and polars, which are opened only when such a value travels.

`tensors`, `arrow` (pandas) and `tables` (pyarrow, polars) import their libraries at the top, and this module imports
them late: a value's type tells that its library is loaded anyway, and without one nothing is loaded.
"""

# The types of users' values are unknown here by their nature.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbflow.errors import PackageMissing
from nbflow.model.artifacts import Blob
from nbflow.model.scalars import Node

__all__ = ["ROOTS", "TAGS", "Packed", "pack", "read_scalar", "root_of", "unpack", "write_scalar"]

ROOTS = ("numpy", "pandas", "polars", "pyarrow")
"""The packages whose values are tried here."""

TAGS = ("np", "timestamp", "pandas.timedelta", "nat", "na")
"""The tags that `read_scalar` reads."""

Packed = tuple[Blob, dict[str, Any]]
"""The bytes of an artifact, and what its reference says of it."""


def root_of(kind: type[Any]) -> str:
    """The package that a class is of."""
    return kind.__module__.partition(".")[0]


def pack(value: Any) -> tuple[str, Blob, dict[str, Any]] | None:
    """`(kind, blob, what the reference says)` of a frame, a table or an array; None if it has to be a pickle."""
    root = root_of(type(value))
    if root == "numpy":
        packed = _tensors().pack(value)
        return packed and ("tensor", *packed)
    if root == "pandas":
        packed = _arrow().pack(value)
    else:
        packed = _tables().pack_polars(value) if root == "polars" else _tables().pack_arrow(value)
    return packed and ("arrow", *packed)


def unpack(kind: str, blob: Blob) -> Any:
    """What `pack` was given. PackageMissing names the package that it needs."""
    try:
        if kind == "tensor":
            return _tensors().unpack(blob)
        table, said = _tables().read_stream(blob)
        container = str(said.get("container", "pyarrow.Table"))
        if container.startswith("pandas."):
            return _arrow().unpack(table, said)
        if container.startswith("polars."):
            return _tables().unpack_polars(table, container)
        return _tables().unpack_arrow(table, container)
    except ModuleNotFoundError as error:
        raise PackageMissing(
            f"A payload needs the package {error.name!r}, which is not installed here.", hint=f"Install {error.name}."
        ) from error


def write_scalar(value: Any) -> Node | None:
    """The node of a single value of numpy or pandas, or None."""
    root = root_of(type(value))
    if root == "numpy":
        return _tensors().write_scalar(value)
    return _arrow().write_moment(value) if root == "pandas" else None


def read_scalar(tag: str, node: Node, revive: Callable[[Any], Any]) -> Any:
    return _tensors().read_scalar(node, revive) if tag == "np" else _arrow().read_moment(tag, node)


def _tensors() -> Any:
    from nbflow.model import tensors  # noqa: PLC0415 - loads numpy

    return tensors


def _tables() -> Any:
    from nbflow.model import tables  # noqa: PLC0415 - loads pyarrow

    return tables


def _arrow() -> Any:
    from nbflow.model import arrow  # noqa: PLC0415 - loads pandas

    return arrow
