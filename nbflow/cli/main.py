"""`nbflow`: the commands in one list, and how each of them ends.

A command that worked ends with 0. 2 is wrong usage: an unknown option, flow or run, an input that does not fit. Anything
else that went wrong is 1, Ctrl-C 130, a reader that went away 141. `nbflow start --follow` tells the run's end: 0, 1, 2 for completed, failed,
canceled. Errors are a sentence and a hint on stderr; `--debug` shows tracebacks.

Importing this module loads typer and nothing else that takes time: a command imports what it needs when it runs.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from nbflow.cli import (
    again,
    awaits,
    doctor,
    flows,
    keep,
    queues,
    quickstart,
    runs,
    schedules,
    secret,
    stack,
    start,
    tasks,
    triggers,
    versions,
    why,
    workers,
)
from nbflow.cli.terminal import block, in_commands, plain, warn
from nbflow.errors import (
    InputInvalid,
    InternalError,
    NbflowError,
    UnknownFlow,
    UnknownRun,
    UnknownSchedule,
    UnknownTrigger,
)

__all__ = ["app", "exit_code", "main"]

PLAIN: dict[str, Any] = {"rich_markup_mode": None}  # rich would cost as much time again for --help
GONE = 141
"""What a shell tells of a program that SIGPIPE ended."""
USAGE = (InputInvalid, UnknownFlow, UnknownRun, UnknownSchedule, UnknownTrigger)


class _Commands(typer.core.TyperGroup):
    """A reader that goes away (`nbflow events … | head`) ends a command in silence, as SIGPIPE would."""

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, sys.stdout.fileno())  # or Python complains when it flushes at its end
            sys.exit(GONE)


app = typer.Typer(
    name="nbflow",
    cls=_Commands,
    help="Workflows that live in notebooks: start them, watch them, run the workers.",
    epilog="Settings come from the environment: NBFLOW_REDIS_URL, NBFLOW_SECRET, … `nbflow doctor` looks after all of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    **PLAIN,
)
_debug: list[bool] = []


def _version(wanted: bool) -> None:
    if wanted:
        from nbflow import __version__

        print(f"nbflow {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, and what a notebook prints.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    _debug[:] = [debug]
    flows.be_loud(debug)


for name, command in (
    ("quickstart", quickstart.quickstart),
    ("up", stack.up),
    ("down", stack.down),
    ("status", stack.status),
    ("flows", flows.flows),
    ("check", flows.check),
    ("publish", versions.publish),
    ("versions", versions.versions),
    ("rollback", versions.rollback),
    ("unpublish", versions.unpublish),
    ("start", start.start),
    ("runs", runs.runs),
    ("show", runs.show),
    ("why", why.why),
    ("events", runs.events),
    ("logs", runs.logs),
    ("cancel", runs.cancel),
    ("retry", tasks.retry),
    ("complete", tasks.complete),
    ("resume", again.resume),
    ("restart", again.restart),
    ("fork", again.fork),
    ("resolve", awaits.resolve),
    ("emit", awaits.emit),
    ("delete", keep.delete),
    ("prune", keep.prune),
    ("du", keep.du),
    ("export", keep.export),
    ("worker", workers.worker),
    ("doctor", doctor.doctor),
):
    app.command(name)(command)

_workers = typer.Typer(help="The workers that live, on any machine.", no_args_is_help=True, **PLAIN)
_workers.command("list")(workers.list_workers)
_workers.command("drain")(workers.drain)
app.add_typer(_workers, name="workers")

_queues = typer.Typer(help="The queues, and which of them are paused.", invoke_without_command=True, **PLAIN)
_queues.callback()(queues.queues)
_queues.command("pause")(queues.pause)
_queues.command("resume")(queues.resume)
app.add_typer(_queues, name="queues")

_schedule = typer.Typer(help="Published flows, by the clock.", no_args_is_help=True, **PLAIN)
for name, command in (
    ("list", schedules.list_schedules),
    ("set", schedules.set_schedule),
    ("pause", schedules.pause),
    ("resume", schedules.resume),
    ("backfill", schedules.backfill),
    ("remove", schedules.remove),
):
    _schedule.command(name)(command)
app.add_typer(_schedule, name="schedule")

_trigger = typer.Typer(help="Published flows, when something happens.", no_args_is_help=True, **PLAIN)
for name, command in (
    ("list", triggers.list_triggers),
    ("set", triggers.set_trigger),
    ("fire", triggers.fire),
    ("pause", triggers.pause),
    ("resume", triggers.resume),
    ("remove", triggers.remove),
):
    _trigger.command(name)(command)
app.add_typer(_trigger, name="trigger")

_secret = typer.Typer(help="The secret that code is signed with, and secrets of steps.", no_args_is_help=True, **PLAIN)
_secret.command("new")(secret.new)
_secret.command("set")(secret.set_secret)
_secret.command("list")(secret.list_secrets)
app.add_typer(_secret, name="secret")


def main(words: list[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter shows its number
    warnings.showwarning = _show_warning
    interrupts: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        typer.main.get_command(app)(args=words, prog_name="nbflow")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the last place where one is told
        if interrupts:  # it came in the middle of something, which says so in its own way
            sys.exit(130)
        if any(_debug):
            warn(block(traceback.format_exc()))
        else:
            _tell(error)
        sys.exit(exit_code(error))
    sys.exit(0)


def exit_code(error: BaseException) -> int:
    return 2 if isinstance(error, USAGE) else 1


def _tell(error: Exception) -> None:
    if isinstance(error, NbflowError):
        warn(f"Error: {block(error.message)}")
        if error.hint:
            warn(f"→ {in_commands(error.hint)}")
    else:
        warn(f"Error: {type(error).__name__}: {block(error)}")
    if isinstance(error, InternalError) or not isinstance(error, NbflowError):
        warn("→ Please report it, with the traceback that `nbflow --debug …` shows.")


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    if any(_debug):
        sys.stderr.write(block(warnings.formatwarning(message, category, *rest[:2])))
    elif issubclass(category, UserWarning):
        warn(f"Warning: {plain(message)}")


if __name__ == "__main__":
    main()
