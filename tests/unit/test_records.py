"""A record is strict JSON of bounded size, whatever a step hands over."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import pytest

from nbflow.worker.records import MAX_MESSAGE, MAX_RECORD, record_text


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def read(kind: str, data: dict[str, Any]) -> Any:
    """What a strict reader gets."""
    raw = record_text(kind, data)
    assert b"\n" not in raw
    return json.loads(raw.decode(), parse_constant=refuse)


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "said"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (0.5, 0.5)]
)
def test_a_float_that_is_no_number_is_text(value: float, said: object) -> None:
    assert read("metric", {"name": "loss", "value": value, "step": None})["value"] == said
    assert read("log", {"message": "m", "fields": {"deep": [{"x": value}]}})["fields"] == {"deep": [{"x": said}]}


def test_keys_that_are_no_text_become_text() -> None:
    said = read("log", {"message": "m", "fields": {"by": {(1, 2): "a", b"k": "b"}}})
    assert said["fields"]["by"] == {"(1, 2)": "a", "b'k'": "b"}


def test_names_of_fields_are_printable() -> None:
    assert read("log", {"message": "m", "fields": {"a\x1e\nb": 1}})["fields"] == {"a??b": 1}


def test_lone_surrogates_become_question_marks() -> None:
    said = read("log", {"message": "a\ud800b \N{GRINNING FACE}", "fields": {"x": "\udfff"}})
    assert said["message"] == "a?b \N{GRINNING FACE}"
    assert said["fields"] == {"x": "?"}


def test_what_cannot_be_said_is_named() -> None:
    around: list[Any] = []
    around.append(around)
    said = read("log", {"message": "m", "fields": {"a": Unspeakable(), "b": around, "c": 10**5000}})
    assert said["fields"]["a"] == "<Unspeakable>"
    assert said["fields"]["b"] == ["…"]
    assert said["fields"]["c"].startswith("a whole number of")


def test_what_is_nested_too_deep_ends_somewhere() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert "…" in json.dumps(read("log", {"message": "m", "fields": {"deep": deep}}), ensure_ascii=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "x" * 1_000_000},
        {f"k{i}": "é" * 900 for i in range(5000)},
        {"k" * 100_000: list(range(100_000))},
        {f"{i}" * 400: "\x01" * 900 for i in range(30)},
        {"numbers": [math.nan] * 100_000},
    ],
)
def test_a_record_is_bounded_and_says_what_it_was(fields: dict[str, Any]) -> None:
    data = {"level": "info", "message": "\x01" * MAX_MESSAGE, "source": "step", "fields": fields}
    assert len(record_text("log", data)) <= MAX_RECORD
    said = read("log", data)
    assert said["cut"] > MAX_RECORD
    assert (said["level"], said["source"]) == ("info", "step")
    assert said["message"].startswith("\x01" * 900)


def test_small_fields_of_a_large_record_stay_what_they_are() -> None:
    said = read("log", {"message": "m", "fields": {"rows": 3, "ok": True, "text": "x" * 100_000}})
    assert said["fields"]["rows"] == 3
    assert said["fields"]["ok"] is True
    assert len(said["fields"]["text"]) == 1000
    assert said["message"] == "m"


def test_the_name_of_a_metric_is_bounded_too() -> None:
    assert len(record_text("metric", {"name": "n" * 1_000_000, "value": 1.0, "step": 1})) < MAX_RECORD


def test_an_artifact_is_kept_whole() -> None:
    """Law: its payload was bounded when it was encoded; to shorten it would change it."""
    payload: Any = ["x" * 1000] * 65
    for _ in range(30):
        payload = [payload]
    said = read("artifact", {"name": "n" * 10_000, "ref": payload})
    assert said == {"name": "n" * 500, "ref": payload}


def test_a_timeout_that_strikes_while_a_value_is_said_is_not_swallowed() -> None:
    class Slow:
        def __str__(self) -> str:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        record_text("log", {"message": "m", "fields": {"x": Slow()}})
