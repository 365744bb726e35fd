"""What is wrong while a run goes on: the step fails for one clear reason, and commands say which state is in the way."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import nbflow
from nbflow import Context, each
from nbflow.errors import CommandRefused, NotEnded, RunEnded, StepFailure, UnknownRun
from nbflow.watch.run import Run
from tests.bad_input import failure_of, refused
from tests.site import Site, wait_until


class Order(BaseModel):
    total: float
    lines: list[int] = []


# -- payloads -------------------------------------------------------------------------------------------------------------


def test_a_result_that_cannot_come_back_fails_the_step_and_names_the_part(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def make() -> Any:
        return {"rows": [1, {"guard": threading.Lock()}]}

    failure = failure_of(flow.start(), "PayloadError", "`result['rows'][1]['guard']`", "lock", "plain data")
    assert "'make'" in failure.text


def test_an_emission_that_cannot_come_back_names_its_topic(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["order.made", "order.lost"])
    def make(many: bool, ctx: Context) -> None:
        if many:
            ctx.emit_each("order.lost", [1, {"guard": threading.Lock()}])
        else:
            ctx.emit("order.made", [threading.Lock()])

    run = flow.start(many=False)
    failure_of(run, "PayloadError", "`order.made[0]`", "lock")
    assert not [event for event in run.follow() if event.type == "emit"]
    failure_of(flow.start(many=True), "PayloadError", "`order.lost[1]['guard']`", "lock")


def test_an_undeclared_topic_fails_the_step_and_names_the_nearest(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["order.priced", "order.rejected"])
    def price(ctx: Context) -> None:
        ctx.emit("order.priced", 1)
        ctx.emit("order.pricd", 2)

    @flow.step("order.priced")
    def ship(order: int) -> int:
        return order

    run = flow.start()
    failure_of(run, "'price'", "'order.pricd'", "Did you mean 'order.priced'", reason="undeclared_emit")
    assert not [event for event in run.follow() if event.type == "emit"]
    assert run.view.steps["ship"].skipped


def test_a_value_for_several_topics_is_a_mistake_that_is_said(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits=["a", "b"])
    def choose() -> int:
        return 1

    failure_of(flow.start(), "'choose'", "2 topics", "'a', 'b'", "ctx.emit")


def test_what_each_cannot_spread_is_said(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def one() -> int:
        return 7

    @flow.step(each(one))
    def twice(n: int) -> int:
        return n

    failure_of(flow.start(), "'one' returned int", "each(one) needs a list")


def test_a_payload_that_does_not_fit_names_topic_field_and_value(site: Site) -> None:
    flow = site.flow()

    @flow.entry(emits="order.made")
    def make() -> Any:
        return {"total": "a lot", "lines": [1, "x"]}

    @flow.step("order.made")
    def price(order: Order) -> float:
        return order.total

    run = flow.start()
    failure_of(run, "'order.made'", "price()", "order.total", "'a lot'", "and 1 more", reason="invalid_input")
    assert run["make"] == {"total": "a lot", "lines": [1, "x"]}


def test_a_result_that_does_not_fit_the_next_step_names_both(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def make() -> Any:
        return {"lines": []}

    @flow.step(make)
    def price(order: Order) -> float:
        return order.total

    failure_of(flow.start(), "'make'", "price()", "order.total is missing", reason="invalid_input")


def test_state_that_is_no_json_or_no_number_names_its_key(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def keep(how: str, ctx: Context) -> None:
        ctx.state.set("seen", "text")
        if how == "json":
            ctx.state.set("guard", threading.Lock())
        ctx.state.incr("seen")

    failure_of(flow.start(how="json"), "'guard'", "no JSON value")
    failure_of(flow.start(how="number"), "'seen'", "no number")


# -- runs -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(site: Site) -> Run:
    """A run that nobody executes: its queue has no worker."""
    flow = site.flow(queue="nobody")

    @flow.entry
    def parse() -> list[int]:
        return [1]

    @flow.step(each(parse))
    def merge(n: int) -> int:
        return n

    return flow.start()


def test_an_unknown_run_is_said(site: Site) -> None:
    for nothing in ("00nothing", "", "no such run", "*", "a:b"):
        with refused(UnknownRun, f"no run {nothing!r}", "nbflow.runs()"):
            nbflow.run(nothing)
    with refused(UnknownRun, "no run '00nothing'"):
        site.nbflow.cancel("00nothing")
    with refused(UnknownRun, "no run '00nothing'"):
        _ = Run("00nothing", site.nbflow).status


def test_a_beginning_that_several_runs_have_names_them(site: Site) -> None:
    flow = site.flow(queue="nobody")

    @flow.entry
    def go() -> None: ...

    runs: dict[str, str] = {}
    while True:
        run = flow.start().id
        if run[0] in runs:
            break
        runs[run[0]] = run
    with refused(UnknownRun, f"runs begin with {run[0]!r}", "more digits"):
        nbflow.run(run[0])
    assert nbflow.run(run[:20]).id == run


def test_a_flow_without_a_run_says_so(site: Site) -> None:
    flow = site.flow()
    with refused(UnknownRun, repr(flow.name), "no run yet", "flow.start("):
        _ = flow.last


def test_a_run_that_ended_cannot_be_canceled(site: Site, waiting: Run) -> None:
    waiting.cancel("first")
    keys = set(site.nbflow.store.client.scan_iter("nbflow:*:" + waiting.id + "*"))
    with refused(RunEnded, waiting.id[:8], "canceled already"):
        waiting.cancel()
    assert set(site.nbflow.store.client.scan_iter("nbflow:*:" + waiting.id + "*")) == keys
    assert waiting.view.end["reason"] == "first"


def test_the_result_of_a_run_that_goes_on_is_refused(waiting: Run) -> None:
    with refused(NotEnded, "has not ended: it is running", "run.wait()"):
        _ = waiting.result
    with refused(NotEnded, "'parse' has not ended: it is queued"):
        _ = waiting["parse"]
    with refused(CommandRefused, "no step 'prase'", "Did you mean 'parse'?"):
        _ = waiting["prase"]
    with refused(CommandRefused, "no artifact 'plot'"):
        waiting.artifact("plot")
    with pytest.raises(TimeoutError, match="goes on"):
        waiting.wait(0.05, progress=False)


def test_the_result_of_a_canceled_run_is_refused(waiting: Run) -> None:
    waiting.cancel("enough")
    with refused(RunEnded, "was canceled (enough)"):
        _ = waiting.result
    with refused(RunEnded, "'parse' was canceled"):
        _ = waiting["parse"]


def test_elements_that_are_not_there_are_named(site: Site) -> None:
    flow = site.flow()

    @flow.entry
    def files() -> list[str]:
        return ["a.csv", "b.csv"]

    @flow.step(each(files), key=lambda name: name)
    def parse(name: str) -> int:
        return len(name)

    run = flow.start().wait(20, progress=False)
    with refused(CommandRefused, "'parse'", "the key 'a.cvs'", "Did you mean 'a.csv'"):
        _ = run["parse"]["a.cvs"]
    with pytest.raises(IndexError, match=r"'parse' has no task of index 7; it has 2 tasks"):
        _ = run["parse"][7]
    with refused(CommandRefused, "no step 'merge'"):
        _ = run["merge"]
    with refused(RunEnded, "completed already"):
        run.cancel()


def test_a_failed_run_gives_its_failure_and_the_workers_go_on(site: Site, tmp_path: Path) -> None:
    """Law: after all of this the same workers execute the next flow."""
    flow = site.flow()

    @flow.entry
    def fails(ok: bool) -> int:
        if not ok:
            raise ValueError("not ok")
        return 1

    run = flow.start(ok=False).wait(20, progress=False)
    with pytest.raises(StepFailure, match="'fails' failed at line"):
        _ = run.result
    assert flow.start(ok=True).wait(20, progress=False).result == 1
    wait_until(lambda: site.living() >= 2, what=site.living)
