"""Errors of nbflow in a cell, short: what went wrong, where in the user's own code, and the next move.

Text only, with the colours of a terminal; never HTML. `%tb` still shows the whole traceback, for a `StepFailure` the one
from the worker too. Must not touch exceptions that are not nbflow's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from nbflow.errors import InternalError, NbflowError, StepFailure
from nbflow.model.plain import block, plain
from nbflow.watch.lines import Line, user_lines

__all__ = ["install", "short_error", "uninstall"]

_RED, _BOLD, _DIM, _PLAIN = "\x1b[31;1m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
Previous = Callable[..., Any]


def short_error(error: NbflowError, *, colours: bool = True) -> list[str]:
    """The rows of the block that a cell shows for the error."""
    paint = _painted if colours else _unpainted
    rows = [f"{paint(type(error).__name__, _RED)}: {block(error.message)}"]
    if isinstance(error, StepFailure):
        rows += _failed_step(error, paint)
    if error.hint:
        rows += [f"{paint('→', _BOLD)} {block(error.hint)}"]
    if isinstance(error, StepFailure) and error.traceback:
        rows += [paint("%tb shows the whole traceback.", _DIM)]
    elif isinstance(error, InternalError):
        rows += [paint("%tb shows where it was raised; please add it to the report.", _DIM)]
    return rows


def _failed_step(error: StepFailure, paint: Callable[[str, str], str]) -> list[str]:
    lines = user_lines(error.traceback)
    rows: list[str] = []
    for line in lines:
        is_last = line is lines[-1]
        rows.append(f"  {paint(_where(line, error.step), _BOLD if is_last else _DIM)}")
        if line.source:
            sign = paint("❱", _RED) if is_last else " "
            rows.append(f"  {sign} {plain(line.source)}")
    reason = error.error.strip()
    if reason and reason not in error.message:
        rows.append(f"  {block(reason)}")
    return rows


def _where(line: Line, step: str) -> str:
    function = f", in {line.function}" if line.function else ""
    if line.is_in_cell:
        return plain(f"line {line.line} of the cell of {step!r}{function}")
    return plain(f"{line.file_name}, line {line.line}{function}")


def install(shell: Any) -> None:
    """Show errors of nbflow so. A handler that somebody set for other exceptions keeps them."""
    if _ours(shell) is not None:
        return
    kinds: tuple[type[BaseException], ...] = shell.custom_exceptions
    handler = _Handler(kinds, shell.CustomTB)
    shell.set_custom_exc((*kinds, NbflowError), _handle)
    shell.nbflow_errors = handler


def uninstall(shell: Any) -> None:
    """Give the shell back the handler it had. One that was set over ours since stays."""
    handler = _ours(shell)
    if handler is None:
        return
    del shell.nbflow_errors
    if NbflowError in shell.custom_exceptions:
        shell.custom_exceptions = handler.kinds
        shell.CustomTB = handler.previous


@dataclass(frozen=True, slots=True)
class _Handler:
    kinds: tuple[type[BaseException], ...]
    previous: Previous


def _ours(shell: Any) -> _Handler | None:
    return getattr(shell, "nbflow_errors", None)


def _handle(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
    tb_offset: int | None = None,
) -> list[str]:
    if not isinstance(error, NbflowError):
        handler = _ours(shell)
        return (handler.previous(kind, error, traceback, tb_offset=tb_offset) if handler else None) or []
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, traceback  # what `%tb` and `%debug` look at
    rows = short_error(error, colours=str(getattr(shell, "colors", "")).lower() != "nocolor")
    if isinstance(error, StepFailure) and error.traceback:
        _let_tb_show_all(error, shell, traceback)
    shell._showtraceback(kind, error, rows)  # noqa: SLF001 - the way that ipykernel overrides
    return rows


def _let_tb_show_all(error: StepFailure, shell: Any, traceback: TracebackType | None) -> None:
    """`%tb` asks the exception for its rows: the worker's traceback, then the cell's own."""
    here = shell.InteractiveTB.structured_traceback(type(error), error, traceback, tb_offset=1)
    whole = ["In the worker:", block(error.traceback.rstrip()), "", "Here:", *here]
    error._render_traceback_ = partial(list, whole)  # type: ignore[attr-defined]  # it pickles, a lambda would not


def _painted(text: str, colour: str) -> str:
    return f"{colour}{text}{_PLAIN}"


def _unpainted(text: str, colour: str) -> str:
    return text
