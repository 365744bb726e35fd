"""Jobs: a function that is a flow of one step, so that queues can be used without flows.

A job's run is a run like any other: the same events, views and commands. Here is only the short way to declare and to
start one; the step and the start are those of `Flow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from nbflow.define import registry
from nbflow.define.checked import checked_name
from nbflow.define.declaration import StepFunction
from nbflow.errors import DefinitionError, InputInvalid
from nbflow.flow import Flow, Start

if TYPE_CHECKING:
    from nbflow.app import Nbflow
    from nbflow.model.definition import Isolation
    from nbflow.model.policy import Concurrency, Duration, Rate, Retry
    from nbflow.watch.run import Run

__all__ = ["Enqueue", "JobDecorator", "JobFunction", "job"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_OPTIONS = ("key", "delay", "tags", "queue", "priority", "cache")


class Enqueue:
    """A job with options, ready to be enqueued."""

    def __init__(self, flow: Flow, start: Start) -> None:
        self._flow, self._start = flow, start

    def enqueue(self, *args: Any, **values: Any) -> Run:
        """Start a run with these arguments of the function. All keywords are the function's."""
        return self._start.start(**_named(self._flow, args, values))


class _Job:
    """What hangs on a job's function."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def enqueue(self, *args: Any, **values: Any) -> Run:
        """Start a run with these arguments of the function. The keywords `key`, `delay`, `tags`, `queue` and `priority` are
        options, unless the function has a parameter of that name: then `options(...)` takes the option."""
        own = _inputs(self._flow)
        chosen = {name: values.pop(name) for name in _OPTIONS if name in values and name not in own}
        return self.options(**chosen).enqueue(*args, **values)

    def options(
        self,
        *,
        key: str | None = None,
        delay: Duration | datetime | None = None,
        tags: Sequence[str] = (),
        queue: str | None = None,
        priority: int | None = None,
        cache: bool = True,
        on: Nbflow | None = None,
    ) -> Enqueue:
        """How to start: `resize.options(delay="15m").enqueue(path)`. The options are those of `flow.options`."""
        chosen = self._flow.options(key=key, delay=delay, tags=tags, queue=queue, priority=priority, cache=cache, on=on)
        return Enqueue(self._flow, chosen)


class JobFunction(StepFunction[P, R_co], Protocol[P, R_co]):
    """A function that is a job: as callable as before, with what starts it. `flow` is its flow of one step."""

    flow: Flow

    def enqueue(
        self,
        *args: Any,
        key: str | None = None,
        delay: Duration | datetime | None = None,
        tags: Sequence[str] = (),
        queue: str | None = None,
        priority: int | None = None,
        cache: bool = True,
        **values: Any,
    ) -> Run: ...

    def options(
        self,
        *,
        key: str | None = None,
        delay: Duration | datetime | None = None,
        tags: Sequence[str] = (),
        queue: str | None = None,
        priority: int | None = None,
        cache: bool = True,
        on: Nbflow | None = None,
    ) -> Enqueue: ...


class JobDecorator(Protocol):
    """What `@job(...)` decorates with."""

    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...
@overload
def job(
    *,
    name: str | None = None,
    queue: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    priority: int = 0,
    concurrency: Concurrency | None = None,
    rate: Rate | None = None,
    isolation: Isolation | None = None,
    cache: Duration | None = None,
    doc: str | None = None,
) -> JobDecorator: ...
def job(function: Callable[..., Any] | None = None, /, *, name: str | None = None, **keywords: Any) -> Any:
    """Declare a function as a job: a flow of that name, with the function as its one step.

        @job(queue="images", retry=Retry(3))
        def resize(path: Path, width: int = 800) -> Path: ...

        run = resize.enqueue(path, width=400, delay="15m")

    The keywords are those of an entry. The function stays callable.
    """

    def decorate(function: Callable[..., Any], /) -> Any:
        called = checked_name(function, name)
        _refuse_flow_of_steps(called)
        flow = Flow(called)
        made: Any = flow.entry(name=called, **keywords)(function)
        starts = _Job(flow)
        made.flow, made.enqueue, made.options = flow, starts.enqueue, starts.options
        return made

    return decorate if function is None else decorate(function)


def _refuse_flow_of_steps(name: str) -> None:
    """A job is the only step of its flow."""
    records = [record for record in registry.flows() if record.name == name]
    others = [step.name for record in records for step in record.declarations() if step.name != name]
    if others:
        message = f"A job cannot be called {name!r}: that is a flow with the step {others[0]!r}."
        raise DefinitionError(message, hint="Rename the function, or pass name=.")


def _inputs(flow: Flow) -> list[str]:
    """The names of the function's parameters that are its input, in their order."""
    return [info.alias or name for name, info in flow.input_model().model_fields.items()]


def _named(flow: Flow, args: Sequence[Any], values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names."""
    names = _inputs(flow)
    if len(args) > len(names):
        message = f"Job {flow.name!r} takes {len(names)} arguments, and got {len(args)} by position."
        raise InputInvalid(message, hint=f"It takes: {', '.join(names) or 'nothing'}.")
    placed = dict(zip(names, args, strict=False))
    if twice := placed.keys() & values.keys():
        message = f"The input {min(twice)!r} of job {flow.name!r} is given twice."
        raise InputInvalid(message, hint="Give it once, by position or by name.")
    return placed | values
