"""The flow as people hold it: `Flow`, a declaration that can be started, checked and looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbflow import app
from nbflow.app import Nbflow
from nbflow.define.asked import asked_mappings, asked_text, shown
from nbflow.define.checked import checked_count, checked_texts
from nbflow.define.flow import FlowDefinition
from nbflow.engine.disabled import LaunchDisabled, launches_disabled, refuse_if_disabled
from nbflow.engine.options import Options
from nbflow.errors import CommandRefused, DefinitionError, UnknownRun
from nbflow.picture.bundle import flow_mimebundle
from nbflow.watch import frames
from nbflow.watch.run import Run

if TYPE_CHECKING:
    from random import Random

    from nbflow.model.policy import Duration
    from nbflow.model.triggers import Trigger
    from nbflow.model.versions import Version
    from nbflow.scheduling import CatchUp, Overlap, Scheduled
    from nbflow.testing.trial import Trial
    from nbflow.triggering import Subscribed
    from nbflow.watch.frames import DataFrame

__all__ = ["Flow", "LaunchDisabled", "Start", "checked_options", "launches_disabled", "refuse_if_disabled"]


class Flow(FlowDefinition):
    """A named graph of steps.

        etl = Flow("etl")

        @etl.entry
        def list_files(folder: Path = Path("data")) -> list[Path]: ...

        @etl.step(each(list_files))
        def parse(path: Path) -> pd.DataFrame: ...

        run = etl.start(folder="data")

    A flow displays as its diagram, with what `check()` finds.
    """

    def start(self, *args: Any, **values: Any) -> Run:
        """Start a run with this input: the parameters of the entries, or the one value of an entry that takes one.

        `InputInvalid` names the field that does not fit, `DefinitionError` what is wrong with the flow; nothing is
        written then.
        """
        return self.start_on(app.default(), Options(), args, values)

    def start_many(self, inputs: Sequence[Mapping[str, Any]]) -> list[Run]:
        """A run for each of the inputs: the flow is packed once, and all inputs are checked before anything is written."""
        return self.start_many_on(app.default(), Options(), inputs)

    def options(
        self,
        *,
        key: str | None = None,
        delay: Duration | datetime | None = None,
        tags: Sequence[str] = (),
        queue: str | None = None,
        priority: int | None = None,
        cache: bool = True,
        on: Nbflow | None = None,
    ) -> Start:
        """How to start: `flow.options(key="2026-11", tags=["month"]).start(...)`.

        `key`: the same key with the same input gives the run that has it. `delay`: the run exists at once, and its first
        steps are queued after this time, or at this moment (a datetime; without a zone it is of this machine's).
        `tags` are for finding. `queue` and `priority` (-100 to 100, higher first) are where and how all steps of the run
        wait, instead of their own. `cache=False` executes also what steps with `cache=` could take over, and what comes of
        it is kept from then on. `on` is another `Nbflow` than the default one.
        """
        chosen = checked_options(key=key, delay=delay, tags=tags, queue=queue, priority=priority, cache=cache)
        if on is not None and not isinstance(on, Nbflow):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CommandRefused(f"A flow cannot be started on {shown(on)}.", hint="Give nbflow.connect(url).")
        return Start(self, chosen, on)

    def publish(self, note: str = "", *, version: int | None = None) -> Version:
        """Make the flow as it is defined now its newest version: what schedules, triggers and other programs start, by
        name. Code that is the newest already stays that version.

        With `version`, that earlier one is the newest again, under a new number; the code at hand does not matter.
        """
        self._refuse_if_disabled()
        if not isinstance(note, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"The note of a version cannot be {note!r}.", hint="Write what is new, as text.")
        if version is not None:
            return app.default().published.publish_again(self.name, checked_count("version", version), note)
        return app.default().publish(self, note)

    def versions(self) -> DataFrame:
        """The versions that were published, the newest first: what `publish` did and when. Of each flow 100 are kept."""
        return frames.versions(app.default().published.all(self.name))

    def schedule(
        self,
        when: Duration,
        *,
        tz: str | None = None,
        name: str | None = None,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - what it is called everywhere
        overlap: Overlap = "skip",
        catch_up: CatchUp = "latest",
    ) -> Scheduled:
        """Start the newest published version again and again: `flow.schedule("0 2 * * *", tz="Europe/Vienna")`, or at an
        interval, `flow.schedule("15m")`. Nothing published yet publishes the flow.

        Declaring it again under its name (`"default"`, if none is given) changes it, or nothing. `overlap` says what
        happens while the run before goes on: `skip` the new one, `queue` it behind, `allow` both, `cancel_running`.
        `catch_up` says what becomes of occurrences that nobody looked after: the `latest`, `all` or `none` of them.
        """
        from nbflow.scheduling import declare_here  # noqa: PLC0415 - who has no schedules needs none of it

        self._refuse_if_disabled()
        return declare_here(
            app.default(), self, when, tz=tz, name=name, values=input, overlap=overlap, catch_up=catch_up
        )

    def on(
        self,
        trigger: Trigger,
        *,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - what it is called everywhere
    ) -> Subscribed:
        """Let a trigger start the newest published version: `flow.on(Trigger("paid", event="order.paid"))`. Nothing
        published yet publishes the flow.

        The payload is the input: a dict by name, of which what the flow does not take is left out; anything else is the one
        value of a flow that takes one. With `input` it is these values, of which `received("order.id")` is a field of the
        payload, and `received()` all of it. Declaring a trigger again under its name changes it, for all its flows, or
        changes nothing.
        """
        from nbflow.triggering import subscribe_here  # noqa: PLC0415 - who has no triggers needs none of it

        self._refuse_if_disabled()
        return subscribe_here(app.default(), self, trigger, input)

    def test(self, *args: Any, secrets: Mapping[str, str] | None = None, **values: Any) -> Run:
        """Run it with this input in this process, to its end, without a server: packed, encoded and decided as by `start`,
        one task after the other, on a clock that jumps over delays. `secrets` are values for `Secret(name)`, by name. (An
        input of that name is given by `flow.trial().run(secrets=...)`.)"""
        return self.trial(secrets=secrets).run(*args, **values)

    def trial(
        self,
        *,
        seed: int | Random | None = None,
        workers: int = 4,
        crashes: float = 0.0,
        start: datetime | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Trial:
        """Ways to run it in this process: in an order that a seed decides, with crashes, with other bodies for steps, with
        values for secrets. See `Trial`."""
        from nbflow.testing.trial import Trial  # noqa: PLC0415 - who starts flows on workers needs none of it

        self._refuse_if_disabled()
        return Trial(self, seed=seed, workers=workers, crashes=crashes, start=start, secrets=secrets)

    def plan(self, run: Run, *, changed: bool = False) -> DataFrame:
        """What `run.resume(changed=changed)` would do now, a row a task, and why: `reuse` (`same`, or `older code`), `run`
        (`failed`, `canceled`, `new`, `code changed`, `input changed`, `follows`), or `depends`: taken over if it will receive
        the same again. `upstream` names the steps that it waits for. Nothing is started."""
        if not isinstance(run, Run):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CommandRefused(f"{shown(run)} is no run.", hint="Take one by its id: flow.plan(nbflow.run(id)).")
        if run.flow != self.name:
            message = f"The run {run.id[:8]} is of flow {run.flow!r}, and not of {self.name!r}."
            raise CommandRefused(message, hint="Ask the flow that it is of.")
        return run.foresee(self, changed=changed)

    @property
    def last(self) -> Run:
        """The newest run of this flow."""
        rows = app.default().index.runs(flow=self.name, limit=1)
        if not rows:
            raise UnknownRun(f"The flow {self.name!r} has no run yet.", hint="Start one with flow.start(...).")
        return Run(rows[0].id, app.default(), flow=self.name)

    def check(self) -> DataFrame:
        """What is wrong, doubtful or worth knowing: a DataFrame of code, severity, step, message, hint."""
        return frames.findings(self.findings())

    def start_on(self, nbflow: Nbflow, options: Options, args: Sequence[Any], values: Mapping[str, Any]) -> Run:
        """Start a run through that `Nbflow`; `start` and `options(...).start` come down to it."""
        self._refuse_if_disabled()
        return nbflow.start(self, self.bind_input(args, values), options)

    def start_many_on(self, nbflow: Nbflow, options: Options, inputs: Sequence[Mapping[str, Any]]) -> list[Run]:
        """What both `start_many` come down to."""
        self._refuse_if_disabled()
        return nbflow.start_many(self, asked_mappings(inputs), options)

    def _refuse_if_disabled(self) -> None:
        refuse_if_disabled(self.name)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return flow_mimebundle(self.spec(), self.findings())


class Start:
    """A flow with options, ready to be started."""

    def __init__(self, flow: Flow, options: Options, on: Nbflow | None) -> None:
        self._flow, self._options, self._on = flow, options, on

    def start(self, *args: Any, **values: Any) -> Run:
        """See `Flow.start`."""
        return self._flow.start_on(self._on or app.default(), self._options, args, values)

    def start_many(self, inputs: Sequence[Mapping[str, Any]]) -> list[Run]:
        """A run for each of the inputs. A key would make them one, so there is none."""
        return self._flow.start_many_on(self._on or app.default(), self._options, inputs)


def checked_options(
    *,
    key: str | None = None,
    delay: Duration | datetime | None = None,
    tags: Sequence[str] = (),
    queue: str | None = None,
    priority: int | None = None,
    cache: bool = True,
) -> Options:
    """The options of a start. DefinitionError for what cannot be."""
    labels = tuple(asked_text("A tag", tag) for tag in checked_texts("tags=", tags))
    return Options(_checked_key(key), labels, queue or "", priority, delay, cache)


def _checked_key(key: str | None) -> str:
    if key is None:
        return ""
    if not 0 < len(asked_text("A key", key)) <= 200:
        raise DefinitionError(f"A key has 1 to 200 characters, not {len(key)}.", hint="Shorten it, or hash it.")
    return key
