"""A signature tells whether the parts are the ones that were signed, and with which secret."""

from __future__ import annotations

import pickle

import pytest

from nbflow.model.signing import Signer


def test_what_was_signed_is_verified() -> None:
    signer = Signer(b"secret")
    signature = signer.sign("bundle", b"\x00\xff", memoryview(b"more"))
    assert signer.verify(signature, "bundle", b"\x00\xff", b"more")
    assert len(signature) == 64


@pytest.mark.parametrize("parts", [("a", "bc"), ("abc",), ("ab", "c", ""), ("", "ab", "c"), ("ab", "C"), ()])
def test_other_parts_have_another_signature(parts: tuple[str, ...]) -> None:
    """The parts are prefixed by their lengths: the same letters divided otherwise are other parts."""
    signer = Signer(b"secret")
    assert not signer.verify(signer.sign("ab", "c"), *parts)


def test_another_secret_has_another_signature() -> None:
    assert not Signer(b"other").verify(Signer(b"secret").sign("a"), "a")


@pytest.mark.parametrize("signature", ["", "0" * 64, "é", "\ud800", "x" * 10_000])
def test_what_is_no_signature_is_refused_without_an_error(signature: str) -> None:
    assert not Signer(b"secret").verify(signature, "a")


def test_text_counts_as_its_bytes() -> None:
    assert Signer(b"s").sign("é") == Signer(b"s").sign("é".encode())


def test_the_secret_is_neither_shown_nor_sent() -> None:
    """It is in no repr and in no pickle, so that no log and no bundle carries it away."""
    signer = Signer(b"very secret")
    assert "very secret" not in repr(signer)
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps(signer)


def test_there_is_no_empty_secret() -> None:
    with pytest.raises(ValueError, match="empty"):
        Signer(b"")
