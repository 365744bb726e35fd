"""`nbflow schedule …` and `nbflow trigger …`, against a real server and a real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.test_cli import Here, eventually
from tests.unit.test_cli_cells import notebook

CELLS = (
    "from nbflow import Context, Flow",
    'bills = Flow("bills")',
    """
@bills.entry
def bill(ctx: Context, order: dict = {}, folder: str = "in", year: int = 2000) -> list[object]:
    return [order, folder, year, ctx.trigger and ctx.trigger.name]
""",
    'letters = Flow("letters")',
    "@letters.entry\ndef write(order: dict = {}) -> str:\n    return str(order)",
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    made = Here(tmp_path_factory.mktemp("project"))
    (made.directory / ".nbflow").mkdir()
    notebook(made.directory / "flows.ipynb", *CELLS)
    made.run("up", "--workers", "1")
    made.run("publish", "flows.ipynb")
    yield made
    made.run("down", "--now")


def result(here: Here, run: str) -> Any:
    shown = eventually(lambda: here.json("show", run), lambda one: one["status"] not in ("running", "awaiting"))
    assert shown["status"] == "completed", shown
    return shown["result"]


# -- schedules ----------------------------------------------------------------------------------------------------------


def test_a_schedule_is_set_changed_paused_filled_and_removed(here: Here) -> None:
    assert "No schedules." in here.run("schedule", "list")
    said = here.run("schedule", "set", "bills", "0 2 * * *", "--tz", "Europe/Vienna", "--input", "folder=2013")
    assert "The schedule default of bills comes next at" in said
    words = ("schedule", "set", "bills", "1h", "--name", "often", "--overlap", "allow", "--catch-up", "all")
    told = here.json(*words, "--input", '{"folder": "f", "year": 7}')
    assert (told["when"], told["tz"], told["overlap"], told["catchUp"], told["input"]) == (
        "1h", None, "allow", "all", {"folder": "f", "year": 7},
    )  # fmt: skip
    assert here.json(*words, "--input", '{"folder": "f", "year": 7}') == told
    first, second = here.json("schedule", "list", "--flow", "bills")
    assert (first["name"], first["when"], first["tz"], first["input"]["folder"]) == (
        "default", "0 2 * * *", "Europe/Vienna", "2013",
    )  # fmt: skip
    assert second == told
    assert here.json("schedule", "list", "--flow", "letters") == []
    span = ("--since", "2026-01-01T00:30+00:00", "--until", "2026-01-01T02:30+00:00")
    runs = here.json("schedule", "backfill", "bills", "often", *span)
    assert here.json("schedule", "backfill", "bills", "often", *span) == runs
    assert [result(here, run["id"]) for run in runs] == [[{}, "f", 7, "often"]] * 2
    here.run("schedule", "pause", "bills", "often")
    listed = here.run("schedule", "list")
    assert "Europe/Vienna" in listed
    assert "paused" in listed
    assert "comes next at" in here.run("schedule", "resume", "bills", "often")
    assert "started by the schedule" in here.run("unpublish", "bills", code=1)
    for name in ("often", "default"):
        here.run("schedule", "remove", "bills", name)
    assert "has no schedule 'often'" in here.run("schedule", "pause", "bills", "often", code=2)


def test_a_schedule_that_cannot_be_is_a_sentence_and_nothing_is_set(here: Here) -> None:
    for words, said, code in (
        (("bill", "1d"), "Did you mean 'bills'", 2),
        (("bills", "61 * * * *"), "61 * * * *", 1),
        (("bills", "0 0 30 2 *"), "0 0 30 2 *", 1),
        (("bills", "0 2 * * *", "--tz", "Europe/Wien"), "Europe/Wien", 1),
        (("bills", "1d", "--tz", "Europe/Vienna"), "the same in every time zone", 1),
        (("bills", "0.1s"), "below 1 s", 1),
        (("bills", "--", "-15m"), "-15m", 1),
        (("bills", "1d", "--overlap", "skp"), "'skip'", 1),
        (("bills", "1d", "--catch-up", "last"), "'latest'", 1),
        (("bills", "1d", "--name", "a b"), "cannot be called 'a b'", 1),
        (("bills", "1d", "--input", "yer=1"), "Did you mean 'year'", 2),
        (("bills", "1d", "--input", "year=soon"), "'soon'", 2),
        (("bills", "1d", "--input", "{"), "neither name=value nor JSON", 2),
    ):
        assert said in here.run("schedule", "set", *words, code=code), words
    back = ("schedule", "backfill", "bills", "default", "--since")
    assert "'soon' is no moment" in here.run(*back, "soon", code=2)
    assert "has no schedule" in here.run(*back, "2026-01-01", code=2)
    assert here.json("schedule", "list") == []


# -- triggers -----------------------------------------------------------------------------------------------------------


def test_an_event_starts_what_is_on_its_trigger(here: Here) -> None:
    assert "No triggers." in here.run("trigger", "list")
    words = (
        "trigger",
        "set",
        "paid",
        "bills",
        "--event",
        "order.paid",
        "--match",
        "order.status=paid",
        "--key",
        "order.id",
    )
    told = here.json(*words, "--input", "folder=2013", "--take", "order=", "--take", "year=order.year")
    assert (told["kind"], told["topic"], told["match"], told["key"]) == (
        "event", "order.paid", {"order.status": "paid"}, "order.id",
    )  # fmt: skip
    assert "paid starts letters for each order.paid." in here.run("trigger", "set", "paid", "letters", *words[4:])
    payload = {"order": {"id": 7, "status": "paid", "year": 1999}}
    said = here.run("emit", "order.paid", json.dumps(payload))
    assert "ended 0 waits" in said
    runs = {line.split(" ")[3]: line.split(" ")[1] for line in said.splitlines() if line.startswith("Run ")}
    assert result(here, runs["bills"]) == [payload, "2013", 1999, "paid"]
    assert result(here, runs["letters"]) == str(payload["order"])
    assert "is started" not in here.run("emit", "order.paid", json.dumps(payload))
    assert "is started" not in here.run("emit", "order.paid", '{"order": {"id": 8}}')
    broken = {"order": {"id": 9, "status": "paid", "year": "soon"}}
    here.run("emit", "order.paid", json.dumps(broken))
    (one,) = here.json("trigger", "list", "--flow", "bills")
    assert [(flow["flow"], flow["started"], flow["repeated"], flow["failed"]) for flow in one["flows"]] == [
        ("bills", 1, 1, 1)
    ]


def test_a_trigger_is_listed_paused_and_removed(here: Here) -> None:
    for flow in ("bills", "letters"):
        here.run("trigger", "set", "paid", flow, "--event", "order.paid")
    here.run("emit", "order.paid", '{"year": "soon"}')
    listed = here.run("trigger", "list")
    assert "order.paid" in listed
    assert "'soon'" in listed
    here.run("trigger", "pause", "paid")
    assert "is started" not in here.run("emit", "order.paid", '{"order": {"id": 10, "status": "paid"}}')
    assert "paused" in here.run("trigger", "list")
    here.run("trigger", "resume", "paid")
    assert "starts letters no more" in here.run("trigger", "remove", "paid", "--flow", "letters")
    assert "started by the trigger paid" in here.run("unpublish", "bills", code=1)
    here.run("trigger", "remove", "paid")
    assert "There is no trigger 'paid'" in here.run("trigger", "remove", "paid", code=2)


def test_a_trigger_is_fired_by_hand(here: Here) -> None:
    here.run("trigger", "set", "rebuild", "bills", "--match", '{"year": 5}')
    (run,) = here.json("trigger", "fire", "rebuild", "year=5", "--key", "k")
    assert result(here, run["id"]) == [{}, "in", 5, "rebuild"]
    assert "started nothing" in here.run("trigger", "fire", "rebuild", "year=5", "--key", "k")
    assert "started nothing" in here.run("trigger", "fire", "rebuild")
    assert "'x', which entry 'bill' does not take" in here.run(
        "trigger", "fire", "rebuild", '{"year": 5, "order": "x"}', code=2
    )
    assert "neither name=value nor JSON" in here.run("trigger", "fire", "rebuild", "{", code=2)
    here.run("trigger", "remove", "rebuild")


def test_a_trigger_that_cannot_be_is_a_sentence_and_nothing_is_set(here: Here) -> None:
    for words, said, code in (
        (("t", "bill"), "Did you mean 'bills'", 2),
        (("a b", "bills"), "cannot be called 'a b'", 1),
        (("t", "bills", "--event", "a b"), "names no topic", 1),
        (("t", "bills", "--event", "a", "--webhook", "S"), "by an event or by a webhook", 1),
        (("t", "bills", "--match", "7"), "is no dict", 1),
        (("t", "bills", "--match", '{"a": []}'), "cannot be compared", 1),
        (("t", "bills", "--take", "order"), "is not NAME=FIELD", 2),
        (("t", "bills", "--take", "ordr=a"), "Did you mean 'order'", 2),
        (("t", "bills", "--take", "order=a..b"), "no dotted field", 1),
        (("t", "bills", "--input", "7"), "no JSON object", 2),
        (("t", "bills", "--input", "year=soon"), "'soon'", 2),
    ):
        assert said in here.run("trigger", "set", *words, code=code), words
    assert "There is no trigger 'no'" in here.run("trigger", "fire", "no", code=2)
    assert here.json("trigger", "list") == []
    here.run("trigger", "set", "hook", "bills", "--webhook", "SHOP")
    assert here.json("trigger", "list")[0]["secret"] == "SHOP"
    here.run("trigger", "remove", "hook")
