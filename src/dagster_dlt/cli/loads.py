"""`dagster-dlt loads` and `leases`: what the ledger at the destination knows."""

from typing import Final

import click

from dagster_dlt.cli.answers import Proposal, Row, json_option, moment, show, show_json, yes_option
from dagster_dlt.cli.where import Where
from dagster_dlt.errors import NothingMatchesError, RefusedError
from dagster_dlt.loading.entry import Entry
from dagster_dlt.loading.machine import machine
from dagster_dlt.loading.site import Site

_LOADS: Final = {
    "PIPELINE": "pipeline",
    "LOAD ID": "load_id",
    "STATUS": "status",
    "STEP": "step",
    "PARTITION": "partition",
    "ATTEMPT": "attempt",
    "RUN": "run_id",
    "RESOURCES": "resources",
    "STARTED": "started_at",
}


@click.group()
def loads() -> None:
    """Loads that the ledger knows, from every machine.

    The ledger is the table, or the folder, `_dlt_dagster_loads` beside the tables of the pipeline.

    Example: dagster-dlt -m shop.defs loads list
    """


@loads.command("list")
@click.option("--dead", is_flag=True, help="Only loads that died before they were committed.")
@json_option
@click.pass_obj
def list_loads(where: Where, *, dead: bool, as_json: bool) -> None:
    """List the loads of the last eight days, and all that are not over.

    A load is `committed`, `undone`, `alive`, or `dead`: it began to send rows, was never committed,
    and its process is gone. The next run of the same resources and partition takes the rows of a
    dead load back before it loads.

    Example: dagster-dlt -m shop.defs loads list --dead
    """
    rows: list[Row] = []
    for site in where.sites():
        if site.ledger is None:
            click.echo(f"Pipeline {site.name!r} has no ledger: it cannot be kept there.", err=True)
        rows += [_load_row(site, entry) for entry in site.entries]
    if dead:
        rows = [row for row in rows if str(row["status"]).startswith("dead")]
    if as_json:
        show_json(rows)
    else:
        show(rows, _LOADS, "The ledger has no such loads.")


def _load_row(site: Site, entry: Entry) -> Row:
    return {
        "pipeline": site.name,
        "load_id": entry.load_id,
        "status": _status(site, entry),
        "step": entry.loader.step,
        "partition": entry.loader.partition,
        "attempt": entry.loader.attempt,
        "run_id": entry.loader.run_id,
        "resources": list(entry.resources),
        "not_loaded": list(entry.failed),
        "rows": dict(entry.rows),
        "machine": "this one" if entry.machine == machine() else entry.machine,
        "started_at": moment(entry.started_at),
        "last_sign_at": moment(entry.beat_at),
    }


def _status(site: Site, entry: Entry) -> str:
    if entry.status != "loading" or site.ledger is None:
        return entry.status
    cause = site.ledger.cause_of_death(entry)
    return f"dead: {cause}" if cause else "alive"


@loads.command("undo")
@click.argument("load_id")
@click.option(
    "--force",
    is_flag=True,
    help="Also where its process may be alive, on another machine. If it is, it goes on to send "
    "rows, and commits a load from which some are missing.",
)
@yes_option
@json_option
@click.pass_obj
def undo_load(where: Where, load_id: str, *, force: bool, yes: bool, as_json: bool) -> None:
    """Take back the rows of a load that died.

    Rows of append tables are deleted, and of nested tables below them; files are removed. What a
    merge with a key or a replace has written stays as it is: the next load writes it again.

    Example: dagster-dlt -m shop.defs loads undo 1795257698.1666312
    """
    site = where.site()
    entry = _entry(site, load_id)
    risks = _risks(site, entry, force=force)
    rows = [
        {"pipeline": site.name, "table": table, "rows": count}
        for table, count in (site.rows.of(entry) if site.rows else {}).items()
    ]
    columns = {"PIPELINE": "pipeline", "TABLE": "table", "ROWS TAKEN BACK": "rows"}
    stay = set(entry.resources) - {chain.resource for chain in entry.chains}
    notes = [
        *([] if rows else [f"Load {load_id} has no rows that can be told from others."]),
        *([f"Left as they are: {', '.join(sorted(stay))}."] if stay else []),
        *risks,
    ]

    def make() -> tuple[str, bool]:
        if site.rows is None or site.rows.take_back(entry) is None:
            return f"Load {load_id} is alive on this machine: nothing was taken back.", False
        if left := site.rows.of(entry):
            return f"Load {load_id} has sent more rows meanwhile, to {', '.join(left)}.", False
        return f"Done: load {load_id} is undone.", True

    Proposal(rows, columns, notes, make).put(yes=yes, as_json=as_json)


def _entry(site: Site, load_id: str) -> Entry:
    known = {entry.load_id: entry for entry in site.entries}
    if load_id not in known:
        open_ones = [each.load_id for each in known.values() if each.status == "loading"]
        raise NothingMatchesError(site.name, "open load", load_id, open_ones)
    return known[load_id]


def _risks(site: Site, entry: Entry, *, force: bool) -> list[str]:
    """Refuse to undo what is no dead load, or say what it may do."""
    subject = f"Load {entry.load_id} of pipeline {site.name!r}"
    if entry.status != "loading":
        raise RefusedError(subject, f"is {entry.status}", "Only loads that died can be undone")
    alive = site.sharing(entry)
    if entry in alive and entry.machine == machine():
        raise RefusedError(subject, "is alive on this machine", "End its run first")
    if alive and not force:
        who = "it" if entry in alive else f"load {alive[0].load_id} of the same tables"
        problem = f"cannot be undone safely: {who} may be alive"
        remedy = "End its run, wait until it counts as dead, or add --force if you know that it is"
        raise RefusedError(subject, problem, remedy)
    return [f"Load {each.load_id} may be alive: if it is, rows of it get lost." for each in alive]


@click.command()
@json_option
@click.pass_obj
def leases(where: Where, *, as_json: bool) -> None:
    """List the loads that are alive now, with their leases, and where.

    A `lease` keeps other loads of the same resources waiting, from before the cursor is read until
    the commit. A load on this machine is alive as long as it holds its lock; one on another machine
    until its run has ended, or a quarter of an hour has passed without a sign.

    Example: dagster-dlt -m shop.defs leases
    """
    rows: list[Row] = []
    for site in where.sites():
        rows += [_load_row(site, entry) for entry in [*site.alive, *site.leases]]
    columns = {**_LOADS, "MACHINE": "machine", "LAST SIGN": "last_sign_at"}
    if as_json:
        show_json(rows)
    else:
        show(rows, columns, "No load is alive.")
