"""Triggers as people hold them: what `flow.on(...)` gives, and what one may write there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbflow.define.payloads import mapped
from nbflow.errors import DefinitionError, UnknownTrigger
from nbflow.model.triggers import Subscription, Trigger
from nbflow.scheduling import kept_text
from nbflow.watch.run import Run

if TYPE_CHECKING:
    from nbflow.app import Nbflow
    from nbflow.define.flow import FlowDefinition
    from nbflow.model.triggers import Listener, Triggering

__all__ = ["Subscribed", "subscribe", "subscribe_here"]


class Subscribed:
    """A flow on a trigger: what it started, and what can be done with it."""

    def __init__(self, nbflow: Nbflow, trigger: str, flow: str) -> None:
        self._nbflow, self.name, self.flow = nbflow, trigger, flow

    @property
    def last(self) -> Run | None:
        """The last run of this flow that it started, if there was one."""
        run = self._listener().last_run
        return Run(run, self._nbflow, flow=self.flow) if run else None

    @property
    def is_paused(self) -> bool:
        """Whether it starts nothing now."""
        return self._triggering().is_paused

    def fire(self, payload: Any = None, *, key: str = "") -> list[Run]:
        """Fire it by hand, with this payload: the runs of all its flows. One that listens to a topic is fired by
        `nbflow.emit`. With a `key` each flow is started once for it. `InputInvalid` if the payload is no input of one of the
        flows; nothing is started then."""
        runs = self._nbflow.subscribed.trip(self.name, payload, key=key)
        return [self._nbflow.run(run) for run in runs]

    def pause(self) -> None:
        """Let it start nothing, none of its flows, until `resume`. What comes meanwhile is counted, and lost."""
        self._nbflow.subscribed.pause(self.name)

    def resume(self) -> None:
        """Go on, with what comes from now on."""
        self._nbflow.subscribed.pause(self.name, paused=False)

    def remove(self) -> None:
        """Let it start this flow no more; a trigger goes with its last flow. Its runs stay."""
        self._nbflow.subscribed.remove(self.name, self.flow)

    def _triggering(self) -> Triggering:
        return self._nbflow.subscribed.get(self.name)

    def _listener(self) -> Listener:
        found = [one for one in self._triggering().listeners if one.subscription.flow == self.flow]
        if not found:
            message = f"The trigger {self.name!r} does not start the flow {self.flow!r}."
            raise UnknownTrigger(message, hint="flow.on(...) declares it again.")
        return found[0]

    def __repr__(self) -> str:
        return f"<flow {self.flow!r} on trigger {self.name!r}>"


def subscribe_here(
    nbflow: Nbflow, flow: FlowDefinition, trigger: Trigger, values: Mapping[str, Any] | None
) -> Subscribed:
    """Let a trigger start a flow whose code is at hand. It is published if nothing is; if another version is the newest, a
    warning says that it is that one which is started."""
    _checked(trigger, values)
    newest = nbflow.published.find(flow.name)
    if newest is None and values is not None:
        mapped(flow.name, values, flow.flow_input())
    nbflow.publish_if_none(flow, newest, "trigger")
    return subscribe(nbflow, flow.name, trigger, values)


def subscribe(nbflow: Nbflow, flow: str, trigger: Trigger, values: Mapping[str, Any] | None = None) -> Subscribed:
    """Let a trigger start a published flow, by its name."""
    from nbflow.engine.launch import who  # noqa: PLC0415 - who only looks at triggers needs none of it

    _checked(trigger, values)
    opened = nbflow.published.open(nbflow.published.newest(flow))
    fixed, takes = ({}, {}) if values is None else mapped(flow, values, opened.input)
    text, staged = kept_text(nbflow, opened, fixed, f"the trigger {trigger.name!r} of flow {flow!r}")
    nbflow.subscribed.declare(trigger, Subscription(trigger.name, flow, values is not None, text, takes, who()), staged)
    return Subscribed(nbflow, trigger.name, flow)


def _checked(trigger: Trigger, values: object) -> None:
    if not isinstance(trigger, Trigger):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"{trigger!r} is no trigger."
        raise DefinitionError(message, hint="Write flow.on(Trigger('name', event='order.paid')).")
    if values is not None and not isinstance(values, Mapping):
        message = f"The input {values!r} of trigger {trigger.name!r} is no values by name."
        raise DefinitionError(message, hint="Give a dict: {'order': received('order.id')}.")
