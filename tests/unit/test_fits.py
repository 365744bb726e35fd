"""Two annotations are said not to fit only where that is certain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pytest
from pydantic import BaseModel

from nbflow.define.fits import never_fits


class Order(BaseModel):
    total: float


class Readable(Protocol):
    def read(self) -> str: ...


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (pd.DataFrame, int),
        (pd.DataFrame, pd.Series),
        (pd.DataFrame, list[int]),
        (list[int], int),
        (int, list[int]),
        (int, str),
        (dict[str, int], list[int]),
        (None, Order),
        (Order, int),
        (list[Order], list[pd.DataFrame]),
        (int | str, list[int] | pd.DataFrame),
        (str, dict[str, int]),
    ],
)
def test_types_that_never_fit(sent: Any, expected: Any) -> None:
    assert never_fits(sent, expected)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (str, int),
        (str, Path),
        (dict[str, Any], Order),
        (Any, int),
        (int, Any),
        (int, object),
        (list[int], tuple[int, ...]),
        (list[Any], list[int]),
        (list, list[Order]),
        (pd.DataFrame, pd.DataFrame | None),
        (pd.DataFrame, Readable),
        (dict[str, int], Mapping[str, int]),
        (Order, BaseModel),
        (BaseModel, Order),
        (int | None, int),
        (str, Order),
        (Callable[..., int], int),
    ],
)
def test_types_that_may_fit(sent: Any, expected: Any) -> None:
    assert not never_fits(sent, expected)
