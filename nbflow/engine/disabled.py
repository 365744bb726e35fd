"""Launches that are switched off while flows are only read, as `--from` does."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["LaunchDisabled", "launches_disabled", "refuse_if_disabled"]

_disabled: list[bool] = []


class LaunchDisabled(BaseException):
    """A start where flows are only read. No error of the author's, so no `except Exception` of his may catch it."""


@contextmanager
def launches_disabled() -> Generator[None]:
    """Inside the block no flow is started: `start` raises `LaunchDisabled` instead, in all threads."""
    _disabled.append(True)
    try:
        yield
    finally:
        _disabled.pop()


def refuse_if_disabled(flow: str) -> None:
    """Raise `LaunchDisabled` where flows are only read."""
    if _disabled:
        raise LaunchDisabled(flow)
