"""What a notebook keeps of a flow and a run, and how often a display is renewed."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from nbflow.errors import ServerUnreachable
from nbflow.model.events import Event
from nbflow.model.view import View, reduce
from nbflow.notebook.display import LiveDisplay, RunProgress, forget_line, show_run
from nbflow.picture.bundle import flow_mimebundle, run_mimebundle
from nbflow.picture.flow_picture import FlowPicture, PictureEdge, PictureNode
from nbflow.picture.html import progress_html
from nbflow.picture.style import DARK, LIGHT
from nbflow.picture.svg import flow_svg
from nbflow.picture.themes import dark_colours, follow_page

PICTURE = FlowPicture("etl", (PictureNode("load", "entry"), PictureNode("save")), (PictureEdge("load", "save"),))
HOSTILE = "<img src=x onerror=alert(1)>&\"'"


class Found:
    severity, step, message, hint = "error", "save", HOSTILE, "Mend it." + HOSTILE


def run_view(*events: tuple[str, str, int, dict[str, Any]], flow: str = "etl") -> View:
    view = View("3f2a91c07d5e4b6fa8c1b2d3e4f50617", flow)
    for number, (kind, task, attempt, data) in enumerate(events):
        reduce(view, Event(f"{1_764_000_000_000 + 100 * number}-0", kind, view.run_id, flow, task, attempt, data))
    return view


FAILED = (
    ("flow.start", "", 0, {"graph": PICTURE.to_json()}),
    ("step.queued", "load", 1, {}),
    ("step.started", "load", 1, {}),
    ("step.failed", "load", 1, {"error": f"ValueError: {HOSTILE}\nsecond line"}),
    ("step.skipped", "save", 0, {"reason": "load failed"}),
    ("flow.failed", "", 0, {"error": "ValueError"}),
)


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def test_a_flow_is_kept_as_html_svg_and_a_fixed_line():
    bundle = flow_mimebundle(PICTURE, [Found()])
    assert bundle["text/plain"] == "Flow 'etl': 2 steps"
    assert bundle["image/svg+xml"].startswith("<svg ")
    seen = Seen(bundle["text/html"])
    assert HOSTILE in seen.text
    assert seen.tags.count("img") == 1


def test_a_run_is_kept_as_html_svg_and_a_fixed_line():
    """The text has no id, time or address in it: saved outputs are compared."""
    bundle = run_mimebundle(run_view(*FAILED))
    assert bundle["text/plain"] == "Run of 'etl': failed, 2 steps"
    assert set(bundle) == {"text/html", "image/svg+xml", "text/plain"}
    assert bundle == run_mimebundle(run_view(*FAILED))


def test_the_image_is_the_diagram_itself():
    html = run_mimebundle(run_view(*FAILED))["text/html"]
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert found
    assert base64.b64decode(found[1]).decode().startswith("<svg ")


def test_the_image_has_the_colours_of_both_themes():
    """A rule for each colour that is drawn, light to dark; the two pictures differ in nothing else."""
    light, dark = (flow_svg(PICTURE, run_view(*FAILED), theme=theme) for theme in ("light", "dark"))
    both = follow_page(light)
    head, _, rest = both.partition("<style>@media (prefers-color-scheme:dark){")
    rules, _, body = rest.partition("}</style>")
    assert head + body == light
    colours = dict(re.findall(r'\[fill="(#\w{6})"\]\{fill:(#\w{6})\}', rules))
    assert colours == dict(re.findall(r'\[stroke="(#\w{6})"\]\{stroke:(#\w{6})\}', rules))
    turned = re.sub(r'"(#[0-9a-f]{6})"', lambda found: f'"{colours[found[1]]}"', light)
    assert turned.replace(DARK.on_sign, DARK.tone("pending").tint) == dark.replace(
        DARK.on_sign, DARK.tone("pending").tint
    )


def test_white_alone_stands_for_two_colours():
    """What is drawn in a sign gets the colour of a box's ground on a dark page, which reads as well."""
    assert LIGHT.on_sign == LIGHT.tone("pending").tint
    assert dark_colours()[LIGHT.on_sign] == DARK.tone("pending").tint


