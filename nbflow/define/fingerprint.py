"""Fingerprints: one digest for each step of everything its code depends on, the same in every process.

A walk writes what a step refers to, in a fixed order, into a hash. Never a pickle's bytes, which differ between
processes, nor anything that has an address in it. Each thing that is written names its kind and its length first, so
that no two different things write the same.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import hashlib
import marshal
import re
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from nbflow.define.captures import cannot_travel, captured, code_imports, defaults, flow_name, is_ours, submodules
from nbflow.define.sources import Origin, Project, absolute_name, package_version
from nbflow.define.syntax import function_syntax, module_syntax

__all__ = ["Fingerprints"]

_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented)))
_PLAIN = frozenset((type(None), bool, int, float, str, bytes))
_BUILTIN = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType)
_WRAPPERS = (types.MethodType, functools.partial, staticmethod, classmethod, property, functools.cached_property)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_MADE_BY_PYTHON = frozenset(
    (
        "__abstractmethods__", "__annotate__", "__annotations__", "__annotations_cache__", "__class_vars__", "__dict__",
        "__doc__", "__firstlineno__", "__hash__", "__match_args__", "__module__", "__orig_bases__", "__parameters__",
        "__private_attributes__", "__qualname__", "__replace__", "__signature__", "__static_attributes__", "__weakref__",
        "_abc_impl",
    )
)  # fmt: skip


class Fingerprints:
    """Makes the fingerprints of one flow's steps; what they share (modules, versions) is read once."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._modules: dict[str, bytes] = {}

    def of(self, function: Any, key: Any = None) -> str:
        """32 hexadecimal digits."""
        walk = _Walk(self._project, self.of_module)
        walk.feed(function)
        walk.feed(key)
        return walk.digest()[:32]

    def of_module(self, name: str) -> bytes:
        """The syntax of a project module and of all that it imports, and the versions of the packages it needs."""
        found = self._modules.get(name)
        if found is None:
            sources = self._project.collect([name])
            parts = [f"{source.name}={module_syntax(source)}" for source in sources.modules.values()]
            parts += [f"{package}=={package_version(package)}" for package in sorted(sources.packages)]
            found = self._modules[name] = hashlib.sha256("\n".join(parts).encode()).digest()
        return found


