"""What is printed cannot steer the terminal, whoever wrote it."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbflow.cli.follow import event_line, log_line
from nbflow.cli.payloads import shown, size
from nbflow.cli.records import event_record
from nbflow.cli.terminal import block, console, document, grid, in_commands, plain, say, table, warn
from nbflow.model.events import Event

EVIL = "\x1b]0;title\x07[red]x[/red]\x9b31m\u202eabc\r\n\ud800"


STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_harmless(text: str) -> bool:
    return STEERING.search(text) is None


@given(st.text(st.characters(), max_size=50))
def test_a_plain_text_is_one_line_without_control_characters(text: str) -> None:
    assert is_harmless(plain(text))
    plain(text).encode()


def test_what_is_harmless_stays_as_it_is() -> None:
    assert plain("żółć 漢字 👩‍🔬 [bold]") == "żółć 漢字 👩‍🔬 [bold]"


def test_a_block_keeps_its_lines_and_nothing_else() -> None:
    assert block("a\n\tb\x1b[2J") == "a\n    b\\x1b[2J"


def test_what_is_said_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Law: whoever forgot to clean it: a run's id, a reason, an error."""
    say(f"Run {EVIL} is canceled.\n\x1b]0;owned\x07")
    warn("\x9b31m")
    said = capsys.readouterr()
    assert is_harmless((said.out + said.err).replace("\n", ""))
    assert said.err == "\\x9b31m\n"


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("Look at nbflow.runs(): it may be gone.", "Look at `nbflow runs`: it may be gone."),
        ("nbflow.runs() lists them.", "`nbflow runs` lists them."),
        ("Start it again with flow.start(...).", "Start it again with `nbflow start FLOW --from X`."),
        ("run.tasks and run.events tell.", "`nbflow show RUN` and `nbflow events RUN` tell."),
        ("Wait for it with run.wait().", "Wait for it with `nbflow events RUN --follow`."),
        ("Write nbflow.emit('order.paid', payload).", "Write `nbflow emit order.paid JSON`."),
        ("See run.why('parse[7]').", "See `nbflow why RUN 'parse[7]'`."),
        ("End its wait with run.resolve('pay', ...).", "End its wait with `nbflow resolve RUN 'pay' --input JSON`."),
        ("Look at nbflow.run('0a1b').", "Look at `nbflow show 0a1b`."),
        (
            "Cancel it first: nbflow.run('0a1b').cancel(), or `nbflow cancel 0a1b`.",
            "Cancel it first: `nbflow cancel 0a1b`.",
        ),
        ("Use nbflow.run('0a1b').fork(at='1-0').", "Use nbflow.run('0a1b').fork(at='1-0')."),
        ("Publish it first: flow.publish(), or `nbflow publish X`.", "Publish it first: `nbflow publish X`."),
        ("Let it go on first: its resume() does.", "Let it go on first: `nbflow trigger resume NAME` does."),
        ("flow.on(Trigger(...)) declares one.", "`nbflow trigger set NAME FLOW` declares one."),
        ("flow.on(...) declares it again.", "`nbflow trigger set NAME FLOW` declares it again."),
        ("Add my_run.events, or run.events_of(1).", "Add my_run.events, or run.events_of(1)."),
    ],
)
def test_a_hint_is_given_in_commands(hint: str, said: str) -> None:
    assert in_commands(hint) == said


def test_nothing_in_a_table_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name", "n"), [(EVIL, 1), ("ok", 22)], right=("n",))
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert is_harmless(out.replace("\n", ""))
    assert all(line == line.rstrip() for line in out.splitlines())


def test_nothing_in_a_table_is_markup_on_a_terminal_either() -> None:
    out = io.StringIO()
    out.isatty = lambda: True
    made = console(out)
    made.print(grid(("name",), [("[link=x]y[/link]\x1b[2J",)]))
    assert "[link=x]y[/link]\\x1b[2J" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """Law: JSON on a terminal steers nothing either, and comes back as it was."""
    document({"x": EVIL})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"x": EVIL}


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"a": [1, None, "x"]}, '{"a": [1, null, "x"]}'),
        ({"$t": "tuple", "v": [1, 2]}, "(1, 2)"),
        ({"$t": "date", "v": "2026-11-24"}, "2026-11-24"),
        ({"$t": "more", "n": 7}, "… (7 more)"),
        (
            {"$ref": "ab", "kind": "arrow", "type": "pandas.DataFrame", "rows": 336776, "bytes": 12_345_678},
            "<arrow pandas.DataFrame, 336,776 rows, 12.3 MB>",
        ),
        ({"$ref": "ab", "kind": "pickle", "type": "Model", "bytes": 10}, "<pickle Model, 10 B>"),
        ("\x1b[2J", '"\\u001b[2J"'),
    ],
)
def test_a_payload_is_shown_in_short_and_never_opened(tree: Any, text: str) -> None:
    assert shown(tree) == text


def test_a_long_payload_is_cut() -> None:
    assert len(shown(list(range(1000)), 100)) == 100


def test_sizes_have_units() -> None:
    assert [size(n) for n in (5, 1500, 2_000_000, 3_100_000_000, 10**13)] == [
        "5 B",
        "1.5 kB",
        "2.0 MB",
        "3.1 GB",
        "10.0 TB",
    ]


def event(kind: str, task: str = "", **data: Any) -> Event:
    return Event("1795497273556-0", kind, "r" * 32, "etl", task, 1 if task else 0, data)


def test_a_hostile_log_is_one_harmless_line() -> None:
    line = log_line(event("log", "parse[7]", level="info", message=EVIL, fields={EVIL: EVIL}))
    assert is_harmless(line)
    assert "parse[7] info" in line


def test_an_event_s_line_leaves_out_what_is_long() -> None:
    line = event_line(event("step.failed", "total", error="E: x", traceback="long", reason="error"))
    assert line.endswith('step.failed total {"error": "E: x", "reason": "error"}')


def test_an_event_s_record_is_the_envelope() -> None:
    record = event_record(event("step.completed", "parse[3.1]", result=1))
    assert record == {
        "id": "1795497273556-0",
        "ts": "2026-11-24T05:14:33.556Z",
        "type": "step.completed",
        "runId": "r" * 32,
        "flowName": "etl",
        "stepName": "parse",
        "stepId": f"{'r' * 32}__parse-3-1__attempt-1",
        "attempt": 1,
        "index": (3, 1),
        "data": {"result": 1},
    }
    assert "stepName" not in event_record(event("flow.start"))
