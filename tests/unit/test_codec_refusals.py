"""What cannot travel is refused by the sender, with its place in the value and the next move."""

from __future__ import annotations

import functools
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nbflow.errors import (
    PayloadError,
)
from nbflow.model.codec import Codec, MemoryArtifacts, TypeTable
from nbflow.model.signing import Signer

SIGNER = Signer(b"s" * 32)


@dataclass
class Order:
    name: str
    total: float = 0.0
    seen: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.seen.append("made")


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def worker(**options: Any) -> Codec:
    settings: dict[str, Any] = {"signer": SIGNER, "artifacts": MemoryArtifacts(), "open_pickles": True, **options}
    return Codec(**settings)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"frames": [1, 2, 3, threading.Lock()]}, "result['frames'][3]"),
        ([(1, {"k": socket.socket})], ""),
        ({1: {("a", 2): threading.Lock()}}, "result[1][('a', 2)]"),
        ([Plain(threading.Lock())], "result[0].value"),
        ((step for step in ()), "result"),
        ([sys.__stdout__], "result[0]"),
    ],
)
def test_what_cannot_travel_is_named_with_its_place(value: Any, place: str) -> None:
    one = worker()
    if not place:
        one.encode(value)  # a class travels: it is only its open instances that do not
        return
    with pytest.raises(PayloadError) as caught:
        one.encode(value)
    assert caught.value.message.startswith(f"`{place}` ")
    assert caught.value.hint


def test_fields_of_known_classes_are_part_of_the_place() -> None:
    one = worker(types=TypeTable([Order]))
    with pytest.raises(PayloadError, match=r"`sent\[0\]\.name`"):
        one.encode([Order(threading.Lock())], name="sent")  # type: ignore[arg-type]


def test_an_open_file_is_refused_and_not_read(tmp_path: Path) -> None:
    """Cloudpickle alone would send what the file holds, as another type."""
    path = tmp_path / "a.txt"
    path.write_text("text")
    with path.open() as file, pytest.raises(PayloadError, match="open file"):
        worker().encode({"file": [Plain(file)]})


def test_an_element_of_items_is_named_by_its_place() -> None:
    with pytest.raises(PayloadError, match=r"`result\[1\]`"):
        worker().encode_items([1, threading.Lock()])


def test_a_cycle_is_refused() -> None:
    value: list[Any] = [1]
    value.append({"back": value})
    with pytest.raises(PayloadError, match=r"`result\[1\]\['back'\]` contains itself"):
        worker().encode(value)


def test_the_same_part_twice_is_no_cycle() -> None:
    part = [1]
    assert worker().decode(worker().encode({"a": part, "b": (part, part)})) == {"a": part, "b": (part, part)}


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {1: inner}, lambda inner: (inner,)])
def test_what_is_nested_too_deep_is_refused_and_what_is_not_comes_back(wrap: Any) -> None:
    def nested(levels: int) -> Any:
        return functools.reduce(lambda inner, _: wrap(inner), range(levels), 0)

    one = worker()
    assert one.decode(one.encode(nested(100))) == nested(100)
    for levels in (101, 5000):
        with pytest.raises(PayloadError, match="nested deeper than 100"):
            one.encode(nested(levels))


def test_text_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(PayloadError):
        worker().decode("[" * 100_000)


class Half:
    """Pickles well, and cannot be opened."""

    def __reduce__(self) -> Any:
        return int, ("x",)


class Changeling:
    """Comes back as another type."""

    def __reduce__(self) -> Any:
        return int, ()


@pytest.mark.parametrize(("value", "said"), [(Half(), "cannot be opened again"), (Changeling(), "come back as a int")])
def test_a_pickle_that_would_not_come_back_is_refused_by_the_sender(value: Any, said: str) -> None:
    with pytest.raises(PayloadError, match=said):
        worker().encode([value])
