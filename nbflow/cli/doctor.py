"""`doctor`: looks after everything nbflow needs, and says what to do where something is wrong."""

from __future__ import annotations

import typer

from nbflow.cli.terminal import COLOURS, Json, console, document, plain

__all__ = ["doctor"]


def doctor(as_json: Json = False) -> None:
    """Check this machine, the server, the workers. Exit code 1 if something fails."""
    from nbflow.cli.checks import examine

    checks = examine()
    if as_json:
        document([{"check": c.name, "status": c.status, "detail": c.detail, "hint": c.hint} for c in checks])
    else:
        from rich.text import Text

        out = console()
        width = max(len(check.name) for check in checks)
        for check in checks:
            status = (f"{check.status:<4}", COLOURS[check.status])
            out.print(Text.assemble(status, f"  {check.name:<{width}}  {plain(check.detail)}"), soft_wrap=True)
            if check.hint and check.status != "ok":
                out.print(Text(f"{'':<{width + 8}}→ {plain(check.hint)}"), soft_wrap=True)
    raise typer.Exit(1 if any(check.status == "fail" for check in checks) else 0)
