"""Payloads for people: a JSON tree as it lies in the stream, in one line. Nothing is opened, no pickle and no artifact."""

from __future__ import annotations

import json
from typing import Any, cast

from nbflow.cli.terminal import plain

__all__ = ["shown", "size"]

LONGEST = 300


def shown(tree: Any, longest: int = LONGEST) -> str:
    """The payload in short: `{"rows": 3, "frame": <arrow DataFrame, 336,776 rows, 12.3 MB>}`."""
    text = plain(_text(tree))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def size(count: int) -> str:
    """Bytes for people: 1.5 MB."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def _text(node: Any) -> str:
    if isinstance(node, list):
        return f"[{', '.join(map(_text, cast('list[Any]', node)))}]"
    if not isinstance(node, dict):
        return json.dumps(node, ensure_ascii=False)
    fields = cast("dict[str, Any]", node)
    if "$ref" in fields:
        return _artifact(fields)
    if "$t" in fields:
        return _tagged(fields)
    return f"{{{', '.join(f'{json.dumps(key, ensure_ascii=False)}: {_text(item)}' for key, item in fields.items())}}}"


def _artifact(ref: dict[str, Any]) -> str:
    said = [" ".join(filter(None, [str(ref.get("kind", "artifact")), str(ref.get("type", ""))]))]
    rows, count = ref.get("rows"), ref.get("bytes")
    said += [f"{rows:,} rows"] if isinstance(rows, int) else []
    said += [size(count)] if isinstance(count, int) else []
    return f"<{', '.join(said)}>"


def _tagged(node: dict[str, Any]) -> str:
    tag, value = str(node["$t"]), node.get("v")
    if tag == "more":
        return f"… ({node.get('n')} more)"
    name = str(node.get("type") or tag)
    if value is None:
        return f"<{name}>"
    if tag in ("tuple", "set", "frozenset", "deque") and isinstance(value, list):
        inside = ", ".join(map(_text, cast("list[Any]", value)))
        return f"({inside})" if tag == "tuple" else f"{tag}({inside})"
    return str(value) if isinstance(value, str) else f"{name}({_text(value)})"
