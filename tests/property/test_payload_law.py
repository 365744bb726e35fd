"""What a step receives equals what was sent: the same value, of the same type, whatever it is made of."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.property.payload_strategies import HASHABLE_SCALARS, QUICK, VALUES
from tests.property.payloads import Level, Order, Text, Whole, codec, comes_back, same


@given(VALUES)
@settings(QUICK, max_examples=300)
@example(["\ud83d\ude00", {"\ud800": 1}, {"$t": "tuple"}, {1: 2, "1": 3, 2.5: 4}])
@example({"z": 1, "a": [float("nan"), float("inf"), -0.0, 1e308 * 10]})
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    """The whole law, for everything that is walked."""
    assert comes_back(value)


@given(st.lists(VALUES, max_size=4))
@settings(QUICK, max_examples=60)
def test_a_list_and_its_elements_are_written_alike(values: list[Any]) -> None:
    """`encode_items` gives the text of the list and of each element, and all of them come back."""
    one = codec()
    whole, texts = one.encode_items(values)
    assert same(values, one.decode(whole))
    assert same(values, [one.decode(text) for text in texts])


@given(st.sets(HASHABLE_SCALARS))
@settings(QUICK, max_examples=50)
def test_equal_sets_have_equal_texts(values: set[Any]) -> None:
    """Otherwise a resume would take an input for another one. (Pickles are not compared.)"""
    plain = [value for value in values if not isinstance(value, Text | Whole)]
    backwards = list(reversed(plain))
    assert codec().encode(set(plain)) == codec().encode(set(backwards))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        *[(Order(1), Order(2)), (pd.DataFrame({"a": [1]}, dtype="i4"), None), (Decimal("1.1"), Decimal("1.10"))],
        *[
            (1, True),
            (1, 1.0),
            (-0.0, 0.0),
            ((1,), [1]),
            ({1: 2, 3: 4}, {3: 4, 1: 2}),
            (Text("a"), "a"),
            (np.int32(1), 1),
        ],
    ],
)
def test_the_comparison_of_these_tests_is_strict(left: Any, right: Any) -> None:
    """A law is worth as much as the comparison that holds it."""
    assert not same(left, right)
    assert same(left, left)


def test_a_uuid_and_its_likes_are_readable_in_the_text() -> None:
    """Views show the text: it says what a person would say."""
    assert json.loads(codec().encode(UUID(int=1)))["v"] == str(UUID(int=1))
    assert json.loads(codec().encode(Level.HIGH)) == {"$t": "enum", "type": "Level", "v": "HIGH"}
    assert json.loads(codec().encode(Order("a")))["v"] == {"name": "a", "total": 0}
    assert dataclasses.is_dataclass(Order)
