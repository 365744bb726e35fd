"""`--from`: the flows of a notebook, a script or a module, read by running it with launches disabled.

A notebook's cells run in order. A launch ends its own cell; what then fails, because there is no run to look at, is
skipped. A script runs statement by statement in the same way, without what stands below `if __name__ == "__main__":`; an
error before its first launch is an error. A dotted name is imported, and must not start anything.

What ran is the process's `__main__` as long as the source is open: so its functions travel by value, as a kernel's do.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import builtins
import contextlib
import functools
import importlib
import inspect
import linecache
import os
import sys
import traceback
import types
import warnings
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from nbflow.cli.cells import Cell, notebook_cells, script_tree
from nbflow.define import registry
from nbflow.define.flow import FlowDefinition
from nbflow.define.registry import CellId
from nbflow.errors import DefinitionError, UnknownFlow, nearest
from nbflow.flow import Flow, LaunchDisabled, launches_disabled

__all__ = ["Skipped", "Source", "opened"]

MAIN = "__main__"
_FEATURES = [getattr(__future__, name).compiler_flag for name in __future__.all_feature_names]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A cell that did not run to its end, and why. `is_expected`: because of a launch that did not take place, or
    because its author said that it fails."""

    cell: str
    reason: str
    is_expected: bool
    is_definition: bool = False


@dataclass(slots=True)
class Source:
    """What was read: the flows by name, and the cells that were skipped."""

    name: str
    flows: dict[str, FlowDefinition] = field(default_factory=dict[str, FlowDefinition])
    skipped: list[Skipped] = field(default_factory=list[Skipped])

    @property
    def failed(self) -> list[Skipped]:
        """The cells that failed on their own account."""
        return [skipped for skipped in self.skipped if not skipped.is_expected]

    def flow(self, name: str) -> FlowDefinition:
        """The flow of that name. UnknownFlow tells what is there, and which cells were skipped."""
        if name in self.flows:
            return self.flows[name]
        told = "".join(f"\n  {skipped.cell}: {skipped.reason}" for skipped in self.skipped)
        skipped = f" Cells that were skipped:{told}" if told else ""
        hint = nearest(name, self.flows) or f"Add `Flow({name!r})` to it, or give another --from."
        raise UnknownFlow(f"{self.name} defines no flow {name!r}.{skipped}", hint=hint)


@contextlib.contextmanager
def opened(where: str, *, loud: bool = False) -> Generator[Source]:
    """The flows of a notebook, script or module, ready to be bundled inside the block. `loud` lets what it prints pass,
    to stderr."""
    path = Path(where).expanduser().absolute()
    source = Source(where)
    with _replaced_main() as main, _reading(path.parent if path.is_file() else Path.cwd()):
        before = {record.name: record.revision for record in registry.flows()}
        with launches_disabled(), _alone(loud, path):
            _read(where, path, _Reader(main, source))
        for record in registry.flows():
            if before.get(record.name) != record.revision:
                source.flows[record.name] = record.handle or Flow(record.name)
        yield source


def _read(where: str, path: Path, reader: _Reader) -> None:
    if path.suffix == ".ipynb" and path.is_file():
        reader.run_notebook(path)
    elif path.suffix == ".py" and path.is_file():
        reader.run_script(path)
    elif path.suffix in (".ipynb", ".py") or "/" in where or not all(part.isidentifier() for part in where.split(".")):
        raise typer.BadParameter(f"there is no notebook or script {where!r}.", param_hint="X")
    else:
        _import(where)


