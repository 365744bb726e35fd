"""The composition root: `Nbflow`, from settings to a working whole. Nothing is connected before it is needed.

`default()` is the one that `Flow`, `Run` and the module's functions use.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbflow.define import registry
from nbflow.define.asked import asked_limit, asked_mappings, asked_moment_ms, asked_name, asked_run, asked_text
from nbflow.define.flow import FlowDefinition, asked_flow
from nbflow.engine import awaits, control, deletion, queues
from nbflow.engine.disabled import refuse_if_disabled
from nbflow.engine.launch import Order, who
from nbflow.engine.options import Options, asked_options
from nbflow.errors import CommandRefused, NbflowError, nearest
from nbflow.local.stack import StackStatus
from nbflow.model.codec import Codec
from nbflow.parts import Parts
from nbflow.settings import settings
from nbflow.store.index import RunRow
from nbflow.store.usage import UsageRow, usage
from nbflow.watch import frames
from nbflow.watch.run import Run

if TYPE_CHECKING:
    from nbflow.define.bundle import Bundle
    from nbflow.engine.again import How
    from nbflow.engine.triggers import Pulled
    from nbflow.model.policy import Duration
    from nbflow.model.versions import Version
    from nbflow.model.waiting import Question
    from nbflow.watch.frames import DataFrame

__all__ = ["Nbflow", "connect", "current_default", "default", "use"]


class Nbflow(Parts):
    """A connection to one namespace of one server, with everything that needs it.

    Without a URL, NBFLOW_REDIS_URL is used; without that, the local stack of the project directory, which is started.
    As a context manager it closes its connections at the end; the stack goes on.
    """

    def start(self, flow: FlowDefinition, values: Mapping[str, Any], options: Options | None = None) -> Run:
        """Launch a run of the flow as it is defined now. Input, graph and code are checked before anything is written."""
        template, codec = self._order(flow, asked_options(options))
        run = self._launcher.launch(replace(template, input=flow.validate_input(values)), codec)
        return Run(run, self, flow=flow.name)

    def start_many(
        self, flow: FlowDefinition, inputs: Sequence[Mapping[str, Any]], options: Options | None = None
    ) -> list[Run]:
        """Launch a run for each input. The flow is checked and packed once, and all inputs are checked before anything is
        written. A key would make the runs one, so it is left out."""
        template, codec = self._order(flow, replace(asked_options(options), key=""))
        orders = [replace(template, input=flow.validate_input(values)) for values in asked_mappings(inputs)]
        return [Run(run, self, flow=flow.name) for run in self._launcher.launch_many(orders, codec)]

    def _order(self, flow: FlowDefinition, options: Options) -> tuple[Order, Codec]:
        """All of an order but its input: the code of the flow as it is now, and what encodes payloads for it."""
        from nbflow.engine.packing import packed

        def on_bundle(bundle: Bundle) -> None:
            self._warn(bundle.warnings)
            self._codecs.remember(bundle.digest, bundle.types)

        order = packed(
            asked_flow(flow),
            options,
            signer=self.signer,
            project=self.project.root,
            retention=settings().retention,
            on_bundle=on_bundle,
        )
        return order, self._codecs.of_types(order.bundle.types)

    def start_flow(
        self, name: str, values: Mapping[str, Any], options: Options | None = None, *, version: int | None = None
    ) -> Run:
        """Launch a run of a published version, the newest if none is named. Its code need not be at hand."""
        chosen = self.published.newest(name) if version is None else self.published.get(name, version)
        opened = self.published.open(chosen)
        order = replace(self.published.order(chosen, asked_options(options)), input=opened.validated(values))
        return Run(self._launcher.launch(order, self._codecs.of_types(opened.code.types)), self, flow=name)

    def publish(self, flow: FlowDefinition, note: str = "", *, dry_run: bool = False) -> Version:
        """The flow as it is defined now as its newest version; see `Flow.publish`. `dry_run` tells only what it would be."""
        order, _ = self._order(flow, Options())
        version = self.published.described(order, flow, note)
        if dry_run:
            return version
        for parcel in order.parcels:  # what it starts is started by name from then on
            other = registry.defined(parcel.flow)
            if other is not None and parcel.flow != flow.name and self.published.find(parcel.flow) is None:
                self.published.publish(parcel, self.published.described(parcel, other))
        return self.published.publish(order, version)

    def publish_if_none(self, flow: FlowDefinition, newest: Version | None, starter: str) -> None:
        """What starts a flow by its name starts the newest version: make it one if there is none, and warn if it is another
        than the code at hand."""
        if newest is None:
            self.publish(flow)
        elif not newest.is_same_code(self.publish(flow, dry_run=True)):
            warnings.warn(
                f"The {starter} starts version {newest.number} of flow {flow.name!r}, and the code here is another. "
                "flow.publish() makes it the newest.",
                stacklevel=4,
            )

    def again(
        self, run_id: str, how: How, *, at: str | None = None, changed: bool = False, flow: FlowDefinition | None = None
    ) -> Run:
        """See `Run.resume`, `fork`, `restart`. The code is that of `flow`, else of this process's, else the run's own."""
        from nbflow.engine import again

        refuse_if_disabled(run_id)
        origin = again.read_origin(self.store, run_id, how, at)
        if (flow := flow or registry.defined(origin.flow)) is None:
            code = again.old_code(self.store, self.signer, origin, self._codecs.of_run(run_id))
        else:
            code = again.new_code(origin, flow, *self._order(flow, origin.options))
        trigger = again.trigger_of(self.signer, origin)
        run = self._launcher.launch(again.order_of(origin, code, trigger, changed=changed), code.codec)
        return Run(run, self, flow=origin.flow)

    def foresee(self, run_id: str, flow: FlowDefinition, *, changed: bool) -> list[frames.PlanRow]:
        """What a resume would take over and execute; see `Flow.plan`. Nothing is written."""
        from nbflow.testing.foresight import foresee_stored

        return foresee_stored(
            self.store, asked_run(run_id), asked_flow(flow), lambda options: self._order(flow, options), changed=changed
        )

    def cancel(self, run_id: str, reason: str = "") -> None:
        """End a run; see `Run.cancel`."""
        control.cancel(self.store, asked_run(run_id), asked_text("The reason of a cancel", reason), who())

    def resolve(self, run_id: str, question: Question, data: Any) -> None:
        """End a wait with an answer; see `Run.resolve`."""
        awaits.answer(self.store, self._codecs, asked_run(run_id), question, data, by=who())

    def emit(self, topic: str, payload: Any = None) -> int:
        """An event from outside of runs: it ends the wait of all tasks with a matching `OnEvent(topic)`, and is kept for
        those that look back for it. It starts the flows that are on a trigger of its topic; what cannot be started here is left
        to the workers. How many waits it ended by now."""
        return self.tell(topic, payload)[0]

    def tell(self, topic: str, payload: Any = None) -> tuple[int, list[Pulled]]:
        """`emit`, with what became of the flows on triggers of the topic."""
        ended, event = awaits.emit(self.store, self.signer, topic, payload)
        if event:
            with contextlib.suppress(NbflowError):
                return ended, self.subscribed.fire(event)
        return ended, []

    def delete(self, run_id: str) -> None:
        """Delete a run that has ended, with what only it refers to; see `Run.delete`."""
        deletion.delete(self.store, asked_run(run_id))
        self._codecs.forget(run_id)
        deletion.sweep_all(self.store, self.artifacts)

    def prune(
        self, older: Duration = "30d", *, flow: str | None = None, status: str | None = None, dry_run: bool = False
    ) -> list[RunRow]:
        """Delete the runs that ended longer ago than that. `dry_run` tells only which they are."""
        if status not in (None, *deletion.ENDED):
            raise CommandRefused(f"No ended run is {status!r}.", hint=nearest(status, deletion.ENDED))
        found = list(deletion.prunable(self.index, older, flow=flow, status=status))
        if not dry_run:
            deletion.prune(self.store, self.artifacts, found)
        return found

    def clear_cache(self) -> int:
        """Let go of what steps with `cache=` keep for other runs; how many ends that were."""
        done = deletion.forget_kept(self.store)
        deletion.sweep_all(self.store, self.artifacts)
        return done

    def du(self) -> list[UsageRow]:
        """What takes how much room in the server and beside it."""
        return usage(self.store, self.artifacts)

    def pause(self, queue: str) -> None:
        """Let nothing start in a queue, until `resume`. What runs goes on, and what comes waits."""
        queues.pause(self.store, queue)

    def resume(self, queue: str) -> None:
        """Let the tasks of a paused queue start; idle workers take them at once."""
        queues.resume(self.store, queue)

    # -- looking ----------------------------------------------------------------------------------------------------

    def handle(self, run_id: str, flow: str) -> Run:
        """The handle of a run whose flow is known."""
        return Run(run_id, self, flow=flow)

    def run(self, run: str) -> Run:
        """The run of that id, or of the only one that begins so."""
        found = self.index.resolve(asked_run(run))
        return Run(found, self, flow=self.index.run(found).flow)

    def runs(
        self,
        flow: str | None = None,
        status: str | None = None,
        *,
        since: datetime | None = None,
        tag: str | None = None,
        stalled: bool | None = None,
        parent: Run | str | None = None,
        limit: int = 50,
    ) -> DataFrame:
        """The newest runs, as a DataFrame; with `parent` those that it started."""
        since_ms, limit = asked_moment_ms("since", since), asked_limit(limit)
        of = None if parent is None else parent.id if isinstance(parent, Run) else self.index.resolve(asked_run(parent))
        return frames.runs(
            self.index.runs(
                flow=asked_name("The name of a flow", flow),
                status=status,
                since_ms=since_ms,
                tag=tag,
                stalled=stalled,
                parent=of,
                limit=limit,
            )
        )

    def flows(self) -> DataFrame:
        """The flows that have runs here."""
        return frames.flows(self.index.flows())

    def queues(self) -> DataFrame:
        """The queues, and how much waits in each."""
        return frames.queues(self.index.queues())

    def workers(self) -> DataFrame:
        """The workers that live, on any machine."""
        return frames.workers(self.index.workers())

    def _warn(self, sentences: list[str]) -> None:
        for sentence in filter(lambda one: one not in self._warned, sentences):
            self._warned.add(sentence)
            warnings.warn(sentence, stacklevel=4)

    # -- the local stack --------------------------------------------------------------------------------------------

    def status(self) -> StackStatus:
        """How the local stack is."""
        return self.stack.status()

    def set_workers(self, number: int) -> None:
        """How many local workers run."""
        self.stack.ensure()
        self.stack.set_workers(number)

    def down(self) -> bool:
        """End the local stack: workers end their tasks, the server saves. Whether one was running."""
        self.close()
        return self.stack.down()


_default: list[Nbflow] = []
_lock = threading.Lock()


def default() -> Nbflow:
    """The `Nbflow` of this process, made from the settings at the first call. A forked child makes its own."""
    with _lock:
        if not _default or _default[0].__dict__.get("_pid", os.getpid()) != os.getpid():
            _default[:] = [Nbflow()]
            _default[0].__dict__["_pid"] = os.getpid()
        return _default[0]


def current_default() -> Nbflow | None:
    """The default one, if there is one by now."""
    return _default[0] if _default else None


def use(nbflow: Nbflow | None) -> None:
    """Make another one the default; None lets the next call make it anew from the settings."""
    with _lock:
        _default[:] = [] if nbflow is None else [nbflow]


def connect(
    url: str, *, secret: str | bytes | None = None, namespace: str | None = None, project: str | Path | None = None
) -> Nbflow:
    """An `Nbflow` on the server at `url`."""
    return Nbflow(url, secret=secret, namespace=namespace, project=project)
