"""`dagster-dlt snapshots`: writes what sources have, so that definitions need not build them."""

from pathlib import Path
from typing import Any

import click

from dagster_dlt._contents import Content
from dagster_dlt.cli.answers import show, show_json
from dagster_dlt.cli.where import Where
from dagster_dlt.errors import PipelineNotFoundError, SnapshotError
from dagster_dlt.snapshot import Refresh, refreshing


@click.group()
def snapshots() -> None:
    """Write what sources have to files, so that definitions need not build them.

    Each DltSourceSnapshot of the code location is meant. The sources are built, with their
    configuration and secrets: do it where these are, for example in CI, and keep the files with
    the code.

    Example: dagster-dlt -m shop.defs snapshots refresh
    """


@snapshots.command()
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.pass_obj
def refresh(where: Where, *, as_json: bool) -> None:
    """Build each source, and write its snapshot anew.

    Example: dagster-dlt -m shop.defs snapshots refresh
    """
    _show(_loaded(where, writes=True), as_json=as_json)


@snapshots.command()
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.pass_context
def check(ctx: click.Context, *, as_json: bool) -> None:
    """Build each source, and compare it with its snapshot; end with 1 if one is different.

    Example: dagster-dlt -m shop.defs snapshots check
    """
    found = _loaded(ctx.obj, writes=False)
    _show(found, as_json=as_json)
    if any(_is_different(content, before) for _, content, before in found.seen):
        ctx.exit(1)


def _loaded(where: Where, *, writes: bool) -> Refresh:
    with refreshing(writes=writes) as found:
        try:
            # Snapshots are read where definitions are made.
            where.code_location  # noqa: B018 - loaded when it is first asked for
        except PipelineNotFoundError as error:
            if isinstance(error.__cause__, SnapshotError):
                raise error.__cause__ from None
            raise
    return found


def _is_different(content: Content, before: Content | None) -> bool:
    return before is None or any(content.changes(before).values())


def _show(found: Refresh, *, as_json: bool) -> None:
    rows = [_row(*each) for each in found.seen]
    if as_json:
        show_json(rows)
        return
    columns = {
        "SNAPSHOT": "path",
        "SOURCE": "source",
        "RESOURCES": "resources",
        "ADDED": "added",
        "REMOVED": "removed",
        "CHANGED": "changed",
    }
    show(rows, columns, "The code location has no snapshots.")


def _row(path: Path, content: Content, before: Content | None) -> dict[str, Any]:
    return {
        "path": str(path),
        "source": content.source,
        "resources": len(content.resources),
        **content.changes(before),
    }
