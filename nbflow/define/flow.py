"""Declaring a flow: `FlowDefinition` with its decorators, and the long form `step`.

This module must not start anything, and loads nothing heavy: what needs pydantic or networkx is imported where it is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from nbflow.define import registry
from nbflow.define.asked import shown
from nbflow.define.awaits import answer_type
from nbflow.define.checked import (
    checked_choice,
    checked_concurrency,
    checked_count,
    checked_flow,
    checked_queue,
    checked_retention,
    checked_stall,
    checked_texts,
    result_name,
)
from nbflow.define.declaration import (
    EntryKeywords,
    StepDeclaration,
    StepDecorator,
    StepFunction,
    StepKeywords,
    decorator,
)
from nbflow.define.forms import Subscribes, Subscription, is_step_function
from nbflow.define.graph import build_graph
from nbflow.define.registry import FlowRecord, FlowSettings
from nbflow.errors import CommandRefused, DefinitionError, nearest
from nbflow.model.definition import MAX_TASKS, STALL_AFTER_S, FlowSpec
from nbflow.model.policy import Concurrency, Duration, seconds

if TYPE_CHECKING:
    import networkx as nx
    from pydantic import BaseModel

    from nbflow.define.inputs import FlowInput
    from nbflow.define.lint import Finding

__all__ = ["FlowDefinition", "asked_flow", "step"]

P = ParamSpec("P")
R = TypeVar("R")


def asked_flow(flow: Any) -> FlowDefinition:
    """A flow, where a caller gives one as an object. CommandRefused for anything else."""
    if not isinstance(flow, FlowDefinition):
        raise CommandRefused(f"{shown(flow)} is no flow.", hint="Give the flow itself, as Flow('name') made it.")
    return flow


class FlowDefinition:
    """A flow by its name, and the decorators that give it steps. Objects of one name are handles on the same flow.

    `result` names the step whose result is the run's; `queue` is where steps wait that name no queue of their own.
    A run ends as failed, and what is unfinished of it is canceled, at the first final failure of a step that nobody
    answers for with `on_failure="cancel"`, when it has taken longer than `deadline`, and when its maps have made more
    than `max_tasks` tasks. An ended run is kept for `retention`, or for ever with "never"; else as NBFLOW_RETENTION says.
    `concurrency` bounds how many of its tasks run at once, over all runs. A run is stalled when no outstanding task of it
    could go on for `stall_after` without somebody acting: an event says so, and another one when it goes on.
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
        concurrency: Concurrency | None = None,
        stall_after: Duration = STALL_AFTER_S,
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
                checked_concurrency(f"flow {name!r}", concurrency),
                checked_stall(stall_after),
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
    def entry(self, /, **keywords: Unpack[EntryKeywords]) -> StepDecorator: ...
    def entry(self, function: Callable[..., Any] | None = None, /, **keywords: Any) -> Any:
        """Declare a step that subscribes to nothing. Its parameters and defaults are the flow's input."""
        decorate = decorator((self.name,), None, cast("StepKeywords", keywords))
        return decorate if function is None else decorate(function)

    @overload
    def step(
        self,
        subscribes: str | StepFunction[..., Any] | Subscription | Sequence[Any],
        /,
        **keywords: Unpack[StepKeywords],
    ) -> StepDecorator: ...
    @overload
    def step(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...
    @overload
    def step(
        self,
        /,
        *,
        subscribes: Subscribes | None = None,
        **keywords: Unpack[StepKeywords],
    ) -> StepDecorator: ...
    def step(self, first: Any = None, /, *, subscribes: Any = None, **keywords: Any) -> Any:
        """Declare a step: `@flow.step(each(parse), key=...)`. What it subscribes to is a topic, a step, a form, or a
        list of them. Bare, it subscribes to nothing and is an entry."""
        if inspect.isfunction(first) and not is_step_function(first):
            return decorator((self.name,), subscribes, cast("StepKeywords", keywords))(first)
        if first is not None and subscribes is not None:
            raise DefinitionError("What a step subscribes to is given twice.", hint="Give it once, as first argument.")
        return decorator((self.name,), subscribes if first is None else first, cast("StepKeywords", keywords))

    def steps(self) -> list[StepDeclaration]:
        """The declarations in the order of their definition."""
        return self._record.declarations()

    def declaration(self, name: str) -> StepDeclaration:
        """The step of that name."""
        found = self._record.declaration(name) if isinstance(name, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
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
        return self.flow_input().model

    def bind_input(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The named values of a call `start(value)` or `start(folder=...)`; not validated yet."""
        return self.flow_input().bind(args, kwargs)

    def validate_input(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The input as the entries want it, defaults included. Raises InputInvalid, which names field and value."""
        return self.flow_input().validate(values)

    def flow_input(self) -> FlowInput:
        """What it can be started with, as its entries say."""
        from nbflow.define.inputs import FlowInput  # noqa: PLC0415 - loads pydantic

        entries = {step.name: step.function for step in self.steps() if step.role == "entry"}
        if self._input is None or not self._input.is_of(entries):
            answers = {step.name: answer_type(step.hold) for step in self.steps() if step.hold}
            self._input = FlowInput(self.name, entries, answers)
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
    **keywords: Unpack[StepKeywords],
) -> StepDecorator:
    """The long form: one function as a step of several flows, of each on its own. Further keywords as for `flow.step`."""
    several = (flows,) if isinstance(flows, str | FlowDefinition) else checked_texts("step(flows=…)", flows)
    names = [flow.name if isinstance(flow, FlowDefinition) else flow for flow in several]
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
    return decorator(tuple(names), subscribes, keywords)