class _Reader:
    """Runs pieces of code in one namespace and notes what was skipped."""

    def __init__(self, main: types.ModuleType, source: Source) -> None:
        self._names = main.__dict__
        self._source = source
        self._flags = 0
        self._has_launched = False

    def run_notebook(self, path: Path) -> None:
        with contextlib.chdir(path.parent):  # as a kernel has it
            for number, cell in enumerate(notebook_cells(path), 1):
                if cell.is_left_out:
                    continue
                registry.cell_locator = functools.partial(CellId, f"{path.name}#{number}", "1")
                linecache.cache[cell.name] = (len(cell.text), None, cell.text.splitlines(keepends=True), cell.name)
                self._run_cell(cell)

    def run_script(self, path: Path) -> None:
        self._names["__file__"] = str(path)
        try:
            statements = script_tree(path).body
        except SyntaxError as error:
            raise DefinitionError(
                f"{path.name} does not compile: line {error.lineno}: {error.msg}.", hint="Correct that line."
            ) from error
        for statement in statements:
            self._run_statement(path, statement)

    def _run_cell(self, cell: Cell) -> None:
        error = self._run(cell.text, cell.name)
        if error is not None:
            self._note(cell.name, error, may_fail=cell.may_fail)

    def _run_statement(self, path: Path, statement: ast.stmt) -> None:
        place = f"{path.name}, line {statement.lineno}"
        error = self._run(ast.Module([statement], []), str(path))
        if error is None:
            return
        if not isinstance(error, LaunchDisabled) and not self._has_launched:
            hint = "Correct it; `nbflow --debug …` shows the traceback."
            raise DefinitionError(f"{place}: {_said(error)}.", hint=hint) from error
        self._note(place, error, may_fail=False)

    def _run(self, code: str | ast.Module, file: str) -> BaseException | None:
        """What ended it, if it did not come to its end."""
        try:
            flags = self._flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compiled = compile(code, file, "exec", flags, dont_inherit=True)
            self._flags |= sum(flag for flag in _FEATURES if compiled.co_flags & flag)
            if compiled.co_flags & inspect.CO_COROUTINE:
                asyncio.run(eval(compiled, self._names))  # noqa: S307 - the user's own code, to be run
            else:
                exec(compiled, self._names)  # noqa: S102 - the same
        except (Exception, SystemExit, LaunchDisabled) as error:  # noqa: BLE001 - the caller tells it
            return error
        return None

    def _note(self, place: str, error: BaseException, *, may_fail: bool) -> None:
        if isinstance(error, LaunchDisabled):
            self._has_launched = True
            self._source.skipped.append(Skipped(place, f"it ends where it starts {str(error)!r}", is_expected=True))
            return
        is_definition = isinstance(error, DefinitionError)
        expected = may_fail or (self._has_launched and not is_definition)
        self._source.skipped.append(Skipped(place, f"{_line(error, place)}{_said(error)}", expected, is_definition))


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except LaunchDisabled as launch:
        raise DefinitionError(
            f"Module {name!r} starts the flow {str(launch)!r} when it is imported.",
            hint='Put the start below `if __name__ == "__main__":`.',
        ) from None
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise DefinitionError(
                f"Module {name!r} needs {error.name!r}, which is not installed here.", hint=f"Install {error.name}."
            ) from error
        message = f"there is no module {name!r}; a notebook or script is given by a path that ends in .ipynb or .py."
        raise typer.BadParameter(message, param_hint="X") from None
    except Exception as error:
        message = f"Module {name!r} cannot be imported: {_said(error)}."
        raise DefinitionError(message, hint="Correct it; `nbflow --debug …` shows the traceback.") from error


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line(error: BaseException, file: str) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"line {lines[-1]}: " if lines else ""


# -- the surroundings of the code -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _replaced_main() -> Generator[types.ModuleType]:
    main, before = types.ModuleType(MAIN), sys.modules[MAIN]
    sys.modules[MAIN] = main
    try:
        yield main
    finally:
        sys.modules[MAIN] = before


@contextlib.contextmanager
def _reading(folder: Path) -> Generator[None]:
    """Modules beside the notebook can be imported; steps know the cells that they come from."""
    path, locator = [*sys.path], registry.cell_locator
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        registry.cell_locator = locator


@contextlib.contextmanager
def _alone(loud: bool, path: Path) -> Generator[None]:
    """Nothing of it comes between the command and who reads its output; nothing waits for a key or opens a window."""
    os.environ.setdefault("MPLBACKEND", "agg")
    words, keys = sys.argv, sys.stdin
    with contextlib.ExitStack() as stack:
        nothing = stack.enter_context(Path(os.devnull).open("r+", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr if loud else nothing))
        if not loud:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        stack.enter_context(_jupyter_names())
        sys.argv, sys.stdin = [str(path)], nothing
        try:
            yield
        finally:
            sys.argv, sys.stdin = words, keys


@contextlib.contextmanager
def _jupyter_names() -> Generator[None]:
    """`display(…)` and `get_ipython()`, which every cell has, do nothing here. They are builtins, not the notebook's
    names: a step that uses them must not carry these."""
    stand_ins: dict[str, Any] = {"display": _Silence(), "get_ipython": _Silence()}
    added = [name for name in stand_ins if not hasattr(builtins, name)]
    for name in added:
        setattr(builtins, name, stand_ins[name])
    try:
        yield
    finally:
        for name in added:
            delattr(builtins, name)


class _Silence:
    """Answers any call, and the methods of any answer, with nothing."""

    def __call__(self, *_: Any, **__: Any) -> _Silence:
        return self

    def __getattr__(self, name: str) -> _Silence:
        if name.startswith("__"):
            raise AttributeError(name)
        return self
