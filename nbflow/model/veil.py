"""What must not be told: the values of the secrets that this process read, found and masked in whatever it writes.

Text for people (logs, errors, tracebacks) is masked. What must arrive as it was sent (payloads, code) is not changed but
refused by its writer, who asks here. Only the standard library: a supervisor uses this too.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from urllib.parse import quote, quote_plus

__all__ = ["LONGEST", "MASK", "SHORTEST", "found_in", "found_in_text", "known", "learn", "learn_from", "masked"]
__all__ += ["masked_tree", "only_here", "safe_cut", "tell_to"]

MASK = "***"
SHORTEST, LONGEST = 4, 64 << 10
"""Characters of a value. A shorter one is a part of too many words to be masked."""

_SURE = 8
"""From so many characters on a value is found within another text; a shorter one only where it is the whole text."""
_PIECE = 1 << 20

Text = TypeVar("Text", str, bytes)

known: dict[str, str] = {}
"""The name by the value. Empty in most processes, so that who writes much asks this first."""

_lock = threading.Lock()
_pattern: re.Pattern[str] | None = None
_tellers: list[int] = []


def learn(name: str, value: str) -> None:
    """From now on this value is masked in all that this process tells, and by who watches over it."""
    if value in known:
        return
    with _lock:
        known[value] = name
        _compile()
        for fd in _tellers:
            os.write(fd, json.dumps([name, value]).encode() + b"\n")


def tell_to(fd: int) -> None:
    """Write what is learned to this file of memory, for the process that speaks for this one when it is dead."""
    _tellers[:] = [fd]


def learn_from(fd: int) -> None:
    """The other end of `tell_to`."""
    for line in os.pread(fd, os.fstat(fd).st_size, 0).splitlines(keepends=True):
        if line.endswith(b"\n"):
            learn(*json.loads(line))


@contextmanager
def only_here() -> Generator[None]:
    """What is learned inside the block is forgotten after it: a test's secrets are its own."""
    before = dict(known)
    try:
        yield
    finally:
        with _lock:
            known.clear()
            known.update(before)
            _compile()


def _compile() -> None:
    global _pattern
    forms = {form for value in known for form in _forms(value)}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    _pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None


def _forms(value: str) -> Iterable[str]:
    """The value as it is met in text: as it is, line by line, escaped, in a URL, in base64."""
    yield from _lines(value)
    yield from (repr(value)[1:-1], _in_json(value), json.dumps(value)[1:-1])
    raw = value.encode("utf-8", "replace")
    yield from (quote(raw, safe=""), quote(raw), quote_plus(raw))
    if len(raw) >= _SURE:
        yield from _in_base64(raw)


def _lines(value: str) -> Iterable[str]:
    yield value
    if "\n" in value:  # captured output comes by lines
        yield from (line for line in map(str.strip, value.splitlines()) if len(line) >= _SURE)


def _in_json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _in_base64(raw: bytes) -> Iterable[str]:
    """What of it is sure to stand in the base64 of bytes that hold it, at each of the three places it may begin."""
    for before in range(3):
        written = base64.b64encode(bytes(before) + raw).decode()
        sure = written[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        yield sure
        yield sure.translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")


def masked(text: str) -> str:
    """The text, with `***` in the place of values that must not be told."""
    return text if _pattern is None else _pattern.sub(MASK, text)


def masked_tree(tree: Any) -> Any:
    """The same in all texts of a JSON value."""
    if isinstance(tree, str):
        return masked(tree)
    if isinstance(tree, dict):
        return {masked(str(key)): masked_tree(value) for key, value in cast("dict[Any, Any]", tree).items()}
    if isinstance(tree, list):
        return [masked_tree(value) for value in cast("list[Any]", tree)]
    return tree


def safe_cut(text: Text, at: int) -> int:
    """Where to cut the text instead, at `at` or before, so that no value is cut in two: neither one that is whole, nor one
    that has only begun at the end of the text."""
    for line in [line for value in known for line in _lines(value)]:
        form = cast("Any", line.encode("utf-8", "replace") if isinstance(text, bytes) else line)
        for start in range(max(0, at - len(form) + 1), at):
            if form.startswith(text[start : start + len(form)]):
                at = start
                break
    return at


def found_in_text(text: str) -> str | None:
    """The name of a secret whose value stands in this JSON text; None if there is none."""
    for value, name in known.items():
        form = _in_json(value)
        if f'"{form}"' in text or (len(value) >= _SURE and form in text):
            return name
        raws = _raws(value) if len(value) >= _SURE else ()
        if any(sure in text for raw in raws for sure in _in_base64(raw)):
            return name
    return None


def found_in(blob: bytes | bytearray | memoryview) -> str | None:
    """The same of bytes: an artifact, a pickle. Only values of eight characters and more are looked for."""
    view = memoryview(blob).cast("B")
    sought = [(raw, name) for value, name in known.items() if len(value) >= _SURE for raw in _raws(value)]
    overlap = max((len(raw) for raw, _ in sought), default=0)
    for at in range(0, len(view) if sought else 0, _PIECE):  # by pieces: a large artifact is not copied
        piece = bytes(view[at : at + _PIECE + overlap])
        for raw, name in sought:
            if raw in piece:
                return name
    return None


def _raws(value: str) -> Iterable[bytes]:
    yield value.encode("utf-8", "replace")
    yield _in_json(value).encode("utf-8", "replace")
    yield value.encode("utf-16-le", "replace")
    yield value.encode("utf-32-le", "replace")  # numpy's texts
