"""The input of a flow is the parameters of its entries; it must fit each before anything is written."""

# ruff: noqa: ARG005 - what a function does with its parameters is not the question here, but how they are called

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbflow.define import registry
from nbflow.define.flow import FlowDefinition
from nbflow.errors import InputInvalid


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


@pytest.fixture
def flow() -> FlowDefinition:
    flow = FlowDefinition("etl")

    @flow.entry
    def load(folder: Path, limit: int = 10, *, ctx: Any = None) -> None: ...

    return flow


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"foldr": "x"}, ["'etl'", "'foldr'", "'x'", "Did you mean 'folder'?"]),
        ({}, ["needs the input 'folder'", "'load'", "folder=..."]),
        ({"folder": "x", "limit": "many"}, ["'limit'", "'many'", "valid integer"]),
        ({"folder": None, "limit": "many"}, ["'folder'", "(and 1 more)"]),
        ({"folder": "x", "ctx": 1}, ["no input 'ctx'"]),
    ],
)
def test_an_input_that_does_not_fit_names_field_value_and_problem(
    flow: FlowDefinition, values: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(InputInvalid) as caught:
        flow.validate_input(values)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_validated_values_and_defaults_come_back(flow: FlowDefinition) -> None:
    assert flow.validate_input({"folder": "x", "limit": "3"}) == {"folder": Path("x"), "limit": 3}
    assert flow.validate_input({"folder": "x"}) == {"folder": Path("x"), "limit": 10}


def test_a_value_by_position_needs_a_single_parameter(flow: FlowDefinition) -> None:
    with pytest.raises(InputInvalid, match="by name") as caught:
        flow.bind_input(("x",), {})
    assert "start(folder=..., limit=...)" in caught.value.hint
    one = FlowDefinition("one")
    one.entry(name="start")(lambda order, ctx: order)
    assert one.validate_input(one.bind_input((7,), {})) == {"order": 7}
    with pytest.raises(InputInvalid, match="twice"):
        one.bind_input((7,), {"order": 8})


def test_the_input_must_fit_each_entry_and_each_takes_its_own() -> None:
    flow = FlowDefinition("several")

    @flow.entry
    def one(a: int, shared: int = 1) -> None: ...

    @flow.entry
    def two(shared: int = 1, b: str = "b") -> None: ...

    @flow.entry
    def three() -> None: ...

    assert flow.validate_input({"a": "1", "shared": "2"}) == {"a": 1, "shared": 2, "b": "b"}
    with pytest.raises(InputInvalid, match="entry 'two'"):
        flow.validate_input({"a": 1, "b": 2})
    with pytest.raises(InputInvalid, match="no input 'c'"):
        flow.validate_input({"a": 1, "c": 2})
    assert [*flow.input_model().model_fields] == ["a", "shared", "b"]


def test_entries_that_read_one_field_differently_each_read_what_was_given() -> None:
    flow = FlowDefinition("differ")

    @flow.entry
    def one(where: Path = Path("a")) -> None: ...

    @flow.entry
    def two(where: str = "b") -> None: ...

    assert flow.validate_input({"where": "x"}) == {"where": "x"}
    assert flow.validate_input({}) == {}, "each entry has its own default"


def test_names_that_pydantic_keeps_for_itself_are_inputs_like_others() -> None:
    flow = FlowDefinition("names")

    @flow.entry
    def start(json: str, copy: int = 1, model_name: str = "m", _hidden: int = 2, model_config: int = 3) -> None: ...

    given = {"json": "x", "copy": 2, "model_name": "n", "_hidden": 5, "model_config": 4}
    assert flow.validate_input(given) == given
    assert [*flow.input_model().model_json_schema()["properties"]] == [*given]
    with pytest.raises(InputInvalid, match="Input 'copy' of flow 'names' is 'x'"):
        flow.validate_input({"json": "x", "copy": "x"})
    with pytest.raises(InputInvalid, match="needs the input 'json'"):
        flow.validate_input({})


def test_an_entry_without_annotations_takes_anything() -> None:
    flow = FlowDefinition("any")
    flow.entry(name="start")(lambda frame, **options: frame)
    frame = pd.DataFrame({"a": [1]})
    taken = flow.validate_input({"frame": frame, "depth": 3})
    assert taken["frame"] is frame
    assert taken["depth"] == 3


def test_frames_and_arrays_are_inputs_and_defaults() -> None:
    flow = FlowDefinition("arrays")

    @flow.entry
    def start(frame: pd.DataFrame, weights: np.ndarray = np.ones(2)) -> None: ...  # noqa: B008

    frame = pd.DataFrame({"a": [1]})
    assert flow.validate_input({"frame": frame})["frame"] is frame
    with pytest.raises(InputInvalid, match=r"'frame'.*\[1\].*DataFrame"):
        flow.validate_input({"frame": [1]})


def test_the_model_follows_the_entries(flow: FlowDefinition) -> None:
    before = flow.input_model()
    assert flow.input_model() is before
    flow.entry(name="load")(lambda other: other)
    assert [*flow.input_model().model_fields] == ["other"]


def test_a_flow_without_entries_takes_nothing() -> None:
    assert FlowDefinition("empty").validate_input({}) == {}
    with pytest.raises(InputInvalid, match="takes no input"):
        FlowDefinition("empty").validate_input({"a": 1})
