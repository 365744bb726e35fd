"""The door of pandas: frames, series and indexes as Arrow, and its single values. Imported only where one travels.

A frame is written as Arrow only if the very same frame comes back. Types and indexes that are known to are written at
once; any other frame is written, read and compared, and if one thing differs it is refused here and travels as a pickle.
"""

# The types of users' values are unknown here by their nature.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from datetime import UTC, date, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas  # noqa: ICN001 # pyright: ignore[reportMissingTypeStubs]
import pyarrow  # noqa: ICN001 # pyright: ignore[reportMissingTypeStubs]

from nbflow.model.foreign import Packed
from nbflow.model.scalars import Node
from nbflow.model.tables import mark, read_stream, schema_of, write_stream

pd: Any = pandas  # neither has types
pa: Any = pyarrow

__all__ = ["pack", "read_moment", "unpack", "write_moment"]


def pack(value: Any) -> Packed | None:
    frame = _as_frame(value)
    if frame is None or not frame.flags.allows_duplicate_labels:
        return None
    container = "pandas.Index" if isinstance(value, pd.Index) else f"pandas.{type(value).__name__}"
    said: dict[str, Any] = {"container": container}
    if container == "pandas.Series":
        if not (value.name is None or type(value.name) in (str, int)):
            return None
        said["name"] = value.name
    try:
        named = _with_text_columns(frame, said)
        blob = _frame_stream(named, said)
        if not _is_known(frame) and not _is_same(frame, _unpack_frame(*read_stream(blob))):
            return None
    except Exception:  # noqa: BLE001 - what pyarrow and pandas raise here is of no common class, and means the same: not as Arrow
        return None
    columns = list(zip(frame.columns, frame.dtypes, strict=True))
    return blob, {"type": container, "rows": len(frame), **schema_of(columns)}


def _as_frame(value: Any) -> Any:
    kind: Any = type(value)
    if kind is pd.DataFrame:
        return value
    if kind is pd.Series:
        frame = value.to_frame(value.name if type(value.name) is str else "values")
        frame.attrs = value.attrs
        return frame
    if isinstance(value, pd.Index) and kind.__module__.startswith("pandas"):
        return pd.DataFrame(index=value)
    return None


def _with_text_columns(frame: Any, said: dict[str, Any]) -> Any:
    columns = frame.columns
    if type(columns) is not pd.RangeIndex:
        return frame
    said["columns"], said["columns_name"] = [columns.start, columns.stop, columns.step], columns.name
    return frame.set_axis(pd.Index([str(name) for name in columns]), axis=1)


def _frame_stream(frame: Any, said: dict[str, Any]) -> memoryview:
    dtypes = list(frame.dtypes)
    said["objects"] = [i for i, dtype in enumerate(dtypes) if _is_object(dtype)]
    said["utc"] = [i for i, dtype in enumerate(dtypes) if type(getattr(dtype, "tz", None)) is timezone]
    said["index_utc"] = type(getattr(frame.index, "tz", None)) is timezone
    said["freq"] = getattr(getattr(frame.index, "freq", None), "freqstr", None)
    table = pa.Table.from_pandas(frame)
    return write_stream(mark(table, **said))


def unpack(table: Any, said: dict[str, Any]) -> Any:
    frame = _unpack_frame(table, said)
    if said["container"] == "pandas.Index":
        return frame.index
    if said["container"] == "pandas.Series":
        series = frame.iloc[:, 0].rename(said.get("name"))
        series.attrs = frame.attrs
        return series
    return frame


def _unpack_frame(table: Any, said: dict[str, Any]) -> Any:
    frame = table.to_pandas()
    for i in said.get("objects", ()):
        frame.isetitem(i, pd.Series(table.column(i).to_pylist(), index=frame.index, dtype=object))
    for i in said.get("utc", ()):
        frame.isetitem(i, frame.iloc[:, i].dt.tz_convert(UTC))
    for i, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, pd.CategoricalDtype):
            frame.isetitem(i, frame.iloc[:, i].copy())  # pyarrow gives codes that cannot be written to
    if said.get("index_utc"):
        frame.index = frame.index.tz_convert(UTC)
    if said.get("freq"):
        frame.index.freq = said["freq"]
    if "columns" in said:
        frame.columns = pd.RangeIndex(*said["columns"], name=said["columns_name"])
    return frame


# What is known to come back, and the comparison for all else


def _is_known(frame: Any) -> bool:
    index, columns = frame.index, frame.columns
    if (
        frame.attrs
        or not len(columns)
        or len({*columns, index.name}) != len(columns) + 1
        or not _is_known_name(index.name)
    ):
        return False
    if type(columns) is pd.RangeIndex:
        if not _is_known_name(columns.name):
            return False
    elif type(columns) is not pd.Index or columns.dtype != "str" or columns.name is not None:
        return False
    if type(index) is not pd.RangeIndex and (type(index) is not pd.Index or not _is_known_dtype(index.dtype)):
        return False
    return all(_is_known_dtype(dtype) for dtype in frame.dtypes)


