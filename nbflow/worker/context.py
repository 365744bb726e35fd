"""What a step sees of its run: `Context`. It talks to the worker through a small `Port`, so that a run in process and a
run on a worker give user code the same object."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from nbflow.define.asked import shown
from nbflow.errors import CommandRefused, InternalError, nearest
from nbflow.model import veil
from nbflow.model.ids import Index, index_for_people
from nbflow.model.triggered import Triggered, read_triggered
from nbflow.worker.started import MOST_STARTS, Start, Started
from nbflow.worker.state import Change, State

__all__ = ["Context", "Emission", "Port", "StepTimeout", "TaskFacts", "UndeclaredEmit", "current", "running"]

T = TypeVar("T")
_PROGRESS_EVERY_S = 0.1


class UndeclaredEmit(CommandRefused):
    """The step emitted a topic that it does not declare. It fails for good."""

    code = "undeclared-emit"


class StepTimeout(TimeoutError):
    """The step took longer than its `timeout=`; raised inside it. For a policy it is a `TimeoutError`."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What is known of a task before it runs. `index` is the wire's text."""

    run_id: str
    flow: str
    step: str
    index: str
    key: str | None
    attempt: int
    declared: tuple[str, ...]
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Emission:
    """One call of `emit` (one value) or `emit_each` (many), or the step's result where it is what the step emits."""

    topic: str
    values: list[Any]
    many: bool = False
    is_result: bool = False


class Port(Protocol):
    """What a context needs of the worker."""

    def record(self, kind: str, data: dict[str, Any]) -> None: ...
    def read_input(self) -> Any: ...
    def read_trigger(self) -> str: ...
    def state(self, change: Change) -> str: ...
    def read_state(self, key: str | None) -> dict[str, str]: ...
    def keep(self, name: str, value: Any) -> None: ...
    def is_canceled(self) -> bool: ...
    def start_flow(self, flow: str, values: Any, number: int) -> Start:
        """What starts the `number`-th run of this attempt."""
        ...

    def line(self) -> str:
        """The run whose idempotency keys this one has: its own id, or the first run's that it was resumed from."""
        ...


class Log:
    """`ctx.log.info("…", rows=3)`: a message and fields, at one of four levels."""

    def __init__(self, port: Port) -> None:
        self._port = port

    def debug(self, message: object, **fields: Any) -> None:
        self._write("debug", message, fields)

    def info(self, message: object, **fields: Any) -> None:
        self._write("info", message, fields)

    def warning(self, message: object, **fields: Any) -> None:
        self._write("warning", message, fields)

    def error(self, message: object, **fields: Any) -> None:
        self._write("error", message, fields)

    def _write(self, level: str, message: object, fields: dict[str, Any]) -> None:
        data: dict[str, Any] = {"level": level, "message": veil.masked(str(message))[:8192], "source": "step"}
        self._port.record("log", data | ({"fields": fields} if fields else {}))


