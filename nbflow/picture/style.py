"""Colours, signs, type and the measuring of text: what makes the pictures one family. Draws nothing.

Each status is told by colour, by shape and by word. Text has a contrast of 4.5 on what it stands on and signs of 3
(WCAG 2.2 AA), in both palettes; a test computes it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "DARK",
    "FONT",
    "GLYPHS",
    "LIGHT",
    "MONO",
    "SIGNS",
    "Palette",
    "Tone",
    "clean",
    "duration",
    "fit",
    "quoted",
    "width_of",
]

FONT = "Inter, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"


@dataclass(frozen=True, slots=True)
class Tone:
    """A status's colours: of its sign, behind it, around it, and of the words about it."""

    sign: str
    tint: str
    line: str
    text: str


@dataclass(frozen=True, slots=True)
class Palette:
    """All colours of one theme. `mark` are the colours of a subscription's form, `on_sign` what is drawn in a sign."""

    frame: str
    border: str
    text: str
    muted: str
    edge: str
    taken: str
    shadow: str
    on_sign: str
    tones: dict[str, Tone]
    mark: dict[str, Tone]

    def tone(self, status: str) -> Tone:
        return self.tones.get(status) or self.tones["pending"]

    def form(self, form: str) -> Tone:
        return self.mark.get(form) or self.mark["plain"]


LIGHT = Palette(
    frame="#fcfcfe",
    border="#e2e5ee",
    text="#1b2030",
    muted="#5a6377",
    edge="#8b95aa",
    taken="#5b657c",
    shadow="#27304a",
    on_sign="#ffffff",
    tones={
        "pending": Tone("#7c869b", "#ffffff", "#d3d8e4", "#5a6377"),
        "queued": Tone("#566379", "#f6f8fb", "#bcc6d6", "#475268"),
        "running": Tone("#2563eb", "#eff5ff", "#85aef6", "#1d4ed8"),
        "retrying": Tone("#c2570c", "#fff6ec", "#f0b27e", "#9a3f0a"),
        "awaiting": Tone("#7c3aed", "#f7f3ff", "#c0a7f6", "#6428c9"),
        "completed": Tone("#15803d", "#f0faf3", "#93cfa8", "#166534"),
        "failed": Tone("#d92626", "#fff2f1", "#f09d97", "#b0201a"),
        "canceled": Tone("#76706b", "#f6f5f3", "#cac4be", "#57524d"),
        "skipped": Tone("#848da0", "#fafbfc", "#d3d8e2", "#626b7f"),
    },
    mark={
        "plain": Tone("#5a6377", "#f1f3f8", "#dfe3ec", "#4b5468"),
        "each": Tone("#4f46e5", "#eeeffe", "#cfd1fb", "#4338ca"),
        "collect": Tone("#0f766e", "#e5f6f3", "#b4e0d9", "#0f6760"),
        "completed": Tone("#15803d", "#e9f7ee", "#bfe3cb", "#166534"),
        "any of": Tone("#a16207", "#fdf5dc", "#eddca0", "#805006"),
        "failed": Tone("#d92626", "#feeceb", "#f6c5c1", "#b0201a"),
        "each failed": Tone("#d92626", "#feeceb", "#f6c5c1", "#b0201a"),
    },
)

DARK = Palette(
    frame="#13161e",
    border="#2b3040",
    text="#edf0f7",
    muted="#a3adc0",
    edge="#626d87",
    taken="#98a3bb",
    shadow="#000000",
    on_sign="#10141c",
    tones={
        "pending": Tone("#8490a8", "#1c202b", "#363d50", "#a3adc0"),
        "queued": Tone("#9aa8bf", "#1e2330", "#465169", "#b8c3d6"),
        "running": Tone("#60a5fa", "#15233a", "#2e5a99", "#93c5fd"),
        "retrying": Tone("#fb923c", "#2a1d12", "#84501f", "#fdba74"),
        "awaiting": Tone("#a78bfa", "#201a34", "#57469c", "#c4b5fd"),
        "completed": Tone("#4ade80", "#14241b", "#2d6c45", "#7ee2a8"),
        "failed": Tone("#f87171", "#2c181b", "#8a3639", "#fca5a5"),
        "canceled": Tone("#aaa39d", "#221f1e", "#4f4a47", "#c5beb8"),
        "skipped": Tone("#78839a", "#181c25", "#333a4a", "#97a1b5"),
    },
    mark={
        "plain": Tone("#a3adc0", "#232937", "#343c4e", "#b9c2d3"),
        "each": Tone("#818cf8", "#24264a", "#3c4080", "#b4bcfd"),
        "collect": Tone("#2dd4bf", "#12302f", "#1f5450", "#6fe0d1"),
        "completed": Tone("#4ade80", "#14301f", "#255838", "#7ee2a8"),
        "any of": Tone("#eab308", "#30280f", "#5b4b17", "#f2d36b"),
        "failed": Tone("#f87171", "#3a1b1e", "#6d2e31", "#fca5a5"),
        "each failed": Tone("#f87171", "#3a1b1e", "#6d2e31", "#fca5a5"),
    },
)

