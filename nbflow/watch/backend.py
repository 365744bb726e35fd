"""What the handle of a run works with: where its events are read from, what follows them, and who carries out commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nbflow.model.artifacts import ArtifactStore
from nbflow.model.events import Event
from nbflow.model.waiting import Question
from nbflow.store.obstacles import Obstacles
from nbflow.watch import frames
from nbflow.watch.task import Acts

if TYPE_CHECKING:
    from nbflow.define.flow import FlowDefinition
    from nbflow.watch.run import Run

__all__ = ["Decoder", "EventLog", "Followed", "Follows", "How", "RunBackend"]

How = Literal["resume", "fork", "restart"]


class Decoder(Protocol):
    """What the handle needs of `nbflow.model.codec.Codec`."""

    @property
    def artifacts(self) -> ArtifactStore | None: ...
    def decode_value(self, tree: Any) -> Any: ...


class EventLog(Protocol):
    """Where the events of runs are read from: `RunLog` of a store, or the record of a run in process."""

    def flow_of(self, run_id: str, /) -> str: ...
    def read(self, run_id: str, after: str = "0-0", /, *, logs: bool = True) -> Iterator[Event]: ...
    def only_logs(self, run_id: str, /) -> Iterator[Event]: ...
    @property
    def obstacles(self) -> Obstacles | None: ...


class Followed(Protocol):
    """The events of a run as they come."""

    def __iter__(self) -> Iterator[Event]: ...
    def __next__(self) -> Event: ...
    def __aiter__(self) -> AsyncIterator[Event]: ...
    def close(self) -> None: ...


class Follows(Protocol):
    """What follows runs: `Follower` of a store, or the record of a run in process."""

    def follow(self, run_id: str, after: str, timeout: float | None, /) -> Followed: ...


class RunBackend(Protocol):
    """What a handle works with. The composition root is one."""

    @property
    def log(self) -> EventLog: ...
    @property
    def follower(self) -> Follows: ...
    def codec_for(self, run_id: str) -> Decoder:
        """The codec that opens the run's payloads: with the types of the flow where this process has them."""
        ...

    def handle(self, run_id: str, flow: str) -> Run:
        """The handle of another run: of one that it started, or that started it."""
        ...

    def cancel(self, run_id: str, reason: str) -> None: ...
    def resolve(self, run_id: str, question: Question, data: Any) -> None: ...
    def delete(self, run_id: str) -> None: ...
    def again(self, run_id: str, how: How, *, at: str | None = None, changed: bool = False) -> Run: ...
    def foresee(self, run_id: str, flow: FlowDefinition, *, changed: bool) -> list[frames.PlanRow]: ...

    @property
    def hands(self) -> Acts:
        """What is done to single tasks."""
        ...
