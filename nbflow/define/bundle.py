"""Bundles: the code of a flow as it is now, content-addressed and signed, and how a worker gets it back.

What was defined in the notebook travels by value (cloudpickle), the project's modules as text, installed packages by
name. The pickle is opened only after everything about it was verified, and inside a world of its own.
"""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]

from nbflow.define import captures
from nbflow.define.captures import Capture
from nbflow.define.envelope import Texts, digest_of, header_of, seal, unseal
from nbflow.define.fingerprint import Fingerprints
from nbflow.define.references import (
    MAIN,
    about_main,
    cache_anew,
    classes_of,
    is_cached_function,
    is_left_behind,
    is_project_reference,
    with_its_file,
    without_pydantic_state,
    without_table_id,
)
from nbflow.define.sources import Origin, Project, Sources, absolute_name, distribution_of
from nbflow.define.syntax import source_text
from nbflow.define.world import FlowReference, World, is_installed, main_globals, module_globals, resolve
from nbflow.errors import DefinitionError, NbflowError, PackageMissing
from nbflow.model.definition import StepSpec
from nbflow.model.signing import Signer
from nbflow.model.types import TypeTable

__all__ = ["Bundle", "LoadedFlow", "LoadedStep", "StepCode", "make_bundle", "open_bundle"]

StepCode = tuple[StepSpec, Callable[..., Any], Callable[[Any], Any] | None]
"""A step's spec, its function, and the function that names its elements, if it has one."""

_PROTOCOL = 5


@dataclass(frozen=True, slots=True)
class Bundle:
    """The code of a flow. `fingerprints` are by step; `types` are the classes that payloads may be made of, under the
    same labels as on a worker; `warnings` are sentences for the person who launches."""

    digest: str
    blob: bytes
    fingerprints: dict[str, str]
    types: TypeTable
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class LoadedStep:
    """A step as a worker has it."""

    spec: StepSpec
    function: Callable[..., Any]
    key: Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class LoadedFlow:
    """A flow as a worker has it. Activate `world` before any of its code runs."""

    name: str
    steps: dict[str, LoadedStep]
    types: TypeTable
    world: World
    digest: str


def make_bundle(flow: str, steps: Mapping[str, StepCode], *, signer: Signer, project: Path) -> Bundle:
    """The bundle of a flow as it is now. CaptureError for what cannot travel; DefinitionError for a project module that
    does not compile."""
    place = Project(project)
    cargo = _Cargo(place)
    for name, code in steps.items():
        cargo.load(name, code)
    cargo.finish()
    sources = place.collect(cargo.packer.modules, cargo.packer.lazy_modules)
    table = cargo.types(sources)
    prints = Fingerprints(place)
    fingerprints = {name: prints.of(function, key) for name, (_, function, key) in steps.items()}
    texts = Texts(sources.modules, cargo.lines())
    blob = seal(header_of(flow, list(steps), sources), cargo.payload(), texts, signer)
    return Bundle(digest_of(blob), blob, fingerprints, table, cargo.warnings)


def open_bundle(blob: bytes | memoryview, expected_digest: str, signer: Signer) -> LoadedFlow:
    """The flow of a bundle, in a world of its own. A TrustError says why it is not opened."""
    envelope = unseal(blob, expected_digest, signer, is_installed=is_installed)
    name = envelope.header.flow
    world = World(name, envelope.texts.modules, envelope.texts.lines)
    with world.entered():
        try:
            steps, table = _read(pickle.Unpickler(io.BytesIO(envelope.payload)), envelope.header.steps, world)  # noqa: S301 - verified
        except NbflowError:
            raise
        except ModuleNotFoundError as error:
            raise PackageMissing(
                f"The code of flow {name!r} needs {error.name!r}, which is not here: {error}.",
                hint=f"Install {distribution_of(str(error.name).partition('.')[0])} where this worker runs.",
            ) from error
        except Exception as error:
            raise DefinitionError(
                f"The code of flow {name!r} cannot be loaded: {type(error).__name__}: {error}.",
                hint="Look at what its modules do when they are imported.",
            ) from error
    return LoadedFlow(name, steps, table, world, expected_digest)


def _read(unpickler: pickle.Unpickler, names: list[str], world: World) -> tuple[dict[str, LoadedStep], TypeTable]:
    """The other end of `_Cargo`: the same number of loads in the same order."""
    world.main.__dict__.update(unpickler.load())
    steps = {name: LoadedStep(*unpickler.load()) for name in names}
    while more := unpickler.load():
        world.main.__dict__.update(more)
    labels: dict[str, type] = {}
    for label, cls, module, qualname in unpickler.load():
        found = cls if cls is not None else _class_or_none(module, qualname)
        if isinstance(found, type):
            labels[label] = found
    return steps, TypeTable.from_labels(labels)


def _class_or_none(module: str, qualname: str) -> Any:
    try:
        return resolve(module, qualname)
    except Exception:  # noqa: BLE001 - a class that is gone makes no payloads; a module that fails says so when it is used
        return None