def test_a_skipped_step_says_why_in_words():
    for reason, told in (("short", "something before it failed"), ("not_taken", "nothing came for it")):
        view = run_view(*FAILED[:4], ("step.skipped", "save", 0, {"reason": reason}))
        assert told in Seen(run_mimebundle(view)["text/html"]).text


def test_a_finding_is_shown_with_the_next_move():
    assert "→ Mend it." in Seen(flow_mimebundle(PICTURE, [Found()])["text/html"]).text


def test_a_run_that_goes_on_says_of_when_its_picture_is():
    """And an ended one does not, so that it is the same whenever it is shown."""
    view = run_view(*FAILED[:3])
    assert "as of " in run_mimebundle(view, now_ms=1_764_000_001_000)["text/html"]
    assert "as of " not in run_mimebundle(view)["text/html"]
    assert "as of " not in run_mimebundle(run_view(*FAILED), now_ms=1_764_000_001_000)["text/html"]


def test_the_table_tells_each_step_in_words():
    text = Seen(run_mimebundle(run_view(*FAILED))["text/html"]).text
    for word in (
        "load",
        "✕ failed",
        "0/1",
        "100 ms",
        "ValueError: " + HOSTILE,
        "save",
        "» skipped",
        "load failed",
        "500 ms",
    ):
        assert word in text
    assert "second line" not in text
    assert "3f2a91c07d5e4b6fa8c1b2d3e4f50617" in text


def test_what_users_typed_is_never_html():
    """In an untrusted notebook only plain tags and inline styles are left; ours are no others."""
    picture = FlowPicture(HOSTILE, (PictureNode(HOSTILE), PictureNode("b", doc=HOSTILE)))
    view = run_view(("step.queued", "b", 1, {}), ("step.failed", "b", 1, {"error": HOSTILE}), flow=HOSTILE)
    for html in (
        flow_mimebundle(picture, [Found()])["text/html"],
        run_mimebundle(view, picture)["text/html"],
        progress_html(view, note=HOSTILE),
    ):
        seen = Seen(html)
        assert set(seen.tags) <= {"div", "img", "table", "thead", "tbody", "tr", "th", "td", "span", "b", "code"}
        assert {name for name, _ in seen.attributes} <= {"style", "alt", "src"}
        assert all(
            value and value.startswith("data:image/svg+xml;base64,") for name, value in seen.attributes if name == "src"
        )
        assert HOSTILE in seen.text


def test_a_huge_run_shows_what_matters_first():
    nodes = tuple(PictureNode(f"s{number}") for number in range(1000))
    view = run_view(("step.queued", "s999", 1, {}), ("step.failed", "s999", 1, {"error": "Boom"}))
    seen = Seen(run_mimebundle(view, FlowPicture("f", nodes))["text/html"])
    assert seen.tags.count("tr") == 61
    assert "Boom" in seen.text
    assert "and 940 more steps" in seen.text


def test_a_run_that_has_just_begun_can_be_shown():
    bundle = run_mimebundle(View("ab" * 16, "etl"))
    assert bundle["text/plain"] == "Run of 'etl': running, 0 steps"


