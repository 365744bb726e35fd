"""The payload law where it is a decision: what stays plain, what becomes an artifact, what a preview shows."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from nbflow.errors import (
    ArtifactMissing,
    PayloadError,
)
from nbflow.model.codec import Codec, MemoryArtifacts, TypeTable, Unopened, preview, preview_text, references
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


class Item(BaseModel):
    price: float = 1.0
    name: str = "x"


def worker(**options: Any) -> Codec:
    settings: dict[str, Any] = {"signer": SIGNER, "artifacts": MemoryArtifacts(), "open_pickles": True, **options}
    return Codec(**settings)


def view_of(other: Codec) -> Codec:
    """A reader of the same artifacts that opens no pickles and knows no types."""
    return Codec(artifacts=other.artifacts)


# What JSON holds stays as it is


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "é", [], {}, {"a": [1, {"b": None}]}])
def test_what_json_holds_is_plain_json(value: Any) -> None:
    assert json.loads(worker().encode(value)) == value


def test_keys_that_look_like_ours_are_no_danger() -> None:
    """A user's `$ref` is a key and never a reference."""
    value = {"$ref": "0" * 32, "kind": "pickle", "$t": {"$t": "set", "v": []}}
    one = worker()
    text = one.encode(value)
    assert one.decode(text) == value
    assert references(text) == set()


def test_large_integers_are_tagged_because_a_browser_would_round_them() -> None:
    assert worker().encode(2**53 - 1) == str(2**53 - 1)
    assert json.loads(worker().encode(2**53)) == {"$t": "int", "v": str(2**53)}


def test_the_text_never_holds_a_constant_that_is_no_json() -> None:
    text = worker().encode({"a": float("nan"), "b": [float("inf")]})
    assert "NaN" not in text
    assert "Infinity" not in text


# Classes


def test_a_known_dataclass_is_written_by_fields_and_restored_without_running_code() -> None:
    """`__post_init__` is not run again, and no name in the text can be imported."""
    one = worker(types=TypeTable([Order]))
    text = one.encode(Order("a", 2.5))
    assert json.loads(text) == {"$t": "data", "type": "Order", "v": {"name": "a", "total": 2.5, "seen": ["made"]}}
    assert one.decode(text) == Order("a", 2.5)
    assert __name__ not in text


@pytest.mark.parametrize("name", ["__class__", "__dict__", "other"])
def test_a_text_sets_no_attribute_that_is_no_field(name: str) -> None:
    text = json.dumps({"$t": "data", "type": "Order", "v": {name: 1}}, separators=(",", ":"))
    with pytest.raises(PayloadError, match="no field"):
        worker(types=TypeTable([Order])).decode(text)


def test_a_moment_of_pandas_with_an_offset_needs_no_pickle() -> None:
    moment = pd.Timestamp("2024-01-01 00:00+02:30")
    one = worker()
    text = one.encode(moment)
    assert json.loads(text)["$t"] == "timestamp"
    assert one.decode(text).isoformat() == moment.isoformat()


def test_an_instance_with_more_than_its_fields_is_a_pickle() -> None:
    order = Order("a")
    order.note = "more"  # type: ignore[attr-defined]
    one = worker(types=TypeTable([Order]))
    text = one.encode(order)
    assert json.loads(text)["kind"] == "pickle"
    assert vars(one.decode(text)) == vars(order)


def test_an_unknown_dataclass_is_a_pickle() -> None:
    text = worker().encode(Order("a"))
    assert json.loads(text)["kind"] == "pickle"


def test_pickled_instances_of_known_classes_are_of_the_readers_class() -> None:
    """Of two generations of a class, the reader's is the one that its `isinstance` knows."""

    def generation() -> type[Any]:
        class Thing:
            pass

        return Thing

    old, new = generation(), generation()
    store = MemoryArtifacts()
    text = worker(types=TypeTable.from_labels({"Thing": old}), artifacts=store).encode([old()])
    back = worker(types=TypeTable.from_labels({"Thing": new}), artifacts=store).decode(text)
    assert type(back[0]) is new


def test_a_worker_without_the_class_says_so_and_a_view_shows_the_fields() -> None:
    sender = worker(types=TypeTable([Order]))
    text = sender.encode({"order": Order("a", 1.0)})
    with pytest.raises(PayloadError, match="`Order`"):
        worker().decode(text)
    shown = view_of(sender).decode(text)["order"]
    assert isinstance(shown, Unopened)
    assert shown.content["name"] == "a"
    assert "Order" in repr(shown)


def test_models_keep_which_fields_were_set() -> None:
    one = worker(types=TypeTable([Item]))
    back = one.decode(one.encode(Item(price=2.0)))
    assert back == Item(price=2.0)
    assert back.model_fields_set == {"price"}


def test_labels_are_unique_and_stay() -> None:
    other = type("Order", (), {"__qualname__": "Order"})
    table = TypeTable([Order, other, Order])
    assert [table.label(cls) for cls in (Order, other)] == ["Order", "Order#2"]
    assert TypeTable.from_labels(table.labels()).get("Order#2") is other
    assert table.label(str) is None


class OddZone(tzinfo):
    def utcoffset(self, when: datetime | None) -> Any:
        return None


def test_what_a_node_cannot_say_goes_by_pickle() -> None:
    text = worker().encode({"when": datetime(2024, 1, 1, tzinfo=OddZone())})
    assert json.loads(text)["when"]["kind"] == "pickle"


# Artifacts


