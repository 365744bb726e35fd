"""Bars of tqdm tell progress instead of drawing lines, from its first import on, wherever in a step that is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from nbflow.worker.context import running

__all__ = ["bars_tell_progress"]

_MODULE = "tqdm.std"


def bars_tell_progress() -> None:
    """Once in a process, whether tqdm was imported already or not."""
    if _MODULE in sys.modules:
        _change(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]


class _Finder:
    """Sees the import, and leaves it to Python."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == _MODULE else None
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _change(module)

            loader.exec_module = exec_module
        return spec


def _change(module: Any) -> None:
    def display(self: Any, *_: Any, **__: Any) -> None:
        context = running.get()
        if context is not None:
            context.progress(self.n, self.total, self.desc or "")

    module.tqdm.display = display
