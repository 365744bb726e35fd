"""One picture for a light page and a dark one, where the page decides: for an image, which nobody takes a style out of.

An `<img>` follows the colour scheme of the page that shows it. The drawing itself stays as `flow_svg` made it, in
presentation attributes; the rules that are put in only say what each colour is on a dark page.
"""

from __future__ import annotations

import re
from dataclasses import astuple
from functools import lru_cache

from nbflow.picture.style import DARK, LIGHT, Palette

__all__ = ["dark_colours", "follow_page"]

_HEX = re.compile(r'"(#[0-9a-f]{6})"')


def follow_page(svg: str) -> str:
    """The light picture, with rules that make it the dark one where the page is dark."""
    dark = dark_colours()
    used = [colour for colour in dict.fromkeys(_HEX.findall(svg)) if colour in dark]
    rules = "".join(f'[fill="{one}"]{{fill:{dark[one]}}}[stroke="{one}"]{{stroke:{dark[one]}}}' for one in used)
    head, end, rest = svg.partition(">")
    return f"{head}{end}<style>@media (prefers-color-scheme:dark){{{rules}}}</style>{rest}"


@lru_cache(maxsize=1)
def dark_colours() -> dict[str, str]:
    """What each colour of the light palette is in the dark one. Where two roles share a light colour, the tone's wins."""
    return dict(zip(_colours(LIGHT), _colours(DARK), strict=True))


def _colours(palette: Palette) -> list[str]:
    """All of a palette, in an order that is the same for each."""
    plain = (palette.frame, palette.border, palette.text, palette.muted, palette.edge, palette.taken, palette.shadow)
    tones = [*palette.mark.values(), *palette.tones.values()]
    return [*plain, palette.on_sign, *(colour for tone in tones for colour in astuple(tone))]
