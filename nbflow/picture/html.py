"""A flow and a run as HTML for a notebook that does not trust us, and as one fixed line of text.

JupyterLab takes scripts, `<style>` and SVG out of such a notebook and leaves images and inline styles: so the diagram is
an `<img>` with a data URI, and below it stands a table. Both follow a dark page where it says that it is one. Everything
that users typed is escaped. The text holds no address, time or id, so that a saved output can be compared.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Sequence

from nbflow.model.view import View
from nbflow.picture.flow_picture import FlowPicture, picture_of_run
from nbflow.picture.nodes import FindingLike
from nbflow.picture.style import DARK, LIGHT, SIGNS, duration, quoted
from nbflow.picture.svg import count_of
from nbflow.picture.tally import Tally, elapsed_at, tallies
from nbflow.picture.themes import follow_page

__all__ = ["flow_html", "flow_text", "progress_at", "progress_html", "run_html", "run_text"]

ROWS = 60
ERROR_LENGTH = 240
SMALLEST = 0.72  # of its size: letters of 8 pixels
_WIDTH = re.compile(r'width="([\d.]+)"')
_LINE = "1px solid rgba(128, 128, 128, 0.3)"
_CELL = f"text-align: left; vertical-align: top; padding: 4px 14px 4px 0; border-bottom: {_LINE}"
_NUMBER = f"text-align: right; vertical-align: top; padding: 4px 14px 4px 0; border-bottom: {_LINE}"
_BOX = "overflow-x: auto; max-width: 100%; padding: 4px 0"
_WHY_SKIPPED = {"short": "something before it failed", "not_taken": "nothing came for it"}


def flow_html(svg: str, picture: FlowPicture, findings: Sequence[FindingLike] = ()) -> str:
    """The diagram of a flow as it is defined, and what `check()` found."""
    found = "".join(_found(finding) for finding in findings[:ROWS])
    more = _more(len(findings) - ROWS, "finding")
    return f'<div style="{_BOX}">{_image(svg, flow_text(picture))}</div>{found}{more}'


def run_html(svg: str, view: View, *, picture: FlowPicture | None = None, now_ms: int | None = None) -> str:
    """A line about the run, its diagram, and a table of its steps. With `now_ms`, one that goes on says of when it is."""
    picture = picture or picture_of_run(view)
    counts = tallies(view)
    return (
        f"<div>{_header(view, now_ms)}{_moment(view, now_ms)}</div>"
        f'<div style="{_BOX}">{_image(svg, run_text(view, picture))}</div>'
        f'<div style="{_BOX}">{_table(picture, counts, now_ms)}</div>'
    )


def progress_html(view: View, *, now_ms: int | None = None, note: str = "") -> str:
    """One line and a bar, for who waits. It reads the counts of the steps only, so it is quick for any number of tasks."""
    return progress_at(view, note)(now_ms)


def progress_at(view: View, note: str = "") -> Callable[[int | None], str]:
    """The same for any moment from now on: the view is read here, and only the time that went by is told later."""
    done, total = _done(view)
    share = 100 * done // total if total else 0
    track = "width: 320px; max-width: 100%; height: 5px; margin: 5px 0; border-radius: 3px; background-color: rgba(128, 128, 128, 0.25)"
    bar = f"width: {share}%; height: 5px; border-radius: 3px; background-color: {LIGHT.tone(view.shown_status).sign}"
    below = f'<div style="{track}"><div style="{bar}"></div></div>'
    below += f"<div>{quoted(_first_line(note))}</div>" if note else ""
    header = _header_at(view)
    return lambda now_ms: f"<div>{header(now_ms)}{below}</div>"


def run_text(view: View, picture: FlowPicture | None = None) -> str:
    """`Run of 'etl': completed, 5 steps`."""
    picture = picture or picture_of_run(view)
    return f"Run of {(view.flow_name or picture.flow)!r}: {view.shown_status}, {count_of(len(picture.steps), 'step')}"


def flow_text(picture: FlowPicture) -> str:
    """`Flow 'etl': 5 steps`."""
    return f"Flow {picture.flow!r}: {count_of(len(picture.steps), 'step')}"


def _image(svg: str, told: str) -> str:
    """As wide as the page, and scrolled where its words would get too small to be read."""
    data = base64.b64encode(follow_page(svg).encode()).decode("ascii")
    width = _WIDTH.search(svg)
    least = round(float(width[1]) * SMALLEST) if width else 0
    return f'<img style="max-width: 100%; min-width: {least}px" alt="{quoted(told)}" src="data:image/svg+xml;base64,{data}">'


def _header(view: View, now_ms: int | None) -> str:
    return _header_at(view)(now_ms)


def _header_at(view: View) -> Callable[[int | None], str]:
    done, total = _done(view)
    before = [f"<b>{quoted(view.flow_name)}</b>", _status(view.shown_status)]
    after = [f"{done} of {count_of(total, 'task')} completed" if total else "", f"<code>{quoted(view.run_id)}</code>"]
    span = elapsed_at(view)
    return lambda now_ms: " &nbsp; ".join(part for part in (*before, duration(span(now_ms)), *after) if part)


def _moment(view: View, now_ms: int | None) -> str:
    """A picture does not go on by itself: of what does go on it says when it was drawn."""
    if now_ms is None or view.ended:
        return ""
    return f" &nbsp; as of {time.strftime('%H:%M:%S', time.localtime(now_ms / 1000))}"


def _done(view: View) -> tuple[int, int]:
    """`(completed, known)` tasks. How many are still to come nobody knows."""
    steps = view.steps.values()
    return sum(step.counts.get("completed", 0) for step in steps), sum(step.total for step in steps)


def _status(status: str) -> str:
    style = f"{_toned(status, bordered=True)}; border-radius: 9px; padding: 0 8px; white-space: nowrap"
    return f'<span style="{style}">{SIGNS.get(status, SIGNS["pending"])} {quoted(status)}</span>'


def _toned(status: str, *, bordered: bool = False) -> str:
    """The colours of a status. A browser that does not know `light-dark()` keeps the light ones before it."""
    light, dark = LIGHT.tone(status), DARK.tone(status)
    styles = [("color", light.text, dark.text), ("background-color", light.tint, dark.tint)]
    styles += [("border-color", light.line, dark.line)] if bordered else []
    line = ["border: 1px solid"] if bordered else []
    return "; ".join([*line, *(f"{name}: {day}; {name}: light-dark({day}, {night})" for name, day, night in styles)])


def _table(picture: FlowPicture, counts: dict[str, Tally], now_ms: int | None) -> str:
    rows = [(node.name, counts.get(node.name, Tally())) for node in picture.steps]
    shown = rows if len(rows) <= ROWS else sorted(rows, key=lambda row: _importance(row[1]))[:ROWS]
    titles = (
        ("step", _CELL),
        ("status", _CELL),
        ("tasks", _NUMBER),
        ("attempts", _NUMBER),
        ("duration", _NUMBER),
        ("", _CELL),
    )
    head = "".join(f'<th style="{style}">{title}</th>' for title, style in titles)
    body = "".join(_row(name, tally, now_ms) for name, tally in shown)
    more = _more(len(rows) - len(shown), "step")
    return f'<table style="border-collapse: collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}'


def _importance(tally: Tally) -> int:
    """What one has to look at first, where not all can be shown."""
    order = ("failed", "running", "retrying", "awaiting", "canceled", "queued", "completed")
    return order.index(tally.status) if tally.status in order else len(order)


def _row(name: str, tally: Tally, now_ms: int | None) -> str:
    tasks = f"{tally.completed}/{tally.total}" if tally.total else ""
    attempts = str(tally.attempts) if tally.attempts else ""
    error = _first_line(tally.error)
    style = f"{_toned('failed')}; padding: 1px 6px; border-radius: 4px"
    skipped = _first_line(_WHY_SKIPPED.get(tally.skipped, tally.skipped))
    note = f'<code style="{style}">{quoted(error)}</code>' if error else quoted(skipped or tally.taken_over)
    cells = (
        (quoted(name), _CELL),
        (_status(tally.status), _CELL),
        (tasks, _NUMBER),
        (attempts, _NUMBER),
        (duration(tally.duration_ms(now_ms)), _NUMBER),
        (note, _CELL),
    )
    return "<tr>" + "".join(f'<td style="{style}">{text}</td>' for text, style in cells) + "</tr>"


def _found(finding: FindingLike) -> str:
    is_error = finding.severity == "error"
    sign, where = ("✕", "error") if is_error else ("!", finding.severity)
    style = f"{_toned('failed' if is_error else 'retrying')}; border-radius: 4px; padding: 1px 6px"
    step = f"<b>{quoted(finding.step)}</b>: " if finding.step else ""
    hint = f' <span style="opacity: 0.75">→ {quoted(finding.hint)}</span>' if finding.hint else ""
    said = f'<span style="{style}">{sign} {quoted(where)}</span> {step}{quoted(finding.message)}{hint}'
    return f'<div style="padding: 2px 0">{said}</div>'


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= ERROR_LENGTH else line[: ERROR_LENGTH - 1] + "…"


def _more(number: int, noun: str) -> str:
    return f"<div>and {number} more {noun}{'' if number == 1 else 's'}</div>" if number > 0 else ""
