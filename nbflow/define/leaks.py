"""Values that a step would carry to the workers and that look like a key or a password.

It tells names and never values.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

from nbflow.define.captures import captured
from nbflow.model.secret import Secret

__all__ = ["leaks", "looks_secret", "secrets_of"]

_NAME = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|api_?key|access_?key|secret_?key|private_?key"
    r"|auth_?key|signing_?key)(?:_|\d|$)",
    re.IGNORECASE,
)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_A_SECRET = re.compile(
    r"(?:_|^)(?:name|field|column|header|url|path|file|env|prefix|id|count|limit)s?$", re.IGNORECASE
)
_VALUE = re.compile(
    r"AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"  # GitHub, GitLab
    r"|xox[abeoprs]-[\w-]{10,}|sk-[\w-]{20,}|sk_live_\w{10,}|hf_[A-Za-z0-9]{20,}|AIza[\w-]{30,}"  # Slack, and others
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"  # a JSON web token
    r"|^[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@{}]+@",  # a URL with a password
)


def leaks(function: Callable[..., Any]) -> list[str]:
    """The names of what the function carries that looks secret, its helpers of the same module included."""
    return [*dict.fromkeys(name for name, value in _all_carried(function) if looks_secret(name, value))]


def secrets_of(function: Callable[..., Any]) -> list[Secret]:
    """The secrets that it refers to by name, its helpers of the same module included."""
    return [*dict.fromkeys(value for _, value in _all_carried(function) if isinstance(value, Secret))]


def _all_carried(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    waiting: list[Any] = [inspect.unwrap(function)]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, types.FunctionType) or id(current) in seen:
            continue
        seen.add(id(current))
        for name, value in _carried(current):
            if isinstance(value, types.FunctionType) and value.__module__ == current.__module__:
                waiting.append(value)
            else:
                yield name, value


def looks_secret(name: str, value: object) -> bool:
    """Whether a value is a key or a password, by the name it has or by how it is made."""
    if not isinstance(value, str | bytes) or not value:
        return False
    text = value if isinstance(value, str) else value.decode("latin-1")
    if _VALUE.search(text):
        return True
    spelled = _WORDS.sub("_", name)
    return bool(_NAME.search(spelled)) and not _NOT_A_SECRET.search(spelled)


def _carried(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for capture in captured(function):
        yield capture.name, capture.value
    for constant in function.__code__.co_consts:
        if isinstance(constant, str | bytes) and constant is not function.__doc__:
            yield f"a constant in {function.__name__}()", constant
