"""The door to the server: clients of redis-py, its errors translated, its version and the keys' format checked.

Two clients: `client` for bytes, `text` for text. A blocking client for Pub/Sub is made by `blocking()`: redis-py has a
read timeout of 5 s by default, which would end a subscription.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError
from redis.retry import Retry

from nbflow.errors import ServerTooOld, ServerUnreachable
from nbflow.store.address import keepalive_options, parse_url, shown_url
from nbflow.store.format import refuse_other_format
from nbflow.store.keys import Keys
from nbflow.store.scripts import Scripts
from nbflow.store.wire import denied, refusal, unreachable

__all__ = ["Store", "translated"]


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


@contextlib.contextmanager
def translated(url: str) -> Generator[None]:
    """redis-py's exceptions as ours, once, at the door."""
    try:
        yield
    except (redis.AuthenticationError, NoPermissionError) as error:
        raise denied(url, error) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise unreachable(url, error) from error
    except redis.ResponseError as error:
        raise refusal(url, error) from error


class Store:
    """The server of one namespace."""

    def __init__(self, url: str, namespace: str = "nbflow") -> None:
        parse_url(url)
        self.url = url
        self.keys = Keys(namespace)
        self.scripts = Scripts(self.keys)
        self._connect()
        _stores.add(self)

    def _connect(self) -> None:
        options: dict[str, Any] = {"retry": Retry(ExponentialBackoff(cap=0.5, base=0.02), 5)}
        self.client: redis.Redis = _client(self.url, **options)
        self.text: redis.Redis = _client(self.url, decode_responses=True, **options)

    def blocking(self) -> redis.Redis:
        """A client whose reads wait as long as it takes."""
        return _client(self.url, socket_timeout=None, health_check_interval=0)

    def refuse_silence(self, limit_s: float) -> None:
        """`ServerUnreachable` if nothing answers within that time. Other calls are more patient, for half a minute."""
        end_s = time.monotonic() + limit_s
        asked = _client(self.url, socket_timeout=limit_s, socket_connect_timeout=limit_s, retry=Retry(NoBackoff(), 0))
        with contextlib.closing(asked):
            while not self._answers(asked, may_be_silent=time.monotonic() < end_s):
                time.sleep(0.05)

    def _answers(self, asked: redis.Redis, *, may_be_silent: bool) -> bool:
        try:
            with translated(self.url):
                _untyped(asked).ping()
        except ServerUnreachable:
            if not may_be_silent:
                raise
            return False
        return True

    def check(self) -> str:
        """The server's version as text, once it is known to be fit: reachable, new enough, no cluster, our format."""
        with translated(self.url):
            info: dict[str, Any] = _untyped(self.client).info("server")
            name, version = _server(info)
            needed = (7, 2) if name == "Valkey" else (7, 0)
            if version[:2] < needed:
                shown = ".".join(map(str, version))
                raise ServerTooOld(
                    f"The server at {shown_url(self.url)} is {name} {shown}.",
                    hint="nbflow needs Redis 7.0 or newer, or Valkey 7.2 or newer: update the server or use another.",
                )
            if info.get("redis_mode") == "cluster":
                raise ServerTooOld(
                    f"The server at {shown_url(self.url)} is a cluster, where RQ's keys cannot live.",
                    hint="Use a single server or one with replicas.",
                )
            refuse_other_format(_untyped(self.text).execute_command, self.keys)
        return f"{name} {'.'.join(map(str, version))}"

    def run_script(self, name: str, *rest: Any, keys: Sequence[str] = (), **named: Any) -> Any:
        """Call a script by name with the arguments its header names; it is loaded if the server does not know it."""
        script = self.scripts[name]
        command = script.command(*rest, keys=keys, **named)
        with translated(self.url):
            try:
                return _untyped(self.client).execute_command(*command)
            except NoScriptError:
                self.client.script_load(script.text)
                return _untyped(self.client).execute_command(*command)

    def run_script_many(self, name: str, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]) -> list[Any]:
        """Call a script once for each of these arguments (starred ones, named ones), in one round trip. A call that failed
        gives its error."""
        script = self.scripts[name]
        with translated(self.url), _untyped(self.client).pipeline(transaction=False) as pipe:
            for rest, named in calls:
                pipe.execute_command(*script.command(*rest, **named))
            return pipe.execute(raise_on_error=False)

    def close(self) -> None:
        self.client.close()
        self.text.close()


def _renew_after_fork() -> None:
    """A forked child takes clients of its own: redis-py's pool would wait there for a lock whose holder is not here."""
    for store in _stores:
        store._connect()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)


def _client(url: str, **options: Any) -> redis.Redis:
    """A dead peer is noticed as a wire notices it (a unix socket has none)."""
    if not parse_url(url).path:
        options |= {"socket_keepalive": True, "socket_keepalive_options": keepalive_options()}
    return _untyped(redis.Redis).from_url(url, **options)


def _untyped(thing: Any) -> Any:
    """redis-py types its replies for both of its worlds at once; each reply is given its type where it is taken."""
    return thing


def _server(info: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    if "valkey_version" in info:
        return "Valkey", _version(str(info["valkey_version"]))
    return "Redis", _version(str(info.get("redis_version", "0")))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in text.split("."))
