"""The text of the project's own modules: which modules are the project's, what they import, how they read now.

A kernel keeps the version of a module that it imported first, so project modules travel as they are on disk. Nothing is
imported here: names are resolved with the finders, imports are read from the syntax tree.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Literal

from nbflow.errors import DefinitionError

__all__ = [
    "Import",
    "ModuleSource",
    "Origin",
    "Project",
    "Sources",
    "absolute_name",
    "distribution_of",
    "imports_of",
    "package_version",
    "parse_module",
]

_INSTALLED = ("site-packages", "dist-packages")
_OURS = "nbflow"
_EXTENSIONS = tuple(importlib.machinery.EXTENSION_SUFFIXES)


class Origin(StrEnum):
    """Where a module comes from, which decides how it travels."""

    PROJECT = "project"  # as source text
    PACKAGE = "package"  # by name: the worker must have it
    SYSTEM = "system"  # by name: Python and nbflow themselves
    MISSING = "missing"  # not at all


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """A project module as it was on disk. `path` is what tracebacks show."""

    name: str
    path: str
    kind: Literal["module", "package", "namespace"]
    text: str

    @property
    def is_package(self) -> bool:
        return self.kind != "module"

    @property
    def package(self) -> str:
        """What relative imports in it are relative to."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Import:
    """A module that may be imported. `eager`: certainly, as soon as the importing module is."""

    name: str
    eager: bool


@dataclass(slots=True)
class Sources:
    """What a bundle takes along: project modules as text, and the packages that it needs by name.

    `lazy_packages` are imported inside functions or under conditions only: a worker may lack them.
    """

    modules: dict[str, ModuleSource] = field(default_factory=dict[str, ModuleSource])
    packages: set[str] = field(default_factory=set[str])
    lazy_packages: set[str] = field(default_factory=set[str])


