"""`Secret("DWH")`: a name that travels in place of a value, and where the value is found: with who executes the step.

What was read is masked from then on (see `veil`). Nothing here writes a value anywhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbflow.errors import DefinitionError, UnknownSecret, nearest
from nbflow.model import veil

__all__ = ["FOLDER", "Secret", "Vault", "checked_name", "checked_values", "given", "has", "look_from_here"]

FOLDER = "secrets"
"""In `.nbflow/`: a file for each secret, which `nbflow secret set` writes."""

_MOUNTED = Path("/run/secrets")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_OURS = "NBFLOW_"
_KEYRING = "nbflow"


class Secret:
    """A password or a key by its name. `Secret("DWH").get()` inside a step is the value, as the worker has it.

    Steps, inputs and payloads carry the name; the value is read where the step runs: from the environment variable of
    that name, from a file, or from the keyring. It is masked in all that the step prints, logs and raises.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = checked_name(name)

    def get(self) -> str:
        """The value. UnknownSecret if it is not here, and where to put it."""
        return _vault().value(self.name)

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Secret, self.name))

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (self.name,)


def checked_name(name: Any) -> str:
    """The name. DefinitionError for one that no secret may have."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            "What Secret(…) was given is no name of a secret.",  # and is not shown: it may be a value
            hint="Give one as environment variables have it, such as Secret('DWH_PASSWORD'), and never the value.",
        )
    if name.startswith(_OURS):
        raise DefinitionError(f"{name!r} is nbflow's own.", hint="Steps do not see what begins with NBFLOW_.")
    return name


def checked_values(values: Mapping[str, str] | None) -> dict[str, str]:
    """Values by name. DefinitionError for what cannot be that; it shows no value."""
    try:
        found: dict[Any, Any] = dict(values or {})
    except (TypeError, ValueError):
        raise DefinitionError("secrets= is no dict.", hint='Write secrets={"NAME": "value"}.') from None
    for name, value in found.items():
        if not isinstance(value, str):
            message = f"The value of the secret {checked_name(name)!r} is {type(value).__name__}, and no text."
            raise DefinitionError(message, hint="Give it as str; a step makes of it what it needs.")
    return found


class Vault:
    """Where values are found: those that were given, then the environment, the files of these folders, the keyring."""

    def __init__(self, folders: Iterable[Path] = (), given: Mapping[str, str] | None = None) -> None:
        self._folders, self._given = [*folders], dict(given or {})

    def value(self, name: str) -> str:
        """The value, which is masked from now on."""
        found = self._found(name)
        if found is None:
            raise self._unknown(name)
        if not veil.SHORTEST <= len(found) <= veil.LONGEST:
            raise UnknownSecret(
                f"The secret {name!r} has {len(found)} characters, and what can be kept out of logs has "
                f"{veil.SHORTEST} to {veil.LONGEST}.",
                hint="Look whether it is the right one.",
            )
        veil.learn(name, found)
        return found

    def has(self, name: str) -> bool:
        """Whether it is here, without a look at the keyring, which may ask a person."""
        return name in self._given or bool(os.environ.get(name)) or any(self._files(name))

    def _found(self, name: str) -> str | None:
        at_hand = self._given.get(name) or os.environ.get(name)
        if at_hand:
            return at_hand
        path = next(self._files(name), None)
        return _in_keyring(name) if path is None else _read(path, name)

    def _files(self, name: str) -> Generator[Path]:
        yield from (folder / name for folder in self._folders if (folder / name).is_file())

    def _unknown(self, name: str) -> UnknownSecret:
        folder = f", or in a file {self._folders[0] / name}" if self._folders else ""
        there = [path.name for folder in self._folders if folder.is_dir() for path in folder.iterdir()]
        near = nearest(name, [*self._given, *there]).partition("Known")[0]
        return UnknownSecret(
            f"There is no secret {name!r} here.",
            hint=f"{near} Put it into the environment variable {name} of the workers{folder}; in the project's folder "
            f"`nbflow secret set {name}` does that.".lstrip(),
        )


def _read(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4 * veil.LONGEST + 1).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror or "error" if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UnknownSecret(
            f"The secret {name!r} cannot be read from {path} ({reason}).", hint="Mend the file, or its rights."
        ) from None


def _in_keyring(name: str) -> str | None:
    """From the keyring of the person, where the package is installed and a keyring is open."""
    if importlib.util.find_spec("keyring") is None:
        return None
    try:
        return importlib.import_module("keyring").get_password(_KEYRING, name) or None
    except Exception:  # noqa: BLE001 - none is open, or it asks and nobody is there: then it has nothing for us
        return None


_in_use: list[Vault] = []


def look_from_here() -> None:
    """A worker finds values as the settings and the folder say that it begins with, whatever steps do to these later."""
    _in_use[:] = [Vault([*_folders_here(), _MOUNTED])]


@contextmanager
def given(values: Mapping[str, str]) -> Generator[None]:
    """Inside the block these values are found first. What was read inside is forgotten after it."""
    with veil.only_here():
        before = [*_in_use]
        _in_use.append(Vault([*_folders_here(), _MOUNTED], values))
        try:
            yield
        finally:
            _in_use[:] = before


def has(name: str) -> bool:
    """Whether this process finds it."""
    return _vault().has(name)


def _vault() -> Vault:
    return _in_use[-1] if _in_use else Vault([*_folders_here(), _MOUNTED])


def _folders_here() -> list[Path]:
    """As the settings say, else that of the project: the one they name, or the nearest upwards that has one."""
    from nbflow.settings import settings  # noqa: PLC0415 - it loads pydantic, and who has no secrets needs none

    chosen = settings()
    if chosen.secrets_dir is not None:
        return [chosen.secrets_dir.absolute()]
    if chosen.project is not None:
        return [chosen.project.absolute() / ".nbflow" / FOLDER]
    here = Path.cwd()
    ours = (folder / ".nbflow" / FOLDER for folder in (here, *here.parents))
    return [next((folder for folder in ours if folder.is_dir()), here / ".nbflow" / FOLDER)]
