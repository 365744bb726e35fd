"""The lines between the nodes as SVG: curves, arrowheads, and what is written on them. Must not know how nodes look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nbflow.picture.flow_picture import FlowPicture
from nbflow.picture.layout import Place, Point, Route
from nbflow.picture.style import MONO, Palette, fit, quoted, width_of
from nbflow.picture.tally import Tally

__all__ = ["Link", "arrow", "draw_labels", "draw_link", "label_width", "links_of"]

_LABEL_HEIGHT = 17.0
_TOPIC_WIDTH = 146.0
_TURN = 30.0
_STACK = 8.0
_EM = 6.3  # a monospaced letter of 10.5 px
_PLACES_ON_A_CURVE = (0.5, 0.6, 0.4, 0.68, 0.32)


@dataclass(frozen=True, slots=True)
class Link:
    """All that one node hands to another, drawn as one line."""

    source: str
    target: str
    topics: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()

    @property
    def is_of_failures(self) -> bool:
        return bool(self.forms) and all("failed" in form for form in self.forms)


def links_of(picture: FlowPicture) -> tuple[Link, ...]:
    """One link for each pair of nodes, in the order of its first edge."""
    topics: dict[tuple[str, str], list[str]] = {}
    forms: dict[tuple[str, str], list[str]] = {}
    for edge in picture.edges:
        pair = edge.source, edge.target
        topics.setdefault(pair, []).extend([edge.topic] if edge.topic else [])
        forms.setdefault(pair, []).extend([edge.form] if edge.form else [])
    return tuple(
        Link(source, target, tuple(dict.fromkeys(named)), tuple(dict.fromkeys(forms[source, target])))
        for (source, target), named in topics.items()
    )


def label_width(link: Link) -> float:
    """The room that a link's label takes, with the count that a run may add."""
    topic = _topic(link, {})
    form = _form(link)
    wide = len(topic) * _EM + (30.0 if topic else 0.0) + (width_of(form, 10.5) + 14 if form else 0.0)
    return round(min(wide, _TOPIC_WIDTH + 100))


def draw_link(link: Link, route: Route, source: Place, palette: Palette, tallies: Mapping[str, Tally] | None) -> str:
    """The line and its head. In a run, what has flowed is darker; towards a skipped step it is dashed."""
    colour, dash = palette.edge, ' stroke-dasharray="6 4"' if link.is_of_failures else ""
    if tallies is not None:
        giver, taker = tallies.get(link.source, Tally()), tallies.get(link.target, Tally())
        flowed = giver.failed if link.is_of_failures else giver.completed
        if flowed and taker.status not in {"pending", "skipped"}:
            colour = palette.form("failed").sign if link.is_of_failures else palette.taken
        dash = dash or (' stroke-dasharray="2 5"' if taker.status == "skipped" else "")
    path, tip = _loop(source) if not route.points else (_curve(route), route.points[-1])
    head = _head_down(tip, colour) if not route.points else arrow(tip, colour)
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linecap="round"{dash}/>{head}'


def arrow(tip: Point, colour: str) -> str:
    """A head that points to the right and ends at the tip."""
    x, y = tip
    return (
        f'<path d="M{x - 8:g} {y - 4.5:g}L{x - 1.5:g} {y:g}L{x - 8:g} {y + 4.5:g}Z" fill="{colour}" '
        f'stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>'
    )


def _head_down(tip: Point, colour: str) -> str:
    x, y = tip
    return (
        f'<path d="M{x - 4.5:g} {y - 8:g}L{x:g} {y - 1.5:g}L{x + 4.5:g} {y - 8:g}Z" fill="{colour}" '
        f'stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>'
    )


def _loop(place: Place) -> tuple[str, Point]:
    """From the node to itself, above it and above the sheets of its stack (what loops is mapped)."""
    middle, top = place.x + place.width / 2, place.y - _STACK
    start, end = middle + 40, middle - 40
    path = f"M{start:g} {top:g}C{start + 8:g} {top - 36:g} {end - 8:g} {top - 36:g} {end:g} {top - 5:g}"
    return path, (end, top)


