"""Ids and the names of tasks: how they are made, and the only place where they are taken apart.

An index says which one of many a task is: `()` for the one task of a step, `(7,)` below the first map, `(3, 1)` below
the second. On the wire it is text, `""`, `"7"`, `"3.1"`; for people it is `None`, `7`, `(3, 1)`.
"""

from __future__ import annotations

import re
import uuid
from typing import NewType

__all__ = [
    "Index",
    "RunId",
    "index_for_people",
    "index_from_people",
    "index_from_wire",
    "index_sort_key",
    "is_queue_name",
    "is_step_name",
    "new_run_id",
    "split_task",
    "step_id",
    "task_name",
]

RunId = NewType("RunId", str)
Index = tuple[int, ...]

_STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_ENDS_LIKE_AN_INDEX = re.compile(r"-\d+$")


def new_run_id() -> RunId:
    """32 hexadecimal digits at random."""
    return RunId(uuid.uuid4().hex)


def is_step_name(name: str) -> bool:
    """Whether a step may have this name: letters, digits, `_` and `-` (job ids of RQ allow no more), at most 100,
    not ending in `-` and a number, not containing `__attempt-` (both would be read as part of a step id)."""
    return bool(_STEP_NAME.fullmatch(name)) and not _ENDS_LIKE_AN_INDEX.search(name) and "__attempt-" not in name


def is_queue_name(name: str) -> bool:
    """Whether a queue may have this name: the scripts write it into keys and JSON as it is."""
    return bool(_QUEUE_NAME.fullmatch(name))


def task_name(step: str, index: str) -> str:
    """`clean`, or `parse[7]` when it is one of many. `index` is the wire's text."""
    return f"{step}[{index}]" if index else step


def split_task(task: str) -> tuple[str, str]:
    """`(step, index as the wire's text)` of a task's name."""
    step, _, rest = task.partition("[")
    return step, rest[:-1]


def step_id(run_id: str, task: str, attempt: int) -> str:
    """`<runId>__<step>[-<i>]__attempt-<n>`, the id of an attempt. It is also the id of the job in RQ."""
    step, index = split_task(task)
    middle = f"{step}-{index.replace('.', '-')}" if index else step
    return f"{run_id}__{middle}__attempt-{attempt}"


def index_from_wire(text: str) -> Index:
    return tuple(map(int, text.split("."))) if text else ()


def index_for_people(text: str) -> int | Index | None:
    """What `ctx.index` shows: `None`, an int on the first level, a tuple below it."""
    index = index_from_wire(text)
    return None if not index else index[0] if len(index) == 1 else index


def index_from_people(index: int | Index | None) -> str:
    """The wire's text of what a person wrote in `run["parse"][3, 1]`."""
    if index is None:
        return ""
    return str(index) if isinstance(index, int) else ".".join(map(str, index))


def index_sort_key(text: str) -> Index:
    """Order compares number by number: `2` before `10`, `3` before `3.1`."""
    return index_from_wire(text)