GLYPHS = {  # strokes in a square of 20 around 0, 0
    "completed": "M-4.6 .4L-1.4 3.6L4.8 -3.4",
    "failed": "M-3.6 -3.6L3.6 3.6M3.6 -3.6L-3.6 3.6",
    "running": "M-2.4 -4.2L4.4 0L-2.4 4.2Z",
    "retrying": "M4.3 -1.4A4.6 4.6 0 1 0 4.4 1.9M4.9 -5.2V-1.4H1.2",
    "awaiting": "M-2.3 -4V4M2.3 -4V4",
    "queued": "M0 -4.4V.4L3.2 2.4",
    "canceled": "M-4.6 4.6L4.6 -4.6",
    "skipped": "M-4.2 -3.2L-1 0L-4.2 3.2M1 -3.2L4.2 0L1 3.2",
    "pending": "",
}
SIGNS = {  # the same where there is only text
    "completed": "✓",
    "failed": "✕",
    "running": "▶",
    "retrying": "↻",
    "awaiting": "‖",
    "queued": "◷",
    "canceled": "⊘",
    "skipped": "»",
    "pending": "○",
}

_EMS = (("iljI.,:;'|![]()` ", 0.28), ('ftr-"*/\\', 0.34), ("cksvxyzJ", 0.51), ("mM", 0.84), ("wW%@", 0.86))
_BROAD = ("ABCDEGHKNOPQRSUVXYZ&", 0.7)
_WIDTHS = {char: width for chars, width in (*_EMS, _BROAD) for char in chars}  # about those of Arial and Inter
_UNSAFE = {0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069, 0xFFFE, 0xFFFF}


def clean(text: str) -> str:
    """Text as itself: what XML forbids, and what would turn the direction of its neighbours, becomes U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return ord(char) in _UNSAFE or (char not in "\t\n\r" and unicodedata.category(char) in {"Cc", "Cs"})


def quoted(text: str) -> str:
    """Cleaned and escaped, for XML and HTML alike, in text and in attributes."""
    safe = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return safe.replace('"', "&quot;").replace("'", "&#39;")


def width_of(text: str, size: float) -> float:
    """About how wide text of this size is, in pixels; rather too much. There is no font to ask."""
    return size * sum(map(_em, text))


@lru_cache(maxsize=1024)
def _em(char: str) -> float:
    if char in _WIDTHS:
        return _WIDTHS[char]
    if char.isascii():
        return 0.57
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0.0
    return 1.05 if unicodedata.east_asian_width(char) in {"W", "F"} else 0.66


def fit(text: str, size: float, width: float) -> str:
    """Cleaned, on one line, and cut with an ellipsis where it is too long for the width."""
    line = " ".join(clean(text[:400]).split())
    if width_of(line, size) <= width:
        return line
    room = width - width_of("…", size)
    used, kept = 0.0, 0
    for char in line:
        used += size * _em(char)
        if used > room:
            break
        kept += 1
    return line[:kept].rstrip() + "…"


def duration(ms: int | None) -> str:
    """`38 ms`, `1.2 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`; empty when it is not known."""
    if ms is None:
        return ""
    if ms < 1000:
        return f"{ms} ms"
    if ms < 9_950:
        return f"{ms / 1000:.1f} s"
    seconds = round(ms / 1000)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            whole, rest = seconds // size, seconds % size // part
            return f"{whole} {unit} {rest} {below}" if rest else f"{whole} {unit}"
    return f"{seconds} s"
