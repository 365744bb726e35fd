"""Holds as an author writes them, and what becomes of them in the plan table.

What a script cannot know (cron, classes) stays in Python; it gets numbers, topics and ready pieces of JSON. Loads nothing
heavy: what needs pydantic is imported where it is used.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nbflow.errors import DefinitionError
from nbflow.model.awaits import Approval, Await, OnEvent, Schedule, Time, Webhook
from nbflow.model.definition import StepSpec, is_topic_name
from nbflow.model.matching import Received
from nbflow.model.policy import Retry, seconds

__all__ = ["answer_type", "checked_hold", "form_of", "hold_entry", "lookbacks"]


def checked_hold(step: str, keyword: str, hold: Any, retry: Retry | None) -> Await | None:
    """A hold whose `notify` is a topic, or a DefinitionError."""
    if hold is None:
        return None
    if not isinstance(hold, Await) or not hold.kind:
        message = f"The {keyword}= of step {step!r} is {hold!r}, which is no await."
        raise DefinitionError(message, hint="Write Time(…), Schedule(…), OnEvent(…), Webhook(…) or Approval(…).")
    if hold.on_timeout == "retry" and retry is None:
        message = f"The {keyword}= of step {step!r} says on_timeout='retry', and the step has no retry=."
        raise DefinitionError(message, hint="Add retry=Retry(3), or say on_timeout='fail'.")
    if not isinstance(hold, Approval | Webhook):
        return hold
    form_of(hold, step)
    return hold if hold.notify is None else replace(hold, notify=_topic(step, hold.notify))


def _topic(step: str, notify: Any) -> str:
    """The topic on which who is to be told hears of it."""
    declaration = getattr(notify, "step", None)
    if declaration is None:
        if isinstance(notify, str) and is_topic_name(notify):
            return notify
        message = f"notify={notify!r} of step {step!r} is neither a topic nor a step."
        raise DefinitionError(
            message, hint="Name a topic, and subscribe a step to it: @flow.step(each('order.asked'))."
        )
    sources = [source for subscription in declaration.subscriptions for source in subscription.sources]
    if len(sources) != 1 or sources[0].is_step:
        message = f"notify= of step {step!r} names the step {declaration.name!r}, which is not subscribed to one topic."
        raise DefinitionError(message, hint=f"Declare it with @flow.step(each('{step}.asked')).")
    return str(sources[0].name)


def form_of(hold: Approval | Webhook, step: str = "") -> dict[str, Any] | None:
    """The JSON schema of an answer; None if anything is one. DefinitionError if pydantic cannot make one."""
    if hold.model is None:
        return None
    from pydantic import TypeAdapter  # noqa: PLC0415 - declaring a flow need not load it
    from pydantic.errors import PydanticUserError  # noqa: PLC0415

    try:
        return TypeAdapter(hold.model).json_schema()
    except (PydanticUserError, TypeError, NameError, ValueError) as error:
        message = f"{type(hold).__name__}({hold.model!r}) of step {step!r} makes no form: {str(error).splitlines()[0]}"
        raise DefinitionError(message, hint="Give a pydantic model whose fields JSON can hold.") from error


def answer_type(hold: Await | None) -> Any:
    """The class that marks the parameter which receives the answer to `hold=`; None if there is none. What everybody
    annotates with (`bool`, `str`) marks no parameter."""
    model = getattr(hold, "model", None)
    return model if inspect.isclass(model) and model.__module__ != "builtins" else None


def hold_entry(hold: Await, position: str) -> dict[str, Any]:
    """A hold in the plan table. `told` is the beginning of the data of `await.registered`, as JSON without braces."""
    entry: dict[str, Any] = {"told": json.dumps(_told(hold, position), separators=(",", ":"))[1:-1]}
    if hold.timeout_s is not None:
        entry["timeout"] = round(hold.timeout_s * 1000)
    entry["on"] = hold.on_timeout
    return entry | _KINDS[type(hold)](hold)


def _told(hold: Await, position: str) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": hold.kind, "position": position}
    if isinstance(hold, Schedule):
        told |= {"cron": hold.cron, "tz": hold.tz}
    if isinstance(hold, OnEvent):
        told |= {"topic": hold.topic, "match": {name: _shown(value) for name, value in hold.matches}}
    if isinstance(hold, Approval) and hold.message:
        told["message"] = hold.message
    form = form_of(hold) if isinstance(hold, Approval | Webhook) else None
    return told if form is None else {**told, "form": form}


def _shown(value: Any) -> Any:
    return {"received": value.field} if isinstance(value, Received) else value


def _of_event(hold: Any) -> dict[str, Any]:
    match = [
        [name, None, value.field] if isinstance(value, Received) else [name, value] for name, value in hold.matches
    ]
    entry: dict[str, Any] = {"topic": hold.topic, "match": match}
    if any(isinstance(value, Received) for _, value in hold.matches):
        entry["received"] = 1
    lookback_ms = round(seconds(hold.lookback) * 1000)
    return entry | ({"lookback": lookback_ms} if lookback_ms else {})


def _of_somebody(hold: Any) -> dict[str, Any]:
    return {"token": 1} | ({"notify": hold.notify} if hold.notify else {})


_KINDS: dict[type[Await], Callable[[Any], dict[str, Any]]] = {
    Time: lambda hold: {"ms": round(seconds(hold.duration) * 1000)},
    Schedule: lambda hold: {"cron": hold.cron, "tz": hold.tz},
    OnEvent: _of_event,
    Webhook: _of_somebody,
    Approval: _of_somebody,
}


def lookbacks(steps: tuple[StepSpec, ...]) -> dict[str, int]:
    """For how long, in ms, the events of a topic must be kept for these steps."""
    found: dict[str, int] = {}
    for hold in (hold for step in steps for hold in (step.hold, step.hold_emits) if isinstance(hold, OnEvent)):
        found[hold.topic] = max(found.get(hold.topic, 0), round(seconds(hold.lookback) * 1000))
    return {topic: ms for topic, ms in found.items() if ms}
