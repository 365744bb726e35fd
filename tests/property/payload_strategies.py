"""Strategies for values of every kind that the payload law names."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.property.payloads import Box, Color, Level, Model, Order, Pair, Point, Rights, Row, Text, Whole, Word

ZONES = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from(["Europe/Vienna", "America/St_Johns", "UTC"]).map(ZoneInfo),
    st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23)).map(timezone),
    st.just(timezone(timedelta(hours=1), "here")),
)
TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(["$t", "$ref", "\ud83d\ude00", "\x00", "ß€"])
_SCALARS = st.one_of(
    st.none() | st.booleans() | st.floats() | TEXTS | st.binary(max_size=8) | st.complex_numbers(),
    st.integers() | st.sampled_from([2**53 - 1, 2**53, -(2**53)]) | st.just(5000).map(lambda digits: -(10**digits)),
    st.datetimes(timezones=ZONES, allow_imaginary=True) | st.dates() | st.times(timezones=ZONES) | st.timedeltas(),
    st.datetimes(timezones=ZONES).map(lambda moment: moment.replace(fold=1)),
    st.uuids()
    | st.decimals(allow_nan=False)
    | st.sampled_from([Decimal("NaN123"), Decimal("-0E+20"), Decimal("1.10")]),
    st.sampled_from([*Color, *Level, *Word, *Rights, Rights.READ | Rights.WRITE, Rights(0)]),
    TEXTS.map(PurePosixPath) | TEXTS.map(PureWindowsPath) | TEXTS.map(Path),
    st.builds(range, st.integers(), st.integers(), st.integers(min_value=1)),
    st.sampled_from(
        [
            pd.NaT,
            pd.NA,
            pd.Timestamp(1, tz="Europe/Vienna"),
            pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("CET"),
        ]
    ),
    st.sampled_from([pd.Timestamp("1500-01-01").as_unit("s"), pd.Timestamp(5, unit="ns")]),
    hnp.from_dtype(np.dtype("f4")) | hnp.from_dtype(np.dtype("u8")) | hnp.from_dtype(np.dtype("c8")),
    hnp.from_dtype(np.dtype("?")),
    hnp.from_dtype(np.dtype("U4")) | hnp.from_dtype(np.dtype("S4")) | hnp.from_dtype(np.dtype("f2")),
    TEXTS.map(Text) | st.integers().map(Whole),
)


@st.composite
def scalars(draw: st.DrawFn) -> Any:
    """All of them under one short name: Hypothesis warns of a strategy whose repr is very long."""
    return draw(_SCALARS)


@st.composite
def hashables(draw: st.DrawFn) -> Any:
    return draw(_HASHABLE)


HASHABLE_SCALARS = scalars()
HASHABLE = hashables()
_HASHABLE = st.recursive(
    HASHABLE_SCALARS,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.builds(Point, inner, inner),
    max_leaves=4,
)
_ALONE = st.one_of(
    # numpy's durations and pandas' raise when they are compared with a large integer: no set of theirs is safe to make
    hnp.from_dtype(np.dtype("M8[us]")) | hnp.from_dtype(np.dtype("m8[s]")),
    st.just(pd.Timedelta(7, unit="ns")),
)
VALUES = st.recursive(
    HASHABLE_SCALARS | _ALONE | st.binary(max_size=8).map(bytearray) | st.just(Decimal("sNaN123")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.dictionaries(TEXTS, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.builds(Order, inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Model, a=inner),
        st.builds(lambda extra: Model.model_validate({"a": 1, "other": extra}), inner),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(TEXTS, inner, max_size=3).map(OrderedDict),
        st.dictionaries(TEXTS, st.integers(), max_size=3).map(Counter),
        st.lists(inner, max_size=3).map(Row),
        st.dictionaries(TEXTS, inner, max_size=3).map(Box),
        st.builds(slice, inner, inner),
    ),
    max_leaves=12,
)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
