"""Deliveries of webhooks: how another program proves that it is the one, and that what it sends is new. Pure: no clock, no
secret is read here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbflow.errors import DefinitionError, DeliveryRefused
from nbflow.model.policy import Duration, seconds
from nbflow.model.secret import Secret, checked_name

__all__ = ["MOST_BYTES", "Signed", "opened"]

MOST_BYTES = 64 * 1024
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")


@dataclass(frozen=True, slots=True)
class Signed:
    """How the deliveries of a webhook are signed: HMAC-SHA256 with the secret of that name (`Secret("SHOP")`, or its name),
    in hexadecimal, in a header. Its value is read where deliveries are received.

    With `timestamp` the header of that name says when it was sent, in seconds since 1970; it is signed too, as
    `<timestamp>.<body>`, and what is older or newer than `window` is refused. With `timestamp=None` the body alone is
    signed, and an old delivery can be sent again. `idempotency` is the header in which the sender names a delivery: of
    those with the same name each flow is started by the first.
    """

    secret: str | Secret
    header: str = "X-Signature-256"
    timestamp: str | None = "X-Timestamp"
    window: Duration = "5m"
    idempotency: str | None = "Idempotency-Key"

    def __post_init__(self) -> None:
        object.__setattr__(self, "secret", self.secret_name)
        for name in ("header", "timestamp", "idempotency"):
            value = getattr(self, name)
            if value is None and name != "header":
                continue
            if not isinstance(value, str) or not _HEADER.fullmatch(value):
                raise DefinitionError(f"Signed({name}={value!r}) names no header.", hint="Write it as 'X-Signature'.")
        if not 0 < seconds(self.window, "Signed(window=…)") <= 86_400:
            message = f"Signed(window={self.window!r}) is not possible."
            raise DefinitionError(message, hint="Give more than 0, and at most '24h'.")
        object.__setattr__(self, "window", seconds(self.window))  # as it is kept

    @property
    def secret_name(self) -> str:
        """What the secret is called."""
        return self.secret.name if isinstance(self.secret, Secret) else checked_name(self.secret)

    def signature(self, secret: bytes, body: bytes, timestamp: str = "") -> str:
        """What a sender puts into the header."""
        signed = body if self.timestamp is None else timestamp.encode() + b"." + body
        return f"sha256={hmac.new(secret, signed, hashlib.sha256).hexdigest()}"


def opened(signed: Signed, secret: bytes, body: bytes, headers: Mapping[str, str], *, now_s: float) -> tuple[Any, str]:
    """The payload of a delivery, and what its sender calls it. DeliveryRefused if it is not signed with the secret, not of
    now, too long, or no JSON. What is not signed is not even read."""
    given = {name.lower(): value for name, value in headers.items()}
    if len(body) > MOST_BYTES:
        raise DeliveryRefused(
            f"The delivery is longer than {MOST_BYTES // 1024} KiB.", hint="Send where the data lies."
        )
    timestamp = given.get(signed.timestamp.lower(), "") if signed.timestamp else ""
    expected = signed.signature(secret, body, timestamp).partition("=")[2]
    said = given.get(signed.header.lower(), "")
    if not hmac.compare_digest(expected.encode(), said.removeprefix("sha256=").lower().encode("utf-8", "replace")):
        raise DeliveryRefused(
            f"The delivery is not signed with the secret {signed.secret_name!r}.",
            hint=f"Send HMAC-SHA256 of {'<timestamp>.<body>' if signed.timestamp else 'the body'} in the header {signed.header}.",
        )
    if signed.timestamp:
        _check_age(timestamp, seconds(signed.window), now_s, signed.timestamp)
    name = given.get(signed.idempotency.lower(), "") if signed.idempotency else ""
    return _document(body), name


def _check_age(timestamp: str, window_s: float, now_s: float, header: str) -> None:
    try:
        is_new = abs(now_s - float(timestamp)) <= window_s
    except ValueError:
        is_new = False
    if not is_new:
        raise DeliveryRefused(
            f"The delivery is not of now: its {header} is {timestamp[:40]!r}.",
            hint=f"Send the seconds since 1970, at most {window_s:g} s old, and sign it anew.",
        )


def _document(body: bytes) -> Any:
    try:
        return json.loads(body) if body.strip() else None
    except (ValueError, RecursionError) as error:
        raise DeliveryRefused("The delivery is no JSON.", hint="Send a JSON document.") from error
