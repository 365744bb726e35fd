"""Flows that start flows, on real workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nbflow
from nbflow import Context, Flow, Retry, collect, each
from nbflow.cli.main import app as cli
from nbflow.define import registry
from nbflow.errors import StepFailure
from nbflow.watch.run import Run
from tests.site import Site, wait_until


def a_child(site: Site) -> Flow:
    child = site.flow()

    @child.entry
    def double(n: int) -> int:
        return 2 * n

    return child


def a_parent(site: Site, child: Any) -> Flow:
    parent = site.flow()

    @parent.entry
    def begin(n: int, ctx: Context) -> Any:
        return ctx.start_flow(child, {"n": n}, await_result=True)

    return parent


def ended(run: Run) -> Run:
    return run.wait(60, progress=False)


def test_a_map_awaits_a_run_for_each_element_and_they_can_be_looked_at(site: Site):
    child, parent = a_child(site), site.flow()

    @parent.entry
    def numbers() -> list[int]:
        return [1, 2, 3]

    @parent.step(each(numbers))
    def one(n: int, ctx: Context) -> Any:
        return ctx.start_flow(child, n, await_result=True)

    @parent.step(collect(one))
    def total(values: list[int]) -> int:
        return sum(values)

    run = ended(parent.start())
    assert run.result == 12
    assert sorted(child.result for child in run.children) == [2, 4, 6]
    found = nbflow.runs(parent=run)
    assert set(found["id"]) == {child.id for child in run.children}
    assert nbflow.runs(parent=run.id[:12], status="failed").empty
    shown = CliRunner().invoke(cli, ["show", run.id])
    assert shown.exit_code == 0, shown.output
    assert run.children[0].id[:8] in shown.output


def test_a_run_keeps_the_code_of_what_it_starts_as_it_was_launched(site: Site):
    child = a_child(site)
    parent = a_parent(site, child)
    run = parent.options(delay="2s").start(n=1)

    @child.entry(name="double")
    def triple(n: int) -> int:
        return 3 * n

    assert ended(run).result == 2
    assert ended(parent.start(n=1)).result == 3


def test_a_published_flow_is_started_by_its_name(site: Site):
    child = a_child(site)
    name = child.name
    parent = a_parent(site, name + "")
    parent.publish()  # and what it starts with it
    assert len(child.versions()) == 1
    with_name = nbflow.start_flow(parent.name, {"n": 5})
    assert ended(with_name).result == 10
    assert with_name.children[0].version == 1


def test_a_run_goes_on_with_the_code_that_it_brought_along(site: Site, tmp_path: Path):
    """Where neither flow is defined any more."""
    child, parent, gate = a_child(site), site.flow(), tmp_path / "open"

    @parent.entry
    def begin(n: int, ctx: Context) -> Any:
        if not gate.exists():
            raise ValueError("closed")
        return ctx.start_flow(child, n, await_result=True)

    run = ended(parent.start(n=2))
    gate.touch()
    for flow in (child, parent):
        for step in flow.steps():
            registry.forget(flow.name, step.name)
    again = ended(run.resume())
    assert again.result == 4
    assert again.children[0].parent == again


def test_a_worker_killed_after_the_start_was_said_neither_loses_nor_doubles_it(site: Site, tmp_path: Path):
    """Between the step's wish and the settle that makes it true."""
    child, parent, died = a_child(site), site.flow(), tmp_path / "died"

    @parent.entry
    def begin(ctx: Context) -> Any:
        started = ctx.start_flow(child, 4, await_result=True)
        ctx.state.set(f"id{len(ctx.state.all())}", started.id)
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return started

    run = ended(parent.start())
    assert run.result == 8
    assert [each.id for each in run.children] == [run.state["id0"]]
    assert run.state["id0"] == run.state["id1"]
    assert len(nbflow.runs(child.name)) == 1


def test_cancel_reaches_the_run_that_is_awaited(site: Site):
    child = site.flow()

    @child.entry
    def sleeps(n: int) -> int:
        import time

        time.sleep(600)
        return n

    run = a_parent(site, child).start(n=1)
    wait_until(lambda: bool(run.children) and run.children[0].view.tasks, what=lambda: str(run.view))
    slow = run.children[0]
    wait_until(lambda: slow.tasks["status"].tolist() == ["running"], what=lambda: str(slow.view))
    assert run.status == "awaiting"
    assert run.why("begin") == f"it waits for the run {slow.id[:8]} of flow {child.name!r}, which is running"
    run.cancel()
    assert ended(slow).status == "canceled"


def test_a_child_that_is_canceled_is_a_failed_attempt(site: Site):
    child, parent = site.flow(), site.flow()

    @child.entry
    def sleeps(n: int) -> int:
        import time

        time.sleep(600 if n == 1 else 0)
        return n

    @parent.entry(retry=Retry(2, backoff=0))
    def begin(ctx: Context) -> Any:
        return ctx.start_flow(child, ctx.attempt, await_result=True)

    run = parent.start()
    wait_until(lambda: bool(run.children), what=lambda: str(run.view))
    run.children[0].cancel("not this one")
    assert ended(run).result == 2
    assert "was canceled: not this one" in run.attempts["error"].tolist()[0]


def test_a_flow_that_is_nowhere_is_named_with_the_next_move(site: Site):
    with pytest.raises(StepFailure, match="neither came along with the run nor is published"):
        _ = ended(a_parent(site, "nowhere").start(n=1)).result
