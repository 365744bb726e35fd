"""The fold of events, held to the golden files that the browser's reducer reads as well."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from nbflow.model.events import Event
from nbflow.model.view import View, reduce

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("view_*.json"))


def test_there_are_golden_files() -> None:
    assert len(GOLDEN) >= 9


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_the_fold_gives_the_golden_view(file: Path) -> None:
    """Law: Python and the browser see the same run in the same events. A change here is a change of the contract."""
    golden = _read(file)
    assert _as_json(_fold(golden["events"], golden)) == golden["view"]


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_folding_all_events_once_more_changes_nothing(file: Path) -> None:
    """Law: a double is dropped, wherever it comes from."""
    golden = _read(file)
    view = _fold(golden["events"], golden)
    before = copy.deepcopy(view)
    for event in golden["events"]:
        reduce(view, _event(event, golden))
    assert view == before


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_every_beginning_is_a_view_of_its_own(file: Path) -> None:
    """Law: the counts of a step are those of its tasks, at every moment."""
    golden = _read(file)
    for length in range(len(golden["events"]) + 1):
        view = _fold(golden["events"][:length], golden)
        for step in view.steps.values():
            mine = [task.status for task in view.tasks.values() if task.step == step.name]
            assert {status: count for status, count in step.counts.items() if count} == {
                status: mine.count(status) for status in set(mine)
            }


def test_a_step_says_what_goes_on_before_how_it_ended() -> None:
    view = View("r")
    for n, (task, kind) in enumerate([("p[0]", "step.completed"), ("p[1]", "step.failed"), ("p[2]", "step.queued")]):
        reduce(view, Event(f"1-{n}", kind, "r", "f", task, 1, {}))
    assert view.steps["p"].status == "queued"
    reduce(view, Event("2-0", "step.completed", "r", "f", "p[2]", 1, {}))
    assert view.steps["p"].status == "failed"


def test_a_skipped_step_says_so() -> None:
    view = reduce(View("r"), Event("1-0", "step.skipped", "r", "f", "merge", 0, {"reason": "short"}))
    assert (view.steps["merge"].status, view.steps["merge"].skipped, view.tasks) == ("skipped", "short", {})


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8"))


def _fold(events: list[dict[str, Any]], golden: dict[str, Any]) -> View:
    view = View(golden["run_id"])
    for event in events:
        reduce(view, _event(event, golden))
    return view


def _event(fields: dict[str, Any], golden: dict[str, Any]) -> Event:
    return Event(
        fields["id"],
        fields["type"],
        golden["run_id"],
        golden["flow_name"],
        fields["task"],
        fields["attempt"],
        copy.deepcopy(fields["data"]),
    )


def _as_json(view: View) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(view)))
