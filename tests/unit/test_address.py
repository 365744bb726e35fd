"""The address of a server: read as redis-py reads it, shown without its password."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from redis.connection import parse_url as redis_reads

from nbflow.errors import ServerUnreachable
from nbflow.store.address import Address, keepalive_options, parse_url, shown_url
from nbflow.store.connect import Store

URLS = (
    "redis://",
    "redis://example.org",
    "redis://example.org:7000/3",
    "redis://example.org/3?db=4",
    "redis://?host=example.org&port=7000",
    "redis://me@example.org",
    "redis://me:@example.org",
    "redis://:word@example.org",
    "redis://me:w%40rd@example.org/2",
    "redis://example.org?username=me&password=w%40rd",
    "redis://example.org?password=a&password=b",
    "redis://me:word@example.org?username=you&password=other",
    "redis://me@example.org?password=word",
    "rediss://me:word@example.org:7000/1",
    "unix:///tmp/some%20where/s?db=2",
    "unix://me:word@/tmp/s",
    "unix:///tmp/s?username=me&password=word",
)


@pytest.mark.parametrize("url", URLS)
def test_a_url_means_what_it_means_to_redis_py(url: str) -> None:
    """Law: both clients of one URL speak to one server and database, as one user."""
    theirs: Any = {"path": "", "host": "127.0.0.1", "port": 6379, "db": 0, "username": "", "password": ""}
    theirs |= {name: value for name, value in redis_reads(url).items() if name in theirs}
    ours = parse_url(url)
    assert {name: getattr(ours, name) for name in theirs} | {"port": str(ours.port)} == theirs | {
        "port": str(theirs["port"])
    }


def test_a_user_alone_has_the_empty_password() -> None:
    assert Address().credentials == ()
    assert Address(password="word").credentials == ("word",)
    assert Address(username="me").credentials == ("me", "")
    assert Address(username="me", password="word").credentials == ("me", "word")


@pytest.mark.parametrize("url", [url for url in URLS if "word" in url or "w%40rd" in url])
def test_a_password_is_never_shown(url: str) -> None:
    shown = shown_url(url)
    assert "word" not in shown.replace("password=", "")
    assert "w%40rd" not in shown
    assert "***" in shown
    assert "word" not in repr(parse_url(url)).replace("password", "")


def test_a_password_is_not_in_what_refuses_the_url() -> None:
    with pytest.raises(ServerUnreachable) as refused:
        parse_url("redis://example.org:port?password=hunter22")
    assert "hunter22" not in str(refused.value)


def test_a_dead_peer_is_noticed_within_a_quarter_of_a_minute() -> None:
    """Law: idle, by so many probes; with unanswered bytes, by their age."""
    options = keepalive_options()
    assert options[socket.TCP_KEEPIDLE] + options[socket.TCP_KEEPINTVL] * options[socket.TCP_KEEPCNT] <= 15
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert options[socket.TCP_USER_TIMEOUT] <= 15_000


def test_clients_of_redis_py_notice_it_too() -> None:
    for url, expected in (("redis://example.org", keepalive_options()), ("unix:///tmp/s", None)):
        store = Store(url)
        for client in (store.client, store.text, store.blocking()):
            given: Any = client.connection_pool.connection_kwargs
            assert given.get("socket_keepalive_options") == expected