def _curve(route: Route) -> str:
    points = list(route.points)
    points[-1] = points[-1][0] - 5, points[-1][1]
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    last = len(points) - 2
    for index, (start, end) in enumerate(pairwise(points)):
        if route.backward and index in {0, last}:
            turn = _TURN if index == 0 else -_TURN
            parts.append(f"C{start[0] + turn:g} {start[1]:g} {end[0] + turn:g} {end[1]:g} {end[0]:g} {end[1]:g}")
        elif start[1] == end[1]:
            parts.append(f"H{end[0]:g}")
        else:
            half = round((end[0] - start[0]) * 0.5, 1)
            parts.append(f"C{start[0] + half:g} {start[1]:g} {end[0] - half:g} {end[1]:g} {end[0]:g} {end[1]:g}")
    return "".join(parts)


def draw_labels(
    routed: Sequence[tuple[Link, Route]], places: Mapping[str, Place], palette: Palette, counts: Mapping[str, int]
) -> list[str]:
    """Forms and topics, in the middle of the last stretch of each line, or beside it where another one is."""
    taken: list[tuple[float, float, float, float]] = []
    drawn: list[str] = []
    for link, route in routed:
        topic, form = _topic(link, counts), _form(link)
        if not topic and not form:
            continue
        width = (len(topic) * _EM + 12 if topic else 0.0) + (width_of(form, 10.5) + 15 if form else 0.0)
        x, y = _free_place(_spots(route, places[link.source]), width, taken)
        taken.append((x - width / 2, y - _LABEL_HEIGHT / 2, x + width / 2, y + _LABEL_HEIGHT / 2))
        drawn.append(_label(topic, form, (x - width / 2, y), palette))
    return drawn


def _spots(route: Route, source: Place) -> list[Point]:
    if not route.points:
        return [(source.x + source.width / 2, source.y - _STACK - 26)]
    if route.backward:
        middle = len(route.points) // 2
        (x, y), (end, _) = route.points[middle - 1], route.points[middle]
        return [((x + end) / 2, y)]
    (x, y), (end_x, end_y) = route.points[-2:]
    spots: list[Point] = []
    for part in _PLACES_ON_A_CURVE:
        along = 1.5 * part * (1 - part) + part**3  # x of the curve that `_curve` draws
        spots.append((x + (end_x - 4 - x) * along, y + (end_y - y) * part * part * (3 - 2 * part)))
    return spots


def _free_place(spots: list[Point], width: float, taken: Sequence[tuple[float, float, float, float]]) -> Point:
    for x, y in spots:
        left, top, right, bottom = x - width / 2, y - _LABEL_HEIGHT / 2, x + width / 2, y + _LABEL_HEIGHT / 2
        if not any(left < one[2] and one[0] < right and top < one[3] and one[1] < bottom for one in taken):
            return x, y
    return spots[0]


def _label(topic: str, form: str, at: Point, palette: Palette) -> str:
    x, y = at
    parts: list[str] = []
    if form:
        width, tone = width_of(form, 10.5) + 13, palette.form(form.partition(",")[0])
        parts.append(_pill((x, y), width, tone.tint, tone.line))
        parts.append(
            f'<text x="{x + width / 2:.1f}" y="{y + 3.6:.1f}" font-size="10.5" font-weight="600" text-anchor="middle" fill="{tone.text}">{quoted(form)}</text>'
        )
        x += width + 2
    if topic:
        width, tone = len(topic) * _EM + 12, palette.form("plain")
        parts.append(_pill((x, y), width, palette.frame, tone.line))
        parts.append(
            f'<text x="{x + width / 2:.1f}" y="{y + 3.5:.1f}" font-size="10.5" font-family="{MONO}" text-anchor="middle" fill="{tone.text}">{quoted(topic)}</text>'
        )
    return "".join(parts)


def _pill(at: Point, width: float, fill: str, line: str) -> str:
    x, y = at
    return (
        f'<rect x="{x:.1f}" y="{y - _LABEL_HEIGHT / 2:.1f}" width="{width:.1f}" height="{_LABEL_HEIGHT:g}" '
        f'rx="{_LABEL_HEIGHT / 2:g}" fill="{fill}" stroke="{line}"/>'
    )


def _form(link: Link) -> str:
    return ", ".join(link.forms)[:40]


def _topic(link: Link, counts: Mapping[str, int]) -> str:
    """The topics' names, and how often they were emitted where that is more than once."""
    names: list[str] = []
    for topic in link.topics:
        often = counts.get(topic, 0)
        names.append(f"{topic} ×{often}" if often > 1 else topic)
    return fit(", ".join(names), 10.5, _TOPIC_WIDTH)