def test_a_reference_says_what_it_is() -> None:
    """They nest: a dict with a score and a frame shows the score, and the frame's rows and schema."""
    text = worker().encode({"score": 1, "frame": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})})
    tree = json.loads(text)
    ref = tree["frame"]
    assert tree["score"] == 1
    assert (ref["kind"], ref["type"], ref["rows"]) == ("arrow", "pandas.DataFrame", 2)
    assert ref["schema"] == [["a", "int64"], ["b", "str"]]
    assert references(text) == {ref["$ref"]}


def test_long_json_is_an_artifact_and_its_elements_are_not() -> None:
    one = worker()
    values = [{"i": i, "text": "é" * 50} for i in range(1000)]
    text, texts = one.encode_items(values)
    assert {"kind": "json", "type": "list", "rows": 1000}.items() <= json.loads(text).items()
    assert texts[7] == one.encode(values[7])
    assert one.decode(text) == values
    assert json.loads(one.encode("é" * 40_000))["kind"] == "json"


def test_an_element_that_is_long_itself_is_one_artifact_in_both() -> None:
    one = worker()
    text, texts = one.encode_items(["x" * 70_000, 1])
    assert json.loads(text) == [json.loads(texts[0]), 1]
    assert one.decode(text) == ["x" * 70_000, 1]


def test_a_tuple_stays_one_when_its_elements_are_written() -> None:
    one = worker()
    assert one.decode(one.encode_items((1, "a"))[0]) == (1, "a")


def test_short_bytes_stand_in_the_text_and_long_ones_do_not() -> None:
    one = worker()
    assert json.loads(one.encode(b"x" * 1024))["$t"] == "bytes"
    assert json.loads(one.encode(b"x" * 1025))["kind"] == "bytes"
    assert one.decode(one.encode(b"x" * 1025)) == b"x" * 1025


def test_without_a_store_what_can_stand_in_the_text_does() -> None:
    bare = Codec()
    assert bare.decode(bare.encode(["x" * 70_000, b"y" * 2000])) == ["x" * 70_000, b"y" * 2000]
    with pytest.raises(PayloadError, match="artifact store"):
        bare.encode(pd.DataFrame({"a": [1]}))
    with pytest.raises(ArtifactMissing):
        bare.decode('{"$ref":"0","kind":"bytes"}')


def test_decoding_opens_only_what_it_meets() -> None:
    sender = worker()
    text = sender.encode({"frame": pd.DataFrame({"a": [1]}), "n": 1})
    assert isinstance(sender.artifacts, MemoryArtifacts)
    sender.artifacts.blobs.clear()
    assert sender.decode_value(json.loads(text)["n"]) == 1
    with pytest.raises(ArtifactMissing):
        sender.decode(text)


FRAME = {
    "i": [1, 2],
    "f": [0.5, 1.5],
    "s": ["x", "y"],
    "d": pd.to_datetime(["2024-01-01", "2024-01-02"]),
    "tz": pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("UTC"),
    "n": pd.array([1, 2], dtype="Int64"),
    "c": pd.Categorical(["a", "b"]),
    "b": [True, False],
}


@pytest.mark.parametrize("names", [[name] for name in FRAME] + [list(FRAME)])
def test_a_received_frame_may_be_changed_without_harm_to_others(names: list[str]) -> None:
    """The bytes are shared by all who receive it; what a step writes into its frame stays its own."""
    one = worker()
    sent_frame = pd.DataFrame({name: FRAME[name] for name in names})
    text = one.encode(sent_frame)
    mine, other = one.decode(text), one.decode(text)
    for name in names:
        mine.loc[0, name] = mine.loc[1, name]
    pd.testing.assert_frame_equal(other, sent_frame)
    pd.testing.assert_frame_equal(one.decode(text), sent_frame)


def test_a_received_array_may_be_changed_without_harm_to_others() -> None:
    one = worker()
    text = one.encode(np.arange(1000))
    mine = one.decode(text)
    mine[:] = 0
    assert one.decode(text)[5] == 5


def test_subclasses_of_frames_and_arrays_keep_their_type() -> None:
    class MyFrame(pd.DataFrame):
        pass

    one = worker()
    for value in (
        MyFrame({"a": [1]}),
        np.ma.masked_array([1, 2], [True, False]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]).view(np.recarray),
    ):
        assert type(one.decode(one.encode(value))).__name__ == type(value).__name__


# Previews


def test_a_short_payload_is_its_own_preview() -> None:
    text = worker().encode({"a": (1, 2)})
    assert preview_text(text) is text
    assert preview(text) == {"a": {"$t": "tuple", "v": [1, 2]}}


def test_a_preview_shows_frames_by_their_reference_and_cuts_what_is_long() -> None:
    sender = worker()
    value = {"frame": pd.DataFrame({f"c{i}": [1] for i in range(90)}), "items": list(range(5000)), "text": "x" * 9000}
    text = sender.encode(value)
    short = preview(text)
    assert len(json.dumps(short)) < 2500
    assert short["frame"]["$ref"] in references(text)
    assert short["frame"]["rows"] == 1
    assert short["items"][-1] == {"$t": "more", "n": 5000 - len(short["items"]) + 1}
    assert short["text"].startswith("xxx")
    assert isinstance(view_of(sender).decode(json.dumps(short["items"], separators=(",", ":")))[-1], Unopened)


# Weight


def test_the_codec_loads_nothing_heavy() -> None:
    code = (
        "import sys; from nbflow.model.codec import Codec; c = Codec(); c.decode(c.encode({'a': {1, 2}, 'b': (1,)}));"
        "print([m for m in ('pandas', 'numpy', 'pyarrow', 'cloudpickle', 'pydantic', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
