"""`nbflow resolve`, `nbflow emit` and acts on one task, against a real server and real workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.test_cli import Here, eventually
from tests.unit.test_cli_cells import notebook

CELLS = (
    "from pydantic import BaseModel\nfrom nbflow import Approval, Flow, OnEvent, each, received",
    "class Decision(BaseModel):\n    ok: bool\n    limit: int = 0",
    'bills = Flow("bills")',
    "@bills.entry\ndef orders(count: int = 1) -> list[int]:\n    return list(range(count))",
    """
@bills.step(each(orders), key=lambda n: f"n{n}", hold=Approval(Decision, message="Pay it?"))
def pay(order: int, decision: Decision) -> list[object]:
    return [order, decision.ok, decision.limit]
""",
    'news = Flow("news")',
    """
@news.entry(hold=OnEvent("order.paid", match={"id": received("id")}))
def hear(id: int) -> int:
    return id
""",
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    made = Here(tmp_path_factory.mktemp("project"))
    (made.directory / ".nbflow").mkdir()
    notebook(made.directory / "flows.ipynb", *CELLS)
    made.run("up", "--workers", "2")
    yield made
    made.run("down", "--now")


def waiting(here: Here, *words: str, tasks: int = 1) -> str:
    """A run that is started and has come to where so many tasks of it wait."""
    run = str(here.json("start", "--from", "flows.ipynb", *words)["id"])
    eventually(lambda: here.run("events", run).count("await.registered"), tasks.__eq__)
    return run


def result(here: Here, run: str) -> Any:
    shown = eventually(lambda: here.json("show", run), lambda one: one["status"] not in ("running", "awaiting"))
    assert shown["status"] == "completed", shown
    return shown["result"]


def test_an_answer_is_given_in_each_way_of_typing_it(here: Here) -> None:
    (here.directory / "answer.json").write_text('{"ok": true, "limit": 9}')
    run = waiting(here, "bills", "count=3", tasks=3)
    assert f"pay[0] of run {run} goes on." in here.run("resolve", run[:12], "pay[0]", "--input", "@answer.json")
    here.run("resolve", run, "pay[n1]", "--input", '{"ok": false}')
    here.run("resolve", run, "pay", "--input", "ok=true", "--input", "limit=7")  # the one that is left
    assert result(here, run) == [[0, True, 9], [1, False, 0], [2, True, 7]]


def test_an_answer_that_is_none_changes_nothing(here: Here) -> None:
    run = waiting(here, "bills")
    before = here.run("events", run)
    for words, said, code in (
        (("pay",), "is no Decision", 1),
        (("pay", "--input", "ok=perhaps"), "ok is 'perhaps'", 1),
        (("pay[7]", "--input", "ok=true"), "Did you mean 'pay[0]'", 1),
        (("orders", "--input", "ok=true"), "'orders' waits for no answer: it is completed", 1),
        (("pay", "--input", "{"), "neither name=value nor JSON", 2),
        (("pay", "--input", "@nowhere.json"), "'nowhere.json' cannot be read", 2),
    ):
        assert said in here.run("resolve", run, *words, code=code)
    assert "There is no run 'nothing'" in here.run("resolve", "nothing", "pay", code=2)
    assert here.run("events", run) == before
    here.run("resolve", run, "pay", "--input", "ok=true")
    assert result(here, run) == [[0, True, 0]]
    assert "waits for no answer any more" in here.run("resolve", run, "pay", "--input", "ok=true", code=1)


def test_an_event_ends_the_waits_that_it_matches(here: Here) -> None:
    one, other = (waiting(here, "news", f"id={number}") for number in (1, 2))
    assert "order.paid ended 0 waits." in here.run("emit", "order.paid", "id=3")
    assert "order.paid ended 0 waits." in here.run("emit", "order.paid")
    assert "order.paid ended 1 wait." in here.run("emit", "order.paid", '{"id": 2}')
    assert result(here, other) == 2
    assert here.json("show", one)["status"] == "awaiting"
    here.run("emit", "order.paid", "id=1")
    assert result(here, one) == 1


def test_an_event_that_is_none_is_a_sentence(here: Here) -> None:
    assert "No event has the topic 'order paid'" in here.run("emit", "order paid", code=1)
    assert "longer than 64 KiB" in here.run("emit", "order.paid", '"' + "a" * 70_000 + '"', code=1)
    for payload in ("{", "[" * 50_000):
        assert "Invalid value for JSON: it is neither" in here.run("emit", "order.paid", payload, code=2)


def test_one_task_is_canceled_tried_again_and_completed(here: Here) -> None:
    (here.directory / "paid.json").write_text('["by hand", true, 1]')
    run = waiting(here, "bills", "count=2", tasks=2)
    assert "was not tried yet" in here.run("retry", run, "pay[n1]", code=1)
    assert "is no result of the step 'pay'" in here.run("complete", run, "pay[n1]", "--value", "7", code=1)
    assert "pay[1] is completed." in here.run("complete", run[:12], "pay[n1]", "--value", "@paid.json")
    assert "pay[0] is canceled." in here.run("cancel", run, "--task", "pay[0]", "--reason", "not this one")
    assert here.json("show", run)["status"] == "completed"
