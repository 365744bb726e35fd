"""Who may open a pickle, and what is verified first."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from nbflow.errors import (
    BundleUnsigned,
    PackageMissing,
    PythonMismatch,
    SecretMissing,
    SignatureMismatch,
)
from nbflow.model import pickles
from nbflow.model.codec import Codec, MemoryArtifacts, Unopened
from nbflow.model.signing import Signer

SIGNER = Signer(b"s" * 32)


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def worker(**options: Any) -> Codec:
    settings: dict[str, Any] = {"signer": SIGNER, "artifacts": MemoryArtifacts(), "open_pickles": True, **options}
    return Codec(**settings)


def view_of(other: Codec) -> Codec:
    """A reader of the same artifacts that opens no pickles and knows no types."""
    return Codec(artifacts=other.artifacts)


def test_a_view_opens_no_pickle() -> None:
    sender = worker()
    text = sender.encode({"score": 0.9, "model": Plain(1)})
    shown = view_of(sender).decode(text)
    assert shown["score"] == 0.9
    assert isinstance(shown["model"], Unopened)
    assert shown["model"].kind == "pickle"
    assert "Plain" in repr(shown["model"])


def sent() -> tuple[str, MemoryArtifacts, str]:
    store = MemoryArtifacts()
    text = worker(artifacts=store).encode(Plain(1))
    return text, store, json.loads(text)["$ref"]


def test_a_pickle_of_another_secret_is_refused() -> None:
    text, store, _ = sent()
    with pytest.raises(SignatureMismatch, match="another secret"):
        worker(artifacts=store, signer=Signer(b"other")).decode(text)


def test_a_changed_pickle_is_refused() -> None:
    text, store, digest = sent()
    store.blobs[digest] = store.blobs[digest][:-1] + b"x"
    with pytest.raises(SignatureMismatch):
        worker(artifacts=store).decode(text)


@pytest.mark.parametrize("blob", [pickle.dumps(1), b"", b"nbflow pickle 1\n", b"nbflow pickle 1\n[]\n", b"x" * 5000])
def test_an_unsigned_pickle_is_refused(blob: bytes) -> None:
    text, store, digest = sent()
    store.blobs[digest] = blob
    with pytest.raises(BundleUnsigned):
        worker(artifacts=store).decode(text)


def test_without_a_secret_no_pickle_is_made_or_opened() -> None:
    text, store, _ = sent()
    for act in (
        lambda: worker(signer=None).encode(Plain(1)),
        lambda: worker(artifacts=store, signer=None).decode(text),
    ):
        with pytest.raises(SecretMissing):
            act()


def test_a_pickle_of_another_python_is_refused_after_it_was_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_PYTHON", "3.7")
    text, store, digest = sent()
    monkeypatch.undo()
    with pytest.raises(PythonMismatch, match=r"3\.7"):
        worker(artifacts=store).decode(text)
    store.blobs[digest] = store.blobs[digest].replace(b'"3.7"', b'"3.8"')
    with pytest.raises(SignatureMismatch):
        worker(artifacts=store).decode(text)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone_package.py").write_text("class Thing: pass")
    monkeypatch.syspath_prepend(tmp_path)
    import gone_package  # type: ignore[import-not-found]

    store = MemoryArtifacts()
    text = worker(artifacts=store).encode(gone_package.Thing())
    monkeypatch.undo()
    del sys.modules["gone_package"]
    with pytest.raises(PackageMissing, match="gone_package"):
        worker(artifacts=store).decode(text)
