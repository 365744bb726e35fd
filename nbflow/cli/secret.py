"""`secret new`: a secret to sign with, for servers that are not this machine's own. `secret set | list`: the values that
steps read by `Secret(name)`, as files of the project."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from nbflow.cli.terminal import Json, document, plain, say
from nbflow.errors import CommandRefused

__all__ = ["list_secrets", "new", "set_secret"]

_BYTES = 32


def new() -> None:
    """Print a new secret, for NBFLOW_SECRET."""
    say(secrets.token_hex(_BYTES))


def set_secret(
    name: Annotated[str, typer.Argument(metavar="NAME", help='As steps name it: Secret("NAME").')],
) -> None:
    """Keep the value of a secret for the workers of this project: asked for, or read from a pipe."""
    from nbflow.local.project import write_privately
    from nbflow.model.secret import checked_name
    from nbflow.model.veil import LONGEST, SHORTEST

    name = checked_name(name)
    if sys.stdin.isatty():
        value = typer.prompt(f"The value of {name}", hide_input=True)
    else:
        value = sys.stdin.read(LONGEST + 2)
    value = value.rstrip("\r\n")
    if not SHORTEST <= len(value) <= LONGEST:
        raise CommandRefused(
            f"The value of {name!r} has {len(value)} characters, and a secret has {SHORTEST} to {LONGEST}.",
            hint="A shorter one could not be kept out of logs.",
        )
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_privately(folder / name, value)
    say(f"{name} is in {plain(folder)}; workers there find it from now on.")


def list_secrets(as_json: Json = False) -> None:
    """Show which secrets are kept for this project, without their values."""
    folder = _folder()
    names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if as_json:
        document(names)
        return
    for name in names:
        say(plain(name))
    if not names:
        say(f"No secrets are kept in {plain(folder)}.")


def _folder() -> Path:
    """Where workers of this project look (see `nbflow.model.secret`)."""
    from nbflow.local.project import Project, find_project
    from nbflow.model.secret import FOLDER
    from nbflow.settings import settings

    chosen = settings()
    if chosen.secrets_dir is not None:
        return chosen.secrets_dir
    project = find_project() if chosen.project is None else Project(chosen.project.absolute())
    return project.make_folder() / FOLDER
