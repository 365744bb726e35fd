"""What the decorators leave on a function: `fn.step`, its declaration as a step of a flow, from keywords that are checked.

A decorated function stays what it was. Loads nothing heavy: what needs pydantic is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack

from nbflow.define import registry
from nbflow.define.awaits import answer_type, checked_hold
from nbflow.define.checked import (
    checked_cache,
    checked_concurrency,
    checked_emits,
    checked_isolation,
    checked_name,
    checked_priority,
    checked_queue,
    checked_rate,
    checked_retry,
    checked_timeout,
    first_line,
)
from nbflow.define.forms import Subscription, resolve, subscriptions_of
from nbflow.define.limits import check_limit_key
from nbflow.define.registry import CellId
from nbflow.errors import DefinitionError, nearest
from nbflow.model.awaits import Await
from nbflow.model.definition import Isolation, StepSpec
from nbflow.model.policy import Concurrency, Duration, Rate, Retry

__all__ = ["EntryKeywords", "StepDeclaration", "StepDecorator", "StepFunction", "StepKeywords", "decorator"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class EntryKeywords(TypedDict, total=False):
    """What `@flow.entry(...)` takes."""

    name: str | None
    emits: str | Sequence[str]
    queue: str | None
    doc: str | None
    retry: Retry | None
    timeout: Duration | None
    priority: int
    concurrency: Concurrency | None
    rate: Rate | None
    hold: Await | None
    hold_emits: Await | None
    isolation: Isolation | None
    cache: Duration | None


class StepKeywords(EntryKeywords, total=False):
    """What `@flow.step(...)` takes beside its subscriptions. `key` names the elements of a map."""

    key: Callable[[Any], Any] | None


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
    concurrency: Concurrency | None = None
    rate: Rate | None = None
    hold: Await | None = None
    hold_emits: Await | None = None
    isolation: Isolation | None = None
    cache_s: float | None = None
    cell: CellId | None = None

    @property
    def role(self) -> Literal["entry", "step"]:
        return "step" if self.subscriptions else "entry"

    @property
    def is_mapped(self) -> bool:
        return any(subscription.is_mapped for subscription in self.subscriptions)

    @property
    def topics(self) -> tuple[str, ...]:
        """All that its tasks may emit beside their results: what is declared, and who is told that one waits."""
        return StepSpec(self.name, emits=self.emits, hold=self.hold, hold_emits=self.hold_emits).topics

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


def decorator(flows: tuple[str, ...], subscribes: Any, keywords: StepKeywords) -> StepDecorator:
    """Declares a function as a step of each of the flows, when its cell runs."""
    known = (EntryKeywords if subscribes is None else StepKeywords).__annotations__
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
    **keywords: Unpack[StepKeywords],
) -> StepDeclaration:
    called = checked_name(function, keywords.get("name"))
    within = tuple(subscription.within(flow) for subscription in subscriptions)
    key, queue, doc, timeout = keywords.get("key"), keywords.get("queue"), keywords.get("doc"), keywords.get("timeout")
    if key is not None and not any(subscription.is_mapped for subscription in within):
        message = f"Step {called!r} has a key=, which names elements, and subscribes to no each(...)."
        raise DefinitionError(message, hint="Leave out key=, or subscribe with each(...).")
    retry = checked_retry(called, keywords.get("retry"))
    return StepDeclaration(
        flow,
        called,
        function,
        within,
        emits=checked_emits(called, keywords.get("emits", ())),
        key=key,
        queue=None if queue is None else checked_queue(queue),
        doc=first_line(function) if doc is None else doc,
        retry=retry,
        timeout_s=None if timeout is None else checked_timeout(called, timeout),
        priority=checked_priority(f"The priority of step {called!r}", keywords.get("priority", 0)),
        concurrency=checked_concurrency(f"step {called!r}", keywords.get("concurrency")),
        rate=checked_rate(called, keywords.get("rate")),
        hold=checked_hold(called, "hold", keywords.get("hold"), retry),
        hold_emits=checked_hold(called, "hold_emits", keywords.get("hold_emits"), retry),
        isolation=checked_isolation(called, keywords.get("isolation")),
        cache_s=checked_cache(called, keywords.get("cache")),
        cell=registry.here(),
    )


def _check_function(declaration: StepDeclaration) -> None:
    """What no later cell can cure: parameters that can never be bound."""
    from nbflow.define.signature import check_binding  # noqa: PLC0415 - loads pydantic

    terms = resolve(declaration.subscriptions, ())
    check_binding(declaration.function, terms, answer_type(declaration.hold))
    check_limit_key(declaration.name, terms, declaration.concurrency)


def _mark(function: Any, declarations: Sequence[StepDeclaration]) -> Any:
    steps: dict[str, StepDeclaration] = getattr(function, "steps", {})
    function.steps = {**steps, **{declaration.flow: declaration for declaration in declarations}}
    function.step = declarations[-1]
    return function
