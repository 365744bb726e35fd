"""`ctx.state`: JSON values by key that the steps of a run share. What may be kept, and what a change of it says and hears;
who carries the change out is the port's matter."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from nbflow.errors import CommandRefused, DefinitionError, PayloadError, nearest
from nbflow.model import veil
from nbflow.model.codec import LARGEST_JSON, refuse_secrets
from nbflow.model.policy import Duration, seconds

__all__ = ["LONGEST_KEY", "MOST_FADING", "Change", "State", "StatePort"]

LONGEST_KEY = 200
MOST_FADING = 500
"""Values that go by themselves, at once in a run; as in `parts/fades.lua`."""

_FOR_GOOD, _TO_THE_END, _AS_BEFORE = "", "end", "as"


@dataclass(frozen=True, slots=True)
class Change:
    """One change, as the script `state` takes it: `set`, `swap`, `delete` or `incr`. `stays` says for how long the value
    does: for good, to the `end` of the run, for so many ms, or `as` it did before. `was` is what a swap replaces."""

    operation: str
    key: str
    text: str = ""
    stays: str = _FOR_GOOD
    was: str = ""

    def outcome(self, reply: str, text: str) -> str:
        """The new value as JSON; of a swap that came too late what is there, behind a mark. Raises what cannot be."""
        match reply:
            case "NUMBER":
                raise CommandRefused(
                    f"The state {self.key!r} is {text[:60]}, which is no number.",
                    hint="Use ctx.state.set to replace it.",
                )
            case "RANGE":
                raise CommandRefused(
                    f"The state {self.key!r} is {text[:60]}, and with {self.text[:60]} more it is beyond what it can count.",
                    hint="Whole numbers have at most 64 bits; use ctx.state.update for others.",
                )
            case "MANY":
                raise CommandRefused(
                    f"{MOST_FADING} values of this run's state go by themselves, and there may be no other.",
                    hint="Keep them in one value, or delete some.",
                )
            case "OTHER":
                raise TooLate(text)
            case _:
                return text


class TooLate(Exception):
    """A swap found another value than the one it replaces."""

    def __init__(self, text: str) -> None:
        super().__init__("somebody else was faster")
        self.text = text


class StatePort(Protocol):
    """What the state needs of a port."""

    def state(self, change: Change) -> str: ...
    def read_state(self, key: str | None) -> dict[str, str]: ...


class State:
    """The run's state: JSON values by key, shared by its steps, changed at once and atomically.

    A change counts even if the attempt fails later: `incr` in a task that is tried twice counts twice. With `ttl` a value
    goes after that time, with `cleanup="on_end"` when the run ends; one with a `ttl` goes then too, if it is still there.
    """

    def __init__(self, port: StatePort) -> None:
        self._port = port

    def get(self, key: str, default: Any = None) -> Any:
        text = self._port.read_state(_key(key)).get(key)
        return default if text is None else json.loads(text)

    def all(self) -> dict[str, Any]:
        return {key: json.loads(text) for key, text in self._port.read_state(None).items()}

    def set(
        self, key: str, value: Any, *, ttl: Duration | None = None, cleanup: Literal["keep", "on_end"] = "keep"
    ) -> None:
        """Keep a value, for good or for a time. It replaces one that is there, and how long that would have stayed."""
        self._port.state(Change("set", _key(key), _text(key, value), _stays(ttl, cleanup)))

    def delete(self, key: str) -> None:
        self._port.state(Change("delete", _key(key)))

    def incr(self, key: str, by: float = 1) -> float:
        """Add to a number (0 if there is none) and return the new value. It stays as long as it did before."""
        is_number = isinstance(by, int | float) and not isinstance(by, bool) and math.isfinite(by)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not is_number:
            raise CommandRefused(f"The state {key!r} cannot grow by {by!r}.", hint="Give a number.")
        return json.loads(self._port.state(Change("incr", _key(key), _text(key, by), _AS_BEFORE)))

    def update(self, key: str, change: Callable[[Any], Any], *, default: Any = None) -> Any:
        """Replace a value by what a function makes of it (of `default`, if there is none), and return that. Nobody comes in
        between: if somebody was faster, the function is called again, with what is there then."""
        if not callable(change):
            raise CommandRefused(
                f"ctx.state.update({key!r}, …) takes a function of the value.",
                hint="Use ctx.state.set for a value, or write update(key, lambda old: …).",
            )
        was = self._port.read_state(_key(key)).get(key, "")
        while True:
            text = _text(key, change(json.loads(was) if was else default))
            try:
                return json.loads(self._port.state(Change("swap", key, text, _AS_BEFORE, was)))
            except TooLate as late:
                was = late.text


def _key(key: str) -> str:
    is_text = isinstance(key, str) and 0 < len(key) <= LONGEST_KEY  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_text or not key.isprintable():
        raise CommandRefused(
            f"A key of the state cannot be {str(key)[:60]!r}.", hint=f"Use 1 to {LONGEST_KEY} printable characters."
        )
    return key


def _stays(ttl: Duration | None, cleanup: str) -> str:
    if cleanup not in ("keep", "on_end"):
        raise DefinitionError(f"cleanup={cleanup!r} is not known.", hint=nearest(str(cleanup), ("keep", "on_end")))
    if ttl is None:
        return _TO_THE_END if cleanup == "on_end" else _FOR_GOOD
    ms = round(seconds(ttl, "The ttl of a value of the state") * 1000)
    if ms < 1:
        raise DefinitionError("A value of the state cannot stay for no time.", hint="Give ttl= at least a millisecond.")
    return str(ms)


def _text(key: str, value: Any) -> str:
    """The JSON that a value is kept as."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        _refuse_other_keys(value)
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise PayloadError(
            f"The state {key!r} is no JSON value ({reason}).",
            hint="Keep text, numbers, lists and dicts; emit the rest.",
        ) from error
    if len(text) > LARGEST_JSON:
        raise PayloadError(
            f"The state {key!r} takes {len(text) // 1024} KiB of JSON, and a value has at most {LARGEST_JSON // 1024} KiB.",
            hint="Emit it, or keep it with ctx.artifact, and keep its name in the state.",
        )
    if veil.known:
        refuse_secrets(json.dumps([key, value], ensure_ascii=False), f"state[{key!r}]")
    return text


def _refuse_other_keys(value: Any) -> None:
    """JSON would make text of them, and the value would come back as another."""
    if isinstance(value, dict):
        for key, part in cast("dict[Any, Any]", value).items():
            if not isinstance(key, str):
                raise TypeError(f"its key {key!r} is no text")
            _refuse_other_keys(part)
    elif isinstance(value, list | tuple):
        for part in cast("list[Any]", value):
            _refuse_other_keys(part)
