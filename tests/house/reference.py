"""What the reference pages take from the code itself. `python -m tests.house.reference` writes it into them.

A page marks the place: `<!-- generated: settings -->` … `<!-- end -->`. `test_docs.py` checks that it is fresh.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import typer

from nbflow import errors
from nbflow.cli.main import app
from nbflow.settings import Settings
from nbflow.watch.frames import TABLES
from tests.house.source import ROOT

__all__ = ["PAGES", "REFERENCE", "commands", "error_classes", "fresh"]

REFERENCE = ROOT / "docs" / "reference"
_MARK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fresh(page: str) -> str:
    """The text of a page with what the code says now."""
    text = (REFERENCE / page).read_text("utf-8")
    return _MARK.sub(lambda found: f"{found[1]}\n{_PARTS[found[2]]()}\n{found[3]}", text)


def commands() -> Iterator[tuple[str, Any]]:
    """Each command by the words that one types, in the order of the help."""
    yield from _below("nbflow", typer.main.get_command(app))


def error_classes() -> list[type[BaseException]]:
    """The classes of the tree in the order in which the module defines them, then the two beside it."""
    members = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BaseException)]
    found = [kind for kind in members if kind.__module__ == errors.__name__]
    lines = {kind: inspect.getsourcelines(kind)[1] for kind in found}
    return sorted(found, key=lines.__getitem__)


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, each in getattr(command, "commands", {}).items():
        inner = f"{words} {name}"
        if not hasattr(each, "commands") or each.invoke_without_command:
            yield inner, each
        if hasattr(each, "commands"):
            yield from _below(inner, each)


def _settings() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = (
            ""
            if field.default is None
            else f"`{field.default:g}`"
            if _is_number(field.default)
            else f"`{field.default}`"
        )
        rows.append(f"| `NBFLOW_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _errors() -> str:
    rows = ["| error | is a | code | when |", "|---|---|---|---|"]
    for kind in error_classes():
        code = f"`{kind.__dict__['code']}`" if "code" in kind.__dict__ else ""
        when = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        rows.append(f"| `{kind.__name__}` | `{kind.__bases__[0].__name__}` | {code} | {when} |")
    return "\n".join(rows) + "\n"


def _commands() -> str:
    return "\n".join(_command(words, command) for words, command in commands())


def _command(words: str, command: Any) -> str:
    parameters = [one for one in command.params if one.name != "help"]
    usage = " ".join([words, *filter(None, map(_argument, parameters))])
    lines = [
        f"### `{words}`",
        "",
        "```text",
        f"{usage}{' [OPTIONS]' if any(map(_is_option, parameters)) else ''}",
        "```",
    ]
    lines += ["", re.sub(r"\s*\n\s*", " ", (command.help or "").strip()), ""]
    lines += [f"- {_told(one)}" for one in parameters]
    return "\n".join(lines).rstrip() + "\n"


def _is_option(parameter: Any) -> bool:
    return parameter.param_type_name == "option"


def _argument(parameter: Any) -> str:
    return "" if _is_option(parameter) else (parameter.metavar or parameter.name.upper())


def _told(parameter: Any) -> str:
    named = ", ".join(parameter.opts) if _is_option(parameter) else _argument(parameter)
    default = parameter.default
    shown = (
        f" Default: `{default}`."
        if isinstance(default, str | int) and not isinstance(default, bool) and default
        else ""
    )
    return f"`{named}`: {parameter.help or ''}{shown}"


def _tables() -> str:
    parts: list[str] = []
    for name, columns in TABLES.items():
        listed = ", ".join(f"`{column}` {dtype}" for column, dtype in columns.items())
        parts.append(f"- **{name}**: {listed}")
    return "\n".join(parts) + "\n"


_PARTS: dict[str, Callable[[], str]] = {
    "settings": _settings,
    "errors": _errors,
    "commands": _commands,
    "tables": _tables,
}
PAGES = ("settings.md", "errors.md", "cli.md", "python.md")


if __name__ == "__main__":
    for page in PAGES:
        (REFERENCE / page).write_text(fresh(page), "utf-8")
