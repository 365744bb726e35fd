"""The diagram of a flow, and of a run of it, as one SVG that stands on its own.

Presentation attributes only: no `<style>`, no script, no reference to anything, so that it shows in an untrusted
notebook, in a browser, in a document and on a slide. Everything that users typed is escaped text. Theme `auto` is the
light one: the frame brings its own background and reads on any page. Must not know servers, notebooks or clocks
(`now_ms` is told).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from nbflow.model.view import View
from nbflow.picture.edges import Link, arrow, draw_labels, draw_link, label_width, links_of
from nbflow.picture.flow_picture import FlowPicture
from nbflow.picture.layout import Layout, Place, layout
from nbflow.picture.nodes import STACK, FindingLike, draw_node, node_size
from nbflow.picture.style import DARK, FONT, LIGHT, Palette, duration, fit, quoted, width_of
from nbflow.picture.tally import Tally, elapsed_ms, tallies

__all__ = ["Theme", "count_of", "flow_svg"]

Theme = Literal["light", "dark", "auto"]
_MARGIN = 26.0
_STUB = 34.0  # the dot and arrow before an entry
_CAPTION = 46.0
_NARROWEST = 300.0


@dataclass(frozen=True, slots=True)
class _Scene:
    layout: Layout
    links: tuple[Link, ...]


def flow_svg(
    picture: FlowPicture,
    view: View | None = None,
    findings: Sequence[FindingLike] = (),
    theme: Theme = "auto",
    *,
    caption: bool = True,
    now_ms: int | None = None,
) -> str:
    """Draw the flow; with a view, the run as far as it has come. `caption` writes the flow's name and status on top."""
    palette = DARK if theme == "dark" else LIGHT
    counts = tallies(view) if view is not None else None
    top = _CAPTION if caption else _MARGIN
    if not picture.nodes:
        width, height, body = _empty(palette, top)
    else:
        scene = _scene(picture)
        width = scene.layout.width + 2 * _MARGIN + _STUB + 2 * STACK
        height = scene.layout.height + top + _MARGIN + 2 * STACK
        inner = _body(picture, scene, palette, view, counts=counts, findings=findings, now_ms=now_ms)
        body = [f'<g transform="translate({_MARGIN + _STUB:g} {top + 2 * STACK:g})">', *inner, "</g>"]
    head = _caption(picture, view, palette, width, now_ms) if caption else []
    width = max(width, _NARROWEST)
    return "".join([*_frame(quoted(_told(picture, view)), width, height, palette), *head, *body, "</svg>"])


def _frame(told: str, width: float, height: float, palette: Palette) -> list[str]:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    edge = f'width="{width - 1:g}" height="{height - 1:g}" rx="14" fill="{palette.frame}" stroke="{palette.border}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{told}" font-family="{FONT}">',
        f'<title>{told}</title><rect x=".5" y=".5" {edge}/>',
    ]


@lru_cache(maxsize=32)
def _scene(picture: FlowPicture) -> _Scene:
    """Where all stands: it follows from the picture alone, so a live display computes it once."""
    numbers = {node.name: number for number, node in enumerate(picture.nodes)}
    links = links_of(picture)
    pairs = [(numbers[link.source], numbers[link.target]) for link in links]
    return _Scene(
        layout([node_size(node) for node in picture.nodes], pairs, [label_width(link) for link in links]), links
    )


def _body(
    picture: FlowPicture,
    scene: _Scene,
    palette: Palette,
    view: View | None,
    *,
    counts: Mapping[str, Tally] | None,
    findings: Sequence[FindingLike],
    now_ms: int | None,
) -> list[str]:
    places = dict(zip((node.name for node in picture.nodes), scene.layout.places, strict=True))
    routed = list(zip(scene.links, scene.layout.routes, strict=True))
    lines = [draw_link(link, route, places[link.source], palette, counts) for link, route in routed]
    stubs = [_stub(places[node.name], palette) for node in picture.nodes if node.role == "entry"]
    boxes = [
        draw_node(
            node,
            places[node.name],
            palette,
            tally=None if counts is None else counts.get(node.name, Tally()),
            findings=[finding for finding in findings if finding.step == node.name],
            now_ms=now_ms,
        )
        for node in picture.nodes
    ]
    return [*lines, *stubs, *boxes, *draw_labels(routed, places, palette, view.topics if view else {})]


def _stub(place: Place, palette: Palette) -> str:
    """Where a run comes in: a dot and an arrow before each entry."""
    x, y = place.x, place.y + place.height / 2
    dot = f'<circle cx="{x - _STUB + 8:g}" cy="{y:g}" r="4.5" fill="{palette.taken}"/>'
    line = f'<path d="M{x - _STUB + 12:g} {y:g}H{x - 6:g}" stroke="{palette.taken}" stroke-width="1.6"/>'
    return dot + line + arrow((x, y), palette.taken)


def _caption(picture: FlowPicture, view: View | None, palette: Palette, width: float, now_ms: int | None) -> list[str]:
    room = max(width, _NARROWEST) - 2 * 20
    name = fit(picture.flow or "flow", 14, room * 0.6)
    title = _text(name, (20, 29), f'font-size="14" font-weight="700" fill="{palette.text}"')
    x = 20 + width_of(name, 14) * 1.05 + 12
    small = f'font-size="12" fill="{palette.muted}"'
    if view is None:
        return [title, _text(fit(count_of(len(picture.steps), "step"), 12, room - x), (x, 29), small)]
    tone = palette.tone(view.shown_status)
    wide = width_of(view.shown_status, 11.5) + 18
    chip = f'width="{wide:.1f}" height="19" rx="9.5" fill="{tone.tint}" stroke="{tone.line}"'
    word = f'font-size="11.5" font-weight="600" text-anchor="middle" fill="{tone.text}"'
    parts = [view.run_id[:8], duration(elapsed_ms(view, now_ms))]
    rest = fit(" · ".join(part for part in parts if part), 12, room - x - wide)
    return [
        title,
        f'<rect x="{x:.1f}" y="15" {chip}/>',
        _text(view.shown_status, (x + wide / 2, 28.5), word),
        _text(rest, (x + wide + 10, 28.5), small),
    ]


def _empty(palette: Palette, top: float) -> tuple[float, float, list[str]]:
    width, height = 460.0, top + 92 + _MARGIN
    box = f'x="{_MARGIN:g}" y="{top:g}" width="{width - 2 * _MARGIN:g}" height="92" rx="11" fill="none"'
    centred = 'text-anchor="middle"'
    big, small = f'font-size="14" font-weight="600" {centred}', f'font-size="12" {centred}'
    return (
        width,
        height,
        [
            f'<rect {box} stroke="{palette.edge}" stroke-width="1.25" stroke-dasharray="5 4"/>',
            _text("No steps yet", (width / 2, top + 42), f'{big} fill="{palette.text}"'),
            _text(
                "Decorate a function with @flow.entry and it appears here.",
                (width / 2, top + 63),
                f'{small} fill="{palette.muted}"',
            ),
        ],
    )


def _text(text: str, at: tuple[float, float], attributes: str) -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" {attributes}>{quoted(text)}</text>'


def _told(picture: FlowPicture, view: View | None) -> str:
    steps = count_of(len(picture.steps), "step")
    if view is None:
        return f"Flow {picture.flow}: {steps}"
    return f"Run of {picture.flow}: {view.shown_status}, {steps}"


def count_of(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
