"""Steps that are coroutines: each in an event loop of its own, so that what it leaves behind ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from nbflow.errors import Canceled
from nbflow.worker.context import StepTimeout

__all__ = ["run"]


def run(step: Coroutine[Any, Any, Any]) -> Any:
    """The result. An interrupt reaches the step wherever in the loop it strikes: between two tasks, asyncio takes it for
    the error of a callback, and only tells it (`Handle._run`)."""
    swallowed: list[BaseException] = []

    async def interruptible() -> Any:
        task = asyncio.current_task()

        def tell(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
            error = told.get("exception")
            if isinstance(error, Canceled | StepTimeout) and task is not None:
                swallowed.append(error)
                task.cancel()
            else:
                loop.default_exception_handler(told)

        asyncio.get_running_loop().set_exception_handler(tell)
        return await step

    try:
        with asyncio.Runner() as runner:
            return runner.run(interruptible())
    except asyncio.CancelledError:
        if swallowed:
            raise swallowed[0] from None
        raise
