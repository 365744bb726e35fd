"""Declaring a flow: `FlowDefinition`, its decorators, and what they leave on a function.

A decorated function stays what it was; `fn.step` is its declaration. This module must not start anything, and loads
nothing heavy: what needs pydantic or networkx is imported where it is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from nbflow.define import registry
from nbflow.define.checked import (
    checked_choice,
    checked_count,
    checked_emits,
    checked_flow,
    checked_name,
    checked_priority,
    checked_queue,
    checked_retention,
    checked_retry,
    checked_timeout,
    first_line,
    result_name,
)
from nbflow.define.forms import Subscribes, Subscription, is_step_function, resolve, subscriptions_of
from nbflow.define.graph import build_graph
from nbflow.define.registry import CellId, FlowRecord, FlowSettings
from nbflow.errors import DefinitionError, nearest
from nbflow.model.definition import MAX_TASKS, FlowSpec, StepSpec
from nbflow.model.policy import Duration, Retry, seconds

if TYPE_CHECKING:
    import networkx as nx
    from pydantic import BaseModel

    from nbflow.define.inputs import FlowInput
    from nbflow.define.lint import Finding

__all__ = ["FlowDefinition", "StepDeclaration", "StepDecorator", "StepFunction", "step"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

KEYWORDS = ("name", "emits", "key", "queue", "doc", "retry", "timeout", "priority")


@dataclass(frozen=True, eq=False)
class StepDeclaration:
    """One function as a step of one flow. `queue` is None where the flow's own is meant; `cell` is the cell that made it."""

    flow: str
    name: str
    function: Callable[..., Any]
    subscriptions: tuple[Subscription, ...] = ()
    emits: tuple[str, ...] = ()
    key: Callable[[Any], Any] | None = None
    queue: str | None = None
    doc: str = ""
    retry: Retry | None = None
    timeout_s: float | None = None
    priority: int = 0
    cell: CellId | None = None

    @property
    def role(self) -> Literal["entry", "step"]:
        return "step" if self.subscriptions else "entry"

    @property
    def is_mapped(self) -> bool:
        return any(subscription.is_mapped for subscription in self.subscriptions)

    @property
    def spec(self) -> StepSpec:
        """The step as the engine knows it, in its flow as that is defined now."""
        return registry.get(self.flow).step_spec(self.name)

    def __repr__(self) -> str:
        return f"<{self.role} {self.name!r} of flow {self.flow!r}>"

    def __getstate__(self) -> dict[str, Any]:
        """Which cell it came from does not travel: the same code is the same bundle, whenever its cell ran."""
        return {**self.__dict__, "cell": None}


