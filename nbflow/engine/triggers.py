"""Triggers: declared, fired, and the flows started that they start. That a flow is started once for each firing is decided
in the script `pull`; here is what a script cannot know: signatures, code, and what of a payload is whose input.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbflow.define.asked import asked_text
from nbflow.define.payloads import input_of
from nbflow.engine.awaits import event_text
from nbflow.engine.launch import Launcher, Order
from nbflow.engine.options import Options
from nbflow.engine.versions import Opened, Versions
from nbflow.errors import (
    CommandRefused,
    DefinitionError,
    InputInvalid,
    InternalError,
    NbflowError,
    PackageMissing,
    PythonMismatch,
    SignatureMismatch,
    UnknownTrigger,
    nearest,
)
from nbflow.model.artifacts import StagedArtifacts
from nbflow.model.codec import Codec
from nbflow.model.deliveries import opened as opened_delivery
from nbflow.model.ids import RunId
from nbflow.model.secret import Secret
from nbflow.model.signing import Signer
from nbflow.model.triggers import Firing, Listener, Subscription, Trigger, Triggering
from nbflow.model.types import TypeTable
from nbflow.store.connect import Store, translated

__all__ = ["Pulled", "Triggers"]

KEPT_MS = 24 * 3_600_000
"""For so long somebody tries to start what fired, where nobody can."""
_FIXED = ("at", "source", "payload", "sig", "key")


@dataclass(frozen=True, slots=True)
class Pulled:
    """What became of one flow of a firing: its run, or none if an earlier one with its key did it, or why there is none."""

    trigger: str
    flow: str
    run: RunId | None = None
    error: NbflowError | None = None


class Triggers:
    """The triggers of a namespace."""

    def __init__(
        self, store: Store, signer: Signer, versions: Versions, launcher: Launcher, artifacts: Any = None
    ) -> None:
        self._store, self._signer, self._versions = store, signer, versions
        self._launcher, self._artifacts = launcher, artifacts
        self._codec = Codec(types=TypeTable(), signer=signer, artifacts=artifacts)

    @property
    def _text(self) -> Any:
        return self._store.text

    # -- declaring --------------------------------------------------------------------------------------------------

    def declare(self, trigger: Trigger, subscription: Subscription, staged: StagedArtifacts | None = None) -> None:
        """Let a trigger start a flow, of which a version must be published. Declaring it again changes nothing. `staged` are
        the artifacts of its fixed input."""
        before = self.find(trigger.name)
        flow = subscription.flow
        if before is not None and before.trigger == trigger:
            known = [one.subscription for one in before.listeners if one.subscription.flow == flow]
            if known and known[0].is_same(subscription):
                return
        with self._launcher.keeping(staged or StagedArtifacts(self._artifacts)) as owns:
            reply: list[Any] = self._store.run_script(
                "trigger",
                *owns,
                trigger=trigger.name,
                record=trigger.signed(self._signer),
                source=trigger.source,
                match=trigger.match_text,
                flow=flow,
                subscription=subscription.signed(self._signer),
            )
        if reply[0] == b"MISSING":
            self._versions.newest(flow)  # says so
        if reply[0] == b"MANY":
            raise CommandRefused(
                f"{reply[1]} flows are started by {trigger.source.removeprefix('@')!r} already, and that is the most.",
                hint="Let one flow start the others, or split the topic.",
            )

    def remove(self, name: str, flow: str | None = None) -> int:
        """Remove a trigger, or let it start one flow no more. How many flows it started; their runs stay."""
        gone = int(self._store.run_script("untrigger", trigger=name, flow=flow or ""))
        if not gone:
            raise self._unknown(name, flow)
        return gone

    def pause(self, name: str, *, paused: bool = True) -> None:
        """Let it start nothing, until it goes on. What comes meanwhile is counted, and lost."""
        if not self._store.run_script("mute", trigger=name, paused=int(paused)):
            raise self._unknown(name)

    # -- looking ----------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Triggering | None:
        """One trigger, if there is one of that name."""
        with translated(self._store.url):
            found: dict[str, str] = self._text.hgetall(self._store.keys.trigger(name))
        if "record" not in found:
            return None
        trigger = Trigger.verified(found["record"], name, self._signer)
        flows = sorted(field.partition(" ")[2] for field in found if field.startswith("on "))
        listeners = tuple(self._listener(name, flow, found) for flow in flows)
        return Triggering(trigger, "paused" in found, int(found.get("ignored", 0)), listeners)

    def get(self, name: str) -> Triggering:
        """One trigger; UnknownTrigger names what is near."""
        found = self.find(name)
        if found is None:
            raise self._unknown(name)
        return found

    def all(self, flow: str | None = None) -> list[Triggering]:
        """All triggers by name, or those that start a flow, with that flow alone."""
        found = [one for one in map(self.find, self._names()) if one is not None]
        if flow is None:
            return found
        mine = [
            replace(one, listeners=tuple(each for each in one.listeners if each.subscription.flow == flow))
            for one in found
        ]
        return [one for one in mine if one.listeners]

    def _names(self) -> list[str]:
        with translated(self._store.url):
            return sorted(self._text.smembers(self._store.keys.triggers()))

    def _listener(self, name: str, flow: str, found: Mapping[str, str]) -> Listener:
        subscription = Subscription.verified(found[f"on {flow}"], name, flow, self._signer)
        started, repeated, failed = (int(found.get(f"{what} {flow}", 0)) for what in ("started", "repeated", "failed"))
        last = found.get(f"last {flow}")
        run, error = found.get(f"run {flow}", ""), found.get(f"error {flow}", "")
        return Listener(subscription, started, repeated, failed, int(last) if last else None, run, error)

    def _unknown(self, name: str, flow: str | None = None) -> UnknownTrigger:
        names = self._names()
        if flow is not None and name in names:
            hint = nearest(flow, [one.subscription.flow for one in self.get(name).listeners])
            return UnknownTrigger(f"The trigger {name!r} does not start the flow {flow!r}.", hint=hint)
        hint = nearest(name, names) or "flow.on(Trigger(...)) declares one."
        return UnknownTrigger(f"There is no trigger {name!r}.", hint=hint)

    # -- firing -----------------------------------------------------------------------------------------------------

    def trip(self, name: str, payload: Any = None, *, key: str = "") -> list[RunId]:
        """Fire a trigger by hand: the runs that it started. What cannot be started is told before anything is written. Those
        flows that were started for that key already have no run here."""
        asked_text("The key of a firing", key)
        found = self.get(name)
        if found.trigger.event is not None:
            raise CommandRefused(
                f"The trigger {name!r} is fired by the topic {found.trigger.event!r}.",
                hint=f"Write nbflow.emit({found.trigger.event!r}, payload).",
            )
        text = event_text("by.hand", payload)
        firing = Firing(uuid.uuid4().hex, found.trigger.source, text, key)
        if found.trigger.wants(firing.tree):
            for listener in found.listeners:
                with contextlib.suppress(PackageMissing, PythonMismatch):  # who can open the code will say
                    self._input(listener.subscription, firing)
        reply: list[Any] = self._store.run_script(
            "trip", trigger=name, payload=text, key=key, nonce=firing.id, sig=firing.sign(self._signer)
        )
        if reply[0] == b"GONE":
            raise self._unknown(name)
        if reply[0] == b"PAUSED":
            raise CommandRefused(f"The trigger {name!r} is paused.", hint="Let it go on first: its resume() does.")
        return [one.run for one in self.fire(firing.id) if one.run is not None] if reply[1] else []

    def receive(self, name: str, body: bytes, headers: Mapping[str, str]) -> list[RunId]:
        """A delivery to a webhook, as it came: verified, then as `trip`. DeliveryRefused if it is not signed with the secret
        that the trigger names (UnknownSecret if that is not here), is not of now, or is no JSON. The same delivery again starts nothing more."""
        signed = self.get(name).trigger.webhook
        if signed is None:
            raise CommandRefused(f"The trigger {name!r} is no webhook.", hint="Declare it with webhook=Signed(...).")
        secret = Secret(signed.secret_name).get().encode()
        now_s = self._versions.now_ms() / 1000
        payload, key = opened_delivery(signed, secret, body, headers, now_s=now_s)
        return self.trip(name, payload, key=key)

    def fire(self, event: str) -> list[Pulled]:
        """Start what a firing has to start still. What cannot be started by anybody is dropped, and told with its trigger;
        what cannot be started here and now stays, and is offered again."""
        firing = self._firing(event)
        return [] if firing is None else [self._pull(firing, *pair) for pair in firing.pairs]

    def _firing(self, event: str) -> Firing | None:
        with translated(self._store.url):
            found: dict[str, str] = self._text.hgetall(self._store.keys.firing(event))
        if "payload" not in found:
            return None
        pairs = sorted(tuple(field.split(" ", 1)) for field in found if field not in _FIXED and " " in field)
        at_ms, source, payload, sig, key = (found.get(name, "") for name in _FIXED)
        return Firing(event, source, payload, key, int(at_ms), sig, tuple((name, flow) for name, flow in pairs))

    def _pull(self, firing: Firing, name: str, flow: str) -> Pulled:
        try:
            return Pulled(name, flow, self._start(firing, name, flow))
        except NbflowError as error:
            if _is_final(error) or self._versions.now_ms() - firing.at_ms > KEPT_MS:
                self._drop(firing, name, flow, error.message)
            return Pulled(name, flow, error=error)

    def _start(self, firing: Firing, name: str, flow: str) -> RunId | None:
        """The run, or None if there is to be none."""
        if not firing.is_signed(self._signer):
            raise SignatureMismatch(
                f"The event {firing.id[:8]} was not signed with this secret, or was changed since.",
                hint="Look who else writes to the server.",
            )
        found = self.find(name)
        listeners = found.listeners if found is not None else ()
        mine = next((one.subscription for one in listeners if one.subscription.flow == flow), None)
        if found is None or mine is None or not found.trigger.wants(firing.tree):
            self._drop(firing, name, flow, "")
            return None
        order, codec = self._order(firing, found.trigger, mine)
        run, reply = self._launcher.fire(order, codec, "pull", firing=firing.id, trigger=name)
        if reply[0] == b"FULL":
            raise self._launcher.full(int(reply[1]))
        if reply[0] in (b"MISSING", b"AGAIN"):  # a version went while we looked; it is to be started still
            raise InternalError(f"The newest version of {flow!r} is not there.")
        return run if reply[0] == b"OK" else None

    def _drop(self, firing: Firing, name: str, flow: str, why: str) -> None:
        self._store.run_script("drop", firing=firing.id, trigger=name, flow=flow, error=why)

    def _order(self, firing: Firing, trigger: Trigger, subscription: Subscription) -> tuple[Order, Codec]:
        opened, values = self._input(subscription, firing)
        options = Options(trigger.run_key(firing), (f"trigger:{trigger.name}",))
        order = self._versions.order(opened.version, options)
        codec = Codec(types=opened.code.types, signer=self._signer, artifacts=self._artifacts)
        return replace(order, input=values, trigger=firing.triggered(trigger).text, by=subscription.by), codec

    def _input(self, subscription: Subscription, firing: Firing) -> tuple[Opened, dict[str, Any]]:
        """The newest version of the flow, and the input that it is started with. InputInvalid if that does not fit."""
        opened = self._versions.open(self._versions.newest(subscription.flow))
        codec = Codec(types=opened.code.types, signer=self._signer, artifacts=self._artifacts)
        fixed = codec.decode(subscription.input.encode())
        how = (fixed, subscription.takes) if subscription.is_mapped else None
        return opened, opened.validated(input_of(how, Codec().decode(firing.payload.encode()), opened.input))


def _is_final(error: NbflowError) -> bool:
    """Whether it would be the same for everybody, at any time. Of two secrets nobody knows which one is wrong."""
    return isinstance(error, InputInvalid | DefinitionError)
