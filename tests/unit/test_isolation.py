"""`isolation=`: what may be asked for, what of it is in the plan, and how worker and process hand each other their part."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from nbflow import Flow, job
from nbflow.define.plan import compile_plan
from nbflow.errors import DefinitionError
from nbflow.worker.exchange import Exchange
from nbflow.worker.task import Ending, Job


@pytest.mark.parametrize("wrong", ["thread", "", True, 1, "Process", ["process"]])
def test_anything_else_is_refused_when_the_step_is_defined(wrong: Any) -> None:
    flow = Flow("isolation-refused")
    with pytest.raises(DefinitionError, match="isolation= of step 'step'") as caught:

        @flow.entry(isolation=wrong)
        def step() -> None: ...

    assert "isolation='process'" in (caught.value.hint or "")
    assert list(flow.steps()) == []
    with pytest.raises(DefinitionError, match="isolation= of step 'refused_job'"):

        @job(isolation=wrong)
        def refused_job() -> None: ...


def test_the_plan_says_it_of_the_step_and_is_the_same_where_nobody_asks() -> None:
    flow = Flow("isolation-planned")

    @flow.entry
    def plain() -> None: ...

    @flow.step(plain, isolation="process")
    def apart(x: None) -> None: ...

    table = compile_plan(flow.spec()).table
    assert "apart" not in json.loads(table["step:plain"])
    assert json.loads(table["step:apart"])["apart"] == 1


def test_in_a_test_it_is_executed_in_the_test() -> None:
    flow = Flow("isolation-tested")

    @flow.entry(isolation="process")
    def where() -> int:
        return os.getpid()

    assert flow.test().result == os.getpid()


JOB = Job(
    "j", "r", "s[1]", 2, "q", None, 1, "p", "b", "sig", "f", "d", "", (b'{"\xc3\xa9":1}', None, b"\xff"), "k1", is_apart=True
)  # fmt: skip


def test_a_job_and_its_ending_come_over_as_they_are() -> None:
    ours = Exchange()
    theirs = Exchange(ours.fd)
    ours.put_job(JOB, "w", 7)
    assert theirs.take_job() == (JOB, "w", 7)
    large = Ending(
        "completed", "é" * 2_000_000, ["t", "one", "", 1, "0", "\ud800"], lacks="x", again_ms=3, opened=False
    )
    theirs.put_ending(large)
    assert ours.take_ending() == large


def test_who_dies_before_it_said_all_has_said_nothing() -> None:
    exchange = Exchange()
    exchange.put_job(JOB, "w", 7)
    assert exchange.take_ending() is None  # it died before it took the job
    exchange.put_job(JOB, "w", 7)
    exchange.take_job()
    assert exchange.take_ending() is None
    exchange.put_ending(Ending("completed", "{}"))
    os.ftruncate(exchange.fd, os.fstat(exchange.fd).st_size - 1)
    assert exchange.take_ending() is None
