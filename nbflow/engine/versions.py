"""Published versions: the code of a flow that schedules, triggers and other programs start, without having it at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbflow.define.awaits import answer_type
from nbflow.define.bundle import Bundle, LoadedFlow, open_bundle
from nbflow.define.checked import checked_delay
from nbflow.define.flow import FlowDefinition
from nbflow.define.inputs import FlowInput, schema_of
from nbflow.define.plan import Plan
from nbflow.engine.launch import Launcher, Order, who
from nbflow.engine.options import Options, refuse_late_start
from nbflow.errors import CommandRefused, InternalError, UnknownFlow, nearest
from nbflow.model.signing import Signer
from nbflow.model.types import TypeTable
from nbflow.model.versions import KEPT, Version
from nbflow.store.connect import Store, translated

__all__ = ["Opened", "Versions"]

_NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Opened:
    """A version whose code was opened here, and what its entries take."""

    version: Version
    code: LoadedFlow
    input: FlowInput

    def validated(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The input as its entries want it. Raises InputInvalid."""
        with self.code.world.entered():
            return self.input.validate(values)


class Versions:
    """The published versions of the flows of a namespace."""

    def __init__(self, store: Store, signer: Signer, launcher: Launcher) -> None:
        self._store, self._signer, self._launcher = store, signer, launcher
        self._opened: dict[str, Opened] = {}

    @property
    def _text(self) -> Any:
        return self._store.text

    def described(self, order: Order, flow: FlowDefinition, note: str = "") -> Version:
        """The version that an order of this flow would be; it has no number yet."""
        return Version(
            order.flow,
            0,
            order.plan.digest,
            order.bundle.digest,
            order.bundle.fingerprints,
            order.graph,
            schema_of(flow.input_model()),
            note,
            self.now_ms(),
            who(),
            deadline_s=flow.spec().deadline_s,
        )

    def publish(self, order: Order, version: Version) -> Version:
        """The code of this order as the newest version. If the newest is the same code, that is it."""
        while True:
            newest = self.find(order.flow)
            if newest is not None and newest.is_same_code(version):
                return newest
            stored = self._store_as(replace(version, number=1 if newest is None else newest.number + 1), order)
            if stored is not None:
                return stored

    def publish_again(self, flow: str, number: int, note: str = "") -> Version:
        """An earlier version as the newest: the same code under a new number."""
        while True:
            newest, former = self.newest(flow), self.get(flow, number)
            if newest.is_same_code(former):
                return newest
            again = replace(
                former,
                number=newest.number + 1,
                note=note or former.note,
                published_ms=self.now_ms(),
                by=who(),
                again=former.again or former.number,
            )
            stored = self._store_as(again, None)
            if stored is not None:
                return stored

    def _store_as(self, version: Version, order: Order | None) -> Version | None:
        """The version once it is stored; None if another was published meanwhile."""
        named: dict[str, Any] = {
            "flow": version.flow,
            "last": version.number - 1,
            "plan": version.plan,
            "bundle": version.bundle,
            "record": version.signed(self._signer),
            "most": KEPT,
        }
        for _ in range(3):
            reply = self._store.run_script("publish", **named)
            if reply[0] == b"MISSING" and order is not None:
                self._launcher.upload(order, reply[1].decode())
            else:
                return version if reply[0] == b"OK" else None
        raise InternalError(f"The server does not keep what publishing {version.flow!r} uploads.")

    def unpublish(self, flow: str) -> int:
        """Remove the versions of a flow; how many there were. CommandRefused while a schedule or a trigger starts it."""
        reply = self._store.run_script("unpublish", flow=flow)
        if reply[0] == b"USED":
            raise CommandRefused(
                f"The flow {flow!r} is started by the {reply[1].decode()}.", hint="Remove that first, then unpublish."
            )
        return int(reply[1])

    # -- looking ----------------------------------------------------------------------------------------------------

    def find(self, flow: str) -> Version | None:
        """The newest version, if there is one."""
        with translated(self._store.url):
            number = self._text.hget(self._store.keys.versions(flow), _NEWEST)
            record = self._text.hget(self._store.keys.versions(flow), number) if number else None
        return None if record is None else Version.verified(record, flow, int(number), self._signer)

    def newest(self, flow: str) -> Version:
        """The newest version; UnknownFlow if nothing is published under that name."""
        found = self.find(flow)
        if found is None:
            hint = nearest(flow, self.flows()) or "Publish it first: flow.publish(), or `nbflow publish X`."
            raise UnknownFlow(f"No flow is published as {flow!r}.", hint=hint)
        return found

    def get(self, flow: str, number: int) -> Version:
        """One version; CommandRefused names those that there are."""
        with translated(self._store.url):
            record = self._text.hget(self._store.keys.versions(flow), str(number))
        if record is None:
            known = [version.number for version in self.all(flow)]
            first, last = (min(known), self.newest(flow).number) if known else (0, self.newest(flow).number)
            raise CommandRefused(
                f"The flow {flow!r} has no version {number}.", hint=f"There are the versions {first} to {last}."
            )
        return Version.verified(record, flow, number, self._signer)

    def all(self, flow: str) -> list[Version]:
        """All versions of a flow that are kept, the newest first."""
        with translated(self._store.url):
            found: dict[str, str] = self._text.hgetall(self._store.keys.versions(flow))
        numbers = sorted((int(name) for name in found if name.isdigit()), reverse=True)
        return [Version.verified(found[str(number)], flow, number, self._signer) for number in numbers]

    def flows(self) -> list[str]:
        """The names of the flows that are published."""
        with translated(self._store.url):
            return sorted(self._text.smembers(self._store.keys.published()))

    def now_ms(self) -> int:
        """The server's time."""
        with translated(self._store.url):
            seconds, micros = self._text.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # -- starting ---------------------------------------------------------------------------------------------------

    def open(self, version: Version) -> Opened:
        """The code of a version, verified. A TrustError says why it is not opened here."""
        opened = self._opened.get(version.bundle)
        if opened is None:
            with translated(self._store.url):
                blob: Any = self._store.client.get(self._store.keys.bundle(version.bundle))
            if blob is None:
                raise CommandRefused(
                    f"The code of version {version.number} of flow {version.flow!r} is not in the server any more.",
                    hint="Publish the flow again.",
                )
            code = open_bundle(blob, version.bundle, self._signer)
            with code.world.entered():
                entries = {name: step for name, step in code.steps.items() if step.spec.is_entry}
                functions = {name: step.function for name, step in entries.items()}
                answers = {name: answer_type(step.spec.hold) for name, step in entries.items()}
                opened = Opened(version, code, FlowInput(version.flow, functions, answers))
            self._opened = {**dict(_last(self._opened.items(), 15)), version.bundle: opened}
        return replace(opened, version=version)

    def order(self, version: Version, options: Options | None = None) -> Order:
        """What starts it, all but the input."""
        options = options or Options()
        refuse_late_start(version.flow, version.deadline_s, options)
        return Order(
            version.flow,
            Plan({}, version.plan),
            Bundle(version.bundle, b"", version.fingerprints, TypeTable(), []),
            {},
            version.graph,
            options.key,
            options.tags,
            options.queue,
            options.priority,
            checked_delay(options.delay),
            version.number,
            is_anew=not options.cache,
        )


def _last(pairs: Iterable[tuple[str, Opened]], count: int) -> list[tuple[str, Opened]]:
    return list(pairs)[-count:]
