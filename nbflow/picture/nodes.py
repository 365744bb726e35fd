"""One node of the diagram as SVG: sign, name, what goes on in it, and the heat strip of a mapped step.

Presentation attributes only. All text passes `quoted`, by itself or by `fit` before it. Must not know layout or edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nbflow.picture.flow_picture import PictureNode
from nbflow.picture.layout import Place
from nbflow.picture.style import GLYPHS, MONO, Palette, Tone, duration, fit, quoted, width_of
from nbflow.picture.tally import Tally, strip

__all__ = ["HEIGHT", "MAPPED_HEIGHT", "STACK", "FindingLike", "draw_node", "node_size"]

HEIGHT = 54.0
MAPPED_HEIGHT = 70.0
STACK = 4.0  # how far a sheet of the stack stands out
_TEXT_X = 41.0
_PAD = 14.0
_NARROWEST, _WIDEST = 172.0, 240.0
_DASHED = ' stroke-dasharray="3 3"'


class FindingLike(Protocol):
    """What `flow.check()` found, as far as a picture shows it."""

    @property
    def severity(self) -> str: ...
    @property
    def step(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def hint(self) -> str: ...


def node_size(node: PictureNode) -> tuple[float, float]:
    """The room that a node needs, whatever goes on in it: a run moves nothing."""
    width = _TEXT_X + width_of(node.text[:80], 13.5) * 1.03 + _PAD
    return round(min(max(width, _NARROWEST), _WIDEST)), MAPPED_HEIGHT if node.mapped else HEIGHT


def draw_node(
    node: PictureNode,
    place: Place,
    palette: Palette,
    *,
    tally: Tally | None,
    findings: Sequence[FindingLike] = (),
    now_ms: int | None = None,
) -> str:
    """A group for the node. Without a tally it is drawn as declared, not as run."""
    tone = _tone(node, palette, tally)
    parts = [
        f'<g transform="translate({place.x:g} {place.y:g})"><title>{quoted(_told(node, tally, findings, now_ms))}</title>',
        *_sheets(node, place, palette, tone),
        _box(node, place, tone, tally),
        _sign(node, palette, tone, tally),
        _name(node, place, palette, tone, tally),
        _detail(node, place, palette, tone, tally=tally, now_ms=now_ms),
        *(_strip(place, palette, tone, tally) if node.mapped else ()),
        *(_badge(place, palette, findings) if findings else ()),
        "</g>",
    ]
    return "".join(parts)


def _tone(node: PictureNode, palette: Palette, tally: Tally | None) -> Tone:
    if tally is not None and node.role != "missing":
        return palette.tone(tally.status)
    plain = palette.tone("pending")
    accent = palette.form("collect" if node.role == "entry" else "each" if node.mapped else "plain")
    return Tone(accent.sign, plain.tint, plain.line, plain.text)


def _sheets(node: PictureNode, place: Place, palette: Palette, tone: Tone) -> list[str]:
    """What lies below the box: the other sheets of a stack, and a soft shadow."""
    size = f'width="{place.width:g}" height="{place.height:g}" rx="11"'
    sheets = [
        f'<rect x="{shift:g}" y="{-shift:g}" {size} fill="{palette.frame if shift > STACK else tone.tint}" stroke="{tone.line}"/>'
        for shift in ((2 * STACK, STACK) if node.mapped else ())
    ]
    shadow = f'<rect y="2" {size} fill="{palette.shadow}" fill-opacity=".07"/>'
    return [*sheets, shadow]


def _box(node: PictureNode, place: Place, tone: Tone, tally: Tally | None) -> str:
    is_dim = node.role == "missing" or (tally is not None and tally.status == "skipped")
    dash = ' stroke-dasharray="5 4"' if is_dim else ""
    return (
        f'<rect width="{place.width:g}" height="{place.height:g}" rx="11" fill="{tone.tint}" stroke="{tone.line}"'
        f' stroke-width="1.25"{dash}/>'
    )


def _sign(node: PictureNode, palette: Palette, tone: Tone, tally: Tally | None) -> str:
    """The status as a shape: filled where something happened, a ring where nothing did yet."""
    start = f'<g transform="translate(23 {HEIGHT / 2:g})" fill="none" stroke-width="1.9" stroke-linecap="round" stroke-linejoin="round">'
    if tally is None or node.role == "missing":
        return start + _declared_sign(node, tone) + "</g>"
    status = tally.status if tally.status in GLYPHS else "pending"
    glyph = GLYPHS[status]
    if status in {"queued", "canceled", "skipped", "pending"}:
        ring = _DASHED if status in {"pending", "skipped"} else ""
        inside = f'<path d="{glyph}" stroke="{tone.sign}"/>' if glyph else ""
        return f'{start}<circle r="9" stroke="{tone.sign}" stroke-width="1.6"{ring}/>{inside}</g>'
    shapes = {
        "failed": '<path d="M-4.1 -10H4.1L10 -4.1V4.1L4.1 10H-4.1L-10 4.1V-4.1Z"',
        "awaiting": '<rect x="-9" y="-9" width="18" height="18" rx="5"',
    }
    shape = shapes.get(status, '<circle r="10"')
    fill = palette.on_sign if status == "running" else "none"
    return f'{start}{shape} fill="{tone.sign}" stroke="none"/><path d="{glyph}" stroke="{palette.on_sign}" fill="{fill}"/></g>'


def _declared_sign(node: PictureNode, tone: Tone) -> str:
    if node.role == "missing":
        return f'<circle r="9" stroke="{tone.sign}" stroke-width="1.6"{_DASHED}/><path d="M0 -3.6V.8M0 3.7V3.8" stroke="{tone.sign}"/>'
    disc = f'<circle r="10.5" fill="{tone.sign}" fill-opacity=".13"/>'
    if node.role == "entry":
        return f'{disc}<path d="M-2 -3.6L3.8 0L-2 3.6Z" stroke="{tone.sign}" fill="{tone.sign}"/>'
    if node.mapped:
        return f'{disc}<path d="M-4 -3.8H4M-4 0H4M-4 3.8H4" stroke="{tone.sign}"/>'
    return f'{disc}<circle r="3.4" fill="{tone.sign}"/>'


def _name(node: PictureNode, place: Place, palette: Palette, tone: Tone, tally: Tally | None) -> str:
    fill = palette.muted if node.role == "missing" or (tally and tally.status == "skipped") else palette.text
    family = f' font-family="{MONO}"' if node.role == "missing" else ""
    attempts = _attempts(place, tone, tally.attempts) if tally and tally.attempts > 1 else ""
    text = fit(node.text, 13.5, place.width - _TEXT_X - _PAD + 4 - (30 if attempts else 0))
    style = f'font-size="13.5" font-weight="600"{family} fill="{fill}"'
    return f'<text x="{_TEXT_X:g}" y="23.5" {style}>{quoted(text)}</text>{attempts}'


def _detail(
    node: PictureNode, place: Place, palette: Palette, tone: Tone, *, tally: Tally | None, now_ms: int | None
) -> str:
    room = place.width - _TEXT_X - _PAD + 4
    if node.role == "missing":
        words, fill = ["nobody emits it"], palette.muted
    elif tally is None:
        words, fill = [_declared(node)], palette.muted
    else:
        words, fill = _done(tally, room, now_ms), tone.text
    first, rest = words[0], "".join(f" · {word}" for word in words[1:])
    return (
        f'<text x="{_TEXT_X:g}" y="40.5" font-size="11" fill="{palette.muted}"><tspan font-weight="500" fill="{fill}">'
        f"{quoted(fit(first, 11, room))}</tspan>{quoted(rest)}</text>"
    )


def _declared(node: PictureNode) -> str:
    words = [f"queue {node.queue}"] if node.queue else []
    words.append(node.doc or ("entry" if node.role == "entry" else "a task per element" if node.mapped else "step"))
    return " · ".join(words)


def _done(tally: Tally, room: float, now_ms: int | None) -> list[str]:
    """The status word, and how long, if there is room; or what it waits for."""
    if tally.status == "awaiting" and tally.waits_for:
        return [fit(f"awaiting {tally.waits_for}", 11, room)]
    time = duration(tally.duration_ms(now_ms)) or tally.taken_over
    return [tally.status, time] if time and width_of(f"{tally.status} · {time}", 11) <= room else [tally.status]


def _attempts(place: Place, tone: Tone, attempts: int) -> str:
    """A turning arrow and how many attempts there were, in the upper corner."""
    right, number = place.width - _PAD, min(attempts, 999)
    x = right - width_of(str(number), 11) - 8
    mark = f'fill="none" stroke="{tone.text}" stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round"'
    return (
        f'<path transform="translate({x:.1f} 19.5) scale(.68)" d="{GLYPHS["retrying"]}" {mark}/>'
        f'<text x="{right:g}" y="23.5" font-size="11" font-weight="600" text-anchor="end" fill="{tone.text}">{number}</text>'
    )


def _strip(place: Place, palette: Palette, tone: Tone, tally: Tally | None) -> list[str]:
    """A cell a task, or a cell for several; failed ones are the tallest, so that colour does not tell alone."""
    count = f"{tally.completed}/{tally.total}" if tally and tally.total else ""
    left, right = _TEXT_X, place.width - _PAD - (width_of(count, 11) + 8 if count else 0)
    statuses = strip(tally.statuses, max(6, int((right - left) / 5))) if tally else []
    cells = statuses or ["pending"] * 12
    step = min((right - left + 1.5) / len(cells), 9.0)
    parts: list[str] = []
    for index, status in enumerate(cells):
        height = {"failed": 11.0, "running": 9.0, "completed": 7.0}.get(status, 5.0)
        sign = palette.tone(status)
        fill = sign.sign if status not in {"queued", "pending"} else sign.line
        parts.append(
            f'<rect x="{left + index * step:.1f}" y="{54.5 - height / 2:g}" width="{max(step - 1.5, 1):.1f}" height="{height:g}" rx="1.5" fill="{fill}"/>'
        )
    if count:
        parts.append(
            f'<text x="{place.width - _PAD:g}" y="58.5" font-size="11" font-weight="600" text-anchor="end" fill="{tone.text}">{count}</text>'
        )
    return parts


def _badge(place: Place, palette: Palette, findings: Sequence[FindingLike]) -> list[str]:
    tone = palette.tone("failed" if any(finding.severity == "error" for finding in findings) else "retrying")
    start = f'<g transform="translate({place.width - 2:g} 1)">'
    disc = f'<circle r="8.5" fill="{tone.sign}" stroke="{palette.frame}" stroke-width="2"/>'
    mark = f'<path d="M0 -4V.6M0 3.7V3.8" stroke="{palette.on_sign}" stroke-width="2" stroke-linecap="round"/>'
    return [start, disc, mark, "</g>"]


def _told(node: PictureNode, tally: Tally | None, findings: Sequence[FindingLike], now_ms: int | None) -> str:
    """All of it in words, for who cannot see the picture and for who points at it."""
    words = [node.text]
    if node.role != "step":
        words.append("entry" if node.role == "entry" else "nobody emits it")
    if tally is not None:
        words += [tally.status, f"{tally.completed} of {tally.total} tasks completed" if tally.total > 1 else ""]
        words += [f"{tally.attempts} attempts" if tally.attempts > 1 else "", duration(tally.duration_ms(now_ms))]
        words.append(tally.taken_over)
        words += [f"waits for {tally.waits_for}" if tally.waits_for else "", tally.skipped, tally.error[:300]]
    words += [f"queue {node.queue}" if node.queue else "", node.doc, *(finding.message for finding in findings)]
    return ", ".join(word for word in words if word)
