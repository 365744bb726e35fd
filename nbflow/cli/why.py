"""`why`: why the steps of a run are not running."""

from __future__ import annotations

from typing import Annotated

import typer

from nbflow.cli.runs import RunId
from nbflow.cli.terminal import Json, document, plain, say, table

__all__ = ["why"]


def why(
    run: RunId,
    step: Annotated[str | None, typer.Argument(metavar="[STEP]", help="A step, or a task such as 'parse[7]'.")] = None,
    as_json: Json = False,
) -> None:
    """Say why a step is not running; without a step, of each."""
    from dataclasses import asdict

    from nbflow.app import default
    from nbflow.watch.why import Reason

    with default() as nbflow:
        found = nbflow.run(run)
        reasons: list[Reason] = found.reasons() if step is None else [found.reason(step)]
    if as_json:
        document([asdict(reason) for reason in reasons])
    elif step is not None:
        say(plain(reasons[0].text))
    else:
        table(
            ("step", "status", "why"), [(plain(one.task or one.step), one.status, plain(one.text)) for one in reasons]
        )
