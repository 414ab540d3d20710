"""`dagster-dlt cursors`: from where the next run of a resource starts."""

from typing import Any, Final

import click

from dagster_dlt.cli.answers import Proposal, Row, json_option, show, show_json, yes_option
from dagster_dlt.cli.where import Where
from dagster_dlt.errors import NothingMatchesError
from dagster_dlt.loading import cursors
from dagster_dlt.loading.cursors import Cursor
from dagster_dlt.loading.site import Site

_CURSORS: Final = {
    "PIPELINE": "pipeline",
    "SOURCE": "source",
    "RESOURCE": "resource",
    "CURSOR": "cursor",
    "LAST VALUE": "last_value",
    "TYPE": "type",
}
_MOVES: Final = {**_CURSORS, "LAST VALUE": "last_value", "BECOMES": "becomes"}
_RISK: Final = (
    "Moved back, rows come again: append tables get them twice, a merge with a key replaces them. "
    "Moved forward, rows in between are never loaded."
)
_which = (
    click.option("--cursor", "path", help="Path of the cursor, where the resource has several."),
    click.option("--source", help="Name of the source, where several have such a resource."),
)


@click.group("cursors")
def cursors_group() -> None:
    """Incremental cursors: where the next run starts.

    Example: dagster-dlt -m shop.defs cursors show
    """


@cursors_group.command("show")
@click.argument("resource", required=False)
@json_option
@click.pass_obj
def show_cursors(where: Where, resource: str | None, *, as_json: bool) -> None:
    """Show the cursors of all resources, or of one.

    Example: dagster-dlt -m shop.defs cursors show orders
    """
    rows: list[Row] = []
    for site in where.sites():
        found = cursors.cursors_in(cursors.state_of(site))
        rows += [
            _cursor_row(site, cursor) for cursor in found if resource in {None, cursor.resource}
        ]
    if as_json:
        show_json(rows)
    else:
        show(rows, _CURSORS, "There are no cursors.")
    if resource is not None and not rows:
        raise click.exceptions.Exit(1)


def _cursor_row(site: Site, cursor: Cursor) -> dict[str, Any]:
    return {
        "pipeline": site.name,
        "source": cursor.source,
        "resource": cursor.resource,
        "cursor": cursor.path,
        "last_value": None if cursor.value is None else str(cursor.value),
        "type": cursor.kind,
    }


@cursors_group.command("set")
@click.argument("resource")
@click.argument("value")
@_which[0]
@_which[1]
@click.option(
    "--type",
    "kind",
    type=click.Choice(list(cursors.KINDS)),
    help="Type of the value, where the cursor has none yet. Otherwise it is the cursor's.",
)
@yes_option
@json_option
@click.pass_obj
def set_cursor(
    where: Where,
    resource: str,
    value: str,
    *,
    path: str | None,
    source: str | None,
    kind: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Let the next run of a resource start from a value.

    Rows at the value are included. Dates and times are written as in ISO 8601. A negative number
    follows `--`.

    Example: dagster-dlt -m shop.defs cursors set orders 2024-01-31 --yes
    """
    site = where.site()
    cursor = _cursor(site, resource, path, source, new=kind is not None)
    like = cursors.KINDS[kind] if kind else cursor.value
    if like is None:
        message = f"Cursor {cursor} has no value yet: say what it is with --type."
        raise click.UsageError(message)
    try:
        after = cursors.read(value, like)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="VALUE") from error
    _move(site, cursor, cursors.moved(cursor, after), str(after), yes=yes, as_json=as_json)


@cursors_group.command("rewind")
@click.argument("resource")
@_which[0]
@_which[1]
@yes_option
@json_option
@click.pass_obj
def rewind_cursor(
    where: Where,
    resource: str,
    *,
    path: str | None,
    source: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Let the next run of a resource start from the beginning.

    That is the `initial_value` of its cursor, if it has one.

    Example: dagster-dlt -m shop.defs cursors rewind orders --yes
    """
    site = where.site()
    cursor = _cursor(site, resource, path, source)
    _move(site, cursor, cursors.forgotten(cursor), "the beginning", yes=yes, as_json=as_json)


def _cursor(
    site: Site, resource: str, path: str | None, source: str | None, *, new: bool = False
) -> Cursor:
    """Find the one cursor that is meant; `new` allows one that has no value yet."""
    state = cursors.state_of(site)
    sources = [
        name
        for name, own in cursors.resources_in(state)
        if own == resource and source in {None, name}
    ]
    if not sources:
        known = sorted({own for _, own in cursors.resources_in(state)})
        raise NothingMatchesError(site.name, "resource with a state", resource, known)
    found = [
        cursor
        for cursor in cursors.cursors_in(state)
        if cursor.resource == resource
        and path in {None, cursor.path}
        and source in {None, cursor.source}
    ]
    if not found and new and path and len(sources) == 1:
        return Cursor(sources[0], resource, path)
    if not found:
        known = sorted(str(each) for each in cursors.cursors_in(state))
        raise NothingMatchesError(site.name, "cursor", f"{resource}.{path or '?'}", known)
    if len(found) > 1:
        listed = ", ".join(f"--source {each.source} --cursor {each.path}" for each in found)
        message = f"{resource!r} has several cursors. Choose one: {listed}."
        raise click.UsageError(message)
    return found[0]


def _move(
    site: Site, cursor: Cursor, change: cursors.Change, becomes: str, *, yes: bool, as_json: bool
) -> None:
    def make() -> tuple[str, bool]:
        what = f"cursor {cursor} to {becomes}"
        load_id = cursors.write(site, change, [cursor.resource], what)
        where = f"load {load_id}" if load_id else "the state on this disk"
        return f"Done, in {where}: {cursor} starts from {becomes}.", True

    cursors.refuse_in_flight(site, [cursor.resource])
    row = {**_cursor_row(site, cursor), "becomes": becomes}
    Proposal([row], _MOVES, [_RISK], make).put(yes=yes, as_json=as_json)


@cursors_group.command("merge")
@yes_option
@json_option
@click.pass_obj
def merge_cursors(where: Where, *, yes: bool, as_json: bool) -> None:
    """Write the cursors of loads that overlapped as one state.

    Each run does so by itself. Do it before you go back to dlt alone, which reads only the state
    of the load that began last.

    Example: dagster-dlt -m shop.defs cursors merge --yes
    """
    site = where.site()
    rows = [_cursor_row(site, each) for each in cursors.cursors_in(cursors.state_of(site))]

    def make() -> tuple[str, bool]:
        load_id = cursors.write(site, lambda _state: None, [], "cursors merge")
        return f"Done, in load {load_id}." if load_id else "There was nothing to merge.", True

    Proposal(rows, _CURSORS, [], make).put(yes=yes, as_json=as_json)
