"""A world: what a bundle's code finds when it imports, so that one process can hold several versions of a module.

Project modules come from the bundle's text, never from the worker's directory. Only one world is active at a time, for
the whole process; a worker activates a task's world before it runs the task. This module knows nothing of bundles.
"""

from __future__ import annotations

import functools
import importlib
import linecache
import os
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.abc import Loader
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from nbflow.define import registry
from nbflow.define.registry import FlowRecord
from nbflow.define.sources import ModuleSource
from nbflow.errors import CommandRefused, DefinitionError, InternalError

__all__ = [
    "FlowReference",
    "World",
    "active_world",
    "deactivate",
    "is_installed",
    "main_globals",
    "module_globals",
    "resolve",
    "undisturbed",
]

_MAIN = "__main__"


class World:
    """The modules of one bundle, and the lines that tracebacks of its code show.

    `main` stands for the notebook: the globals of the functions that were defined there.
    """

    def __init__(self, name: str, sources: Mapping[str, ModuleSource], lines: Mapping[str, str]) -> None:
        self.name = name
        self.sources = dict(sources)
        self.main = ModuleType(_MAIN)
        self._modules: dict[str, ModuleType] = {_MAIN: self.main}
        self._displaced: dict[str, ModuleType] = {}
        self._flows: dict[str, FlowRecord] = {}  # flows that modules of the bundle declare again stay in here
        self._foreign: tuple[str, ...] | None = None
        self._lines = {path: _cache_entry(path, text) for path, text in lines.items()}
        for source in self.sources.values():
            self._lines.setdefault(source.path, _cache_entry(source.path, source.text))
        self._displaced_lines: dict[str, Any] = {}

    def activate(self) -> None:
        """Make imports, `sys.modules` and tracebacks those of this world; free when they already are."""
        registry.use_shelf(self._flows)
        if _finder.world is self:
            return
        deactivate()
        self._enter()
        _finder.world = self

    @contextmanager
    def entered(self) -> Generator[None]:
        """Active inside the block; whatever was active before is so again after it. One thread at a time: `sys.modules` is
        everybody's. Only what the block itself calls comes in meanwhile, in other threads too: it waits for them."""
        outer = _turn()
        with outer.lock:
            mine = _Turn(outer)
            before = _finder.world
            _inside.set(mine)
            self.activate()
            try:
                yield
            finally:
                mine.is_over = True
                if before is None:
                    deactivate()
                else:
                    before.activate()

    def spec(self, name: str) -> ModuleSpec | None:
        """How to import the module from the bundle; None if it is not in there."""
        source = self.sources.get(name)
        if source is None:
            return None
        spec = ModuleSpec(name, _Loader(source), origin=source.path, is_package=source.is_package)
        spec.has_location = source.kind != "namespace"
        if source.is_package:  # no directory: what is not in the bundle is not found beside it either
            elsewhere = _elsewhere(name) if source.kind == "namespace" else None
            spec.submodule_search_locations = list(elsewhere.submodule_search_locations or ()) if elsewhere else []
        return spec

    def leave(self) -> None:
        """Take the world's modules out of `sys.modules` and put back those that they displaced."""
        for name in self._names():
            module = sys.modules.pop(name, None)
            if module is not None:
                self._modules[name] = module
        sys.modules.update(self._displaced)
        self._displaced.clear()
        registry.use_shelf(None)
        for path in self._lines:
            linecache.cache.pop(path, None)
        linecache.cache.update(self._displaced_lines)
        self._displaced_lines.clear()

    def _enter(self) -> None:
        if sys.meta_path[:1] != [_finder]:
            sys.meta_path[:] = [_finder, *(finder for finder in sys.meta_path if finder is not _finder)]
        if self._foreign is None:
            self._foreign = self._find_foreign()
        for name in (*self._names(), *self._foreign):
            module = sys.modules.pop(name, None)
            if module is not None:
                self._displaced[name] = module
        sys.modules.update(self._modules)
        registry.use_shelf(self._flows)
        for path, entry in self._lines.items():
            if path in linecache.cache:
                self._displaced_lines[path] = linecache.cache[path]
            linecache.cache[path] = entry

    def _names(self) -> Iterator[str]:
        yield _MAIN
        yield from self.sources

    def _find_foreign(self) -> tuple[str, ...]:
        """Modules that the process loaded from elsewhere below a package of the bundle: they must not be found."""
        tops = {name for name, source in self.sources.items() if "." not in name and source.kind != "namespace"}
        loaded = list(sys.modules)
        return tuple(name for name in loaded if name.partition(".")[0] in tops and name not in self.sources)


