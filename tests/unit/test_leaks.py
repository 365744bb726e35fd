"""A key or a password is known by its name, or by how it is made."""

from __future__ import annotations

import pytest

from nbflow.define.leaks import looks_secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PASSWORD", "x"),
        ("db_password", "x"),
        ("apiKey", "x"),
        ("API_KEY", b"x"),
        ("access_token", "x"),
        ("TOKEN_2", "x"),
        ("x", "ghp_abcdefghijklmnopqrstuvwxyz012345"),
        ("x", "-----BEGIN RSA PRIVATE KEY-----\nabc"),
        ("x", "postgres://user:pass@host/db"),
    ],
)
def test_what_looks_secret(name: str, value: object) -> None:
    assert looks_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PASSWORD", ""),
        ("TOKEN", 7),
        ("TOKEN_PATH", "/run/x"),
        ("password_column", "pw"),
        ("tokenizer", "bert"),
        ("KEY", "order.id"),
        ("compass", "north"),
        ("x", "https://example.org/a?b=c"),
        ("x", "postgres://host/db"),
        ("max_tokens", "7"),
    ],
)
def test_what_does_not_look_secret(name: str, value: object) -> None:
    assert not looks_secret(name, value)
