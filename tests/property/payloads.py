"""Classes for payloads, and `same`: a comparison that is as strict as the payload law."""

from __future__ import annotations

import json
import math
import struct
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum, auto
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, PrivateAttr

from nbflow.model.codec import Codec, MemoryArtifacts, TypeTable
from nbflow.model.signing import Signer


class Color(Enum):
    RED = "red"
    BLUE = (1, 2)


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"


class Rights(Flag):
    READ = auto()
    WRITE = auto()


@dataclass
class Order:
    name: Any
    total: Any = 0
    late: Any = field(default=None, init=False)


@dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class Model(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    a: Any = None
    b: Any = 1
    _hidden: Any = PrivateAttr(default=0)


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Row(list[Any]):
    pass


class Box(dict[Any, Any]):
    pass


KNOWN = (Color, Level, Word, Rights, Order, Point, Pair, Model)


def same(left: Any, right: Any) -> bool:
    """Equal, of equal type, all the way down: 1 is not True, -0.0 is not 0.0, and NaN is NaN."""
    if type(left) is not type(right):
        return False
    for kinds, compare in COMPARISONS:
        if isinstance(left, kinds):
            return compare(left, right)
    return left == right


def _same_items(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def _same_dict(left: Any, right: Any) -> bool:
    return _same_items(list(left), list(right)) and _same_items(list(left.values()), list(right.values()))


def _same_set(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(any(same(one, other) for other in right) for one in left)


def _same_moment(left: Any, right: Any) -> bool:
    plain = left.replace(tzinfo=None) == right.replace(tzinfo=None) and left.fold == right.fold
    return plain and type(left.tzinfo) is type(right.tzinfo) and repr(left.tzinfo) == repr(right.tzinfo)


def _same_state(left: Any, right: Any) -> bool:
    return same(object.__getstate__(left), object.__getstate__(right))


def _same_model(left: BaseModel, right: BaseModel) -> bool:
    return same(left.__getstate__(), right.__getstate__())


def _same_array(left: Any, right: Any) -> bool:
    memory = (left.flags.c_contiguous or left.size == 0) == (right.flags.c_contiguous or right.size == 0)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes() and memory


def _same_frame(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(
        left, right, check_exact=True, check_column_type=True, check_index_type=True, check_flags=True
    )
    assert [type(index) for index in left.axes] == [type(index) for index in right.axes]
    values = (map(same, left.iloc[:, i], right.iloc[:, i]) for i in range(left.shape[1]))
    return left.attrs == right.attrs and all(map(all, values))


COMPARISONS: list[tuple[Any, Any]] = [
    (Enum, lambda left, right: left == right),
    (pd.Timestamp, lambda left, right: left == right and left.unit == right.unit and _same_moment(left, right)),
    (pd.Timedelta, lambda left, right: left == right and left.unit == right.unit),
    (type(pd.NaT), lambda left, right: left is right),
    (type(pd.NA), lambda left, right: left is right),
    (np.inexact, lambda left, right: left.dtype == right.dtype and same(left.item(), right.item())),
    (np.generic, lambda left, right: left.dtype == right.dtype and left.tobytes() == right.tobytes()),
    (
        float,
        lambda left, right: (
            (math.isnan(left) and math.isnan(right)) or struct.pack("d", left) == struct.pack("d", right)
        ),
    ),
    (complex, lambda left, right: same(left.real, right.real) and same(left.imag, right.imag)),
    (Decimal, lambda left, right: left.as_tuple() == right.as_tuple()),
    ((datetime, time), _same_moment),
    ((range, PurePath), lambda left, right: repr(left) == repr(right)),
    (slice, lambda left, right: _same_items([left.start, left.stop, left.step], [right.start, right.stop, right.step])),
    (deque, lambda left, right: _same_items(left, right) and left.maxlen == right.maxlen),
    ((list, tuple), _same_items),
    (dict, _same_dict),
    ((set, frozenset), _same_set),
    ((Order, Point), _same_state),
    (BaseModel, _same_model),
    (np.ndarray, _same_array),
    (pd.DataFrame, _same_frame),
    (pd.Series, lambda left, right: same(left.to_frame("x"), right.to_frame("x")) and same(left.name, right.name)),
    (pd.Index, lambda left, right: left.identical(right) and same(pd.DataFrame(index=left), pd.DataFrame(index=right))),
    (pl.DataFrame, lambda left, right: left.schema == right.schema and left.equals(right, null_equal=True)),
    (pl.Series, lambda left, right: left.dtype == right.dtype and left.equals(right, check_names=True)),
    (pa.Table, lambda left, right: left.equals(right, check_metadata=True)),
]


def codec(**options: Any) -> Codec:
    types = TypeTable(KNOWN)
    return Codec(types=types, signer=Signer(b"s" * 32), artifacts=MemoryArtifacts(), open_pickles=True, **options)


def comes_back(value: Any) -> bool:
    one = codec()
    text = one.encode(value)
    assert same(json.loads(text.encode()), json.loads(text)), "the text is JSON and Unicode"
    assert same(one.decode_value(json.loads(text)), one.decode(text.encode()))
    return same(value, one.decode(text))
