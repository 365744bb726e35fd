"""Where a payload, as it lies in the stream, refers to artifacts. Opens none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

__all__ = ["references"]


def references(tree: Any) -> Iterator[dict[str, Any]]:
    """Every `{"$ref": …}` in a JSON value, in its order. A user's own keys that begin with `$` are escaped, and never look
    so."""
    front: list[Any] = [tree]
    while front:  # no recursion: a payload may be as deep as its sender likes
        node = front.pop()
        if isinstance(node, list):
            front += reversed(cast("list[Any]", node))
        elif isinstance(node, dict):
            fields = cast("dict[str, Any]", node)
            if isinstance(fields.get("$ref"), str):
                yield fields
            else:
                front += reversed(fields.values())
