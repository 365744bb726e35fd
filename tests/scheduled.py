"""Schedules on a clock that a test moves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nbflow import Flow
from nbflow.app import Nbflow
from nbflow.engine.schedules import Schedules

__all__ = ["Clock", "at", "keys_of", "nightly"]


def nightly(name: str = "etl", *, long: bool = False, n: int = 1) -> Flow:
    flow = Flow(name)

    @flow.entry(name="load")
    def load(folder: str = "data", year: int = 2000) -> str:
        return f"{folder} {year} {n}"

    for number in range(50 if long else 0):  # a graph of more than 4 KiB

        @flow.step(load, name=f"step_{number:02}_with_a_long_name")
        def step(text: str) -> str:
            return text

    return flow


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Clock:
    """The server's time as the schedules see it."""

    def __init__(self, nbflow: Nbflow, text: str) -> None:
        self.ms = 0
        self.set(text)
        nbflow.__dict__["planned"] = self.seen_by(nbflow)

    def set(self, text: str) -> None:
        self.ms = round(at(text).timestamp() * 1000)

    def seen_by(self, nbflow: Nbflow) -> Schedules:
        parts: Any = nbflow.planned
        return Schedules(
            nbflow.store, nbflow.signer, nbflow.published, parts._launcher, parts._artifacts, now_ms=lambda: self.ms
        )


def keys_of(nbflow: Nbflow, flow: str = "etl") -> list[str]:
    return sorted(row.key for row in nbflow.index.runs(flow=flow, limit=1000))
