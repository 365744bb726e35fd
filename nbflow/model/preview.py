"""A payload in short, for events and views: JSON of at most about 2 KiB, with no artifact opened.

References stay what they are (rows, schema); long texts and lists are cut, and `{"$t": "more", "n": …}` says by how much.
"""

from __future__ import annotations

from typing import Any

from nbflow.model.decoder import from_json
from nbflow.model.encoder import to_json

__all__ = ["LARGEST_PREVIEW", "preview", "preview_text"]

LARGEST_PREVIEW = 2048

_LIMITS = ((40, 400), (20, 200), (10, 100), (5, 60), (3, 30), (1, 20))
"""Most items of a container and most letters of a text; the first pair that makes it short enough is taken."""


def preview(text: str) -> Any:
    """The payload's JSON tree, cut where it is long. `text` is what the codec wrote."""
    return from_json(preview_text(text))


def preview_text(text: str) -> str:
    """The same as text: a short payload's own, which is not even parsed."""
    if len(text) <= LARGEST_PREVIEW:
        return text
    tree = from_json(text)
    for items, letters in _LIMITS:
        short = to_json(_cut(tree, items, letters, 8))
        if len(short) <= LARGEST_PREVIEW:
            return short
    return to_json(_cut(tree, 1, 20, 2))


def _cut(node: Any, items: int, letters: int, depth: int) -> Any:
    if isinstance(node, str):
        return node if len(node) <= letters else f"{node[:letters]}… ({len(node) - letters:,} more)"
    if isinstance(node, list):
        return _cut_list(node, items, letters, depth)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(node, dict):
        return _cut_dict(node, items, letters, depth)  # pyright: ignore[reportUnknownArgumentType]
    return node


def _cut_list(node: list[Any], items: int, letters: int, depth: int) -> Any:
    if depth <= 0 and node:
        return {"$t": "more", "of": "list", "n": len(node)}
    short = [_cut(item, items, letters, depth - 1) for item in node[:items]]
    return short if len(node) <= items else [*short, {"$t": "more", "n": len(node) - items}]


def _cut_dict(node: dict[str, Any], items: int, letters: int, depth: int) -> Any:
    if "$ref" in node:
        return _cut_reference(node, items)
    if "$t" in node:
        return _cut_tagged(node, items, letters, depth)
    if depth <= 0 and node:
        return {"$t": "more", "of": "dict", "n": len(node)}
    short = {_cut(key, items, letters, 0): _cut(node[key], items, letters, depth - 1) for key in list(node)[:items]}
    if len(node) > items:
        short["…"] = {"$t": "more", "n": len(node) - items}
    return short


def _cut_reference(node: dict[str, Any], items: int) -> dict[str, Any]:
    schema = node.get("schema")
    return {**node, "schema": schema[:items]} if isinstance(schema, list) else node


def _cut_tagged(node: dict[str, Any], items: int, letters: int, depth: int) -> Any:
    """A tag's text is whole or not there: half of a number or of base64 would be another value."""
    value = node.get("v")
    if isinstance(value, str):
        return node if len(value) <= letters else {"$t": "more", "of": str(node["$t"]), "n": len(value)}
    return {**node, "v": _cut(value, items, letters, depth)} if "v" in node else node