class _Loader(Loader):
    """Executes a module from the bundle's text."""

    def __init__(self, source: ModuleSource) -> None:
        self._source = source

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own kind of module will do."""

    def exec_module(self, module: ModuleType) -> None:
        exec(_compiled(self._source), module.__dict__)  # noqa: S102 - the code was verified with its bundle

    def carried_source(self, name: str) -> ModuleSource:
        """The text, for a bundle that is made in a process that got the module in one."""
        return self._source

    def get_source(self, fullname: str) -> str:
        return self._source.text

    def get_code(self, fullname: str) -> CodeType:
        return _compiled(self._source)

    def get_filename(self, fullname: str) -> str:
        return self._source.path

    def is_package(self, fullname: str) -> bool:
        return self._source.is_package


class _Turn:
    """Who may have worlds of his own: one thread at a time of those that the block of `outer` calls. (A context goes along
    into threads that wait for something asynchronous, as one lock would not.)"""

    def __init__(self, outer: _Turn | None) -> None:
        self.outer, self.lock, self.is_over = outer, threading.RLock(), False


_inside: ContextVar[_Turn | None] = ContextVar("nbflow_world", default=None)


def _turn() -> _Turn:
    """The innermost one that goes on: a task may outlive the block that made it."""
    turn = _inside.get()
    while turn is not None and turn.is_over:
        turn = turn.outer
    return turn or _finder.turn


class _Finder:
    """Stands first in `sys.meta_path` and answers for the active world."""

    world: World | None = None

    def __init__(self) -> None:
        self.turn = _Turn(None)

    def after_fork(self) -> None:
        """In the child: a thread that is not there any more may have held it."""
        self.turn = _Turn(None)
        _inside.set(None)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        world = self.world
        if world is None:
            return None
        found = world.spec(name)
        if found is not None or path is not None or name == "nbflow":
            return found
        return self._not_from_here(world, name)

    def _not_from_here(self, world: World, name: str) -> ModuleSpec | None:
        """A top-level module that is not in the bundle may come from anywhere but the worker's own directory."""
        here, rest = _split_path(str(Path.cwd()), tuple(sys.path))
        if not here or PathFinder.find_spec(name, list(here)) is None:
            return None
        if name in sys.builtin_module_names or FrozenImporter.find_spec(name) is not None:
            return None
        found = PathFinder.find_spec(name, list(rest)) or _elsewhere(name)
        if found is None:
            raise ModuleNotFoundError(
                f"No module named {name!r} in the bundle of flow {world.name!r}: the worker's directory has one, but only "
                "modules that travelled with the flow count. Import it at the top of a cell or of a project module.",
                name=name,
            )
        return found


_finder = _Finder()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_finder.after_fork)


@contextmanager
def undisturbed() -> Generator[None]:
    """Inside the block no other thread enters a world: `sys.modules` stays what it is."""
    with _turn().lock:
        yield


def active_world() -> World | None:
    """The world whose code may run now."""
    return _finder.world


def deactivate() -> None:
    """Back to the process's own modules."""
    world, _finder.world = _finder.world, None
    if world is not None:
        world.leave()


def is_installed(package: str) -> bool:
    """Whether the process can import a package, other than from its working directory."""
    return package in sys.modules or _elsewhere(package) is not None


def resolve(module: str, qualname: str) -> Any:
    """What a project module has under a name: how pickles refer to its functions and classes."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise DefinitionError(
                f"Project module {module!r} has no {qualname!r} any more, but the flow refers to it.",
                hint="Run the cell that imports it again, then start again.",
            ) from error
    return found


def main_globals() -> dict[str, Any]:
    """The globals of the notebook's functions in the world that is being loaded."""
    if _finder.world is None:
        raise InternalError("A bundle's pickle was opened outside a world.")
    return _finder.world.main.__dict__


def module_globals(module: str) -> dict[str, Any]:
    """The globals of a project module: for functions that were made by one of its functions."""
    return importlib.import_module(module).__dict__


class FlowReference:
    """Stands for a flow that a step refers to: its name, and nothing else of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<flow {self.name!r}, by name>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise CommandRefused(
            f"A step has only the name of flow {self.name!r}, so `.{name}` cannot be used in it.",
            hint=f"Use `ctx.start_flow({self.name!r}, ...)` to start it.",
        )


@functools.lru_cache(maxsize=512)
def _compiled(source: ModuleSource) -> CodeType:
    return compile(source.text, source.path, "exec", dont_inherit=True)


def _cache_entry(path: str, text: str) -> tuple[int, None, list[str], str]:
    """Without a time of change, `linecache.checkcache` does not compare it with a file."""
    return len(text), None, text.splitlines(keepends=True), path


@functools.lru_cache(maxsize=8)
def _split_path(cwd: str, path: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The entries of `sys.path` that mean the working directory, and the others."""
    real = os.path.realpath(cwd)
    here = tuple(entry for entry in path if entry in ("", ".") or os.path.realpath(entry) == real)
    return here, tuple(entry for entry in path if entry not in here)


def _elsewhere(name: str) -> ModuleSpec | None:
    """What the other finders (editable installs, say) know of a top-level name; files outside the worker's directory."""
    rest = _split_path(str(Path.cwd()), tuple(sys.path))[1]
    found = PathFinder.find_spec(name, list(rest))
    for finder in sys.meta_path:
        if found is None and finder not in (_finder, PathFinder, BuiltinImporter, FrozenImporter):
            found = finder.find_spec(name, None, None)
    return found