class Handle:
    """Writes down what a display would have sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.news = threading.Semaphore(0)

    def display(self, obj: Any, **kwargs: Any) -> None:
        self._note("display", obj)

    def update(self, obj: Any, **kwargs: Any) -> None:
        self._note("update", obj)

    def _note(self, kind: str, obj: dict[str, str]) -> None:
        self.sent.append((kind, obj["text/plain"]))
        self.news.release()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shown() -> tuple[LiveDisplay, Handle, Clock, list[str]]:
    handle, clock, state = Handle(), Clock(), ["0"]
    live = LiveDisplay(lambda: {"text/plain": state[0]}, interval_s=0.2, handle=handle, clock=clock)
    return live, handle, clock, state


def test_an_update_after_the_interval_is_sent_at_once(shown: tuple[LiveDisplay, Handle, Clock, list[str]]):
    live, handle, clock, state = shown
    live.show()
    clock.now += 0.3
    state[0] = "1"
    live.update()
    assert handle.sent == [("display", "0"), ("update", "1")]


def test_many_updates_are_sent_as_one(shown: tuple[LiveDisplay, Handle, Clock, list[str]]):
    live, handle, _, state = shown
    live.show()
    for number in range(1000):
        state[0] = str(number)
        live.update()
    assert handle.news.acquire(timeout=5)
    assert handle.news.acquire(timeout=5)
    assert handle.sent == [("display", "0"), ("update", "999")]


def test_the_end_is_always_shown_and_nothing_after_it(shown: tuple[LiveDisplay, Handle, Clock, list[str]]):
    live, handle, clock, state = shown
    live.show()
    live.update()
    state[0] = "end"
    live.end()
    live.end()
    clock.now += 10
    live.update()
    assert handle.sent == [("display", "0"), ("update", "end")]
    assert not [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, threading.Timer) and not thread.finished.is_set()
    ]


def test_what_was_never_shown_is_never_updated(shown: tuple[LiveDisplay, Handle, Clock, list[str]]):
    live, handle, *_ = shown
    live.update()
    live.end()
    assert handle.sent == []


def test_waiting_shows_a_line_with_a_bar():
    html = progress_html(run_view(*FAILED[:3]), now_ms=1_764_000_001_000, note="load: 3/10 reading")
    text = Seen(html).text
    assert "0 of 1 task completed" in text
    assert "load: 3/10 reading" in text
    assert "1.0 s" in text


def test_waiting_that_never_showed_ends_without_a_word():
    RunProgress().close(run_view(*FAILED))


class Shown:
    """A run that is shown in a cell."""

    def __init__(self, view: View) -> None:
        self.id, self.view, self.picture = view.run_id, view, PICTURE


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    handle = Handle()
    monkeypatch.setattr("nbflow.notebook.display.DisplayHandle", lambda: handle)
    yield handle
    forget_line()


def wait_for(view: View) -> None:
    progress = RunProgress()
    progress.show(view, {})
    progress.close(view)


def test_a_run_that_is_shown_after_waiting_takes_the_line_away(line: Handle):
    wait_for(run_view(*FAILED))
    assert "2 steps" in line.sent[-1][1]
    assert show_run(Shown(run_view(*FAILED)))["text/plain"] == "Run of 'etl': failed, 2 steps"
    assert line.sent[-1] == ("update", "")
    sent = len(line.sent)
    show_run(Shown(run_view(*FAILED)))
    assert len(line.sent) == sent


def test_a_run_that_cannot_be_read_is_shown_as_the_sentence_that_says_why(line: Handle):
    class Gone:
        id, picture = "77" * 16, PICTURE

        @property
        def view(self) -> View:
            raise ServerUnreachable("No server answers at <b>.", hint="Start it.")

    assert show_run(Gone()) == {"text/plain": "ServerUnreachable: No server answers at <b>.\n→ Start it."}


def test_the_line_of_another_cell_or_run_stays(line: Handle):
    wait_for(run_view(*FAILED))
    show_run(Shown(View("77" * 16, "etl")))
    wait_for(run_view(*FAILED))
    forget_line()
    show_run(Shown(run_view(*FAILED)))
    assert "" not in [text for _, text in line.sent]


def test_the_line_tells_the_time_that_goes_by(line: Handle):
    """A step that says nothing for long: the line is sent again by itself, and by nobody when waiting is over."""
    progress = RunProgress(tick_s=0.01)
    progress.show(run_view(*FAILED[:3]), {})
    assert line.news.acquire(timeout=5)
    assert line.news.acquire(timeout=5)
    progress.close(run_view(*FAILED))
    assert "nbflow-ticker" not in [thread.name for thread in threading.enumerate()]
    assert line.sent[-1] == ("update", "Run of 'etl': failed, 2 steps")
