"""Frames, tables and arrays come back as they were, as Arrow or as a pickle."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.property.payload_strategies import QUICK
from tests.property.payloads import codec, comes_back, same


@given(
    hnp.arrays(hnp.scalar_dtypes() | hnp.unicode_string_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)), st.data()
)
@settings(QUICK, max_examples=80)
def test_an_array_comes_back_as_it_was(array: np.ndarray[Any, Any], data: st.DataObject) -> None:
    """Also transposed and with steps, of any byte order; and it can be written to."""
    shaped = data.draw(st.sampled_from([array, array.T, array[::2] if array.ndim else array]))
    one = codec()
    text = one.encode(shaped)
    back = one.decode(text)
    assert (shaped.dtype, shaped.shape) == (back.dtype, back.shape)
    assert shaped.tobytes() == back.tobytes()
    assert back.flags.f_contiguous or not shaped.flags.f_contiguous
    assert back.flags.writeable


COLUMN = st.sampled_from(
    [
        np.arange,
        lambda n: np.linspace(0, 1, n, dtype="f4"),
        lambda n: [float("nan"), *[-0.0] * (n - 1)][:n],
        lambda n: pd.array([None] * n, dtype="Int64"),
        lambda n: pd.array([1.5] * n, dtype="Float64"),
        lambda n: pd.array([True, None, False][:n], dtype="boolean"),
        lambda n: pd.date_range("2024", periods=n, tz="Europe/Vienna"),
        lambda n: pd.date_range("2024", periods=n, tz="UTC"),
        lambda n: pd.date_range("2024", periods=n, unit="s"),
        lambda n: pd.to_datetime(["2024-01-01"] * n, utc=True),
        lambda n: pd.timedelta_range("1h", periods=n),
        lambda n: pd.period_range("2024", periods=n, freq="M"),
        lambda n: pd.Categorical(["b", "a", "b"][:n], categories=["b", "a", "c"], ordered=True),
        lambda n: pd.Categorical([3, 1, None][:n]),
        lambda n: pd.array(["x", None, "y"][:n], dtype="string"),
        lambda n: pd.Series(["x", None, "y"][:n], dtype="str"),
        lambda n: pd.Series(["x", None, "y"][:n], dtype=object),
        lambda n: pd.Series(["x", 1, None][:n], dtype=object),
        lambda n: pd.Series([1, True, 1.0][:n], dtype=object),
        lambda n: pd.Series([{"a": 1}, [1], (1,)][:n], dtype=object),
        lambda n: pd.Series([date(2024, 1, 1), pd.NA, pd.NaT][:n], dtype=object),
        lambda n: pd.Series([Decimal("1.10"), Decimal(2), Decimal("3.000")][:n], dtype=object),
        lambda n: pd.array([1, None, 3][:n], dtype="int64[pyarrow]"),
        lambda n: np.array([1j] * n),
        lambda n: pd.arrays.SparseArray([0] * n),
        lambda n: pd.interval_range(0, n),
        lambda n: np.arange(n, dtype=">i4"),
    ]
)
INDEX = st.sampled_from(
    [
        pd.RangeIndex,
        lambda n: pd.RangeIndex(5, 5 + 2 * n, 2, name="r"),
        lambda n: pd.Index(list("abc")[:n], name="k"),
        lambda n: pd.Index([3, 1, 1][:n]),
        lambda n: pd.date_range("2024", periods=n),
        lambda n: pd.date_range("2024-03-30", periods=n, freq="h", tz="Europe/Vienna"),
        lambda n: pd.date_range("2024", periods=n, tz="UTC", name="when"),
        lambda n: pd.MultiIndex.from_tuples([("a", 2), ("b", 1), ("a", 3)][:n] or [("a", 1)], names=["x", None])[:n],
        lambda n: pd.CategoricalIndex(["b", "a", "b"][:n]),
        lambda n: pd.Index([1, "a", None][:n], dtype=object),
        lambda n: pd.period_range("2024", periods=n, freq="D"),
    ]
)
COLUMNS = st.sampled_from(
    [
        lambda n: [f"c{i}" for i in range(n)],
        pd.RangeIndex,
        lambda n: pd.RangeIndex(1, n + 1, name="number"),
        lambda n: [(1, i) for i in range(n)],
        lambda n: pd.Index([f"c{i}" for i in range(n)], name="names"),
        lambda n: pd.MultiIndex.from_product([["top"], list(range(n))]),
        lambda n: pd.Index([f"c{i}" for i in range(n)], dtype=object),
        lambda n: list(range(10, 10 + n)),
        lambda n: ["same"] * n,
        lambda n: pd.date_range("2024", periods=n),
    ]
)


@given(st.integers(0, 3), st.lists(COLUMN, max_size=3), INDEX, COLUMNS, st.sampled_from([{}, {"unit": "m"}, {1: (2,)}]))
@settings(QUICK, max_examples=200)
def test_a_frame_comes_back_as_it_was(rows: int, columns: list[Any], index: Any, names: Any, attrs: Any) -> None:
    """Values, dtypes, index with its kind and frequency, names of any type, attributes: as Arrow or as a pickle."""
    frame = pd.DataFrame({i: pd.Series(column(rows)) for i, column in enumerate(columns)}, index=pd.RangeIndex(rows))
    frame.index = index(rows)
    frame.columns = names(len(columns))
    frame.attrs.update(attrs)
    assert comes_back(frame)
    assert comes_back(frame.index)
    if columns:
        assert comes_back(frame.iloc[:, 0])


POLARS = [
    pl.DataFrame({"a": [1, None], "s": ["x", None], "d": [date(2024, 1, 1), None], "f": [float("nan"), None]}),
    pl.DataFrame(
        {"c": pl.Series(["a", "b"], dtype=pl.Categorical), "e": pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"]))}
    ),
    pl.DataFrame({"l": [[1], []], "st": [{"x": 1}, None], "b": [b"x", None], "dec": [Decimal("1.10"), None]}),
    pl.DataFrame({"o": pl.Series([object], dtype=pl.Object)}).drop("o"),
    pl.DataFrame(schema={"a": pl.Int8, "t": pl.Datetime("ms", "Europe/Vienna")}),
    pl.DataFrame(),
    pl.Series("named", [1, 2, None]),
    pl.Series([True]),
]
ARROW = [
    pa.table({"a": [1, None], "b": ["x", "y"]}),
    pa.table({"a": [1]}).replace_schema_metadata({"k": "v"}),
    pa.table({"a": pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()])}),
    pa.table({"a": pa.array([], pa.int8())}),
    pa.table({}),
    pa.array([[1], None]),
    pa.array([1, 2, 3])[1:],
    pa.chunked_array([[1], [2]]),
    pa.record_batch({"a": [1]}),
    pa.record_batch({"a": pa.array([], pa.int8())}),
]


@pytest.mark.parametrize("value", POLARS + ARROW, ids=lambda value: type(value).__name__)
def test_tables_of_polars_and_arrow_come_back_as_they_were(value: Any) -> None:
    """By Arrow where that is exact, by pickle where it is not."""
    assert comes_back(value)


USUAL = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [0.5, float("nan")]}),
    "strings": pd.DataFrame({"a": ["x", None]}),
    "object strings": pd.DataFrame({"a": pd.Series(["x", None], dtype=object)}),
    "categories": pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    "nullable": pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
    "days": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024", periods=2)),
    "UTC": pd.DataFrame({"a": pd.to_datetime(["2024-01-01"], utc=True)}),
    "UTC index": pd.DataFrame({"a": [1]}, index=pd.to_datetime(["2024-01-01"], utc=True)),
    "two levels": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)])),
    "numbered columns": pd.DataFrame(np.zeros((2, 3))),
    "a series": pd.Series([1, 2], name="a"),
    "a series without a name": pd.Series(["x"]),
    "attributes": pd.DataFrame({"a": [1]}),
}
USUAL["attributes"].attrs["unit"] = "m"


@pytest.mark.parametrize("name", USUAL)
def test_the_usual_frames_travel_as_arrow(name: str) -> None:
    """A pickle would come back too, but no view could open it."""
    one = codec()
    text = one.encode(USUAL[name])
    assert json.loads(text)["kind"] == "arrow"
    assert same(one.decode(text), USUAL[name])
