"""Going on from an earlier run: what completed is taken over, and only the rest is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbflow import Approval, Context, Flow, Time, collect, each
from nbflow.define import registry
from nbflow.errors import CommandRefused, NotEnded, UnknownRun
from nbflow.watch.run import Run
from tests.bad_input import refused
from tests.site import Site, wait_until


def _queued(run: Run) -> list[str]:
    return [event.task for event in run.follow() if event.type == "step.queued"]


def _squares(flow: Flow, bad: Path | None = None, *, by: int = 1) -> Flow:
    """Ten elements of which one fails while a file is there. `by` is what an edit changes."""
    place = "" if bad is None else str(bad)

    @flow.entry
    def numbers(n: int = 10) -> list[int]:
        return list(range(n))

    @flow.step(each(numbers), key=lambda number: f"number {number}")
    def square(number: int, ctx: Context) -> Any:
        if number == 3 and place and Path(place).exists():
            raise ValueError("no squares of three yet")
        ctx.state.incr("done")
        return {"square": number * number * by, "key": ctx.idempotency_key}

    @flow.step(collect(square))
    def total(squares: list[Any]) -> int:
        return sum(one["square"] for one in squares)

    return flow


def _failed(site: Site, folder: Path) -> tuple[Flow, Run, Path]:
    bad = folder / "bad"
    bad.touch()
    flow = _squares(site.flow(), bad)
    run = flow.start().wait(20, progress=False)
    assert run.status == "failed"
    return flow, run, bad


def test_of_ten_elements_the_one_that_failed_is_executed_and_what_follows_it(site: Site, tmp_path: Path):
    _, run, bad = _failed(site, tmp_path)
    bad.unlink()
    again = run.resume().wait(20, progress=False)
    assert again.result == 285
    assert _queued(again) == ["square[3]", "total"]
    assert run.status == "failed"
    start = again.view.start
    assert (start["forkedFrom"], start["reused"], start["state"]) == (run.id, 10, {"done": 9})


def test_what_was_taken_over_looks_like_what_ran(site: Site, tmp_path: Path):
    """Results, names of elements and the state are there; the events say from which run they are."""
    _, run, bad = _failed(site, tmp_path)
    bad.unlink()
    again = run.resume().wait(20, progress=False)
    assert again["square"]["number 4"]["square"] == 16
    assert again.state == {"done": 10}
    taken = [event for event in again.follow() if "reused" in event.data and event.type == "step.completed"]
    assert len(taken) == 10
    assert {event.data["reused"]["run"] for event in taken} == {run.id}


def test_the_idempotency_keys_of_a_line_are_those_of_its_first_run(site: Site, tmp_path: Path):
    _, run, bad = _failed(site, tmp_path)
    again = run.resume().wait(20, progress=False)
    assert again.status == "failed"
    bad.unlink()
    third = again.resume().wait(20, progress=False)
    assert third["square"][3]["key"] == f"{run.id}:square:3"
    taken = [event for event in third.follow() if event.task == "square[5]" and event.type == "step.completed"]
    assert taken[0].data["reused"]["run"] == run.id
    fork = third.fork(at=next(event.id for event in third.follow())).wait(20, progress=False)
    assert fork["square"][3]["key"] == f"{fork.id}:square:3"


def test_completed_tasks_of_an_edited_step_are_kept_and_told(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    flow, run, _ = _failed(site, tmp_path)
    _squares(flow, by=2)
    again = run.resume().wait(20, progress=False)
    assert again.result == 285 + 9
    assert again.view.start["older"] == {"square": [9, 10]}
    assert "9 of 10 square from older code" in capsys.readouterr().out


def test_with_changed_the_edited_step_is_executed_anew(site: Site, tmp_path: Path):
    flow, run, _ = _failed(site, tmp_path)
    _squares(flow, by=2)
    again = run.resume(changed=True).wait(20, progress=False)
    assert again.result == 570
    assert sorted(_queued(again)) == sorted([*(f"square[{i}]" for i in range(10)), "total"])


def test_of_what_follows_an_edited_step_only_what_receives_something_else_is_executed(site: Site):
    flow = site.flow()

    def define(extra: list[int]) -> None:
        @flow.entry
        def numbers() -> list[int]:
            return [1, 2, 3, *extra]

        @flow.step(each(numbers))
        def double(number: int) -> int:
            return 2 * number

        @flow.step(collect(double))
        def total(doubles: list[int]) -> int:
            return sum(doubles)

    define([])
    run = flow.start().wait(20, progress=False)
    define([10])
    again = run.resume(changed=True).wait(20, progress=False)
    assert again.result == 32
    assert _queued(again) == ["numbers", "double[3]", "total"]


def test_a_run_that_nothing_changed_for_executes_nothing(site: Site):
    flow = _squares(site.flow())
    run = flow.start().wait(20, progress=False)
    again = run.resume().wait(20, progress=False)
    assert (_queued(again), again.result) == ([], 285)


def test_where_the_flow_is_not_defined_the_runs_own_code_goes_on(site: Site, tmp_path: Path):
    _, run, bad = _failed(site, tmp_path)
    bad.unlink()
    registry.reset()
    again = site.nbflow.run(run.id).resume().wait(20, progress=False)
    assert (_queued(again), again.result) == (["square[3]", "total"], 285)
    assert again.view.start["bundle"] == run.view.start["bundle"]


def test_restart_takes_nothing_over(site: Site):
    flow = _squares(site.flow())
    run = flow.options(key="once", tags=["nightly"]).start(n=3).wait(20, progress=False)
    again = run.restart().wait(20, progress=False)
    assert (len(_queued(again)), again.result, again.id != run.id) == (5, 5, True)
    assert (again.input, again.view.start["forkedFrom"]) == ({"n": 3}, run.id)
    row = site.nbflow.index.run(again.id)
    assert (row.key, row.tags) == ("", ())


def test_a_fork_goes_on_from_an_event(site: Site):
    """The events of one script count as one: of a task that had completed by then all emissions are taken over."""
    flow = _squares(site.flow())
    run = flow.start(n=3).wait(20, progress=False)
    first = next(event for event in run.follow() if event.type == "step.completed")
    fork = run.fork(at=first.id).wait(20, progress=False)
    assert fork.result == 5
    assert _queued(fork) == ["square[0]", "square[1]", "square[2]", "total"]
    assert fork.state == {"done": 3}
    assert fork.view.start["forkedAt"] == first.id


def test_a_run_that_goes_on_can_be_forked_and_not_resumed(site: Site, tmp_path: Path):
    flow, go = site.flow(), tmp_path / "go"
    gate = str(go)

    @flow.entry
    def first() -> int:
        return 1

    @flow.step(first)
    def second(number: int) -> int:
        import time

        while not Path(gate).exists():
            time.sleep(0.01)
        return number + 1

    run = flow.start()
    wait_until(lambda: "second" in run and run.view.steps["second"].counts.get("running"), what=lambda: run.tasks)
    with refused(NotEnded, run.id[:8], "fork"):
        run.resume()
    fork = run.fork()
    go.touch()
    assert fork.wait(20, progress=False).result == 2
    assert _queued(fork) == ["second"]
    assert run.wait(20, progress=False).result == 2


def test_a_run_can_be_looked_at_as_it_was(site: Site):
    flow = _squares(site.flow())
    run = flow.start(n=2).wait(20, progress=False)
    for event in list(run.follow()):
        past = run.at(event.id)
        assert past.view.last_id <= event.id
        assert list(past.events["id"])[-1] == event.id
    first = next(event for event in run.follow() if event.task == "square[0]" and event.type == "step.completed")
    past = run.at(first.id)
    assert (past.status, "total" in past) == ("running", False)
    with refused(CommandRefused, "as it was", "fork"):
        past.cancel()
    with refused(CommandRefused, "as it was", "fork"):
        past.resume()


def test_an_event_that_is_not_there_is_refused(site: Site):
    flow = _squares(site.flow())
    run = flow.start(n=1).wait(20, progress=False)
    runs = len(flow_runs(site, flow))
    for wrong in ("1-1", "yesterday", "", "\u0663-1", "1-2-3"):
        with refused(CommandRefused, "no event", "run.events"):
            run.fork(at=wrong)
        with refused(CommandRefused, "no event", "run.events"):
            run.at(wrong)
    assert len(flow_runs(site, flow)) == runs


def test_a_run_that_is_gone_is_not_gone_on_from(site: Site):
    flow = _squares(site.flow())
    run = flow.start(n=1).wait(20, progress=False)
    run.delete()
    with refused(UnknownRun, run.id[:8]):
        run.resume()


def test_what_was_taken_over_outlives_the_earlier_run(site: Site):
    """The new run owns the artifacts that it refers to, those inside of large lists too."""
    flow = site.flow()

    @flow.entry
    def texts() -> list[str]:
        return [letter * 70_000 for letter in "abc"]

    @flow.step(each(texts))
    def size(text: str) -> int:
        return len(text)

    run = flow.start().wait(20, progress=False)
    again = run.resume().wait(20, progress=False)
    run.delete()
    assert _queued(again) == []
    assert [len(text) for text in again["texts"]] == [70_000] * 3


def test_in_process_it_is_the_same():
    flow = Flow("resumed-in-process")

    def define(*, fails: bool) -> None:
        @flow.entry
        def numbers() -> list[int]:
            return [0, 1, 2]

        @flow.step(each(numbers))
        def square(number: int, ctx: Context) -> Any:
            ctx.state.incr("done")
            if number == 1 and fails:
                raise ValueError("not one")
            return number * number, ctx.idempotency_key

        @flow.step(collect(square))
        def total(squares: list[Any]) -> int:
            return sum(square for square, _ in squares)

    define(fails=True)
    run = flow.test()
    define(fails=False)
    again = run.resume()
    assert (again.result, _queued(again), again.state) == (5, ["square[1]", "total"], {"done": 4})
    assert again["square"][1] == (1, f"{run.id}:square:1")
    assert again.view.start["older"] == {"square": [2, 3]}
    assert _queued(run.fork(at=str(run.events["id"].iloc[0]))) == [
        "numbers",
        "square[0]",
        "square[1]",
        "square[2]",
        "total",
    ]
    assert len(_queued(again.restart())) == 5


def flow_runs(site: Site, flow: Flow) -> list[Any]:
    return site.nbflow.index.runs(flow=flow.name)


def _bills(flow: Flow, bad: Path) -> Flow:
    """An entry and elements that are held, a result that is held, and a step after them that fails while a file is there."""
    place = str(bad)

    @flow.entry(hold=Approval(bool))
    def orders(ctx: Context) -> list[int]:
        return [1, 2] if ctx.resolved else []

    @flow.step(each(orders), hold=Approval(int, timeout="1h"), hold_emits=Time("10ms"))
    def pay(order: int, ctx: Context) -> Any:
        return order, ctx.resolved

    @flow.step(collect(pay))
    def book(paid: list[Any]) -> Any:
        if Path(place).exists():
            raise ValueError("the books are closed")
        return paid

    return flow


ANSWERS = {"orders": True, "pay[0]": 10, "pay[1]": 20}


def _answered(run: Run) -> list[str]:
    return [
        event.task for event in run.follow() if event.type == "await.registered" and event.data["kind"] == "approval"
    ]


def test_what_was_answered_is_taken_over_and_not_asked_again(site: Site, tmp_path: Path):
    bad = tmp_path / "bad"
    bad.touch()
    flow = _bills(site.flow(), bad)
    run = flow.start()
    for task, answer in ANSWERS.items():
        wait_until(
            lambda task=task: task in run.view.tasks and run.view.tasks[task].awaiting, what=lambda: str(run.tasks)
        )
        run.resolve(task, answer)
    assert run.wait(20, progress=False).status == "failed"
    bad.unlink()
    assert list(flow.plan(run)["decision"]) == ["reuse", "reuse", "reuse", "run"]
    again = run.resume().wait(20, progress=False)
    assert (again.result, _answered(again), _queued(again)) == ([(1, 10), (2, 20)], [], ["book"])


def test_what_was_not_answered_is_asked_again(site: Site, tmp_path: Path):
    flow = _bills(site.flow(), tmp_path / "bad")
    run = flow.start()
    wait_until(lambda: run.status == "awaiting", what=lambda: str(run.tasks))
    run.resolve("orders", True)
    wait_until(lambda: len(_waiting(run)) == 2, what=lambda: str(run.tasks))
    run.resolve("pay[0]", 10)
    wait_until(lambda: run.view.tasks["pay[0]"].status == "completed", what=lambda: str(run.tasks))
    run.cancel()
    again = run.wait(20, progress=False).resume()
    wait_until(lambda: again.status == "awaiting", what=lambda: str(again.tasks))
    assert _waiting(again) == ["pay[1]"]
    again.resolve("pay[1]", 21)
    assert again.wait(20, progress=False).result == [(1, 10), (2, 21)]
    assert _answered(again) == ["pay[1]"]


def _waiting(run: Run) -> list[str]:
    return [task.task for task in run.view.tasks.values() if task.awaiting]


def test_in_process_what_was_answered_is_not_asked_again(tmp_path: Path):
    bad = tmp_path / "bad"
    bad.touch()
    trial = _bills(Flow("resumed-bills"), bad).trial()
    for task, answer in ANSWERS.items():
        trial.resolve(task, answer)
    run = trial.run()
    assert run.status == "failed"
    bad.unlink()
    again = run.resume()
    assert (again.result, _answered(again), _queued(again)) == ([(1, 10), (2, 20)], [], ["book"])
