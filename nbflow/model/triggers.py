"""Triggers as data: named sources that start flows, and what a flow takes from one. Nothing here reads or writes.

A trigger is `manual` (somebody fires it), `event` (`nbflow.emit` of its topic) or `webhook` (a delivery by another
program). The clock starts flows by schedules (`schedules.py`). Its record and that of each flow on it are signed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from nbflow.errors import DefinitionError, SignatureMismatch
from nbflow.model.awaits import is_event_topic
from nbflow.model.deliveries import Signed
from nbflow.model.matching import Matches, checked_field, checked_match, field_in, fits
from nbflow.model.signing import Signer
from nbflow.model.triggered import Triggered

__all__ = ["Firing", "Listener", "Subscription", "Trigger", "Triggering"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
LONGEST_KEY = 100


@dataclass(frozen=True, slots=True)
class Trigger:
    """A named source that starts flows: `flow.on(Trigger("paid", event="order.paid"))`.

    With `event` each `nbflow.emit` of that topic fires it, with `webhook` each delivery that is signed so; with neither it
    is fired by hand. `match` are dotted fields of the payload and the values that they must have; what does not match
    starts nothing. `key` is a dotted field: of payloads with the same value there, each flow is started by the first.
    """

    name: str
    event: str | None = field(default=None, kw_only=True)
    match: Mapping[str, Any] | None = field(default=None, kw_only=True)
    key: str | None = field(default=None, kw_only=True)
    webhook: Signed | None = field(default=None, kw_only=True)
    matches: Matches = field(default=(), init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"A trigger cannot be called {self.name!r}."
            raise DefinitionError(message, hint="Use at most 100 letters, digits, '_', '-' and '.'.")
        whose = f"Trigger({self.name!r}, …)"
        if self.event is not None and not is_event_topic(self.event):
            message = f"Trigger({self.name!r}, event={self.event!r}) names no topic."
            raise DefinitionError(message, hint="Use dotted words of letters, digits, '_' and '-': 'order.paid'.")
        if self.webhook is not None and not isinstance(self.webhook, Signed):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"Trigger({self.name!r}, webhook={self.webhook!r}) does not say how its deliveries are signed."
            raise DefinitionError(message, hint="Write webhook=Signed('NAME_OF_THE_SECRET').")
        if self.event is not None and self.webhook is not None:
            message = f"The trigger {self.name!r} is fired by an event or by a webhook, not by both."
            raise DefinitionError(message, hint="Declare two triggers; a flow may be started by several.")
        if self.key is not None:
            checked_field(self.key)
        matches = checked_match(self.match, whose)
        if any(not isinstance(value, str | int | float | None) for _, value in matches):
            message = f"The match of trigger {self.name!r} compares with what a step receives, and there is none yet."
            raise DefinitionError(message, hint="Match text, numbers, true, false or None.")
        object.__setattr__(self, "matches", matches)
        object.__setattr__(self, "match", None)  # a dict cannot be hashed, and can be changed

    @property
    def kind(self) -> str:
        """`manual`, `event` or `webhook`."""
        return "event" if self.event is not None else "webhook" if self.webhook is not None else "manual"

    @property
    def source(self) -> str:
        """Where it listens: a topic, or its own name behind an `@`, which no topic has."""
        return self.event if self.event is not None else f"@{self.name}"

    @property
    def match_text(self) -> str:
        """The match as the script compares it."""
        return json.dumps([list(pair) for pair in self.matches], separators=(",", ":"))

    def wants(self, payload: Any) -> bool:
        """Whether a payload (JSON as it lies) matches."""
        return fits(self.matches, payload)

    def run_key(self, firing: Firing) -> str:
        """The key of the run that a firing starts: what has the same key starts nothing more while that run is kept."""
        found = field_in(firing.tree, self.key) if self.key is not None else ()
        said = firing.key or (_key_text(found[0]) if found else "") or firing.id
        return f"trigger:{self.name}@{said}"

    def signed(self, signer: Signer) -> str:
        """The record that is stored: signature and JSON."""
        told = {"name": self.name, "event": self.event, "match": self.matches, "key": self.key}
        webhook = None if self.webhook is None else asdict(self.webhook)
        return signer.seal("trigger", json.dumps({**told, "webhook": webhook}, separators=(",", ":")))

    @classmethod
    def verified(cls, record: str, name: str, signer: Signer) -> Trigger:
        """The trigger of a stored record. SignatureMismatch if it is not signed with the secret, or stands in a place that
        is not its own."""
        text = signer.unseal("trigger", record)
        told: dict[str, Any] = json.loads(text) if text is not None else {}
        if told.get("name") != name:
            raise _unsigned(f"The trigger {name!r}")
        told["match"] = dict(told["match"])
        told["webhook"] = None if told["webhook"] is None else Signed(**told["webhook"])
        return cls(told.pop("name"), **told)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A flow on a trigger. Without `is_mapped` the payload is the input. Else the input is `input` (encoded), and beside it
    the parameters of `takes`, each with the dotted field of the payload that it gets; an empty field is all of it."""

    trigger: str
    flow: str
    is_mapped: bool = False
    input: str = "{}"
    takes: dict[str, str] = field(default_factory=dict[str, str])
    by: dict[str, str] = field(default_factory=dict[str, str])

    def is_same(self, other: Subscription) -> bool:
        """Whether declaring it again would change nothing. Who declares it does not matter."""
        mine, theirs = ((s.trigger, s.flow, s.is_mapped, s.input, s.takes) for s in (self, other))
        return mine == theirs

    def signed(self, signer: Signer) -> str:
        """The record that is stored: signature and JSON."""
        return signer.seal("subscription", json.dumps(asdict(self), separators=(",", ":")))

    @classmethod
    def verified(cls, record: str, trigger: str, flow: str, signer: Signer) -> Subscription:
        """The same of a stored record; SignatureMismatch as for a trigger."""
        text = signer.unseal("subscription", record)
        if text is not None:
            subscription = cls(**json.loads(text))
            if (subscription.trigger, subscription.flow) == (trigger, flow):
                return subscription
        raise _unsigned(f"What flow {flow!r} takes from trigger {trigger!r}")


