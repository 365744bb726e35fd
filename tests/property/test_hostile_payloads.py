"""Whatever stands in a stream: reading it runs nothing, and fails in one way."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbflow.errors import NbflowError
from nbflow.model.codec import Codec, MemoryArtifacts, TypeTable, preview
from nbflow.model.signing import Signer
from tests.property.payload_strategies import QUICK
from tests.property.payloads import KNOWN, codec, same

TAGS = [
    *[
        "str",
        "int",
        "float",
        "datetime",
        "date",
        "time",
        "timedelta",
        "uuid",
        "decimal",
        "complex",
        "range",
        "bytes",
        "bytearray",
        "posixpath",
        "path",
    ],
    *[
        "winpath",
        "windowspath",
        "tuple",
        "set",
        "frozenset",
        "dict",
        "counter",
        "ordered",
        "deque",
        "slice",
        "enum",
        "named",
        "data",
        "model",
        "np",
        "timestamp",
        "nat",
        "na",
    ],
    *["tensor", "more", "pandas.timedelta", "pickle", "os.system", "$t"],
]
WORDS = st.sampled_from(
    [
        "Color",
        "Rights",
        "Order",
        "Point",
        "Pair",
        "Model",
        "os.system",
        "float64",
        "M8[s]",
        "O",
        "ns",
        "zone",
        "x",
        "1",
        "3.11",
        "abc==",
        "00",
    ]
)
ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.text()
KEYS = st.sampled_from(
    [
        "v",
        "type",
        "kind",
        "fold",
        "zone",
        "name",
        "n",
        "unit",
        "bits",
        "set",
        "extra",
        "private",
        "maxlen",
        "dtype",
        "of",
        "a",
        "x",
        "left",
    ]
)
DIGESTS = st.sampled_from(["0" * 32, "1" * 32, "2" * 32, "3" * 32, "4" * 32])
KINDS = st.sampled_from(["arrow", "tensor", "json", "pickle", "bytes", "other"])
HOSTILE = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3),
        st.builds(
            lambda tag, v, rest: {**rest, "$t": tag, "v": v},
            st.sampled_from(TAGS) | inner,
            inner,
            st.dictionaries(KEYS, inner, max_size=3),
        ),
        st.builds(lambda ref, kind: {"$ref": ref, "kind": kind}, DIGESTS | inner, KINDS | inner),
    ),
    max_leaves=10,
)


class Executed(BaseException):
    """Somebody unpickled what was not signed. No handler of errors takes it for one."""


def explode() -> None:
    raise Executed


class Bomb:
    def __reduce__(self) -> Any:
        return explode, ()


def hostile_blobs() -> dict[str, bytes]:
    import pickle

    bomb = pickle.dumps(Bomb())
    signed_by_another = b'nbflow pickle 1\n{"python":"3.11","type":"int","signature":"' + b"0" * 64 + b'"}\n' + bomb
    endless = json.dumps({"$ref": "3" * 32, "kind": "json"}).encode()
    return {"0" * 32: bomb, "1" * 32: signed_by_another, "2" * 32: b"\x93NUMPY\x02\x00", "3" * 32: endless}


@given(HOSTILE, st.booleans())
@settings(QUICK, max_examples=500)
@example({"$ref": "0" * 32, "kind": "pickle"}, True)
@example({"$ref": "1" * 32, "kind": "pickle"}, True)
@example({"$ref": "3" * 32, "kind": "json"}, True)
@example({"$t": "np", "dtype": "O", "v": 1}, True)
@example({"$t": "data", "type": "Order", "v": {"__class__": 1}}, True)
@example({"$t": "model", "type": "Model", "v": {}, "set": [[]]}, True)
def test_hostile_data_runs_nothing_and_fails_in_one_way(tree: Any, open_pickles: bool) -> None:
    """Whatever stands in a stream: a value comes of it, or an NbflowError."""
    store = MemoryArtifacts()
    store.blobs.update(hostile_blobs())
    one = Codec(types=TypeTable(KNOWN), signer=Signer(b"s" * 32), artifacts=store, open_pickles=open_pickles)
    text = json.dumps(tree)
    for read in (lambda: one.decode(text), lambda: one.decode_value(tree)):
        try:
            repr(type(read()))
        except NbflowError:
            pass
    preview(text)


@given(st.text() | st.binary())
@settings(QUICK, max_examples=100)
def test_what_is_no_json_fails_in_the_same_way(text: str | bytes) -> None:
    try:
        codec().decode(text)
    except NbflowError:
        pass


@given(
    st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=80) | st.dictionaries(st.text(), inner), max_leaves=150)
)
@settings(QUICK, max_examples=60)
def test_a_preview_is_short_and_is_json(value: Any) -> None:
    text = codec().encode(value)
    short = json.dumps(preview(text), ensure_ascii=False, separators=(",", ":"))
    assert len(short) <= 2100
    assert len(text) > 2048 or same(json.loads(short), json.loads(text))
