"""The input of a start as people type it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field

from nbflow.cli.inputs import read_inputs


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = 1
    name: str = ""
    ratio: float = 0.0
    flag: bool = False
    path: Path | None = None
    code: Annotated[str, Field(max_length=4)] | None = None
    items: list[int] = []
    either: int | str = 0
    input_json: str = Field("", alias="json")


def typed(*pairs: str) -> dict[str, Any]:
    return read_inputs((), pairs).fitted(Input)


def test_values_are_json_where_that_fits_and_text_elsewhere() -> None:
    """Law: of `name=2013` the entry's model decides whether the number or the text is meant."""
    assert typed("count=3", "name=2013", "flag=true", "path=data", "items=[1,2]", "ratio=1e3", "either=4") == {
        "count": 3,
        "name": "2013",
        "flag": True,
        "path": "data",
        "items": [1, 2],
        "ratio": 1000.0,
        "either": 4,
    }


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("name=a=b", "a=b"),
        ("name=", ""),
        ("name=null", "null"),
        ("ratio=NaN", "NaN"),
        ("name=01", "01"),
        ("json=1", "1"),
        ("unknown=1", 1),
    ],
)
def test_odd_values_come_as_they_are_meant(pair: str, value: Any) -> None:
    assert list(typed(pair).values()) == [value]


def test_a_value_that_fits_in_no_way_is_left_to_the_flow_to_refuse() -> None:
    assert typed("count=many") == {"count": "many"}
    assert typed("code=12345") == {"code": "12345"}


def test_documents_and_files_and_pairs_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.json").write_text('{"name": "ż"}')
    monkeypatch.setattr("sys.stdin", io.StringIO('{"flag": true}'))
    read = read_inputs(['{"count": 2}', f"@{tmp_path / 'in.json'}", "@-", "ratio=2"], ["path=x"])
    assert read.fitted(Input) == {"count": 2, "name": "ż", "flag": True, "ratio": 2, "path": "x"}


def test_a_document_that_is_no_object_is_the_one_value() -> None:
    assert read_inputs(["[1, 2]"], ()).whole == [[1, 2]]


@pytest.mark.parametrize(
    ("options", "pairs", "problem"),
    [
        (["count"], [], "neither name=value nor JSON nor @file"),
        (["@/no/such/file"], [], "cannot be read"),
        (["[" * 100_000], [], "neither name=value nor JSON nor @file"),
        ([], ["count"], "is not name=value"),
        ([], ['{"count": 1}'], "is not name=value"),
        (["count=1"], ["count=2"], "'count' is given twice"),
        (["[1]", "count=1"], [], "must be the whole input"),
        (["1", "2"], [], "must be the whole input"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(options: list[str], pairs: list[str], problem: str) -> None:
    with pytest.raises(typer.BadParameter, match=problem):
        read_inputs(options, pairs)