@dataclass(frozen=True, slots=True)
class Firing:
    """One event, delivery or act by hand, with the flows that it still has to start. `source` is a topic, or `@` and the
    name of a trigger; `key` is what the sender calls it, if that counts instead of the trigger's own `key`."""

    id: str
    source: str
    payload: str
    key: str = ""
    at_ms: int = 0
    signature: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    """Trigger and flow."""

    @property
    def tree(self) -> Any:
        """The payload as JSON, as it lies: nothing of it is opened."""
        return json.loads(self.payload)

    def sign(self, signer: Signer) -> str:
        """The signature of who caused it."""
        return signer.sign("event", self.id, self.source, self.payload, self.key)

    def is_signed(self, signer: Signer) -> bool:
        """Whether somebody with our secret caused it."""
        return signer.verify(self.signature, "event", self.id, self.source, self.payload, self.key)

    def triggered(self, trigger: Trigger) -> Triggered:
        """What a run is told of what started it."""
        at = datetime.fromtimestamp(self.at_ms / 1000, UTC)
        return Triggered(trigger.kind, trigger.name, topic=trigger.event, event=self.id, at=at)


@dataclass(frozen=True, slots=True)
class Listener:
    """A flow on a trigger with what became of it so far. Times are milliseconds since 1970."""

    subscription: Subscription
    started: int
    repeated: int
    failed: int
    last_ms: int | None
    last_run: str
    error: str


@dataclass(frozen=True, slots=True)
class Triggering:
    """A trigger with its flows. `ignored` counts what came while it was paused."""

    trigger: Trigger
    is_paused: bool
    ignored: int
    listeners: tuple[Listener, ...]


def _key_text(value: Any) -> str:
    """A value as part of a key: short, and another one for each value."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text if len(text) <= LONGEST_KEY else hashlib.sha256(text.encode()).hexdigest()


def _unsigned(what: str) -> SignatureMismatch:
    return SignatureMismatch(
        f"{what} was not signed with this secret, or was changed since.",
        hint="Use the NBFLOW_SECRET of who declared it, or declare it again.",
    )