@dataclass(slots=True)
class Context:
    """The run, the task and the attempt that a step executes in, and what it may do there."""

    facts: TaskFacts
    port: Port
    emissions: list[Emission] = field(default_factory=list[Emission])
    starts: list[Start] = field(default_factory=list[Start])
    resolved: Any = None
    """What ended the step's `hold=`: the answer, the payload of the event; None if it was a time or a timeout."""
    looked: set[str] = field(default_factory=set[str])
    """What the step looked at here that another run has otherwise: `run_id`, `state`, … It decides whether the end of the
    attempt may be kept for other runs (`cache=`)."""
    _progress_at: float = 0.0

    @property
    def run_id(self) -> str:
        self.looked.add("run_id")
        return self.facts.run_id

    @property
    def flow(self) -> str:
        return self.facts.flow

    @property
    def step(self) -> str:
        return self.facts.step

    @property
    def index(self) -> int | Index | None:
        """None, an int on the first level of a map, a tuple below it."""
        self.looked.add("index")
        return index_for_people(self.facts.index)

    @property
    def key(self) -> str | None:
        """What the step's `key=` made of the element."""
        self.looked.add("key")
        return self.facts.key

    @property
    def attempt(self) -> int:
        """Counted from 1. An attempt whose worker died is executed again and stays the same attempt."""
        self.looked.add("attempt")
        return self.facts.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of a task, also when the run is resumed: hand it to services that must not act twice."""
        self.looked.add("idempotency_key")
        return f"{self.port.line()}:{self.facts.step}:{self.facts.index}"

    @property
    def input(self) -> Any:
        """The run's input, as a dict by parameter."""
        self.looked.add("input")
        return self.port.read_input()

    @property
    def trigger(self) -> Triggered | None:
        """What started the run, or the one that it goes on from: a schedule, with its `scheduled_at`, or a trigger. None if
        somebody did so with `flow.start`."""
        self.looked.add("trigger")
        return read_triggered(self.port.read_trigger())

    @property
    def log(self) -> Log:
        return Log(self.port)

    @property
    def state(self) -> State:
        self.looked.add("state")
        return State(self.port)

    @property
    def canceled(self) -> bool:
        """Whether the run was canceled or this execution given up; a long loop may look and stop early."""
        return self.port.is_canceled()

    def emit(self, topic: str, payload: Any = None) -> None:
        """Emit a declared topic. It counts if and when this attempt completes."""
        self._declared(topic)
        self.emissions.append(Emission(topic, [payload]))

    def emit_each(self, topic: str, items: Iterable[Any]) -> None:
        """Emit a declared topic once for each item; none is legal and reaches the topic."""
        self._declared(topic)
        self.emissions.append(Emission(topic, list(self._several(items)), many=True))

    def _several(self, items: Iterable[T]) -> Iterator[T]:
        try:
            return iter(items)
        except TypeError:
            message = f"The step {self.step!r} goes through {shown(items)}, which is not several."
            raise CommandRefused(message, hint="Give a list, or anything else that a for takes.") from None

    def _declared(self, topic: str) -> None:
        if topic not in self.facts.declared:
            raise UndeclaredEmit(
                f"The step {self.step!r} emits {topic!r}, which it does not declare.",
                hint=f"Add it to emits=[…] of the step. {nearest(topic, self.facts.declared)}".rstrip(),
            )

    def start_flow(self, flow: Any, input: Any = None, *, await_result: bool = False) -> Started:  # noqa: A002
        """Start a run of another flow (or of this one), by its name or by the flow itself (or the job). It begins if and when this attempt
        completes, and its id is known at once. `input` is a dict by parameter, or the value of a flow that takes one.

        The code is that of the flow as it was when this run was launched, else its newest published version.

        `return ctx.start_flow(…, await_result=True)`: the step completes with the result of that run, and needs no worker
        until then. If the run fails or is canceled, this attempt has failed.
        """
        name = flow if isinstance(flow, str) else getattr(flow, "name", None) or getattr(flow, "__name__", None)
        if not isinstance(name, str):
            raise CommandRefused(f"{flow!r} is no flow.", hint="Give a flow, or the name of one.")
        if len(self.starts) >= MOST_STARTS:
            raise CommandRefused(
                f"The step {self.step!r} starts more than {MOST_STARTS} runs at once.",
                hint="Map over them: a step with each(…) that starts one run for an element.",
            )
        start = self.port.start_flow(name, {} if input is None else input, len(self.starts))
        handle = Started(start.handle.id, name, await_result)
        self.starts.append(Start(handle, start.fields))
        return handle

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far it is; shown while it runs. At most ten a second are kept, and the last."""
        now = time.monotonic()
        if now - self._progress_at < _PROGRESS_EVERY_S and done != total:
            return
        self._progress_at = now
        self.port.record("progress", {"done": done, "total": total, "message": veil.masked(str(message))[:500]})

    def track(self, items: Iterable[T], total: int | None = None, message: str = "") -> Iterator[T]:
        """The items, with progress told on the way."""
        count = total if total is not None else len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
        done = 0
        for done, item in enumerate(self._several(items), 1):
            yield item
            self.progress(done, count, message)
        if count is None:
            self.progress(done, done, message)

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """One point of a metric."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            message = f"The metric {shown(name)} of step {self.step!r} cannot be {shown(value)}."
            raise CommandRefused(message, hint="Give a number.") from None
        self.port.record("metric", {"name": name, "value": number, "step": step})

    def artifact(self, name: str, value: Any) -> None:
        """Keep a value under a name with the run: a frame, a figure, bytes, anything that can be a payload."""
        self.port.keep(name, value)


running: contextvars.ContextVar[Context | None] = contextvars.ContextVar("nbflow_context", default=None)


def current() -> Context:
    """The context of the step that runs here, for helpers that are not handed it."""
    context = running.get()
    if context is None:
        raise InternalError("No step runs here.", hint="Call nbflow.current() from code that a step calls.")
    return context