class Project:
    """The modules that travel with a flow: those below the project's directory, beside the notebook, or of editable
    installs. One is made for each bundle, so that it reads the files as they are now."""

    def __init__(self, directory: Path) -> None:
        self.directory = os.path.realpath(directory)
        self._specs: dict[str, ModuleSpec | None] = {}
        self._sources: dict[str, ModuleSource] = {}
        self._origins: dict[str, Origin] = {}
        self._fresh = False

    def origin(self, name: str) -> Origin:
        """Where the module comes from."""
        found = self._origins.get(name)
        if found is None:
            found = self._origins[name] = self._origin(name)
        return found

    def source(self, name: str) -> ModuleSource:
        """The text of a project module. DefinitionError if it has none or does not compile."""
        found = self._sources.get(name)
        if found is None:
            found = self._sources[name] = self._read(name)
        return found

    def owns(self, path: str) -> bool:
        """Whether code of that file is the project's: a cell, or a file that is not installed."""
        return not Path(path).is_absolute() or not Path(path).exists() or self._is_ours(path)

    def collect(self, eager: Iterable[str], lazy: Iterable[str] = ()) -> Sources:
        """The modules reached from these names, over the imports of the project's modules, parents included."""
        sources = Sources()
        seen: dict[str, bool] = {}
        waiting = [Import(name, eager=False) for name in sorted(set(lazy))]
        waiting += [Import(name, eager=True) for name in sorted(set(eager))]
        while waiting:  # eager ones first, so that a module is rarely visited twice
            wanted = waiting.pop()
            if seen.get(wanted.name, False) or (wanted.name in seen and not wanted.eager):
                continue
            seen[wanted.name] = wanted.eager
            waiting += self._take(wanted, sources)
        sources.lazy_packages -= sources.packages
        sources.modules = dict(sorted(sources.modules.items()))
        return sources

    def closure(self, name: str) -> Iterable[ModuleSource]:
        """A project module with all the project modules that it reaches, in the order of their names."""
        return self.collect([name]).modules.values()

    def _take(self, wanted: Import, sources: Sources) -> Iterator[Import]:
        parent = wanted.name.rpartition(".")[0]
        if parent:
            yield Import(parent, wanted.eager)
            if self.origin(parent) is not Origin.PROJECT:
                return
        origin = self.origin(wanted.name)
        if origin is Origin.PACKAGE:
            (sources.packages if wanted.eager else sources.lazy_packages).add(wanted.name.partition(".")[0])
        if origin is not Origin.PROJECT:
            return
        source = sources.modules[wanted.name] = self.source(wanted.name)
        for imported in imports_of(source):
            yield Import(imported.name, imported.eager and wanted.eager)

    def _origin(self, name: str) -> Origin:
        top = name.partition(".")[0]
        if top in (_OURS, "__main__", "__mp_main__"):
            return Origin.SYSTEM
        spec = self._find(name)
        if spec is None:
            return Origin.SYSTEM if top in sys.stdlib_module_names else Origin.MISSING
        if spec.origin in ("built-in", "frozen"):
            return Origin.SYSTEM
        if any(map(self._is_ours, _places(spec))):
            return Origin.PROJECT
        return Origin.SYSTEM if top in sys.stdlib_module_names else Origin.PACKAGE

    def _is_ours(self, path: str) -> bool:
        if path.startswith("<") or not Path(path).exists():  # a zip, or a loader of its own
            return False
        absolute, real = str(Path(path).absolute()), os.path.realpath(path)
        for spelled in (absolute, real):
            if any(part in Path(spelled).parts for part in _INSTALLED) or _below(spelled, _standard_library()):
                return False
        if _below(real, (self.directory,)) or _below(absolute, (self.directory,)):
            return True
        return not _below(absolute, _environment_paths())  # PYTHONPATH is a matter of the machine, not of the project

    def _find(self, name: str) -> ModuleSpec | None:
        if name not in self._specs:
            self._specs[name] = _loaded_spec(name) or self._search(name)
        return self._specs[name]

    def _search(self, name: str) -> ModuleSpec | None:
        path: list[str] | None = None
        parent = name.rpartition(".")[0]
        if parent:
            above = self._find(parent)
            if above is None or above.submodule_search_locations is None:
                return None
            path = list(above.submodule_search_locations)
        found = _ask_finders(name, path)
        if found is None and not self._fresh:  # a file written a moment ago: the finders remember directories
            self._fresh = True
            importlib.invalidate_caches()
            found = _ask_finders(name, path)
        return found

    def _read(self, name: str) -> ModuleSource:
        spec = self._find(name)
        if spec is None:
            raise DefinitionError(
                f"Project module {name!r} is not there any more.", hint="Restore its file, or remove its import."
            )
        carried = getattr(spec.loader, "carried_source", None)
        if carried is not None:  # it came to this process in a bundle: hand on the same text
            return carried(name)
        if spec.origin is None:
            return ModuleSource(name, next(iter(spec.submodule_search_locations or ()), ""), "namespace", "")
        if spec.origin.endswith(_EXTENSIONS):
            raise DefinitionError(
                f"Project module {name!r} is compiled ({spec.origin}), and compiled modules do not travel with a flow.",
                hint="Install it as a package where the workers run.",
            )
        text = _text(name, spec.origin)
        parse_module(name, spec.origin, text)
        return ModuleSource(
            name, spec.origin, "package" if spec.submodule_search_locations is not None else "module", text
        )


def _loaded_spec(name: str) -> ModuleSpec | None:
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if isinstance(spec, ModuleSpec):
        return spec
    file = getattr(module, "__file__", None)
    if isinstance(module, ModuleType) and isinstance(file, str):
        return importlib.util.spec_from_file_location(name, file)
    return None


def _ask_finders(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path, None)
        except (ImportError, AttributeError, ValueError):  # finders of other people
            continue
        if spec is not None:
            return spec
    return None


