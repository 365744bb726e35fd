"""`%nbflow …`: a few words for what one wants to know between two cells, with completion.

Everything is done by the default `Nbflow`, which is made at the first use: loading the extension starts nothing, and
neither does completing. What does not fit is told in a sentence with the nearest names and how to write it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher  # pyright: ignore[reportUnknownVariableType] - IPython leaves it open
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from nbflow.define import registry
from nbflow.errors import nearest
from nbflow.model.plain import block
from nbflow.picture.style import duration
from nbflow.settings import settings

__all__ = ["COMMANDS", "App", "Command", "NbflowMagics"]

SHOWN_RUNS = 50
PREFIX = 8  # letters of a run's id that are offered; more where they would not tell two runs apart
_LONGEST = 24  # letters of a flow's name beside a run that is offered
_UNBROKEN = {
    ord(" "): "\u00a0",
    ord("-"): "\u2011",
}  # JupyterLab breaks what it shows there, and prints one over the other
_LINE = re.compile(r"^\s*(?:[\w., ]+=\s*)?%nbflow\s+(?P<words>.*)$", re.DOTALL)


class App(Protocol):
    """The `Nbflow` that the commands are given to, as far as they need it."""

    @property
    def is_connected(self) -> bool: ...
    def status(self) -> Any: ...
    def set_workers(self, count: int, /) -> Any: ...
    def runs(self, *, flow: str | None = None, limit: int = 50) -> Any: ...
    def run(self, prefix: str, /) -> Any: ...
    def cancel(self, run_id: str, reason: str, /) -> Any: ...
    def down(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: how it is written, what it does, and how many words it takes."""

    usage: str
    does: str
    run: Callable[[App, Sequence[str]], Any]
    least: int = 0
    most: int | None = 0
    completes: str = ""  # runs | flows | counts


def _status(app: App, _words: Sequence[str]) -> Any:
    if settings().redis_url:
        _say("NBFLOW_REDIS_URL is set: flows start on that server, and nbflow.workers() tells who works there.")
    _say(_told(app.status()))


def _told(stack: Any) -> str:
    """A `StackStatus` in sentences."""
    if not stack.running:
        return "The local server is not running. The first start of a flow brings it up."
    ago = duration(int(stack.uptime.total_seconds() * 1000)) if stack.uptime else ""
    facts = [
        f"{stack.workers} worker{'' if stack.workers == 1 else 's'}",
        f"up for {ago}" if ago else "",
        f"{stack.memory_bytes / 1e6:.0f} MB of memory",
        f"in {stack.folder}",
    ]
    rows = [f"The local server is running: {', '.join(fact for fact in facts if fact)}."]
    return "\n".join([*rows, stack.trouble] if stack.trouble else rows)


def _workers(app: App, words: Sequence[str]) -> Any:
    if not words[0].isdecimal():
        raise UsageError(f"The number of workers is a whole number, not {words[0]!r}.\nUsage: %nbflow workers N")
    count = int(words[0])
    answer = app.set_workers(count)
    return _say(f"{count} local worker{'' if count == 1 else 's'}.") if answer is None else answer


def _runs(app: App, words: Sequence[str]) -> Any:
    return app.runs(flow=words[0] if words else None, limit=SHOWN_RUNS)


def _show(app: App, words: Sequence[str]) -> Any:
    return app.run(words[0])


def _cancel(app: App, words: Sequence[str]) -> Any:
    run = app.run(words[0])
    app.cancel(run.id, " ".join(words[1:]) or "canceled in the notebook")
    return _say(f"Run {run.id[:PREFIX]} is canceled.")


def _resume(app: App, words: Sequence[str]) -> Any:
    if words[1:] not in ([], ["--changed"]):
        raise UsageError(f"%nbflow resume does not know {words[1]!r}.\nUsage: %nbflow resume RUN [--changed]")
    return app.run(words[0]).resume(changed=len(words) > 1)


def _logs(app: App, words: Sequence[str]) -> Any:
    return app.run(words[0]).logs


def _why(app: App, words: Sequence[str]) -> Any:
    run = app.run(words[0])
    return _say(run.why(words[1])) if words[1:] else run.why()


def _down(app: App, _words: Sequence[str]) -> Any:
    was_up = app.down()
    return _say("No local server was running." if was_up is False else "The local server and its workers are stopped.")


COMMANDS = {
    "status": Command("status", "the server and the workers of this project", _status),
    "workers": Command("workers N", "so many local workers", _workers, least=1, most=1, completes="counts"),
    "runs": Command("runs [flow]", "the newest runs, of one flow or of all", _runs, most=1, completes="flows"),
    "show": Command("show RUN", "a run and its picture", _show, least=1, most=1, completes="runs"),
    "cancel": Command("cancel RUN [reason]", "end a run", _cancel, least=1, most=None, completes="runs"),
    "resume": Command("resume RUN [--changed]", "go on where a run ended", _resume, least=1, most=2, completes="runs"),
    "logs": Command("logs RUN", "what the steps of a run have said", _logs, least=1, most=1, completes="runs"),
    "why": Command("why RUN [step]", "why its steps are not running", _why, least=1, most=2, completes="runs"),
    "down": Command("down", "stop the local server and its workers", _down),
}


