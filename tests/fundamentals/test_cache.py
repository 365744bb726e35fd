"""`cache=`: what another run computed with the same code from the same input is taken over, and not queued."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nbflow import Approval, Context, Flow, Retry, collect, each, job
from nbflow.app import Nbflow
from nbflow.errors import DefinitionError
from nbflow.watch.run import Run
from tests.bad_input import refused
from tests.site import Site


def frames(flow: Flow, *, by: int = 1, shown: str = "name") -> Flow:
    """Frames by name, and their sum. `by` stands for a helper that is edited, `shown` for the function of the names."""

    def scaled(x: int) -> int:
        return x * by

    @flow.entry
    def names(n: int = 3, first: int = 0) -> list[str]:
        return [f"f{i}" for i in range(first, first + n)]

    @flow.step(each(names), key=lambda name: f"{shown} {name}", cache="1h")
    def load(name: str) -> pd.DataFrame:
        return pd.DataFrame({"x": [scaled(int(name[1:])), 1]})

    @flow.step(collect(load), cache=timedelta(hours=1))
    def total(loaded: list[pd.DataFrame]) -> int:
        return int(sum(frame.x.sum() for frame in loaded))

    return flow


def queued(run: Run) -> list[str]:
    return [event.task for event in run.follow(timeout=20) if event.type == "step.queued"]


def started(flow: Flow, *args: Any, **values: Any) -> Run:
    return flow.start(*args, **values).wait(20, progress=False)


def test_a_second_run_takes_over_what_the_first_computed(site: Site):
    flow = frames(site.flow())
    first, second = started(flow), started(flow)
    assert (first.result, second.result) == (6, 6)
    assert queued(first) == ["names", "load[0]", "load[1]", "load[2]", "total"]
    assert queued(second) == ["names"]
    assert second["load"]["name f2"].x.tolist() == [2, 1]
    tasks = second.tasks.set_index("task")
    assert tasks["taken"].dropna().unique().tolist() == ["cached"]
    assert tasks.loc["load[1]", "taken_from"] == first.id
    assert first.id[:8] in second.why("total")
    assert "taken over" in second._repr_mimebundle_()["text/html"]
    again = second.resume().wait(20, progress=False)
    assert queued(again) == []
    assert again.result == 6


def test_of_a_map_only_new_elements_are_executed_wherever_they_stand(site: Site):
    flow = frames(site.flow())
    started(flow, n=3, first=1)
    more = started(flow, n=4, first=0)
    assert queued(more) == ["names", "load[0]", "total"]
    assert more.result == 10


def test_an_edited_helper_is_executed_and_what_names_elements_is_asked_anew(site: Site):
    flow = frames(site.flow())
    started(flow)
    edited = started(frames(flow, by=10))
    assert (queued(edited), edited.result) == (["names", "load[0]", "load[1]", "load[2]", "total"], 33)
    renamed = started(frames(flow, by=10, shown="file"))
    assert renamed["load"]["file f2"].x.tolist() == [20, 1]
    assert started(frames(flow)).result == 6


def test_a_run_can_be_told_to_execute_all_of_it(site: Site):
    flow = frames(site.flow())
    first = started(flow)
    anew = flow.options(cache=False).start().wait(20, progress=False)
    assert queued(anew) == queued(first)
    assert started(flow).tasks["taken_from"].dropna().unique().tolist() == [anew.id]
    assert queued(anew.restart().wait(20, progress=False)) == queued(first)


def test_in_process_the_same_is_taken_over_as_on_workers(site: Site):
    flow = frames(site.flow())
    trial = flow.trial()
    for _ in range(2):
        here, there = trial.run(), started(flow)
        assert Counter((e.type, e.task) for e in here.follow()) == Counter((e.type, e.task) for e in there.follow())


def test_what_is_kept_outlives_its_run_and_goes_when_it_is_let_go(site: Site, nbflow: Nbflow):
    flow = frames(site.flow())
    first = started(flow)
    first.delete()
    assert queued(started(flow)) == ["names"]
    assert any(row.what == "cache" and row.count >= 4 for row in nbflow.du())
    assert nbflow.clear_cache() >= 4
    assert len(queued(started(flow))) == 5


@pytest.fixture
def nbflow(site: Site) -> Nbflow:
    return site.nbflow


def test_the_end_of_a_step_that_looked_at_its_run_is_not_kept_and_says_so():
    flow = Flow("looks")

    @flow.entry(cache="1h")
    def begin(n: int, ctx: Context) -> list[int]:
        assert ctx.input == {"n": n}, "an entry receives it anyway"
        return [n, n + 1]

    @flow.step(each(begin), cache="1h")
    def counts(n: int, ctx: Context) -> int:
        ctx.log.info("here")
        ctx.state.incr("n")
        return n

    @flow.step(each(begin), cache="1h")
    def placed(n: int, ctx: Context) -> Any:
        return n, ctx.index

    trial = flow.trial()
    first = trial.run(n=1)
    told = {event.task: event.data.get("uncached") for event in first.follow() if event.type == "step.completed"}
    assert told == {
        "begin": None,
        "counts[0]": "ctx.state",
        "counts[1]": "ctx.state",
        "placed[0]": None,
        "placed[1]": None,
    }
    assert "ctx.state" in first.why("counts")
    assert queued(trial.run(n=1)) == ["counts[0]", "counts[1]"]
    assert "placed[0]" in queued(trial.run(n=2)), "the same element, in another place"


def test_failures_are_not_kept_and_a_later_attempt_is(tmp_path: Path):
    flow = Flow("fails")

    @flow.entry(cache="1h", retry=Retry(2))
    def flaky(good: bool, seen: Path) -> int:
        if not seen.exists():
            seen.touch()
            raise ValueError("the first time")
        if not good:
            raise ValueError("always")
        return 1

    trial = flow.trial()
    for good in (True, False):
        seen = tmp_path / str(good)
        runs = [trial.run(good=good, seen=seen) for _ in range(2)]
        assert [run.status for run in runs] == ["completed" if good else "failed"] * 2
        assert queued(runs[1]) == ([] if good else ["flaky", "flaky"])


def test_what_starts_flows_is_executed_each_time():
    child, flow = Flow("started-child"), Flow("starts")

    @child.entry(cache="1h")
    def double(n: int) -> int:
        return 2 * n

    @flow.entry(cache="1h")
    def begin(n: int, ctx: Context) -> Any:
        return ctx.start_flow(child, n, await_result=True)

    trial = flow.trial()
    first, second = trial.run(n=3), trial.run(n=3)
    assert (first.result, second.result) == (6, 6)
    assert queued(second)[0] == "begin"
    assert [child.status for child in second.children] == ["completed"]


def test_who_is_asked_before_a_task_is_not_asked_for_one_that_is_taken_over():
    flow = Flow("asks")

    @flow.entry(cache="1h", hold=Approval(bool, message="Well?"))
    def begin(n: int) -> int:
        return n

    trial = flow.trial().resolve("begin", True)
    trial.run(n=1)
    assert queued(trial.run(n=1)) == []


def test_interleavings_and_tests_begin_with_nothing():
    flow = frames(Flow("fresh"))
    assert flow.test().result == flow.test().result == 6
    assert len(queued(flow.test())) == 5
    assert len(queued(flow.trial().interleavings(3))) == 5


def test_a_job_is_computed_once_too(site: Site):
    @job(name=site.flow().name, cache="1h")
    def slow(n: int) -> int:
        return n + 1

    first = slow.enqueue(1).wait(20, progress=False)
    assert queued(first) == [slow.step.name]
    assert queued(slow.enqueue(1).wait(20, progress=False)) == []
    assert queued(slow.enqueue(1, cache=False).wait(20, progress=False)) == [slow.step.name]


@pytest.mark.parametrize("wrong", [True, False, 0, -1, "soon", "2000d", []])
def test_a_cache_without_a_time_is_refused(wrong: Any):
    flow = Flow("refused-cache")
    with refused(DefinitionError):

        @flow.entry(cache=wrong)
        def begin() -> int:
            return 1

    assert flow.steps() == []


def test_options_that_say_neither_yes_nor_no_are_refused():
    with refused(DefinitionError):
        frames(Flow("refused-options")).options(cache="1h")  # type: ignore[arg-type]
