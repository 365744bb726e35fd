"""What goes by name and what stays behind when a step is packed. Decisions only: it packs nothing itself."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any, cast

from nbflow.define.captures import is_ours
from nbflow.define.sources import Origin, Project

__all__ = [
    "MAIN",
    "about_main",
    "cache_anew",
    "classes_of",
    "is_cached_function",
    "is_left_behind",
    "is_project_reference",
    "with_its_file",
    "without_pydantic_state",
    "without_table_id",
]

MAIN = "__main__"
_CACHED = type(functools.lru_cache(len))


def is_project_reference(obj: Any, project: Project) -> bool:
    """Whether a function or class is one that a project module has under its name, now or before it was edited."""
    module, qualname = getattr(obj, "__module__", None), obj.__qualname__
    if not isinstance(module, str) or "<" in qualname or project.origin(module) is not Origin.PROJECT:
        return False
    loaded = sys.modules.get(module)
    found: Any = loaded
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is obj or found is None or not isinstance(obj, types.FunctionType):
        return found is not None
    file = getattr(loaded, "__file__", None)  # a decorator of another file copied the name: that is another function
    return obj.__code__.co_filename == file and not hasattr(obj, "__wrapped__")


def is_left_behind(value: Any) -> bool:
    """A step's declarations, which know the flow, and nbflow's own functions that were hung on a step."""
    if isinstance(value, dict):
        held = list(cast(dict[Any, Any], value).values())
        return bool(held) and all(map(is_ours, held))
    home = value.__module__ if isinstance(value, types.FunctionType) else ""
    return is_ours(value) or home.startswith("nbflow.")


def classes_of(module: types.ModuleType | None) -> list[type[Any]]:
    """The classes that a module defines, in their order."""
    if module is None:
        return []
    return [
        item for item in list(vars(module).values()) if isinstance(item, type) and item.__module__ == module.__name__
    ]


def about_main() -> dict[str, Any]:
    """What relative imports and `__file__` in the notebook's functions need."""
    main = vars(sys.modules[MAIN])
    return {name: main[name] for name in ("__package__", "__file__") if isinstance(main.get(name), str)}


def with_its_file(code: types.CodeType, reduced: Any) -> Any:
    """Code, as cloudpickle reduces it, with the file that its lines are looked up in: from 3.1.3 on cloudpickle leaves that
    out, and errors of a step would point nowhere. (The file is the eleventh argument of CodeType since Python 3.11.)"""
    maker, arguments = reduced
    file = "".join(code.co_filename)  # a copy: which objects share one text differs between processes
    return maker, (*arguments[:10], file, *arguments[11:])


def without_table_id(reduced: Any) -> Any:
    """A class or type variable, as cloudpickle reduces it, without its id in cloudpickle's process-wide table."""
    maker, arguments, *rest = reduced
    if maker is getattr:
        return reduced
    place = len(arguments) - (1 if len(arguments) == 6 and isinstance(arguments[5], str) else 2)
    return (maker, (*arguments[:place], None, *arguments[place + 1 :]), *rest)


def without_pydantic_state(reduced: Any) -> Any:
    """A pydantic model keeps where it was defined and which attributes were set so far: not part of what it is."""
    attributes = reduced[2][0]
    if "__pydantic_parent_namespace__" in attributes:
        attributes["__pydantic_parent_namespace__"] = None
    if "__pydantic_setattr_handlers__" in attributes:
        attributes["__pydantic_setattr_handlers__"] = {}
    return reduced


def is_cached_function(value: Any) -> bool:
    """Whether it is a function under `functools.cache` or `lru_cache`."""
    return isinstance(value, _CACHED)


def cache_anew(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """The function under an empty cache, on the worker."""
    return functools.lru_cache(maxsize, typed)(function)
