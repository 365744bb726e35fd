"""The end of an attempt that a person gives: as if the step had returned that value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbflow.define.annotations import Misfit, checker, result_type, short_repr
from nbflow.define.answers import plain_answer
from nbflow.errors import CommandRefused, DefinitionError, nearest
from nbflow.model.definition import StepSpec
from nbflow.worker.context import Emission
from nbflow.worker.ending import Attempt
from nbflow.worker.task import Ending

__all__ = ["ending_by_hand"]


def ending_by_hand(attempt: Attempt, function: Any, value: Any, emits: Mapping[str, Any]) -> Ending:
    """The ending of an attempt whose result a person gives; within the world of its code. CommandRefused if the value, or
    what is emitted, is none that the step could have given."""
    step = attempt.step
    for topic in emits:
        if topic not in step.emits:
            raise CommandRefused(
                f"The step {step.name!r} declares no topic {topic!r}.", hint=nearest(topic, step.emits)
            )
    if len(step.emits) > 1 and value is not None and not emits:
        raise CommandRefused(
            f"The step {step.name!r} declares {len(step.emits)} topics, and the value is said to be of none.",
            hint=f"Say which: emits={{topic: value}}, one of {', '.join(map(repr, step.emits))}.",
        )
    calls = [Emission(topic, [payload]) for topic, payload in emits.items()]
    try:
        return attempt.completed(
            _fitting(step, function, value) if value is not None or not emits else None, calls, [], 0.0
        )
    except DefinitionError as error:  # what would fail the attempt of a step that returned it
        raise CommandRefused(error.message, hint="Give what the step would return.") from None


def _fitting(step: StepSpec, function: Any, value: Any) -> Any:
    """The value as the step is annotated to return it. What is an object here is made one of the run's own class."""
    check = checker(result_type(function))
    if check is None:
        return value
    try:
        return check(value)
    except Misfit as misfit:
        plain = plain_answer(value)
        if plain is not value:
            return _fitting(step, function, plain)
        field = f"{misfit.field} is {short_repr(misfit.value)}" if misfit.field else "it"
        problem = "missing" if misfit.kind == "missing" else misfit.problem
        raise CommandRefused(
            f"{short_repr(value)} is no result of the step {step.name!r}: {field}. {problem}.",
            hint="Nothing was changed; give what the step is annotated to return.",
        ) from None