def _places(spec: ModuleSpec) -> Iterable[str]:
    carried = getattr(spec.loader, "carried_source", None)
    if carried is not None:
        return (str(Path.cwd()),)  # any place that exists and is not installed: its file may be on another machine
    if spec.origin:
        return (spec.origin,)
    above = spec.name.rpartition(".")[0]
    if above and above not in sys.modules:  # a namespace package asks it for its path
        importlib.import_module(above)
    return tuple(spec.submodule_search_locations or ())


def _text(name: str, path: str) -> str:
    try:
        return importlib.util.decode_source(Path(path).read_bytes())
    except OSError as error:
        raise DefinitionError(
            f"Project module {name!r} cannot be read: {path}: {error.strerror}.",
            hint="Restore its file, or remove its import.",
        ) from error
    except (UnicodeDecodeError, SyntaxError) as error:
        raise DefinitionError(
            f"Project module {name!r} is not text in the encoding that it declares: {path}: {error}.",
            hint="Save it as UTF-8; a module without source (.pyc) must be installed where the workers run.",
        ) from error


@functools.lru_cache(maxsize=512)
def parse_module(name: str, path: str, text: str) -> ast.Module:
    """The syntax tree of a module that compiles; DefinitionError with file and line if it does not. Do not change it."""
    try:
        tree = ast.parse(text, path)
        compile(tree, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise DefinitionError(
            f"Project module {name!r} does not compile: {path}, line {line}: {getattr(error, 'msg', error)}.",
            hint="Correct that line, then try again.",
        ) from error
    return tree


@functools.lru_cache(maxsize=512)
def imports_of(source: ModuleSource) -> tuple[Import, ...]:
    """What a module imports, by the names that may be modules, relative ones made absolute."""
    if source.kind == "namespace":
        return ()
    found: dict[str, bool] = {}
    for node, eager in _nodes(parse_module(source.name, source.path, source.text)):
        for name in _imported(node, source.package):
            found[name] = found.get(name, False) or eager
    return tuple(Import(name, eager) for name, eager in sorted(found.items()))


def _nodes(tree: ast.Module) -> Iterator[tuple[ast.AST, bool]]:
    waiting: list[tuple[ast.AST, bool]] = [(tree, True)]
    while waiting:
        node, eager = waiting.pop()
        yield node, eager
        is_certain = not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Try | ast.If | ast.TryStar
        )
        waiting += [(child, eager and is_certain) for child in ast.iter_child_nodes(node)]


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = absolute_name(node.module or "", node.level, package)
        if base:
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
    elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.strip("."):
            yield absolute_name(name.value.lstrip("."), len(name.value) - len(name.value.lstrip(".")), package)


def _is_import_call(function: ast.expr) -> bool:
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    return name in ("import_module", "__import__")


def absolute_name(name: str, level: int, package: str) -> str:
    """`from ..x import` in a package as an absolute name; empty when it leads out of the top."""
    if level == 0:
        return name
    parts = package.split(".") if package else []
    if level - 1 >= len(parts):
        return ""
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{name}" if name else base


@functools.lru_cache(maxsize=512)
def package_version(name: str) -> str:
    """The version of the distribution that has the package; empty if that is unknown."""
    try:
        return importlib.metadata.version(distribution_of(name))
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.lru_cache(maxsize=512)
def distribution_of(package: str) -> str:
    """What to install to have the package: `PyYAML` for `yaml`. The package's own name if nothing else is known."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return next(iter(_distributions().get(package, ())), package)  # slow (0.1 s), so only where names differ
    return package


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _below(path: str, directories: Iterable[str]) -> bool:
    return any(path == directory or path.startswith(directory + os.sep) for directory in directories)


@functools.cache
def _standard_library() -> tuple[str, ...]:
    found = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")}
    return tuple({spelled for path in found if path for spelled in (path, os.path.realpath(path))})


def _environment_paths() -> tuple[str, ...]:
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    here = Path.cwd()
    return tuple(str(path) for entry in entries if entry and (path := Path(entry).absolute()) != here)