class _Cargo:
    """One bundle's payload while it is packed: several pickles in a row that share what they refer to."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._file = io.BytesIO()
        self._table = TypeTable()
        self.packer = _Packer(self._file, project)
        self.packer.dump(about_main())
        self.warnings: list[str] = []

    def load(self, name: str, code: StepCode) -> None:
        """Pack a step; CaptureError if it cannot travel."""
        before, known = self._file.tell(), len(self.packer.carried)
        _, function, key = code
        self.packer.step, self.packer.roots = name, (function, key)
        try:
            self.packer.dump(code)
        except NbflowError:
            raise
        except Exception as error:
            culprit = captures.find_culprit([*_roots(name, function), *_roots(name, key)], self._travels)
            raise captures.travel_error(name, culprit, error) from error
        if self._file.tell() - before > captures.WARNING_BYTES:
            self._weigh(name, self.packer.carried[known:])

    def finish(self) -> None:
        """Pack the names that only annotations refer to, until no new ones appear."""
        while names := self.packer.take_names():
            self.packer.dump(names)
        self.packer.dump({})

    def types(self, sources: Sources) -> TypeTable:
        """The classes of the notebook and the project, under labels; packs the labels too."""
        for cls in self.packer.classes.values():
            self._table.add(cls)
        for name in sources.modules:
            for cls in classes_of(sys.modules.get(name)):
                self._table.add(cls)
        entries: list[tuple[str, type | None, str, str]] = []
        for label, cls in self._table.labels().items():
            is_named = is_project_reference(cls, self._project)
            entries.append((label, None if is_named else cls, cls.__module__, cls.__qualname__))
        self.packer.dump(entries)
        return self._table

    def lines(self) -> dict[str, str]:
        """The text of the cells and files that functions came from."""
        texts = {path: source_text(path) for path in sorted(self.packer.files) if self._project.owns(path)}
        return {path: text for path, text in texts.items() if text}

    def payload(self) -> bytes:
        return self._file.getvalue()

    def _travels(self, value: Any) -> bool:
        try:
            _Packer(io.BytesIO(), self._project).dump(value)
        except Exception:  # noqa: BLE001 - why not was said already; only which one is asked
            return False
        return True

    def _weigh(self, step: str, carried: Iterable[Capture]) -> None:
        for capture in {id(capture.value): capture for capture in carried}.values():
            size = captures.estimate(capture.value) or self._size(capture.value)
            if size > captures.ERROR_BYTES:
                raise captures.too_large(step, capture, size)
            if size > captures.WARNING_BYTES:
                self.warnings.append(captures.warning(step, capture, size))

    def _size(self, value: Any) -> int:
        file = io.BytesIO()
        _Packer(file, self._project).dump(value)
        return file.tell()


def _roots(name: str, function: Any) -> list[Capture]:
    if isinstance(function, types.FunctionType):
        return list(captures.captured(function, is_step=True))
    return [] if function is None else [Capture(name, function)]


class _Scope(dict[str, Any]):
    """Stands for the globals of the notebook, or of a project module, which the world has already."""


class _Packer(cloudpickle.Pickler):
    """cloudpickle, with three differences: the project's functions and classes go by name even when the kernel has an
    older version of them; what is nbflow's own stays behind; and what was met on the way is written down.

    Nothing that it writes goes through cloudpickle's process-wide table of dynamic classes, in which a later generation
    of a class would change the earlier one: the ids are left out.
    """

    def __init__(self, file: io.BytesIO, project: Project) -> None:
        self._cloud.__init__(file, protocol=_PROTOCOL)
        self._project = project
        self.step = ""
        self.roots: tuple[Any, ...] = ()
        self.modules: set[str] = set()
        self.lazy_modules: set[str] = set()
        self.files: set[str] = set()
        self.carried: list[Capture] = []
        self.classes: dict[int, type] = {}
        self._names: dict[str, Any] = {}
        self._known_names: set[str] = set()

    @property
    def _cloud(self) -> Any:
        """Cloudpickle's own behaviour; it has no types."""
        return super()

    def dump(self, obj: Any) -> None:
        self._cloud.dump(obj)

    def take_names(self) -> dict[str, Any]:
        """The notebook's names that were met since the last call and that no function's code brings along."""
        names, self._names = self._names, {}
        self._known_names |= set(names)
        return names

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Scope):
            return (main_globals, ()) if obj["name"] == MAIN else (module_globals, (obj["name"],))
        if issubclass(type(obj), type):
            return self._reduce_class(obj)
        if isinstance(obj, types.FunctionType):
            return self._reduce_function(obj)
        if isinstance(obj, types.ModuleType):
            return self._reduce_module(obj)
        if isinstance(obj, types.CodeType):
            return with_its_file(obj, self._cloud.dispatch_table[types.CodeType](obj))
        return self._reduce_value(obj)

    def _reduce_class(self, cls: type) -> Any:
        if is_project_reference(cls, self._project):
            self.modules.add(cls.__module__)
            self.classes.setdefault(id(cls), cls)
            return resolve, (cls.__module__, cls.__qualname__)
        reduced: Any = self._cloud.reducer_override(cls)
        if reduced is NotImplemented:
            self._note_module(cls.__module__)
        elif len(reduced) == 6:
            self.classes.setdefault(id(cls), cls)
            self._note_class_names(cls)
            return without_table_id(without_pydantic_state(reduced))
        return reduced

    def _reduce_function(self, function: types.FunctionType) -> Any:
        if is_project_reference(function, self._project):
            self.modules.add(function.__module__)
            return resolve, (function.__module__, function.__qualname__)
        reduced: Any = self._cloud.reducer_override(function)
        if reduced is NotImplemented:
            self._note_module(function.__module__)
            return reduced
        self._note_function(function)
        return self._at_home(function, *reduced)

    def _at_home(self, function: types.FunctionType, maker: Any, arguments: Any, state: Any, *rest: Any) -> Any:
        """A function by value, as cloudpickle reduces it, with the globals that the world has for it."""
        attributes: dict[str, Any] = state[0]
        slots: dict[str, Any] = state[1]
        scope = self._scope(function.__globals__)
        # cloudpickle does not look into inner functions
        slots["_cloudpickle_submodules"] = captures.submodules(function)
        names = captures.annotation_names(function.__annotations__) & function.__globals__.keys()
        slots["__globals__"] |= {name: function.__globals__[name] for name in sorted(names)}
        if scope is not None:
            arguments = (arguments[0], scope, *arguments[2:])
            if scope["name"] != MAIN:
                self.modules.add(scope["name"])
                slots["__globals__"] = {}  # the module's own, as the world has them
        kept = {name: value for name, value in attributes.items() if not is_left_behind(value)}
        return (maker, arguments, (kept, slots), *rest)

    def _reduce_module(self, module: types.ModuleType) -> Any:
        name = module.__name__
        self._note_module(name)
        if self._project.origin(name) is Origin.PROJECT:
            return importlib.import_module, (name,)
        return NotImplemented

    def _reduce_value(self, value: Any) -> Any:
        flow = captures.flow_name(value)
        if flow is not None:
            return FlowReference, (flow,)
        if value is sys.stdout or value is sys.stderr:
            return getattr, (sys, "stdout" if value is sys.stdout else "stderr")
        if captures.cannot_travel(value):
            raise TypeError(f"a {type(value).__name__} belongs to this process")
        if isinstance(value, types.BuiltinFunctionType):
            self._note_module(value.__module__)
        if isinstance(value, typing.TypeVar):
            return without_table_id(self._cloud.dispatch_table[typing.TypeVar](value))
        if is_cached_function(value):
            return self._reduce_cached(value)
        if isinstance(value, functools.cached_property):
            return functools.cached_property, (value.func,), {"attrname": value.attrname}
        return NotImplemented

    def _reduce_cached(self, cached: Any) -> Any:
        """`functools.cache` on a notebook's function: anew and empty. Python would look it up by name."""
        wrapped, parameters = cached.__wrapped__, cached.cache_parameters()
        if is_project_reference(wrapped, self._project):
            self.modules.add(wrapped.__module__)
            return resolve, (wrapped.__module__, wrapped.__qualname__)
        if wrapped.__module__ != MAIN and "<" not in wrapped.__qualname__:
            self._note_module(wrapped.__module__)
            return NotImplemented
        return cache_anew, (wrapped, parameters["maxsize"], parameters["typed"])

    def _scope(self, names: dict[str, Any]) -> _Scope | None:
        """The globals by reference, if they are the notebook's or a project module's."""
        shared: dict[int, Any] = self.__dict__["globals_ref"]
        known = shared.get(id(names))
        if isinstance(known, _Scope):
            return known
        name = names.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        if not isinstance(name, str) or getattr(module, "__dict__", None) is not names:
            return None
        if name != MAIN and self._project.origin(name) is not Origin.PROJECT:
            return None
        scope = _Scope(name=name)
        shared[id(names)] = scope
        return scope

    def _note_module(self, name: str | None) -> None:
        if name and name != MAIN and name.partition(".")[0] != "cloudpickle":  # nbflow needs that itself
            self.modules.add(name)

    def _note_function(self, function: types.FunctionType) -> None:
        self.files.add(function.__code__.co_filename)
        package = str(function.__globals__.get("__package__") or "")
        for name, level in captures.code_imports(function.__code__):
            self.lazy_modules.add(absolute_name(name, level, package))
        self.lazy_modules.discard("")
        for capture in captures.captured(function, is_step=function in self.roots):
            size = captures.estimate(capture.value)
            if size > captures.ERROR_BYTES:
                raise captures.too_large(self.step, capture, size)
            if not isinstance(capture.value, types.FunctionType | types.ModuleType | type):
                self.carried.append(capture)

    def _note_class_names(self, cls: type) -> None:
        main = vars(sys.modules[MAIN])
        if cls.__module__ != MAIN:
            return
        wanted = captures.annotation_names(vars(cls).get("__annotations__", {}))
        if main.get(cls.__qualname__) is cls:
            wanted.add(cls.__qualname__)
        self._names |= {name: main[name] for name in sorted(wanted - self._known_names) if name in main}
