"""Trials inside steps of trials, and in several threads at once. The modules of a process are everybody's: one waits for the
other where both cannot be, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nbflow import Flow
from tests.site import wait_until


def doubles(n: int, name: str = "t_inner") -> Any:
    """The result of a trial of a flow with a coroutine for a step: it needs an event loop of its own."""
    inner = Flow(name)

    @inner.entry
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    return inner.test(n=n).result


def outer(body: Callable[..., Any], name: str = "t_outer") -> Flow:
    flow = Flow(name)
    flow.entry(name="first")(body)

    @flow.step("step:first")
    def more(n: int) -> int:
        return n + 1

    return flow


def plain(n: int) -> int:
    return doubles(n)


async def within_a_loop(n: int) -> int:
    return doubles(n)


async def beside_a_loop(n: int) -> int:
    return sum(await asyncio.gather(asyncio.to_thread(doubles, n), asyncio.to_thread(doubles, 0, "t_other")))


async def after_a_loop(n: int) -> int:
    return await asyncio.create_task(asyncio.to_thread(doubles, n))


@pytest.mark.parametrize("body", [plain, within_a_loop, beside_a_loop, after_a_loop], ids=lambda body: body.__name__)
@pytest.mark.parametrize("in_a_notebook", [False, True])
def test_a_step_of_a_trial_may_make_a_trial(body: Callable[..., Any], in_a_notebook: bool):
    async def cell() -> Any:
        return outer(body).test(n=3).result

    results: list[Any] = []

    def all_of_it() -> None:
        results.append(asyncio.run(cell()) if in_a_notebook else outer(body).test(n=3).result)

    thread = threading.Thread(target=all_of_it, daemon=True)  # where it hangs, the test fails
    thread.start()
    wait_until(lambda: not thread.is_alive(), limit_s=60, what="a trial that waits for itself")
    assert results == [7]


def test_trials_of_several_threads_come_one_after_the_other():
    """Law: what a thread declares and starts is its own, while another one is among the modules of a run."""
    results: list[Any] = []

    def trial(n: int) -> None:
        flow = outer(plain, f"t_outer{n}")
        results.append([flow.test(n=n).result, flow.test(n=n).result])

    threads = [threading.Thread(target=trial, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [[2 * n + 1] * 2 for n in range(4)]