def _say(text: str) -> None:
    sys.stdout.write(block(text) + "\n")


def _usage() -> str:
    rows = [f"  %nbflow {command.usage:<24}{command.does}" for command in COMMANDS.values()]
    return "\n".join([*rows, "  RUN is a run's id or the beginning of it."])


def _default_app() -> App:
    from nbflow import app  # noqa: PLC0415 - it brings the store along, and loading the extension must stay quick

    return app.default()


@magics_class
class NbflowMagics(Magics):
    """The line magic `%nbflow` and its completion."""

    def __init__(self, shell: Any, app: Callable[[], App] = _default_app) -> None:
        super().__init__(shell)
        self._make_app = app
        self._app: App | None = None
        self.matcher: Callable[..., Any] = _as_matcher(self._match)

    @line_magic
    def nbflow(self, line: str) -> Any:
        """Look at runs and steer the local workers. `%nbflow` alone says how things are, and what else there is."""
        words = line.split()
        if not words:
            _say(_usage())
            return COMMANDS["status"].run(self._opened(), ())
        command = COMMANDS.get(words[0])
        if command is None:
            raise UsageError(f"%nbflow has no {words[0]!r}. {nearest(words[0], COMMANDS)}\n{_usage()}")
        _check(words[0], command, words[1:])
        return command.run(self._opened(), words[1:])

    def _opened(self) -> App:
        """Asked anew each time: after `connect` the default is another one."""
        self._app = self._make_app()
        return self._app

    def _match(self, context: CompletionContext) -> SimpleMatcherResult:
        before = context.full_text.split("\n")[context.cursor_line][: context.cursor_position]
        found = _LINE.match(before)
        if found is None:
            return {"completions": []}
        words = found["words"].split()
        if before.endswith(" "):
            words.append("")
        begun = words[-1] if words else ""
        offered = {text: about for text, about in self._offers(words).items() if text.startswith(begun)}
        completions = [SimpleCompletion(text=text, type=about or "nbflow") for text, about in offered.items()]
        return {"completions": completions, "matched_fragment": begun, "suppress": True}

    def _offers(self, words: Sequence[str]) -> Mapping[str, str]:
        """What can stand here, and what is told beside it."""
        if len(words) <= 1:
            return dict.fromkeys(COMMANDS, "")
        command = COMMANDS.get(words[0])
        if command is None or len(words) > 2:
            return {}
        if command.completes == "counts":
            return dict.fromkeys(("0", "1", "2", "4", "8"), "")
        try:
            return self._flows() if command.completes == "flows" else self._runs(words[1]) if command.completes else {}
        except Exception:  # noqa: BLE001 - a key press must not end in a traceback, whatever the server says
            return {}

    def _flows(self) -> Mapping[str, str]:
        app = self._connected()
        ran = [str(name) for name in app.runs(limit=SHOWN_RUNS)["flow"]] if app else []
        return dict.fromkeys([*(record.name for record in registry.flows()), *ran], "flow")

    def _runs(self, begun: str) -> Mapping[str, str]:
        app = self._connected()
        if app is None:
            return {}
        runs = app.runs(limit=SHOWN_RUNS)
        offered = _prefixes([str(run) for run in runs["id"]], max(PREFIX, len(begun)))
        about = (f"{str(flow)[:_LONGEST]} {status}" for flow, status in zip(runs["flow"], runs["status"], strict=True))
        return dict(zip(offered, (one.translate(_UNBROKEN) for one in about), strict=True))

    def _connected(self) -> App | None:
        """The app, if it has a server: one that it speaks with already, or a local one that runs. A key press starts none."""
        if self._app is None and "nbflow.app" in sys.modules:
            app = self._make_app()
            if app.is_connected or (not settings().redis_url and app.status().running):
                self._app = app
        return self._app


def _as_matcher(match: Callable[[CompletionContext], SimpleMatcherResult]) -> Callable[..., Any]:
    def matcher(context: CompletionContext) -> SimpleMatcherResult:  # a bound method cannot be marked
        return match(context)

    mark: Any = cast("Any", context_matcher)(identifier="nbflow.magic", priority=200)
    return mark(matcher)


def _check(name: str, command: Command, words: Sequence[str]) -> None:
    if len(words) < command.least:
        what = command.usage.split()[1]
        raise UsageError(f"%nbflow {name} needs {what}.\nUsage: %nbflow {command.usage}")
    if command.most is not None and len(words) > command.most:
        raise UsageError(f"%nbflow {name} does not take {words[command.most]!r}.\nUsage: %nbflow {command.usage}")


def _prefixes(ids: Sequence[str], length: int) -> list[str]:
    """The beginnings of the ids, long enough to tell each from the others; the newest first, as they come."""
    offered: list[str] = []
    for one in ids:
        others = [other for other in ids if other != one]
        enough = length
        while enough < len(one) and any(other.startswith(one[:enough]) for other in others):
            enough += 1
        offered.append(one[:enough])
    return offered
