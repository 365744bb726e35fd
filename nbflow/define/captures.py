"""What a step carries besides its own lines: the globals and closures that its code refers to, their size, their names.

It reads values and never changes or pickles them: whether a value can travel is asked of the pickler by a callable.
"""

from __future__ import annotations

import ast
import dis
import functools
import io
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbflow.errors import CaptureError

__all__ = [
    "ERROR_BYTES",
    "WARNING_BYTES",
    "Capture",
    "annotation_names",
    "cannot_travel",
    "captured",
    "code_imports",
    "defaults",
    "estimate",
    "find_culprit",
    "flow_name",
    "global_names",
    "human_size",
    "is_ours",
    "submodules",
    "too_large",
    "travel_error",
    "warning",
]

WARNING_BYTES = 1024 * 1024
ERROR_BYTES = 32 * 1024 * 1024

_GLOBAL_OPS = frozenset(("LOAD_GLOBAL", "LOAD_NAME"))
_FLOWS = frozenset(("Flow", "FlowDefinition"))
_LIVE = ("app", "engine", "flow", "local", "notebook", "store", "watch", "worker")
"""Packages of nbflow whose objects hold connections, threads or the registry."""

_SIZED = frozenset(("numpy", "pandas", "polars", "pyarrow", "torch"))
"""Their data knows its size without being walked. Not dask's and xarray's, which may be far larger than what travels."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A value that code refers to: under which name, and in which function."""

    name: str
    value: Any
    holder: str = ""


def captured(function: types.FunctionType, *, is_step: bool = False) -> Iterator[Capture]:
    """What the function refers to: globals in the order of their names, then closure, then defaults. The holder is
    named unless it is the step itself, or has no name."""
    holder = "" if is_step or function.__name__ == "<lambda>" else function.__name__
    for name in sorted(global_names(function.__code__) | annotation_names(function.__annotations__)):
        if name in function.__globals__:
            yield Capture(name, function.__globals__[name], holder)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield Capture(name, cell.cell_contents, holder)
        except ValueError:  # an empty cell: assigned later, or never
            continue
    yield from (Capture(name, value, holder) for name, value in defaults(function))


