"""The mimebundles in which a notebook keeps a flow and a run: HTML, SVG and a fixed line of text.

Nothing in them needs a kernel, a server or a script: they show in a saved notebook, trusted or not.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbflow.model.definition import FlowSpec
from nbflow.model.view import View
from nbflow.picture.flow_picture import FlowPicture, picture_of, picture_of_run
from nbflow.picture.html import flow_html, flow_text, run_html, run_text
from nbflow.picture.nodes import FindingLike
from nbflow.picture.svg import Theme, flow_svg

__all__ = ["flow_mimebundle", "run_mimebundle"]


def flow_mimebundle(
    flow: FlowSpec | FlowPicture, findings: Sequence[FindingLike] = (), theme: Theme = "auto"
) -> dict[str, str]:
    """A flow as it is defined. Nothing fails for being unfinished: what is missing is drawn as missing."""
    picture = flow if isinstance(flow, FlowPicture) else picture_of(flow)
    svg = flow_svg(picture, None, findings, theme)
    return {
        "text/html": flow_html(svg, picture, findings),
        "image/svg+xml": svg,
        "text/plain": flow_text(picture),
    }


def run_mimebundle(
    view: View, picture: FlowPicture | None = None, *, theme: Theme = "auto", now_ms: int | None = None
) -> dict[str, str]:
    """A run as far as its view goes. Without a picture, the one that the run was started with.

    `now_ms` lets what is still going on show how long it has; without it the bundle follows from the view alone.
    """
    picture = picture or picture_of_run(view)
    pictured = flow_svg(picture, view, (), theme, caption=False, now_ms=now_ms)
    return {
        "text/html": run_html(pictured, view, picture=picture, now_ms=now_ms),
        "image/svg+xml": flow_svg(picture, view, (), theme, now_ms=now_ms),
        "text/plain": run_text(view, picture),
    }
