"""What a person does to one task, with real workers: cancel, another try, a result given by hand, a look in a debugger."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

from nbflow import Approval, Context, Flow, Retry, Run, collect, current, each
from nbflow.errors import AlreadyAnswered, CommandRefused, PayloadError, RunEnded, StepFailure, UnknownRun
from tests.bad_input import refused
from tests.site import Site, wait_until


class Order(BaseModel):
    id: int
    total: float = 0.0


def _hanging(site: Site) -> Flow:
    """Steps `numbers`, `slow[0]`…`slow[2]` of which the second hangs in its first attempt, `total`."""
    flow = site.flow()

    @flow.entry
    def numbers(folder: Path) -> list[tuple[int, Path]]:
        return [(i, folder) for i in range(3)]

    @flow.step(each(numbers), key=lambda pair: f"n{pair[0]}")
    def slow(pair: tuple[int, Path], ctx: Context) -> int:
        number, folder = pair
        try:
            while number == 1 and ctx.attempt == 1:
                (folder / "hangs").touch()
                time.sleep(0.005)
        finally:
            (folder / f"left-{number}").touch()
        return number * 10

    @flow.step(collect(slow))
    def total(values: list[int]) -> int:
        return sum(values)

    return flow


def _until_it_hangs(flow: Flow, folder: Path) -> Run:
    run = flow.start(folder=folder)
    wait_until((folder / "hangs").exists, what=lambda: run.events)
    wait_until(lambda: list(run.tasks["status"]).count("completed") == 3, what=lambda: run.tasks)
    return run


def test_a_task_that_hangs_is_tried_again(site: Site, tmp_path: Path) -> None:
    run = _until_it_hangs(_hanging(site), tmp_path)
    task = run.task("slow", "n1")
    assert (task.name, task.status, task.index, task.key, task.attempt) == ("slow[1]", "running", 1, "n1", 1)
    assert task.retry("it hangs").attempt == 2
    assert run.wait(20, progress=False).result == 30
    wait_until((tmp_path / "left-1").exists, what="its finally block did not run")
    assert list(run.attempts.query("step == 'slow' and index == 1")["status"]) == ["failed", "completed"]


def test_a_task_is_canceled_and_what_needs_it_is_skipped(site: Site, tmp_path: Path) -> None:
    run = _until_it_hangs(_hanging(site), tmp_path)
    run.task("slow", 1).cancel("nobody needs it")
    assert run.wait(20, progress=False).status == "completed"
    assert run.result is None
    assert run["slow"][2] == 20
    assert run.task("slow", 1).status == "canceled"
    wait_until((tmp_path / "left-1").exists, what="it was not interrupted")
    told = run.events.query("type == 'step.canceled'").iloc[0]
    assert told["data"]["reason"] == "nobody needs it"


def test_a_result_is_given_by_hand(site: Site, tmp_path: Path) -> None:
    run = _until_it_hangs(_hanging(site), tmp_path)
    run.task("slow", 1).complete(1000)
    assert run.wait(20, progress=False).result == 1020
    assert "by" in run.events.query("step_name == 'slow' and index == 1 and type == 'step.completed'").iloc[0]["data"]


def test_a_result_given_by_hand_is_mapped_over_named_and_owned(site: Site) -> None:
    """Law: by hand or by a worker, what follows is the same: elements, their names, artifacts that the run owns."""
    flow = site.flow()

    @flow.entry(retry=Retry(2, backoff="1h"))
    def frames(path: str) -> list[pd.DataFrame]:
        raise OSError(path)

    @flow.step(each(frames), key=lambda frame: f"{len(frame)} rows")
    def rows(frame: pd.DataFrame) -> int:
        return sum(frame["n"].tolist())

    run = flow.start(path="away")
    wait_until(lambda: run.status == "running" and list(run.tasks["status"]) == ["retrying"], what=lambda: run.tasks)
    given = [pd.DataFrame({"n": range(4)}), pd.DataFrame({"n": range(20_000)})]
    run.task(frames).complete(given)
    assert run.wait(20, progress=False).status == "completed"
    assert run["rows"]["4 rows"] == 6
    pd.testing.assert_frame_equal(run["frames"][1], given[1])


def test_emissions_are_given_by_hand(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["order.priced", "order.rejected"], retry=Retry(2, backoff="1h"))
    def price(order: str) -> None:
        raise OSError(order)

    @flow.step("order.priced")
    def ship(order: Any) -> Any:
        return order

    run = flow.start(order="a")
    wait_until(lambda: list(run.tasks["status"]) == ["retrying"], what=lambda: run.tasks)
    with refused(CommandRefused, "'order.prised'", "order.priced"):
        run.task("price").complete(emits={"order.prised": 1})
    run.task("price").complete(emits={"order.priced": {"price": 7}})
    assert run.wait(20, progress=False).result == {"price": 7}


def test_a_back_off_is_cut_short(site: Site, tmp_path: Path) -> None:
    flow, mended = site.flow(), tmp_path / "mended"

    @flow.entry(retry=Retry(5, backoff="1h"))
    def read(path: Path) -> str:
        return path.read_text()

    run = flow.start(path=mended)
    wait_until(lambda: list(run.tasks["status"]) == ["retrying"], what=lambda: run.tasks)
    mended.write_text("there")
    run.task("read").retry()
    assert run.wait(20, progress=False).result == "there"


def test_a_failed_task_is_called_again_in_this_process(site: Site) -> None:
    """Law: `debug` gives the code and the values that the task had, also when the cell was run again since."""
    flow = site.flow()

    @flow.entry
    def numbers() -> list[int]:
        return [3, 0]

    @flow.step(each(numbers))
    def inverse(number: int, ctx: Context) -> float:
        ctx.log.info("dividing")
        return 1 / number

    run = flow.start()
    with pytest.raises(StepFailure):
        _ = run.wait(20, progress=False).result
    call = run.task("inverse", 1).debug()
    assert call.args[0] == 0
    with pytest.raises(ZeroDivisionError):
        call()
    assert run.task("inverse", 0).debug()() == 1 / 3


def test_what_has_ended_or_is_not_there_is_left_alone(site: Site, tmp_path: Path) -> None:
    run = _until_it_hangs(_hanging(site), tmp_path)
    with refused(CommandRefused, "'slow[0]'", "completed"):
        run.task("slow[0]").cancel()
    with refused(CommandRefused, "'slow'", "3 tasks", "slow["):
        run.task("slow")
    with refused(CommandRefused, "'slow[n7]'", "slow[n1]"):
        run.task("slow", "n7")
    with refused(CommandRefused, "'slow[7]'", "yet"):
        run.task("slow[7]")
    with refused(CommandRefused, "'sloww'", "slow"):
        run.task("sloww")
    with refused(CommandRefused, "'total'", "not ready"):
        run.task("total")
    earlier = run.at(run.events["id"].iloc[-1])
    assert earlier.task("slow[1]").status == "running"
    with refused(CommandRefused, "changed", "looked at"):
        earlier.task("slow[1]").cancel()
    run.cancel()
    with refused(RunEnded, "canceled"):
        run.task("slow[n1]").complete(1)
    run.delete()
    with refused(UnknownRun, "There is no run"):
        run.task("slow", 1)


def test_a_value_that_the_step_could_not_return_changes_nothing(site: Site) -> None:
    flow = site.flow()

    @flow.entry(retry=Retry(2, backoff="1h"))
    def read(path: str) -> list[Order]:
        raise OSError(path)

    @flow.step(each(read))
    def bill(order: Order) -> float:
        return order.total

    @flow.step(collect(bill), emits=["small", "large"], retry=Retry(2, backoff="1h"))
    def decide(bills: list[float]) -> None:
        raise OSError("nobody there")

    run = flow.start(path="away")
    wait_until(lambda: list(run.tasks["status"]) == ["retrying"], what=lambda: run.tasks)
    before = len(run.events)
    with refused(CommandRefused, "'read'", "list"):
        run.task("read").complete({"id": 1})
    with refused(CommandRefused, "'read'", "0.id", "integer"):
        run.task("read").complete([{"id": "seven"}])
    with refused(CommandRefused, "no topic 'small'"):
        run.task("read").complete(emits={"small": 1})
    with refused(PayloadError, "value"):
        run.task("read").complete([Order(id=1), threading.Lock()])
    assert len(run.events) == before
    run.task("read").complete([Order(id=1, total=3.5), {"id": 2, "total": "4"}])
    wait_until(lambda: "decide" in run.view.tasks and run.task("decide").status == "retrying", what=lambda: run.tasks)
    with refused(CommandRefused, "declares 2 topics", "emits="):
        run.task("decide").complete(7.5)
    run.task("decide").complete(emits={"small": [*run["bill"]]})
    assert run.wait(20, progress=False).status == "completed"
    assert run.view.topics == {"small": 1}


def test_a_held_task_is_ended_by_hand_and_waits_no_more(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def numbers() -> list[int]:
        return [1, 2, 3]

    @flow.step(each(numbers), hold=Approval(message="Do it?", timeout="1d"))
    def double(number: int) -> int:
        return number * 2

    @flow.step(collect(double), hold_emits=Approval(message="Good?"))
    def total(numbers: list[int], ctx: Context) -> int:
        return sum(numbers) * ctx.attempt

    run = flow.start()
    wait_until(lambda: list(run.tasks["status"]).count("awaiting") == 3, what=lambda: run.tasks)
    with refused(CommandRefused, "'double[0]'", "run.resolve"):
        run.task("double[0]").retry()
    run.task("double[0]").complete(100)
    assert run.task("double[0]").view.awaiting == {}
    with refused(AlreadyAnswered, "'double[0]'"):
        run.resolve("double[0]", True)
    run.resolve("double[1]", True)
    run.resolve("double[2]", True)
    wait_until(lambda: "total" in run.view.tasks and run.status == "awaiting", what=lambda: run.tasks)
    run.task("total").retry("once more")
    wait_until(lambda: run.task("total").attempt == 2 and run.status == "awaiting", what=lambda: run.tasks)
    run.resolve("total", True)
    assert run.wait(20, progress=False).result == 220


def test_a_step_in_a_debugger_has_its_context(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def begin(name: str, ctx: Context) -> str:
        ctx.state.set("seen", 1)
        return name.upper()

    @flow.step(begin)
    def finish(name: str, ctx: Context) -> list[object]:
        found = [name, ctx.input["name"], ctx.state.incr("seen"), current().step, ctx.attempt, ctx.trigger]
        ctx.state.delete("seen")
        ctx.artifact("name", name)
        ctx.progress(1, 2)
        return [*found, ctx.state.all()]

    run = flow.start(name="ann").wait(20, progress=False)
    expected = ["ANN", "ann", 2, "finish", 1, None, {}]
    assert run.result == expected
    call = run.task(finish).debug()
    before = len(run.events)
    site.nbflow.store.text.hset(site.nbflow.store.keys.state(run.id), "seen", "1")
    assert run.task(finish).debug()() == expected
    assert call.args[0] == "ANN"
    assert len(run.events) == before


def test_a_run_goes_on_from_one_that_was_ended_by_hand(site: Site, tmp_path: Path) -> None:
    """Law: a result given by hand is one that a resume takes over; what was canceled is executed."""
    run = _until_it_hangs(_hanging(site), tmp_path)
    run.task("slow", 1).cancel()
    assert run.wait(20, progress=False).status == "completed"
    (tmp_path / "hangs").unlink()
    again = run.resume()
    wait_until((tmp_path / "hangs").exists, what=lambda: again.events)
    again.task("slow", 1).complete(5)
    assert again.wait(20, progress=False).result == 25
    third = again.resume()
    assert third.wait(20, progress=False).result == 25
    assert "step.started" not in set(third.events["type"])
