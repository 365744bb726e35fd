"""`publish`, `versions`, `rollback`, `unpublish`: the code that is started by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbflow.cli.flows import FROM, read
from nbflow.cli.terminal import Json, document, moment, plain, say, table
from nbflow.errors import UnknownFlow

if TYPE_CHECKING:
    from nbflow.model.versions import Version

__all__ = ["publish", "rollback", "unpublish", "versions"]

Name = Annotated[str, typer.Argument(metavar="FLOW", help="The name of the flow.")]
Note = Annotated[str, typer.Option(help="What is new, for the list of versions.")]


def publish(
    source: Annotated[str, typer.Argument(metavar="X", help=FROM)],
    *,
    flow: Annotated[str | None, typer.Option(help="Only this one of X's flows.")] = None,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Publish the flows of X, all or none: from then on they are started by name, by schedules and by other programs."""
    from nbflow.app import default

    with read(source) as opened, default() as nbflow:
        chosen = list(opened.flows.values()) if flow is None else [opened.flow(flow)]
        if not chosen:
            raise UnknownFlow(f"{source} defines no flow.", hint="Declare one in it: Flow(...).")
        before = {one.name: nbflow.published.find(one.name) for one in chosen}
        for one in chosen:
            nbflow.publish(one, dry_run=True)  # all of them, or none: what is wrong with one is told before
        done = [nbflow.publish(one, note) for one in chosen]
    if as_json:
        document([_record(version) for version in done])
        return
    for version in done:
        was = before[version.flow]
        is_new = was is None or was.number != version.number
        said = f"is version {version.number}" if is_new else f"is version {version.number} already"
        say(f"{plain(version.flow)} {said}. Start it with: nbflow start {plain(version.flow)}")


def versions(flow: Name, as_json: Json = False) -> None:
    """List the versions of FLOW, the newest first."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.published.newest(flow)
        found = nbflow.published.all(flow)
    if as_json:
        document([_record(version) for version in found])
        return
    rows = [
        (version.number, moment(version.published_ms), version.by.get("user", ""), _said(version)) for version in found
    ]
    table(("version", "published", "by", "note"), rows, right=("version",))


def rollback(
    flow: Name,
    number: Annotated[
        int, typer.Argument(metavar="VERSION", min=1, help="The version that is to be the newest again.")
    ],
    *,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Publish an earlier version of FLOW again. It gets a new number."""
    from nbflow.app import default

    with default() as nbflow:
        version = nbflow.published.publish_again(flow, number, note)
    if as_json:
        document(_record(version))
    else:
        say(f"{plain(flow)} is version {version.number} now, with the code of version {number}.")


def unpublish(flow: Name) -> None:
    """Remove the versions of FLOW. Runs that they started go on."""
    from nbflow.app import default

    with default() as nbflow:
        nbflow.published.newest(flow)
        count = nbflow.published.unpublish(flow)
    say(f"{plain(flow)} is not published any more ({count} {'version' if count == 1 else 'versions'} removed).")


def _said(version: Version) -> str:
    return " ".join(filter(None, (version.note, f"(version {version.again} again)" if version.again else "")))


def _record(version: Version) -> dict[str, Any]:
    from nbflow.cli.records import iso

    return {
        "flow": version.flow,
        "version": version.number,
        "publishedAt": iso(version.published_ms),
        "by": version.by,
        "note": version.note,
        "again": version.again or None,
        "bundle": version.bundle,
        "steps": list(version.fingerprints),
        "input": version.input,
    }
