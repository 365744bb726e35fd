"""The diagram: what it shows, that it is safe, and that it can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import pytest

from nbflow.model.definition import FlowSpec, Form, StepSpec, Term
from nbflow.model.events import Event
from nbflow.model.view import View, reduce
from nbflow.picture.flow_picture import FlowPicture, PictureEdge, PictureNode, picture_of, picture_of_run
from nbflow.picture.html import run_text
from nbflow.picture.style import DARK, GLYPHS, LIGHT, SIGNS, Palette, clean, duration, fit, width_of
from nbflow.picture.svg import Theme, flow_svg
from nbflow.picture.tally import strip, tallies

NAMESPACE = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b[31m\u202e"
STATUSES = ("queued", "running", "retrying", "completed", "failed", "canceled")


@dataclass(frozen=True)
class Found:
    severity: str
    step: str
    message: str
    hint: str = ""


def term(form: Form, *topics: str, any_of: bool = False) -> Term:
    return Term(form, topics, any_of)


ETL = FlowSpec(
    "etl",
    (
        StepSpec("list_files", doc="Find the files.\nAll of them."),
        StepSpec("parse", (term(Form.EACH, "each:list_files"),), queue="gpu"),
        StepSpec("merge", (term(Form.COLLECT, "step:parse"),), emits=("etl.merged",)),
        StepSpec("report", (term(Form.FIRST, "etl.merged"),)),
        StepSpec("alert", (term(Form.EACH, "failed:parse"),)),
    ),
)


class Story:
    """Events of a run, told in a row; each comes 100 ms after the one before."""

    def __init__(self, flow: str = "etl") -> None:
        self.view = View("3f2a91c07d5e4b6fa8c1b2d3e4f50617", flow)
        self._ms = 1_764_000_000_000

    def tell(self, kind: str, task: str = "", attempt: int = 0, **data: object) -> Story:
        self._ms += 100
        reduce(self.view, Event(f"{self._ms}-0", kind, self.view.run_id, self.view.flow_name, task, attempt, data))
        return self

    def run(self, task: str, attempt: int = 1, end: str = "step.completed", **data: object) -> Story:
        return (
            self.tell("step.queued", task, attempt).tell("step.started", task, attempt).tell(end, task, attempt, **data)
        )


def words(svg: str) -> list[str]:
    """All that is written in the picture, in its order."""
    root = ET.fromstring(svg)
    return ["".join(element.itertext()) for element in root.iter(f"{NAMESPACE}text")]


def view_with(status: str, tasks: int, step: str = "parse") -> View:
    story = Story()
    kinds = {
        "completed": "step.completed",
        "failed": "step.failed",
        "retrying": "step.retry",
        "canceled": "step.canceled",
    }
    for index in range(tasks):
        story.tell("step.queued", f"{step}[{index}]", 1)
        if status in kinds:
            story.tell(kinds[status], f"{step}[{index}]", 1)
        elif status == "running":
            story.tell("step.started", f"{step}[{index}]", 1)
    return story.view


def test_a_flow_becomes_nodes_and_labelled_edges():
    picture = picture_of(ETL)
    assert picture.nodes[:2] == (
        PictureNode("list_files", "entry", doc="Find the files."),
        PictureNode("parse", mapped=True, queue="gpu"),
    )
    assert picture.edges == (
        PictureEdge("list_files", "parse", form="each"),
        PictureEdge("parse", "merge", form="collect"),
        PictureEdge("merge", "report", topic="etl.merged"),
        PictureEdge("parse", "alert", form="each failed"),
    )


def test_a_topic_that_nobody_emits_is_a_node_of_its_own():
    picture = picture_of(FlowSpec("f", (StepSpec("audit", (term(Form.FIRST, "order.paid"),)),)))
    assert PictureNode("order.paid", "missing", label="order.paid") in picture.nodes
    assert "nobody emits it" in words(flow_svg(picture))
    assert len(picture.steps) == 1


def test_a_picture_comes_back_from_its_json_as_it_was():
    picture = picture_of(ETL)
    assert FlowPicture.from_json(picture.to_json()) == picture
    story = Story().tell("flow.start", graph=picture.to_json())
    assert picture_of_run(story.view) == picture


@pytest.mark.parametrize(
    "tree", [None, 7, [], {"nodes": 3}, {"nodes": [3, {"name": 4}, {}], "edges": [{"source": "a", "target": "b"}]}]
)
def test_json_that_is_no_picture_is_an_empty_one(tree: object):
    assert FlowPicture.from_json(tree).nodes == ()


def test_a_run_without_a_graph_shows_the_steps_it_has():
    assert [node.name for node in picture_of_run(Story().run("late").view).nodes] == ["late"]


def test_the_picture_says_all_that_can_be_seen():
    svg = flow_svg(picture_of(ETL))
    said = words(svg)
    assert {
        "etl",
        "list_files",
        "parse",
        "merge",
        "report",
        "alert",
        "each",
        "collect",
        "etl.merged",
        "each failed",
    } <= set(said)
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext(f"{NAMESPACE}title") == "Flow etl: 5 steps"


def test_a_run_shows_counts_attempts_and_durations():
    story = Story().tell("flow.start", graph=picture_of(ETL).to_json()).run("list_files")
    for index in range(10):
        story.tell("step.queued", f"parse[{index}]", 1)
    for index in range(7):
        story.tell("step.started", f"parse[{index}]", 1).tell("step.completed", f"parse[{index}]", 1)
    story.run("merge", 1, "step.retry", error="x").run("merge", 2)
    said = words(flow_svg(picture_of(ETL), story.view, now_ms=1_764_000_009_000))
    assert "7/10" in said
    assert "completed · 100 ms" in said
    assert "2" in said  # attempts of merge
    assert "running" in said
    assert any(text.startswith("3f2a91c0 · ") for text in said)


def test_a_skipped_step_is_dimmed_and_says_so():
    story = Story().tell("step.skipped", "alert", reason="nothing failed")
    svg = flow_svg(picture_of(ETL), story.view)
    assert "skipped" in words(svg)
    assert "nothing failed" in svg
    assert 'stroke-dasharray="5 4"' in svg


def test_a_run_that_waits_is_shown_as_awaiting():
    """Law: the picture and its page say what `run.status` says."""
    story = Story().tell("flow.start").tell("step.queued", "publish", 1).tell("await.registered", "publish", 1)
    picture = FlowPicture("etl", (PictureNode("publish"),))
    assert story.view.shown_status == "awaiting"
    assert "Run of etl: awaiting, 1 step" in flow_svg(picture, story.view)
    assert run_text(story.view, picture) == "Run of 'etl': awaiting, 1 step"


def test_findings_are_marked_on_their_step():
    picture = picture_of(ETL)
    plain, marked = flow_svg(picture), flow_svg(picture, None, [Found("error", "merge", "It waits for itself.")])
    assert "It waits for itself." in marked
    assert len(marked) > len(plain)


def test_a_status_is_a_word_and_a_shape_and_not_only_a_colour():
    """With all colours and words gone, no two statuses look alike; and each says its word."""
    picture = FlowPicture("f", (PictureNode("parse", mapped=True),))
    drawn = {status: flow_svg(picture, view_with(status, 3)) for status in STATUSES}
    assert len({colourless(svg) for svg in drawn.values()}) == len(STATUSES)
    assert all(any(text.startswith(status) for text in words(svg)) for status, svg in drawn.items())
    assert len(set(GLYPHS.values())) == len(GLYPHS) == len(set(SIGNS.values()))


def colourless(svg: str) -> str:
    return re.sub(r"<text.*?</text>|<title>.*?</title>|aria-label=\"[^\"]*\"|#[0-9a-f]{6}", "", svg)


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
def test_hostile_text_is_text(theme: Theme):
    """Names, documents, errors and topics come out as they went in, or as U+FFFD where XML has no place for them."""
    picture = FlowPicture(
        HOSTILE,
        (PictureNode(HOSTILE, "entry", True, HOSTILE, HOSTILE), PictureNode("b")),
        (PictureEdge(HOSTILE, "b", HOSTILE, HOSTILE),),
    )
    story = Story(HOSTILE).tell("step.queued", "b", 1).tell("step.failed", "b", 1, error=HOSTILE)
    for svg in (
        flow_svg(picture, None, [Found("error", "b", HOSTILE)], theme),
        flow_svg(picture, story.view, (), theme),
    ):
        root = ET.fromstring(svg)
        assert not [element for element in root.iter() if element.tag == f"{NAMESPACE}script"]
        assert "\x1b" not in svg
        assert "\u202e" not in svg


def test_only_presentation_attributes_are_used():
    """No style, script, reference, id or event handler: nothing that a sanitizer would take, or another picture could meet."""
    for svg in (flow_svg(picture_of(ETL)), flow_svg(picture_of(ETL), Story().run("list_files").view, theme="dark")):
        for element in ET.fromstring(svg).iter():
            assert element.tag.removeprefix(NAMESPACE) in {
                "svg",
                "g",
                "rect",
                "path",
                "circle",
                "text",
                "tspan",
                "title",
            }
            for name in element.attrib:
                assert name not in {"id", "style", "class", "href"}
                assert not name.startswith("on")
        assert "url(" not in svg


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_written_can_be_read(palette: Palette):
    """WCAG 2.2 AA: 4.5 for text, 3 for signs and lines that tell something."""
    for tone in palette.tones.values():
        assert contrast(tone.text, tone.tint) >= 4.5
        assert contrast(palette.muted, tone.tint) >= 4.5
        assert contrast(palette.text, tone.tint) >= 4.5
        assert contrast(tone.sign, tone.tint) >= 3
        assert contrast(palette.on_sign, tone.sign) >= 3
    for tone in palette.mark.values():
        assert contrast(tone.text, tone.tint) >= 4.5
        assert contrast(tone.text, palette.frame) >= 4.5
    for colour in (palette.text, palette.muted):
        assert contrast(colour, palette.frame) >= 4.5
    assert contrast(palette.taken, palette.frame) >= 3
    assert contrast(palette.edge, palette.frame) >= 2.9


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_an_empty_flow_says_what_to_do():
    svg = flow_svg(FlowPicture("new"))
    assert "No steps yet" in words(svg)
    assert "@flow.entry" in svg
    ET.fromstring(flow_svg(FlowPicture(""), View("ab" * 16)))


def test_a_thousand_steps_are_still_a_picture():
    steps = [StepSpec("s0")]
    steps += [StepSpec(f"s{n}", (term(Form.FIRST, f"step:s{n // 2}"),)) for n in range(1, 1000)]
    svg = flow_svg(picture_of(FlowSpec("huge", tuple(steps))))
    assert len(words(svg)) >= 2000
    assert len(svg) < 3_000_000


def test_ten_thousand_tasks_are_one_node_with_a_bounded_strip():
    picture = FlowPicture("f", (PictureNode("parse", mapped=True),))
    few, many = flow_svg(picture, view_with("completed", 40)), flow_svg(picture, view_with("completed", 10_000))
    assert many.count("<rect") <= few.count("<rect")
    assert "10000/10000" in words(many)


def test_one_failure_among_thousands_can_be_seen():
    statuses = ["completed"] * 5000
    statuses[3210] = "failed"
    cells = strip(statuses)
    assert cells.count("failed") == 1
    assert len(cells) == 24


def test_a_long_name_is_cut_and_told_in_full():
    name = "a_very_long_name_of_a_step_" * 3
    svg = flow_svg(FlowPicture("f", (PictureNode(name),)))
    assert any(text.endswith("…") for text in words(svg))
    assert f"<title>{name}" in svg


def test_the_same_run_is_the_same_picture():
    assert flow_svg(picture_of(ETL), view_with("failed", 3)) == flow_svg(picture_of(ETL), view_with("failed", 3))


def test_text_is_measured_and_cut():
    assert width_of("mm", 10) > width_of("ii", 10)
    assert fit("short", 12, 100) == "short"
    assert fit("two\nlines", 12, 200) == "two lines"
    cut = fit("x" * 100, 12, 100)
    assert cut.endswith("…")
    assert width_of(cut, 12) <= 100
    assert fit("", 12, 10) == ""


def test_control_characters_are_shown_as_unknown_ones():
    assert clean("a\x00b\x1bc\u202ed\ud800e\ttab\nline") == "a\ufffdb\ufffdc\ufffdd\ufffde\ttab\nline"
    assert clean("Grüße, 東京 🚀") == "Grüße, 東京 🚀"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, ""),
        (0, "0 ms"),
        (999, "999 ms"),
        (1234, "1.2 s"),
        (9_949, "9.9 s"),
        (9_960, "10 s"),
        (59_400, "59 s"),
        (59_600, "1 min"),
        (200_000, "3 min 20 s"),
        (7_500_000, "2 h 5 min"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_durations_are_short(ms: int | None, text: str):
    assert duration(ms) == text


def test_a_step_takes_from_its_first_start_to_its_last_end():
    story = Story().tell("step.queued", "parse[0]", 1).tell("step.queued", "parse[1]", 1)
    story.tell("step.started", "parse[0]", 1).tell("step.started", "parse[1]", 1)
    story.tell("step.completed", "parse[0]", 1).tell("step.failed", "parse[1]", 1, error="ValueError: no")
    tally = tallies(story.view)["parse"]
    assert (tally.total, tally.completed, tally.failed, tally.error) == (2, 1, 1, "ValueError: no")
    assert tally.duration_ms() == 300
