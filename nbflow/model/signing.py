"""Signatures of what travels: HMAC-SHA256 over parts, with the namespace's secret. It reads no setting and no file.

The parts are prefixed by their lengths, so that `sign("ab", "c")` and `sign("a", "bc")` differ: a signature says where
one part ends. The first part should name what is signed (`"bundle"`, `"pickle"`), so that one is never taken for another.
"""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["Part", "Signer"]

_SIGNATURE = 64

Part = str | bytes | bytearray | memoryview


class Signer:
    """Signs and verifies with one secret. The secret is never shown, and does not travel in a pickle."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("a secret must not be empty")
        self._secret = secret

    def sign(self, *parts: Part) -> str:
        """64 hexadecimal digits. Text counts as its UTF-8 bytes."""
        mac = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in parts:
            raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else memoryview(part).cast("B")
            mac.update(len(raw).to_bytes(8, "big"))
            mac.update(raw)
        return mac.hexdigest()

    def verify(self, signature: str, *parts: Part) -> bool:
        """Whether the signature is ours and of these parts; in constant time, and False for anything malformed."""
        return hmac.compare_digest(self.sign(*parts).encode(), signature.encode("utf-8", "replace"))

    def seal(self, kind: str, text: str) -> str:
        """A record to store: its signature, and the text."""
        return self.sign(kind, text) + text

    def unseal(self, kind: str, record: str) -> str | None:
        """The text of a stored record; None if it is not ours, or of another kind."""
        signature, text = record[:_SIGNATURE], record[_SIGNATURE:]
        return text if self.verify(signature, kind, text) else None

    def __repr__(self) -> str:
        return "Signer(<secret>)"

    def __reduce__(self) -> str:
        raise TypeError("a Signer holds the secret and does not travel")
