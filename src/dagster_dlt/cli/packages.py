"""`dagster-dlt packages`: what waits on this disk to be loaded."""

from collections.abc import Iterable, Mapping
from typing import Final

import click

from dagster_dlt.cli.answers import Proposal, Row, json_option, moment, show, show_json, yes_option
from dagster_dlt.cli.where import Where
from dagster_dlt.errors import NothingMatchesError, RefusedError
from dagster_dlt.loading import pending
from dagster_dlt.loading.pending import Fate, Left, Waiting
from dagster_dlt.loading.site import Site

_PACKAGES: Final = {
    "PIPELINE": "pipeline",
    "WORKSPACE": "workspace",
    "LOAD ID": "load_id",
    "STATE": "state",
    "STEP": "step",
    "PARTITION": "partition",
    "DATASET": "dataset",
    "FITS": "fits",
    "RESOURCES": "resources",
    "EXTRACTED": "extracted_at",
    "LOCK": "lock",
}


@click.group()
def packages() -> None:
    """Load packages that wait on this disk.

    A load that failed or died has left them. The next run of the same step and partition finishes
    them by itself. These commands are for those who do not want to wait for it, or do not want the
    packages.

    Example: dagster-dlt -m shop.defs packages list
    """


@packages.command("list")
@json_option
@click.pass_obj
def list_packages(where: Where, *, as_json: bool) -> None:
    """List load packages that wait, by workspace.

    A package whose lock is `held` is in work at this moment. One that does not fit is for another
    destination or dataset than the pipeline's. Neither is resumed or aborted.

    Example: dagster-dlt -m shop.defs packages list --json
    """
    found: dict[tuple[str, str], Row] = {}
    for site in where.sites():
        for left in pending.left_behind(site):
            for row in _package_rows(site, left, left.waiting):
                # Pipelines of one name share a folder: each package belongs to the one it fits.
                known = found.setdefault((row["path"], row["load_id"]), row)
                if row["fits"] and not known["fits"]:
                    found[row["path"], row["load_id"]] = row
    rows = list(found.values())
    if as_json:
        show_json(rows)
    else:
        show(rows, _PACKAGES, "No load packages wait on this disk.")


def _package_rows(site: Site, left: Left, waiting: Iterable[Waiting]) -> list[Row]:
    lock, origin = "held" if left.is_busy else "free", left.origin
    return [
        {
            "pipeline": site.name,
            "workspace": left.name,
            "load_id": each.load_id,
            "state": each.stage,
            "step": origin.step if origin else None,
            "partition": origin.partition if origin else None,
            "run_id": origin.run_id if origin else None,
            "dataset": site.given.dataset_name if origin is None else origin.dataset,
            "fits": left.fits,
            "resources": sorted(each.resources),
            "tables": list(each.tables),
            "extracted_at": moment(each.extracted_at),
            "lock": lock,
            "path": str(each.room),
        }
        for each in waiting
    ]


@packages.command("resume")
@click.argument("target", metavar="WORKSPACE|LOAD_ID")
@yes_option
@json_option
@click.pass_obj
def resume_packages(where: Where, target: str, *, yes: bool, as_json: bool) -> None:
    """Load a package that waits, or all of a workspace.

    It is done as the next run of the step would do it: rows that may have been sent are sent
    exactly once, what the destination refuses for good is aborted. A re-execution from failure of
    the run that left the package then reports it as loaded, and does not load it again.

    Example: dagster-dlt -m shop.defs packages resume 1795257698.1666312 --yes
    """
    site = where.site()
    left, chosen = _find(site, target)
    step = left.origin.step if left.origin else ""
    source = where.code_location.source_of(site.given, step)

    def make() -> tuple[str, bool]:
        return _told(pending.resume(site, left, chosen, source), "loaded")

    pending.refuse(left)
    notes = [f"To be loaded into dataset {site.given.dataset_name!r}: {_ids(chosen)}."]
    Proposal(_package_rows(site, left, chosen), _PACKAGES, notes, make).put(
        yes=yes, as_json=as_json
    )


@packages.command("abort")
@click.argument("target", metavar="WORKSPACE|LOAD_ID")
@yes_option
@json_option
@click.pass_obj
def abort_packages(where: Where, target: str, *, yes: bool, as_json: bool) -> None:
    """Throw away a package, or all of a workspace.

    Rows that were loaded of it in part are taken back. Its cursors were never committed, so the
    next run extracts the same rows again, as far as the source still has them.

    Example: dagster-dlt -m shop.defs packages abort 3f9a1c0b7d2e --yes
    """
    site = where.site()
    left, chosen = _find(site, target)
    pending.refuse(left)
    notes = [_fate_of_rows(site, each) for each in chosen]

    def make() -> tuple[str, bool]:
        return _told(pending.abort(site, left, chosen), "aborted")

    Proposal(_package_rows(site, left, chosen), _PACKAGES, notes, make).put(
        yes=yes, as_json=as_json
    )


def _find(site: Site, target: str) -> tuple[Left, list[Waiting]]:
    """Find a workspace, or the room of a load id, and all that waits in it."""
    known: list[str] = []
    for left in pending.left_behind(site):
        if left.name == target:
            return left, list(left.waiting)
        known.append(left.name)
        for each in left.waiting:
            if each.load_id == target:
                return left, [other for other in left.waiting if other.room == each.room]
            known.append(each.load_id)
    raise NothingMatchesError(site.name, "waiting load package or workspace", target, known)


def _fate_of_rows(site: Site, package: Waiting) -> str:
    entry = next((each for each in site.entries if each.load_id == package.load_id), None)
    if entry is not None and entry.status == "committed":
        return f"{package.load_id} is committed: its rows stay, only the files here are removed."
    rows = site.rows.of(entry) if site.rows and entry else {}
    if entry and rows:
        if others := [each for each in site.sharing(entry) if each is not entry]:
            subject = f"Load package {package.load_id} of pipeline {site.name!r}"
            problem = f"has sent rows to tables that load {others[0].load_id} loads too"
            raise RefusedError(subject, problem, "Wait until that one is over")
        counted = ", ".join(f"{count} of {table}" for table, count in rows.items())
        return f"{package.load_id} is loaded in part. Rows that are taken back: {counted}."
    return f"{package.load_id} has no rows at the destination that are to be taken back."


def _ids(waiting: Iterable[Waiting]) -> str:
    return ", ".join(each.load_id for each in waiting)


def _told(fates: Mapping[str, Fate], asked: Fate) -> tuple[str, bool]:
    lines = [f"{load_id}: {fate}" for load_id, fate in sorted(fates.items())]
    return "\n".join(lines), set(fates.values()) <= {asked}