def _is_known_name(name: Any) -> bool:
    return name is None or type(name) is str


def _is_known_dtype(dtype: Any) -> bool:
    if isinstance(dtype, pd.StringDtype):
        return str(dtype) == "str" and dtype.storage == "pyarrow"
    if isinstance(dtype, pd.DatetimeTZDtype):
        return type(dtype.tz) is ZoneInfo and bool(dtype.tz.key)
    return getattr(dtype, "kind", "") in "biufmM" and getattr(dtype, "isnative", False) and dtype.itemsize <= 8


def _is_same(left: Any, right: Any) -> bool:
    if left.shape != right.shape or repr(left.attrs) != repr(right.attrs):
        return False
    if not _is_same_index(left.index, right.index) or not _is_same_index(left.columns, right.columns):
        return False
    return all(_is_same_column(left.iloc[:, i], right.iloc[:, i]) for i in range(left.shape[1]))


def _is_same_index(left: Any, right: Any) -> bool:
    if type(left) is not type(right) or repr(list(left.names)) != repr(list(right.names)):
        return False
    if isinstance(left, pd.MultiIndex):
        parts = [(left.get_level_values(i), right.get_level_values(i)) for i in range(left.nlevels)]
        return all(_is_same_index(one, other) for one, other in parts)
    if getattr(left, "freq", None) != getattr(right, "freq", None):
        return False
    return repr(left) == repr(right) and _is_same_column(left.to_series(), right.to_series())


def _is_same_column(left: Any, right: Any) -> bool:
    one, other = left.dtype, right.dtype
    if type(one) is not type(other) or one != other or _parts(one) != _parts(other):
        return False
    if isinstance(one, pd.CategoricalDtype):
        same_codes = bool((left.cat.codes.to_numpy() == right.cat.codes.to_numpy()).all())
        return same_codes and _is_same_index(one.categories, other.categories)
    if _is_object(one):
        return all(map(_is_same_object, left.array, right.array))
    if not left.reset_index(drop=True).equals(right.reset_index(drop=True)):
        return False
    if "float" not in str(one).lower() or isinstance(one, np.dtype):
        return True
    return all(map(_is_same_object, map(_as_object, left), map(_as_object, right)))  # where NaN and NA both occur


def _parts(dtype: Any) -> Any:
    zone = getattr(dtype, "tz", None)
    return type(zone), str(zone), getattr(dtype, "storage", None), getattr(dtype, "ordered", None)


def _is_object(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.hasobject


def _as_object(value: Any) -> Any:
    return repr(value)


def _is_same_object(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if type(left) is float:
        return repr(left) == repr(right)
    return left is right or (type(left) in (str, bytes, bool, int, date, Decimal) and repr(left) == repr(right))


# Single values


def write_moment(value: Any) -> Node | None:
    if value is pd.NaT or value is pd.NA:
        return {"$t": "nat" if value is pd.NaT else "na"}
    tag = {pd.Timestamp: "timestamp", pd.Timedelta: "pandas.timedelta"}.get(type(value))
    if tag is None:
        return None
    node: Node = {"$t": tag, "v": value.isoformat(), "unit": value.unit, "n": str(int(value.asm8.astype("int64")))}
    zone = getattr(value, "tz", None)
    if type(zone) is ZoneInfo and zone.key:
        node["zone"] = zone.key
    elif type(zone) is timezone:
        node["offset_s"] = zone.utcoffset(None).total_seconds()
    elif zone is not None:
        return None
    return node if _is_same_moment(value, read_moment(tag, node)) else None


def _is_same_moment(left: Any, right: Any) -> bool:
    zones = [getattr(value, "tz", None) for value in (left, right)]
    same_zone = zones[0] is zones[1] or repr(zones[0]) == repr(zones[1])
    return (
        left == right
        and left.unit == right.unit
        and same_zone
        and getattr(left, "fold", 0) == getattr(right, "fold", 0)
    )


def read_moment(tag: str, node: Node) -> Any:
    if tag in ("nat", "na"):
        return pd.NaT if tag == "nat" else pd.NA
    if tag == "pandas.timedelta":
        return pd.Timedelta(np.timedelta64(int(node["n"]), node["unit"]))
    moment = pd.Timestamp(np.datetime64(int(node["n"]), node["unit"]))
    if "zone" in node:
        return moment.tz_localize("UTC").tz_convert(ZoneInfo(node["zone"]))
    if "offset_s" in node:
        return moment.tz_localize("UTC").tz_convert(timezone(timedelta(seconds=node["offset_s"])))
    return moment
