"""Coroutine steps: results, errors, and interrupts wherever they strike."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nbflow.errors import Canceled
from nbflow.worker.context import StepTimeout
from nbflow.worker.coroutines import run


@pytest.mark.parametrize("error", [Canceled("the task was interrupted"), StepTimeout("the step took too long")])
def test_an_interrupt_that_strikes_between_two_tasks_reaches_the_step(error: BaseException) -> None:
    """Law: `finally` blocks run, with what they await, and the attempt ends by the interrupt."""
    cleaned: list[str] = []

    def strike() -> None:
        raise error

    async def step() -> None:
        asyncio.get_running_loop().call_soon(strike)
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            cleaned.append("yes")

    with pytest.raises(type(error)) as raised:
        run(step())
    assert raised.value is error
    assert cleaned == ["yes"]


def test_an_error_of_a_callback_is_told_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def strike() -> None:
        raise ValueError("of a callback")

    async def step() -> int:
        asyncio.get_running_loop().call_soon(strike)
        await asyncio.sleep(0.01)
        return 7

    with caplog.at_level(logging.ERROR, "asyncio"):
        assert run(step()) == 7
    assert "of a callback" in caplog.text


def test_a_step_that_cancels_itself_is_canceled_by_itself() -> None:
    async def step() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(step())
