"""The door of pyarrow and polars: tables as Arrow IPC streams. Imported only where one of them travels.

Uncompressed, so that a reader opens the columns where they lie in a mapped file. What the table was is said in the
schema's metadata under `nbflow`; readers that do not know it see an ordinary Arrow stream.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pyarrow  # noqa: ICN001 # pyright: ignore[reportMissingTypeStubs]

from nbflow.model.artifacts import Blob
from nbflow.model.foreign import Packed

pa: Any = pyarrow  # it has no types

__all__ = [
    "MARK",
    "mark",
    "pack_arrow",
    "pack_polars",
    "read_stream",
    "schema_of",
    "unpack_arrow",
    "unpack_polars",
    "write_stream",
]

MARK = b"nbflow"
_MOST_COLUMNS = 100
"""A reference lists so many columns; wider tables say how many there are."""


def write_stream(table: Any) -> memoryview:
    """The table as one IPC stream, written into a buffer of the right size at once (growing one is slow)."""
    counter = pa.MockOutputStream()
    _write(counter, table)
    size = int(counter.size())
    buffer = pa.allocate_buffer(size)
    _write(pa.FixedSizeBufferWriter(buffer), table)
    return memoryview(buffer).cast("B")


def _write(sink: Any, table: Any) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def read_stream(blob: Blob) -> tuple[Any, dict[str, Any]]:
    """The table over the blob's own memory, without the mark, and the mark."""
    table = pa.ipc.open_stream(pa.py_buffer(blob)).read_all()
    table.validate(full=True)  # who can write the bytes must not be able to crash the reader
    metadata = dict(table.schema.metadata or {})
    said = json.loads(metadata.pop(MARK, b"{}"))
    return table.replace_schema_metadata(metadata or None), said


def mark(table: Any, **said: Any) -> Any:
    """The table with what it was, for the reader."""
    metadata: dict[bytes, bytes] = {**(table.schema.metadata or {}), MARK: json.dumps(said).encode()}
    return table.replace_schema_metadata(metadata)


def schema_of(columns: list[tuple[Any, Any]]) -> dict[str, Any]:
    """The part of a reference that says the columns, as `[name, type]`."""
    shown = [[str(name).encode("utf-8", "replace").decode(), str(kind)[:200]] for name, kind in columns[:_MOST_COLUMNS]]
    return {"schema": shown, "columns": len(columns)}


# pyarrow


def pack_arrow(value: Any) -> Packed | None:
    """A Table, RecordBatch, Array or ChunkedArray; None if a stream cannot say all of it."""
    name = type(value).__name__
    table = _as_table(value)
    if table is None or MARK in (table.schema.metadata or {}):
        return None
    blob = write_stream(mark(table, container=f"pyarrow.{name}", bare=not table.schema.metadata))
    back, _ = read_stream(blob)
    if back.num_rows != table.num_rows or not back.schema.equals(table.schema, check_metadata=True):
        return None  # an extension type that is not registered, or columns of nothing
    kind = "pyarrow.Array" if isinstance(value, pa.Array) else f"pyarrow.{name}"
    columns = [(field.name, field.type) for field in table.schema]
    return blob, {"type": kind, "rows": table.num_rows, **schema_of(columns)}


def _as_table(value: Any) -> Any:
    if type(value) is pa.Table:
        return value
    if type(value) is pa.RecordBatch:
        return pa.Table.from_batches([value])
    if isinstance(value, pa.ChunkedArray | pa.Array):
        return pa.table({"": value})
    return None


def unpack_arrow(table: Any, container: str) -> Any:
    if container == "pyarrow.Table":
        return table
    if container == "pyarrow.RecordBatch":
        return _one_batch(table)
    column = table.column(0)
    if container == "pyarrow.ChunkedArray":
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _one_batch(table: Any) -> Any:
    batches = table.to_batches()
    if len(batches) == 1:
        return batches[0]
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in table.schema], schema=table.schema)


# polars


def pack_polars(value: Any) -> Packed | None:
    """A DataFrame or Series of polars; None if Arrow cannot say all of it."""
    pl: Any = sys.modules["polars"]
    if type(value) not in (pl.DataFrame, pl.Series):
        return None
    is_series = type(value) is pl.Series
    frame = value.to_frame() if is_series else value
    try:
        table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
        container = "polars.Series" if is_series else "polars.DataFrame"
        blob = write_stream(mark(table, container=container))
        back = unpack_polars(read_stream(blob)[0], "polars.DataFrame")
    except (Exception, pl.exceptions.PanicException):  # noqa: BLE001 - what polars raises here has no one class
        return None
    if back.schema != frame.schema or back.shape != frame.shape:
        return None
    known = all(kind.is_numeric() or kind.is_temporal() or kind == pl.String for kind in frame.dtypes)
    if not known and not back.equals(frame, null_equal=True):
        return None
    return blob, {"type": container, "rows": frame.height, **schema_of(list(frame.schema.items()))}


def unpack_polars(table: Any, container: str) -> Any:
    import polars  # noqa: PLC0415, ICN001 - an optional extra: only who is sent one needs it

    pl: Any = polars
    try:
        frame = pl.from_arrow(table)
    except pl.exceptions.PanicException as panic:  # a BaseException, which no handler of errors would see
        raise ValueError(f"polars cannot read it: {panic}") from None
    return frame.to_series() if container == "polars.Series" else frame
