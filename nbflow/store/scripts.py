"""Loads `lua/*.lua`: each a file with a header that is its contract, and the parts it uses in front.

    --! settle: what it does, atomically
    --! uses: event job closing
    --! keys: *queues
    --! args: worker want job *emits
    --! reply: …

A part begins with `--! on: …` if it stands on other parts that nobody else names.

Names in the header become Lua locals (a starred one takes the rest) and the only names a caller can pass, so nobody
counts positions. Scripts are addressed by the digest of their text: two releases work side by side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nbflow.errors import InternalError
from nbflow.store.keys import RQ, Keys
from nbflow.store.link import Linked

__all__ = ["NAMES", "STOCK_JOB_DATA", "Script", "Scripts", "linked_script", "sources"]

NAMES = (
    *("launch", "settle", "claim", "adopt", "slice", "tick", "beat", "giveback", "cancel", "append", "state", "recall"),
    *("own", "upload", "stage", "delete", "retire", "swept", "publish", "unpublish", "resolve", "emit", "reckon"),
    *("schedule", "unschedule", "suspend", "fire", "miss"),
    *("trigger", "untrigger", "mute", "trip", "pull", "drop"),
    *("act", "peek", "lose"),
)
HOT = frozenset(
    [
        "advance",
        "announce",
        "apply",
        "because_of",
        "begin_run",
        "check",
        "children.begin",
        "claim_next",
        "close",
        "close_for",
        "close_run",
        "comes_too_early",
        "count_out",
        "create",
        "differ_in_priority",
        "done",
        "drain",
        "due_at",
        "emit",
        "end_run",
        "event",
        "expand",
        "finish",
        "follow",
        "get",
        "inc",
        "is_stopped",
        "is_under_way",
        "iso",
        "job_hash",
        "job_id",
        "keep",
        "kill",
        "know_queue",
        "launch_run",
        "lease_out",
        "lift",
        "limits.text",
        "make_fresh",
        "make_job",
        "make_slice",
        "many",
        "notice",
        "now_ms",
        "num",
        "offer",
        "own",
        "plan_field",
        "plan_of",
        "preview",
        "prio_key",
        "push",
        "push_job",
        "put",
        "queue_key",
        "queue_of",
        "reached",
        "ready",
        "refusal_of",
        "satisfy",
        "set",
        "skip_events",
        "store",
        "strings",
        "take",
        "take_next",
        "tell",
        "tell_emit",
        "unhandled",
        "waits",
        "wake",
        "watch_deadline",
        "write_run",
    ]
)
"""Functions of parts that a start, a plain hop, a map or an idle claim calls. The others are made when they are needed."""
_LUA = Path(__file__).parent / "lua"
_HEADER = re.compile(r"^--! (\w+):[ \t]*(.*)$", re.MULTILINE)

_TAKEN_WHEN_FULL = frozenset(
    (
        *("beat", "cancel", "delete", "drop", "giveback", "mute", "recall", "retire", "suspend", "swept", "tick"),
        *("lose", "unpublish", "unschedule", "untrigger"),
    )
)
"""What keeps a lease, gives back or ends something: a server without memory left takes it still."""

STOCK_JOB_DATA = "(Vnbflow.worker.stock.execute\nN(t(dt."
"""The same constant pickle for every job: the entry function, no instance, no arguments. Stock tools of RQ read it;
nbflow never does."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script ready to be called: its text, its digest, and the names of what it takes."""

    name: str
    text: str
    sha: str
    args: tuple[str, ...]
    rest: str

    def command(self, *rest: Any, keys: Sequence[str] = (), **named: Any) -> tuple[Any, ...]:
        """The EVALSHA command for these named arguments, with the starred ones after them."""
        if named.keys() != set(self.args) or (rest and not self.rest):
            raise InternalError(f"The script {self.name!r} takes {self.args}, not {tuple(named)}.")
        return ("EVALSHA", self.sha, len(keys), *keys, *(named[name] for name in self.args), *rest)


class Scripts(dict[str, Script]):
    """The scripts for a namespace, by name: each is there from its first use on, and is sent to a server that does not
    know it (`text_of`). A process uses a handful of them."""

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self._keys = keys

    def __missing__(self, name: str) -> Script:
        script = self[name] = linked_script(name, self._keys)
        return script

    def text_of(self, sha: str) -> str | None:
        """The text of one that was used, by its digest."""
        return next((script.text for script in list(self.values()) if script.sha == sha), None)

    def prepare(self, *names: str) -> None:
        """Have these ready before they are needed."""
        for name in names:
            self[name]


def linked_script(name: str, keys: Keys) -> Script:
    """One script for a namespace."""
    if name not in NAMES:
        raise InternalError(f"There is no script {name!r}.")
    args, rest, made = _template(name)
    constants = {"P": keys.namespace, "RQ": RQ, "QP": keys.queue_prefix, "DATA": STOCK_JOB_DATA}
    text = made.text(_shebang(name), {constant: _quoted(value) for constant, value in constants.items()})
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), args, rest)


@cache
def _template(name: str) -> tuple[tuple[str, ...], str, Linked]:
    """What is the same for all namespaces, which is all but four words: its arguments, and its text but for these."""
    parts, body = sources(name)
    header = _header(body)
    args = header["args"].split()
    rest = args.pop()[1:] if args and args[-1].startswith("*") else ""
    given = f"local {header['keys'][1:]} = KEYS" if header["keys"] else ""
    return tuple(args), rest, Linked.of(parts, "\n".join([_locals(args, rest), given, body]), HOT)


def sources(name: str) -> tuple[str, str]:
    """The text of the parts that a script uses, and its own."""
    body = _read(name)
    return "\n".join(_read(f"parts/{part}") for part in _parts(_header(body)["uses"])), body


def _shebang(name: str) -> str:
    """With this line a server without memory left refuses a script whole, before it begins. Without it the script would
    stop at the first write that finds no room, half done."""
    return "#!lua flags=allow-oom" if name in _TAKEN_WHEN_FULL else "#!lua"


@cache
def _read(name: str) -> str:
    return (_LUA / f"{name}.lua").read_text("utf-8")


def _parts(uses: str) -> list[str]:
    """The parts in their order, each after those that it says it stands on."""
    return [name for part in uses.split() for name in (*_header(_read(f"parts/{part}")).get("on", "").split(), part)]


def _header(body: str) -> dict[str, str]:
    return {"uses": "", "keys": "", "args": "", **{name: text.strip() for name, text in _HEADER.findall(body)}}


def _locals(args: list[str], rest: str) -> str:
    lines: list[str] = []
    if args:
        lines.append(f"local {', '.join(args)} = {', '.join(f'ARGV[{i + 1}]' for i in range(len(args)))}")
    if rest:
        lines.append(f"local {rest} = {{}} for i = {len(args) + 1}, #ARGV do {rest}[i - {len(args)}] = ARGV[i] end")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