class _Walk:
    """One walk over what a step refers to. A thing met again is written as its number."""

    def __init__(self, project: Project, of_module: Callable[[str], bytes]) -> None:
        self._project = project
        self._of_module = of_module
        self._hash = hashlib.sha256()
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is only good while its object lives

    def digest(self) -> str:
        return self._hash.hexdigest()

    def feed(self, value: Any) -> None:
        kind = _kind(value)
        if kind in _ATOMS:
            self._atom(kind.__name__, value)
        elif kind is tuple:
            self._sequence("tuple", value)
        elif not self._is_known(value):
            self._object(kind, value)

    def _object(self, kind: type[Any], value: Any) -> None:
        name = flow_name(value)
        if name is not None:
            self._put("flow", name)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif issubclass(kind, type):
            self._class(value)
        elif isinstance(value, types.ModuleType):
            self._module(value.__name__)
        else:
            self._value(kind, value)

    def _value(self, kind: type[Any], value: Any) -> None:
        if kind is list:
            self._sequence("list", value)
        elif kind is dict:
            self._sequence("keys", tuple(value))
            self._sequence("values", tuple(value.values()))
        elif kind in (set, frozenset):
            self._set(kind.__name__, value)
        elif isinstance(value, enum.Enum):
            self._put("member", value.name)
            self.feed(kind)
        elif isinstance(value, _BUILTIN):
            self._reference("builtin", getattr(value, "__module__", None) or "builtins", value.__qualname__)
        elif isinstance(value, _WRAPPERS):
            self._wrapper(value)
        elif typing.get_origin(value) is not None:
            self._annotation(value)
        elif is_ours(value) and (cannot_travel(value) or kind.__name__ == "StepDeclaration"):
            self._put("nbflow", kind.__qualname__)
        else:
            self._instance(kind, value)

    def _put(self, kind: str, data: str | bytes = b"") -> None:
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        self._hash.update(f"{kind}:{len(raw)}:".encode())
        self._hash.update(raw)

    def _is_known(self, value: Any) -> bool:
        number = self._numbers.get(id(value))
        if number is not None:
            self._put("again", str(number))
            return True
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        return False

    def _atom(self, kind: str, value: Any) -> None:
        self._put(kind, value if isinstance(value, str | bytes) else repr(value))

    def _sequence(self, kind: str, values: Any) -> None:
        self._put(kind, str(len(values)))
        if len(values) > 64 and all(type(value) in _PLAIN for value in values):
            self._put(
                "plain", marshal.dumps(tuple(values), 2)
            )  # version 2 has no references: equal values, equal bytes
            return
        for value in values:
            self.feed(value)

    def _set(self, kind: str, values: Any) -> None:
        self._put(kind, str(len(values)))
        for digest in sorted(self._apart(value) for value in values):
            self._put("element", digest)

    def _apart(self, value: Any) -> str:
        walk = _Walk(self._project, self._of_module)
        walk.feed(value)
        return walk.digest()

    def _reference(self, kind: str, module: str, name: str) -> None:
        """Something of an installed package or of Python itself: by name, and by the package's version."""
        top = module.partition(".")[0]
        version = package_version(top) if self._project.origin(top) is Origin.PACKAGE else ""
        self._put(kind, f"{module}:{name}:{version}")

    def _module(self, name: str) -> None:
        if self._project.origin(name) is Origin.PROJECT:
            self._put("project", name)
            self._put("source", self._of_module(name))
        else:
            self._reference("module", name, "")

    def _function(self, function: types.FunctionType) -> None:
        home = str(function.__globals__.get("__name__", ""))
        origin = self._project.origin(home) if home else Origin.MISSING
        if home in ("", "__main__") or origin is Origin.MISSING:
            self._put("function", function_syntax(function))
            self._annotations(function.__annotations__)
            for capture in captured(function):
                self._put("name", capture.name)
                self.feed(capture.value)
            self._imports(function)
            return
        self._put("of", function.__qualname__)
        if origin is Origin.PROJECT:
            self._module(home)
        else:
            self._reference("function", home, function.__code__.co_qualname)
        if "<locals>" in function.__code__.co_qualname:  # made by a function of that module, out of what it was given
            self._made(function)

    def _imports(self, function: types.FunctionType) -> None:
        package = str(function.__globals__.get("__package__") or "")
        names = [absolute_name(name, level, package) for name, level in code_imports(function.__code__)]
        names += [module.__name__ for module in submodules(function)]
        for name in sorted(set(names) - {""}):
            if self._project.origin(name) is not Origin.MISSING:
                self._module(name)

    def _made(self, function: types.FunctionType) -> None:
        for cell in function.__closure__ or ():
            try:
                self.feed(cell.cell_contents)
            except ValueError:
                self._put("empty")
        for name, value in defaults(function):
            self._put("default", name)
            self.feed(value)

    def _wrapper(self, value: Any) -> None:
        self._put("wrapper", type(value).__name__)
        if isinstance(value, types.MethodType):
            parts: tuple[Any, ...] = (value.__self__, value.__func__)
        elif isinstance(value, functools.partial):
            parts = _parts_of(value)
        elif isinstance(value, property):
            parts = (value.fget, value.fset, value.fdel)
        elif isinstance(value, functools.cached_property):
            parts = (value.func,)
        else:
            parts = (value.__func__,)
        for part in parts:
            self.feed(part)

    def _annotations(self, annotations: dict[str, Any]) -> None:
        for name, annotation in annotations.items():
            self._put("annotation", name)
            self._annotation(annotation)

    def _annotation(self, annotation: Any) -> None:
        origin = typing.get_origin(annotation)
        if isinstance(annotation, str):
            self._put("text", annotation)
        elif isinstance(annotation, type) and origin is None:
            self.feed(annotation)
        elif origin is not None:
            self._put("form", repr(origin) if not isinstance(origin, type) else origin.__qualname__)
            for argument in typing.get_args(annotation):
                self._annotation(argument)
        else:
            self._put("form", _without_addresses(repr(annotation)))

    def _class(self, cls: type[Any]) -> None:
        module, qualname = cls.__module__, cls.__qualname__
        origin = Origin.MISSING if module == "__main__" else self._project.origin(module)
        is_local = "<locals>" in qualname
        if origin is Origin.PROJECT:
            self._put("class", qualname)
            self._module(module)
        elif origin is not Origin.MISSING and not is_local:
            self._reference("class", module, qualname)
        if origin is Origin.MISSING or is_local:
            self._class_body(cls)

    def _class_body(self, cls: type[Any]) -> None:
        self._put("class", f"{cls.__qualname__}:{type(cls).__name__}")
        for base in cls.__bases__:
            self.feed(base)
        self._annotations(vars(cls).get("__annotations__", {}))
        if issubclass(cls, enum.Enum):
            self._sequence("members", [(name, member.value) for name, member in cls.__members__.items()])
        elif "__dataclass_fields__" in vars(cls):
            self._put("parameters", repr(vars(cls).get("__dataclass_params__")))
            self._fields((field.name, _field_facts(field)) for field in dataclasses.fields(cls))
        elif "__pydantic_fields__" in vars(cls):
            self._fields((name, _pydantic_facts(field)) for name, field in vars(cls)["__pydantic_fields__"].items())
            self._put("validators", _without_addresses(_decorators(cls)))
        for name, value in sorted(vars(cls).items()):
            if not _is_noise(cls, name, value):
                self._put("attribute", name)
                self.feed(value)

    def _fields(self, fields: Iterable[tuple[str, Iterable[Any]]]) -> None:
        for name, facts in fields:
            self._put("field", name)
            for fact in facts:
                self.feed(fact)

    def _instance(self, kind: type[Any], value: Any) -> None:
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType):  # functools.lru_cache and its like
            self._put("wrapper", kind.__qualname__)
            self.feed(wrapped)
            return
        try:
            reduced: Any = copyreg.dispatch_table.get(kind, lambda value: value.__reduce_ex__(4))(value)
            state = [part if place < 3 else _listed(part) for place, part in enumerate(reduced)]
        except Exception:  # noqa: BLE001 - a __reduce__ of the user's; what cannot travel is refused elsewhere
            self._put("opaque", f"{kind.__module__}:{kind.__qualname__}")
            return
        self._put("instance", kind.__qualname__)
        if isinstance(reduced, str):
            self._reference("global", str(getattr(value, "__module__", "")), reduced)
        else:
            self._sequence("state", state[:5])