def defaults(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """The defaults of a function by the names of their parameters."""
    given = function.__defaults__ or ()
    count = function.__code__.co_argcount
    yield from zip(function.__code__.co_varnames[count - len(given) : count], given, strict=False)
    yield from (function.__kwdefaults__ or {}).items()


def global_names(code: types.CodeType) -> frozenset[str]:
    """The globals that code reads, in the functions and classes inside it too."""
    return _code_facts(code)[0]


def code_imports(code: types.CodeType) -> tuple[tuple[str, int], ...]:
    """The modules that code imports when it runs, as (name, level of a relative import)."""
    return _code_facts(code)[1]


def submodules(function: types.FunctionType) -> list[types.ModuleType]:
    """The loaded modules that the function reaches as attributes of a package (`pkg.part` after `import pkg.part`)."""
    code = function.__code__
    names = function.__globals__
    packages = [names[name] for name in sorted(global_names(code)) if isinstance(names.get(name), types.ModuleType)]
    found: list[types.ModuleType] = []
    for package in packages:
        prefix = f"{package.__name__}."
        if hasattr(package, "__path__"):
            addressed = [name for name in list(sys.modules) if name.startswith(prefix)]
            found += [
                sys.modules[name] for name in sorted(addressed) if set(name[len(prefix) :].split(".")) <= _words(code)
            ]
    return found


@functools.lru_cache(maxsize=4096)
def _words(code: types.CodeType) -> frozenset[str]:
    inner = [_words(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return frozenset(code.co_names).union(*inner)


@functools.lru_cache(maxsize=4096)
def _code_facts(code: types.CodeType) -> tuple[frozenset[str], tuple[tuple[str, int], ...]]:
    names: set[str] = set()
    imports: list[tuple[str, int]] = []
    constants: list[Any] = [0, None]
    for step in dis.get_instructions(code):
        if step.opname in _GLOBAL_OPS:
            names.add(step.argval)
        elif step.opname == "LOAD_CONST":
            constants = [constants[-1], step.argval]
        elif step.opname == "IMPORT_NAME":
            imports += _import_targets(step.argval, *constants)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _code_facts(constant)
            names |= inner[0]
            imports += inner[1]
    if {"import_module", "__import__"} & {*code.co_names}:
        imports += [_spelled(text) for text in code.co_consts if isinstance(text, str) and _is_module_name(text)]
    return frozenset(names), tuple(dict.fromkeys(imports))


def _import_targets(name: str, level: Any, members: Any) -> Iterator[tuple[str, int]]:
    depth = level if isinstance(level, int) else 0
    yield name, depth
    for member in members or ():
        if member != "*":
            yield f"{name}.{member}" if name else member, depth


def _spelled(text: str) -> tuple[str, int]:
    name = text.lstrip(".")
    return name, len(text) - len(name)


def _is_module_name(text: str) -> bool:
    return bool(text.strip(".")) and all(part.isidentifier() for part in text.lstrip(".").split("."))


def annotation_names(annotations: Mapping[str, Any]) -> set[str]:
    """The names that annotations written as text refer to (`from __future__ import annotations`)."""
    return {name for text in annotations.values() if isinstance(text, str) for name in _names_in(text)}


@functools.lru_cache(maxsize=4096)
def _names_in(text: str) -> frozenset[str]:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != text:
            found |= _names_in(node.value)
    return frozenset(found)


def cannot_travel(value: Any) -> str:
    """The next move for a value that pickles, but would not be itself on a worker; empty if nothing is known of that."""
    if isinstance(value, io.IOBase) and not isinstance(value, io.StringIO | io.BytesIO):
        return "" if value is sys.stdout or value is sys.stderr else "Open it inside the step, or carry its path."
    if not is_ours(value):
        return ""
    package = type(value).__module__.split(".")[1:2]
    if package and package[0] in _LIVE:
        return "Take what the step needs from its `ctx` (`ctx.run_id`, `ctx.start_flow`), or carry plain data."
    return ""


def is_ours(value: Any) -> bool:
    """Whether the value is an object of nbflow, or a method or part bound to one."""
    bound: Any = getattr(value, "__self__", None) if isinstance(value, types.MethodType) else None
    return _is_from_us(value) or _is_from_us(bound) or (isinstance(value, functools.partial) and is_ours(value.func))


def _is_from_us(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "nbflow"


def flow_name(value: Any) -> str | None:
    """The name, if the value is a flow object of nbflow; it travels as that name only."""
    if not is_ours(value) or isinstance(value, types.MethodType):
        return None
    is_flow = any(kind.__name__ in _FLOWS and kind.__module__.startswith("nbflow.") for kind in type(value).__mro__)
    name = getattr(value, "name", None) if is_flow else None
    return name if isinstance(name, str) else None


def estimate(value: Any) -> int:
    """The size in bytes of a value that knows it without being walked (arrays, frames, text); else 0."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if type(value).__module__.partition(".")[0] not in _SIZED:
        return 0
    try:
        return _size_of_data(value)
    except Exception:  # noqa: BLE001 - a class of these packages need not be data
        return 0


def _size_of_data(value: Any) -> int:
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    if hasattr(value, "memory_usage"):
        usage = value.memory_usage()
        return int(usage.sum() if hasattr(usage, "sum") else usage)
    return int(value.estimated_size()) if hasattr(value, "estimated_size") else 0


def human_size(count: float) -> str:
    """`812 B`, `3.4 KiB`, `12.3 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def warning(step: str, capture: Capture, size: int) -> str:
    """The sentence about a value that is large."""
    return (
        f"Step {step!r} carries `{capture.name}` ({human_size(size)}{_through(capture)}) in its code; "
        "pass it as a payload, or load it inside the step."
    )


def too_large(step: str, capture: Capture, size: int) -> CaptureError:
    """The error for a value that is too large."""
    return CaptureError(
        f"Step {step!r} carries `{capture.name}` ({human_size(size)}{_through(capture)}) in its code, more than "
        f"{human_size(ERROR_BYTES)}.",
        hint="Pass it as a payload, or load it inside the step.",
    )


def travel_error(step: str, capture: Capture | None, error: Exception) -> CaptureError:
    """The error for a value that cannot travel."""
    if capture is None:
        return CaptureError(
            f"Step {step!r} cannot travel to a worker: {error}.",
            hint="Define what it refers to inside the step.",
        )
    hint = cannot_travel(capture.value) or "Make it inside the step, or in a function that the step calls."
    return CaptureError(
        f"Step {step!r} refers to `{capture.name}`, a {_type_name(capture.value)}{_through(capture)}, which cannot "
        "travel to a worker.",
        hint=hint,
    )


def _through(capture: Capture) -> str:
    return f", through `{capture.holder}`" if capture.holder else ""


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def find_culprit(roots: Iterable[Capture], travels: Callable[[Any], bool]) -> Capture | None:
    """The innermost value that keeps the roots from travelling, with the name under which the code has it."""
    seen: set[int] = set()
    culprit: Capture | None = None
    waiting = iter(list(roots))
    while (found := _first_failing(waiting, travels, seen)) is not None:
        culprit = found
        waiting = _inside(found)
    return culprit


def _first_failing(captures: Iterator[Capture], travels: Callable[[Any], bool], seen: set[int]) -> Capture | None:
    for capture in captures:
        if id(capture.value) not in seen and not travels(capture.value):
            seen.add(id(capture.value))
            return capture
    return None


def _inside(capture: Capture) -> Iterator[Capture]:
    value, name = capture.value, capture.name
    wrapped = getattr(value, "__wrapped__", None)
    if isinstance(value, types.FunctionType):
        yield from captured(value)
    elif isinstance(value, types.MethodType):
        yield Capture(name, value.__self__, capture.holder)
        yield Capture(name, value.__func__, capture.holder)
    elif wrapped is not None:
        yield Capture(name, wrapped, capture.holder)
    elif isinstance(value, type):
        yield from (Capture(f"{name}.{key}", _unwrapped(item), capture.holder) for key, item in _pairs(vars(value)))
    elif isinstance(value, dict):
        yield from (Capture(f"{name}[{key!r}]", item, capture.holder) for key, item in _pairs(value))
    elif isinstance(value, list | tuple):
        yield from (Capture(f"{name}[{place}]", item, capture.holder) for place, item in enumerate(_elements(value)))
    elif hasattr(value, "__dict__"):
        yield from (Capture(f"{name}.{key}", item, capture.holder) for key, item in _pairs(vars(value)))


def _pairs(mapping: Any) -> list[tuple[Any, Any]]:
    return list(mapping.items())


def _elements(values: Any) -> list[Any]:
    return list(values)


def _unwrapped(item: Any) -> Any:
    return getattr(item, "__func__", item)
