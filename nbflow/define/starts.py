"""Which flows the steps of a flow may start: those that their code names, where it says `start_flow`.

A name counts as an object (the flow, a job), as text in the code, or as text that the code refers to. What is put together
when the step runs is not found: it is looked up then, among what is published.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable
from typing import Any

from nbflow.define.captures import captured, flow_name
from nbflow.define.sources import Origin, Project

__all__ = ["names_started"]

_WORD = "start_flow"
_MOST_ITEMS = 1000


def names_started(functions: Iterable[Any], project: Project) -> set[str]:
    """Texts among which the names of the flows are that these steps may start; none where no step starts anything."""
    walks = [_Walk(project) for _ in functions]
    for walk, function in zip(walks, functions, strict=True):
        walk.look_at(function)
    return {name for walk in walks if walk.starts for name in walk.names}


class _Walk:
    """One walk over what a step refers to; what is installed is not looked into."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.names: set[str] = set()
        self.starts = False
        self._seen: set[int] = set()

    def look_at(self, value: Any) -> None:
        name = flow_name(value) or flow_name(
            getattr(value, "flow", None) if isinstance(value, types.FunctionType) else None
        )
        if name is not None:
            self.names.add(name)
        elif isinstance(value, str):
            self.names.add(value)
        elif id(value) not in self._seen:
            self._seen.add(id(value))
            self._look_into(value)

    def _look_into(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType | functools.partial):
            self.look_at(value.__func__ if isinstance(value, types.MethodType) else value.func)  # pyright: ignore[reportUnknownMemberType]
        elif isinstance(value, list | tuple | set | frozenset | dict):
            items: Any = [*value.keys(), *value.values()] if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType]
            for item in list(items)[:_MOST_ITEMS]:
                if isinstance(item, str | types.FunctionType) or flow_name(item):
                    self.look_at(item)
        elif isinstance(value, type | types.ModuleType) and self._is_ours(value):
            for item in list(vars(value).values()):
                if isinstance(item, types.FunctionType) or flow_name(item):
                    self.look_at(item)

    def _function(self, function: types.FunctionType) -> None:
        if not self._is_of_project(str(function.__globals__.get("__name__", ""))):
            return
        self._code(function.__code__)
        for capture in captured(function):
            self.look_at(capture.value)

    def _code(self, code: types.CodeType) -> None:
        self.starts |= _WORD in code.co_names
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant)
            else:
                self.look_at(constant) if isinstance(constant, str | tuple) else None

    def _is_ours(self, value: type | types.ModuleType) -> bool:
        return self._is_of_project(value.__name__ if isinstance(value, types.ModuleType) else value.__module__)

    def _is_of_project(self, module: str) -> bool:
        return module in ("", "__main__") or self._project.origin(module) in (Origin.PROJECT, Origin.MISSING)
