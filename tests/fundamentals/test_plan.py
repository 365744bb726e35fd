"""What a resume would execute, and why: each single change gives exactly the expected rows."""

from __future__ import annotations

from typing import Any

from nbflow import Flow, collect, each
from nbflow.errors import CommandRefused
from nbflow.watch.run import Run
from tests.bad_input import refused
from tests.site import Site


def _define(flow: Flow, *, bad: int = -1, by: int = 1, more: int = 0, extra: bool = False) -> Flow:
    @flow.entry
    def numbers(n: int = 3) -> list[int]:
        return [*range(n), *([9] * more)]

    @flow.step(each(numbers))
    def square(number: int) -> int:
        if number == bad:
            raise ValueError("bad")
        return number * number * by

    @flow.step(collect(square))
    def total(squares: list[int]) -> int:
        return sum(squares)

    if extra:

        @flow.step(total)
        def report(value: int) -> str:
            return f"{value}"

    return flow


def _rows(flow: Flow, run: Run, *, changed: bool = False) -> dict[str, tuple[Any, ...]]:
    plan = flow.plan(run, changed=changed)
    assert list(plan.columns) == ["task", "step", "index", "decision", "reason", "upstream"]
    columns = (plan[name] for name in ("task", "decision", "reason", "upstream"))
    return {task: (decision, reason, *upstream) for task, decision, reason, upstream in zip(*columns, strict=True)}


def _done(flow: Flow, run: Run, *, changed: bool = False) -> None:
    """What is then executed is what the plan said, and perhaps what depended."""
    rows = _rows(flow, run, changed=changed)
    again = run.resume(changed=changed)
    again.wait(20, progress=False)
    executed = {event.task for event in again.follow() if event.type == "step.queued"}
    assert {task for task, row in rows.items() if row[0] == "run"} <= executed
    assert not executed & {task for task, row in rows.items() if row[0] == "reuse"}


SAME = ("reuse", "same")


def test_nothing_changed_and_all_is_reused():
    flow = _define(Flow("planned-same"))
    run = flow.test()
    expected = dict.fromkeys(["numbers", "square[0]", "square[1]", "square[2]", "total"], SAME)
    assert _rows(flow, run) == expected
    assert _rows(flow, run, changed=True) == expected


def test_what_failed_is_run_and_what_follows_it():
    flow = _define(Flow("planned-failed"), bad=1)
    run = flow.test()
    expected = {
        "numbers": SAME,
        "square[0]": SAME,
        "square[1]": ("run", "failed"),
        "square[2]": SAME,
        "total": ("run", "follows", "square"),
    }
    assert _rows(flow, run) == expected
    _define(flow)
    older = ("reuse", "older code")
    assert _rows(flow, run) == expected | {"square[0]": older, "square[2]": older}
    _done(flow, run)


def test_an_edited_step_is_run_if_one_asks_for_it():
    flow = _define(Flow("planned-edited"))
    run = flow.test()
    _define(flow, by=2)
    older = dict.fromkeys(["square[0]", "square[1]", "square[2]"], ("reuse", "older code"))
    assert _rows(flow, run) == {"numbers": SAME, **older, "total": SAME}
    anew = dict.fromkeys(older, ("run", "code changed"))
    assert _rows(flow, run, changed=True) == {"numbers": SAME, **anew, "total": ("depends", "follows", "square")}
    _done(flow, run, changed=True)


def test_a_changed_entry_leaves_open_what_follows():
    flow = _define(Flow("planned-entry"))
    run = flow.test()
    _define(flow, more=1)
    depends = ("depends", "follows", "numbers")
    assert _rows(flow, run, changed=True) == {
        "numbers": ("run", "code changed"),
        **dict.fromkeys(["square[0]", "square[1]", "square[2]", "total"], depends),
    }
    _done(flow, run, changed=True)


def test_a_new_step_is_run():
    flow = _define(Flow("planned-more"))
    run = flow.test()
    _define(flow, extra=True)
    assert _rows(flow, run)["report"] == ("run", "new")
    _done(flow, run)


def test_a_run_on_workers_is_planned_the_same(site: Site):
    flow = _define(site.flow(), bad=1)
    run = flow.start().wait(20, progress=False)
    expected = _rows(flow, flow.test())
    runs = len(site.nbflow.index.runs(flow=flow.name))
    assert _rows(flow, run) == expected
    assert len(site.nbflow.index.runs(flow=flow.name)) == runs
    _define(flow)
    _done(flow, run)


def test_a_run_as_it_was_is_not_planned_for():
    flow = _define(Flow("planned-past"))
    run = flow.test()
    with refused(CommandRefused, "as it was"):
        flow.plan(run.at(str(run.events["id"].iloc[-1])))


def test_of_what_is_no_run_of_the_flow_there_is_no_plan():
    flow, other = _define(Flow("planned-own")), _define(Flow("planned-other"))
    run: Any = flow.test()
    with refused(CommandRefused, "is of flow 'planned-own', and not of 'planned-other'"):
        other.plan(run)
    with refused(CommandRefused, "is no run", "flow.plan(nbflow.run(id))"):
        flow.plan(run.id)
