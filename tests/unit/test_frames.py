"""The tables: their columns and dtypes, empty and filled, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from nbflow.model.deliveries import Signed
from nbflow.model.events import Event
from nbflow.model.schedules import Planned, Schedule
from nbflow.model.triggers import Listener, Subscription, Trigger, Triggering
from nbflow.model.versions import Version
from nbflow.model.view import View, reduce
from nbflow.store.index import FlowRow, QueueRow, RunRow, WorkerRow
from nbflow.watch import frames
from nbflow.watch.frames import TABLES, PlanRow
from nbflow.watch.why import Reason

T = 1767225600000
LOG = [
    Event(f"{T}-0", "flow.start", "r1", "etl", data={"input": {"folder": {"$ref": "in", "kind": "json", "bytes": 9}}}),
    Event(f"{T}-1", "step.queued", "r1", "etl", "parse[7]", 1, {"key": "h.csv", "queue": "default"}),
    Event(f"{T + 500}-0", "step.started", "r1", "etl", "parse[7]", 1, {"worker": "w1"}),
    Event(f"{T + 600}-0", "log", "r1", "etl", "parse[7]", 1, {"level": "info", "message": "hello", "source": "print"}),
    Event(f"{T + 700}-0", "metric", "r1", "etl", "parse[7]", 1, {"name": "loss", "value": 0.5, "step": 3}),
    Event(
        f"{T + 800}-0",
        "artifact",
        "r1",
        "etl",
        "parse[7]",
        1,
        {"name": "model", "ref": {"$ref": "d0", "kind": "pickle", "bytes": 5}},
    ),
    Event(
        f"{T + 900}-0",
        "step.retry",
        "r1",
        "etl",
        "parse[7]",
        1,
        {"error": "ValueError: x", "traceback": "t", "delay": 1},
    ),
    Event(f"{T + 1000}-0", "step.queued", "r1", "etl", "parse[7]", 2, {"queue": "default"}),
    Event(f"{T + 1500}-0", "step.started", "r1", "etl", "parse[7]", 2, {"worker": "w2"}),
    Event(
        f"{T + 3500}-0",
        "step.completed",
        "r1",
        "etl",
        "parse[7]",
        2,
        {
            "result": {
                "score": 1,
                "table": {"$ref": "d1", "kind": "arrow", "rows": 3, "bytes": 300},
                "n": [1, {"$ref": "d1"}],
            }
        },
    ),
    Event(f"{T + 3500}-1", "step.queued", "r1", "etl", "deep[3.1]", 1, {"queue": "default"}),
    Event(f"{T + 3500}-2", "flow.completed", "r1", "etl", data={"leaves": ["parse"]}),
]


def _view(log: list[Event]) -> View:
    view = View("r1")
    for event in log:
        reduce(view, event)
    return view


PLANNED = Planned(Schedule("etl", "daily", {"cron": "@daily", "tz": "UTC"}), "1", T, False, None, "", 0, 0, 0)

TRIGGER = Triggering(
    Trigger("shop", webhook=Signed("SHOP"), match={"a": 1}, key="b"),
    False,
    2,
    (
        Listener(Subscription("shop", "etl"), 1, 2, 3, T, "r1", ""),
        Listener(Subscription("shop", "x"), 0, 0, 0, None, "", "e"),
    ),
)

VERSION = Version("etl", 3, "p", "b", {"parse": "f"}, {}, {}, "again", T, {"user": "ann", "host": "pc"}, 1)

WORKER = WorkerRow(
    name="w1",
    hostname="host",
    pid=7,
    queues=("default", "gpu"),
    state="busy",
    current_job="j",
    last_heartbeat="2026-01-01T00:00:01.500000Z",
    birth="2026-01-01T00:00:00Z",
    completed=3,
    failed=1,
    working_s=2.5,
)

MAKERS: dict[str, tuple[Callable[[Any], pd.DataFrame], Any, Any]] = {
    "events": (frames.events, [], LOG),
    "logs": (frames.logs, [], LOG),
    "metrics": (frames.metrics, [], LOG),
    "artifacts": (frames.artifacts, [], LOG),
    "tasks": (frames.tasks, _view([]), _view(LOG)),
    "attempts": (frames.attempts, _view([]), _view(LOG)),
    "runs": (
        frames.runs,
        [],
        [RunRow("r1", "etl", "running", T, None, ("a", "b")), RunRow("r2", "etl", "failed", T, T + 250)],
    ),
    "flows": (frames.flows, [], [FlowRow("etl", 2, "r2", "failed", T), FlowRow("none", 0, "", "", None)]),
    "why": (frames.why, [], [Reason("parse", "parse[7]", "queued", "paused", "the queue 'gpu' is paused")]),
    "queues": (frames.queues, [], [QueueRow("default", 3, 1, 2)]),
    "schedules": (frames.schedules, [], [PLANNED]),
    "triggers": (frames.triggers, [], [TRIGGER]),
    "versions": (frames.versions, [], [VERSION]),
    "workers": (frames.workers, [], [WORKER]),
    "plan": (frames.plan, [], [PlanRow("parse[7]", "parse", "7", "run", "failed", ("load",))]),
    "findings": (frames.findings, [], [{"code": "x", "severity": "error", "step": None, "message": "m", "hint": "h"}]),
}


def test_every_table_is_examined() -> None:
    assert set(MAKERS) == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_columns_and_dtypes_are_always_the_same(name: str, filled: bool) -> None:
    """Law: what works on a full table works on an empty one."""
    make, nothing, something = MAKERS[name]
    table = make(something if filled else nothing)
    assert {column: str(dtype) for column, dtype in table.dtypes.items()} == TABLES[name]
    assert (len(table) > 0) is filled
    assert list(table.index) == list(range(len(table)))


def test_an_empty_table_can_be_worked_with() -> None:
    tasks, events = frames.tasks(_view([])), frames.events([])
    assert tasks[tasks.status == "failed"].groupby("step").duration_s.mean().empty
    assert events[events.ts > datetime(2026, 1, 1, tzinfo=UTC)].empty
    assert pd.concat([tasks, frames.tasks(_view(LOG))]).dtypes.to_dict() == tasks.dtypes.to_dict()


def test_events_of_the_run_belong_to_no_step() -> None:
    table = frames.events(LOG)
    first, second = table.iloc[0], table.iloc[1]
    assert (first.type, first.flow_name, first.run_id, first["index"]) == ("flow.start", "etl", "r1", None)
    assert first[["step_name", "step_id", "attempt"]].isna().all()
    assert (second.step_name, second.step_id, second.attempt, second["index"]) == (
        "parse",
        "r1__parse-7__attempt-1",
        1,
        7,
    )
    assert second.ts == pd.Timestamp(T, unit="ms", tz="UTC")
    assert table["index"].iloc[10] == (3, 1)
    assert table.data.iloc[1] == {"key": "h.csv", "queue": "default"}


def test_a_task_stands_as_its_last_attempt_does() -> None:
    row = frames.tasks(_view(LOG)).iloc[0]
    assert row[["task", "step", "index", "key", "status", "attempt", "worker"]].tolist() == [
        "parse[7]",
        "parse",
        7,
        "h.csv",
        "completed",
        2,
        "w2",
    ]
    assert row.duration_s == 2.0
    assert pd.isna(row.error)


def test_attempts_tell_how_long_each_waited_and_why_it_failed() -> None:
    table = frames.attempts(_view(LOG))
    first = table.iloc[0]
    assert (first.attempt, first.status, first.error, first.waited_s, first.duration_s) == (
        1,
        "failed",
        "ValueError: x",
        0.5,
        0.4,
    )
    assert table.recovered.tolist() == [0, 0, 0]


def test_logs_and_metrics_say_where_they_come_from() -> None:
    log, metric = frames.logs(LOG).iloc[0], frames.metrics(LOG).iloc[0]
    assert (log.step, log["index"], log.level, log.message, log.source, log.fields) == (
        "parse",
        7,
        "info",
        "hello",
        "print",
        {},
    )
    assert (metric.step, metric["name"], metric.value, metric["at"]) == ("parse", "loss", 0.5, 3)


def test_artifacts_are_found_in_inputs_results_and_by_name_each_once() -> None:
    table = frames.artifacts(LOG)
    assert table.digest.tolist() == ["in", "d0", "d1"]
    assert table.kind.tolist() == ["json", "pickle", "arrow"]
    assert (table["name"].iloc[1], table.rows.iloc[2], table["bytes"].iloc[2]) == ("model", 3, 300)


def test_times_of_workers_are_read_from_text() -> None:
    row = frames.workers([WORKER]).iloc[0]
    assert row.last_heartbeat_at == pd.Timestamp("2026-01-01T00:00:01.500Z")
    assert row["queues"] == ["default", "gpu"]


def test_a_number_that_is_none_is_missing_and_not_wrong() -> None:
    odd = [Event(f"{T}-0", "metric", "r", "f", "a", 1, {"name": "m", "value": "high", "step": float("nan")})]
    row = frames.metrics(odd).iloc[0]
    assert pd.isna(row.value)
    assert pd.isna(row["at"])


@pytest.mark.parametrize(("text", "value"), [("Infinity", float("inf")), ("-Infinity", float("-inf"))])
def test_an_infinite_metric_is_a_number(text: str, value: float) -> None:
    """JSON has no such number: events carry its name."""
    points = [
        Event(f"{T}-{n}", "metric", "r", "f", "a", 1, {"name": "m", "value": said})
        for n, said in enumerate((text, "NaN", 2))
    ]
    values = list(frames.metrics(points)["value"])
    assert values[0] == value
    assert pd.isna(values[1])
    assert values[2] == 2


def test_a_count_that_no_column_can_hold_is_missing() -> None:
    points = [Event(f"{T}-{n}", "metric", "r", "f", "a", 1, {"value": 1, "step": 10**n}) for n in (2, 30, 400)]
    assert list(frames.metrics(points)["at"].fillna(-1)) == [100, -1, -1]