def _kind(value: object) -> type[Any]:
    return type(value)


def _parts_of(partial: Any) -> tuple[Any, ...]:
    return partial.func, partial.args, partial.keywords


def _listed(part: Any) -> Any:
    return None if part is None else list(part)


def _field_facts(field: dataclasses.Field[Any]) -> Iterable[Any]:
    for value in (field.default, field.default_factory):
        yield "missing" if value is dataclasses.MISSING else value
    yield (field.init, field.repr, field.hash, field.compare, field.kw_only is True)
    yield dict(field.metadata)


def _pydantic_facts(field: Any) -> Iterable[Any]:
    has_default = not field.is_required()
    yield field.default if has_default and field.default_factory is None else "none"
    yield field.default_factory
    yield _without_addresses(repr([repr(item) for item in field.metadata]))
    yield _without_addresses(
        repr((field.alias, field.validation_alias, field.discriminator, field.frozen, field.exclude))
    )


def _decorators(cls: type[Any]) -> str:
    found = vars(cls).get("__pydantic_decorators__")
    if not dataclasses.is_dataclass(found):
        return ""
    groups = {group.name: getattr(found, group.name) for group in dataclasses.fields(found)}
    return repr({group: {name: repr(item.info) for name, item in items.items()} for group, items in groups.items()})


def _is_noise(cls: type[Any], name: str, value: Any) -> bool:
    if name in _MADE_BY_PYTHON or name.startswith(("__dataclass_", "__pydantic_")):
        return True
    if issubclass(cls, enum.Enum):
        return name in cls.__members__ or not isinstance(
            value, types.FunctionType | property | staticmethod | classmethod
        )
    if name.startswith("__") and isinstance(value, types.FunctionType) and value.__code__.co_filename == "<string>":
        return "__dataclass_fields__" in vars(cls)  # generated from the fields
    return isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)


def _without_addresses(text: str) -> str:
    return _ADDRESS.sub("", text)
