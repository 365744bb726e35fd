"""The result of a run that completed, put together from its view by the rule of the leaves: payloads as they were written,
not opened."""

from __future__ import annotations

from typing import Any, cast

from nbflow.model.ids import index_sort_key
from nbflow.model.view import View

__all__ = ["result_tree"]


def result_tree(view: View) -> Any:
    """One leaf that completed: its result, a list where it is mapped; several: a dict by step; none: None."""
    results = {leaf: _of_leaf(view, leaf) for leaf in cast("list[str]", view.end.get("leaves") or [])}
    if len(results) == 1:
        return next(iter(results.values()))
    return results or None


def _of_leaf(view: View, leaf: str) -> Any:
    if leaf in view.tasks:
        return view.tasks[leaf].result
    mine = (task for task in view.tasks.values() if task.step == leaf and task.status == "completed")
    return [task.result for task in sorted(mine, key=lambda task: index_sort_key(task.index))]