class StepFunction(Protocol[P, R_co]):
    """A function that is a step: as callable as before, with its declaration (`steps`: by flow, if it is of several)."""

    __name__: str
    step: StepDeclaration
    steps: dict[str, StepDeclaration]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class StepDecorator(Protocol):
    """What `@flow.step(...)` decorates with."""

    def __call__(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...


class FlowDefinition:
    """A flow by its name, and the decorators that give it steps. Objects of one name are handles on the same flow.

    `result` names the step whose result is the run's; `queue` is where steps wait that name no queue of their own.
    A run ends as failed, and what is unfinished of it is canceled, at the first final failure of a step that nobody
    answers for with `on_failure="cancel"`, when it has taken longer than `deadline`, and when its maps have made more
    than `max_tasks` tasks. An ended run is kept for `retention`, or for ever with "never"; else as NBFLOW_RETENTION says.
    """

    def __init__(
        self,
        name: str,
        *,
        result: Subscribes | None = None,
        queue: str = "default",
        on_failure: Literal["continue", "cancel"] = "continue",
        deadline: Duration | None = None,
        max_tasks: int = MAX_TASKS,
        retention: Duration | None = None,
    ) -> None:
        self.name = checked_flow(name)
        self._input: FlowInput | None = None
        self._record.options(
            FlowSettings(
                result_name(result, name),
                checked_queue(queue),
                checked_choice("on_failure", on_failure, ("continue", "cancel")),
                None if deadline is None else seconds(deadline, "The deadline of a flow"),
                checked_count("max_tasks", max_tasks),
                checked_retention(retention),
            )
        )
        self._record.handle = self

    @property
    def _record(self) -> FlowRecord:
        return registry.define(self.name)

    def __repr__(self) -> str:
        return f"<flow {self.name!r}: {', '.join(step.name for step in self.steps()) or 'no steps yet'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """A handle that a step refers to travels by its name."""
        return _handle, (type(self), self.name)

    @overload
    def entry(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...
    @overload
    def entry(
        self,
        /,
        *,
        name: str | None = None,
        emits: str | Sequence[str] = (),
        queue: str | None = None,
        doc: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        priority: int = 0,
    ) -> StepDecorator: ...
    def entry(self, function: Callable[..., Any] | None = None, /, **keywords: Any) -> Any:
        """Declare a step that subscribes to nothing. Its parameters and defaults are the flow's input."""
        decorator = _decorator((self.name,), None, keywords)
        return decorator if function is None else decorator(function)

    @overload
    def step(
        self,
        subscribes: str | StepFunction[..., Any] | Subscription | Sequence[Any],
        /,
        *,
        name: str | None = None,
        emits: str | Sequence[str] = (),
        key: Callable[[Any], Any] | None = None,
        queue: str | None = None,
        doc: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        priority: int = 0,
    ) -> StepDecorator: ...
    @overload
    def step(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...
    @overload
    def step(
        self,
        /,
        *,
        subscribes: Subscribes | None = None,
        name: str | None = None,
        emits: str | Sequence[str] = (),
        key: Callable[[Any], Any] | None = None,
        queue: str | None = None,
        doc: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        priority: int = 0,
    ) -> StepDecorator: ...
    def step(self, first: Any = None, /, *, subscribes: Any = None, **keywords: Any) -> Any:
        """Declare a step: `@flow.step(each(parse), key=...)`. What it subscribes to is a topic, a step, a form, or a
        list of them. Bare, it subscribes to nothing and is an entry."""
        if inspect.isfunction(first) and not is_step_function(first):
            return _decorator((self.name,), subscribes, keywords)(first)
        if first is not None and subscribes is not None:
            raise DefinitionError("What a step subscribes to is given twice.", hint="Give it once, as first argument.")
        return _decorator((self.name,), subscribes if first is None else first, keywords)

    def steps(self) -> list[StepDeclaration]:
        """The declarations in the order of their definition."""
        return self._record.declarations()

    def declaration(self, name: str) -> StepDeclaration:
        """The step of that name."""
        found = self._record.declaration(name)
        if found is None:
            hint = nearest(name, (step.name for step in self.steps()))
            raise DefinitionError(f"Flow {self.name!r} has no step {name!r}.", hint=hint)
        return found

    def spec(self) -> FlowSpec:
        """The flow as data; the same object until a step or an option changes."""
        return self._record.spec()

    @property
    def graph(self) -> nx.MultiDiGraph[str]:
        """The flow as an annotated networkx graph."""
        return build_graph(self.spec())

    def findings(self) -> list[Finding]:
        """What is wrong, doubtful or worth knowing about the flow as it is defined now."""
        from nbflow.define.lint import findings  # noqa: PLC0415 - loads pydantic

        return findings(self)

    def forget(self, name: str) -> None:
        """Take a step out of the flow."""
        registry.forget(self.name, name)

    def input_model(self) -> type[BaseModel]:
        """A pydantic model of the input: the parameters and defaults of the entries."""
        return self._flow_input().model

    def bind_input(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The named values of a call `start(value)` or `start(folder=...)`; not validated yet."""
        return self._flow_input().bind(args, kwargs)

    def validate_input(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The input as the entries want it, defaults included. Raises InputInvalid, which names field and value."""
        return self._flow_input().validate(values)

    def _flow_input(self) -> FlowInput:
        from nbflow.define.inputs import FlowInput  # noqa: PLC0415 - loads pydantic

        entries = {step.name: step.function for step in self.steps() if step.role == "entry"}
        if self._input is None or not self._input.is_of(entries):
            self._input = FlowInput(self.name, entries)
        return self._input


def _handle(kind: type[FlowDefinition], name: str) -> FlowDefinition:
    """A handle that leaves the options of the flow as they are."""
    flow = kind.__new__(kind)
    flow.name = name
    flow._input = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return flow


def step(
    *,
    flows: str | FlowDefinition | Sequence[str | FlowDefinition],
    role: Literal["step", "entry"] = "step",
    subscribes: Subscribes | None = None,
    **keywords: Any,
) -> StepDecorator:
    """The long form: one function as a step of several flows, of each on its own. Further keywords as for `flow.step`."""
    several = [flows] if isinstance(flows, str | FlowDefinition) else [*flows]
    names = [flow if isinstance(flow, str) else flow.name for flow in several]
    if not names:
        raise DefinitionError("step(flows=[]) names no flow.", hint="Name at least one flow.")
    if role not in ("step", "entry"):
        raise DefinitionError(f"A step has no role {role!r}.", hint=nearest(role, ("step", "entry")))
    if role == "entry" and subscribes is not None:
        message = "An entry subscribes to nothing: its input comes from the start."
        raise DefinitionError(message, hint="Leave out subscribes=, or say role='step'.")
    if role == "step" and subscribes is None:
        message = "A step that subscribes to nothing never runs."
        raise DefinitionError(message, hint="Add subscribes=..., or say role='entry'.")
    for name in names:
        checked_flow(name)
    return _decorator(tuple(names), subscribes, keywords)


def _decorator(flows: tuple[str, ...], subscribes: Any, keywords: dict[str, Any]) -> StepDecorator:
    known = KEYWORDS if subscribes is not None else tuple(word for word in KEYWORDS if word != "key")
    for keyword in keywords:
        if keyword not in known:
            raise DefinitionError(f"A step has no keyword {keyword!r} here.", hint=nearest(keyword, known))
    subscriptions = () if subscribes is None else subscriptions_of(subscribes)

    def decorate(function: Callable[P, R], /) -> StepFunction[P, R]:
        declarations = [_declare(flow, function, subscriptions, **keywords) for flow in flows]
        for declaration in declarations:
            _check_function(declaration)
        registry.register(declarations)
        return _mark(function, declarations)

    return decorate


def _declare(
    flow: str,
    function: Callable[..., Any],
    subscriptions: tuple[Subscription, ...],
    *,
    name: str | None = None,
    emits: str | Sequence[str] = (),
    key: Callable[[Any], Any] | None = None,
    queue: str | None = None,
    doc: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    priority: int = 0,
) -> StepDeclaration:
    called = checked_name(function, name)
    within = tuple(subscription.within(flow) for subscription in subscriptions)
    if key is not None and not any(subscription.is_mapped for subscription in within):
        message = f"Step {called!r} has a key=, which names elements, and subscribes to no each(...)."
        raise DefinitionError(message, hint="Leave out key=, or subscribe with each(...).")
    return StepDeclaration(
        flow,
        called,
        function,
        within,
        checked_emits(called, emits),
        key,
        None if queue is None else checked_queue(queue),
        first_line(function) if doc is None else doc,
        checked_retry(called, retry),
        None if timeout is None else checked_timeout(called, timeout),
        checked_priority(f"The priority of step {called!r}", priority),
        registry.here(),
    )


def _check_function(declaration: StepDeclaration) -> None:
    """What no later cell can cure: parameters that can never be bound."""
    from nbflow.define.signature import check_binding  # noqa: PLC0415 - loads pydantic

    check_binding(declaration.function, resolve(declaration.subscriptions, ()))


def _mark(function: Any, declarations: Sequence[StepDeclaration]) -> Any:
    steps: dict[str, StepDeclaration] = getattr(function, "steps", {})
    function.steps = {**steps, **{declaration.flow: declaration for declaration in declarations}}
    function.step = declarations[-1]
    return function
