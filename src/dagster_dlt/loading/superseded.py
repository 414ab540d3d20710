"""What a partition has loaded before, and gives up once it is loaded again.

The rows of a load are told from others by its load id. What a merge with a key has written again
has the new id by then, so that rows with an old one are those which the source no longer gives.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from dagster_dlt import _dlt
from dagster_dlt._facts import Chain, CursorKind
from dagster_dlt.loading.entry import Entry, Loader
from dagster_dlt.loading.package import Package
from dagster_dlt.loading.rows import Rows
from dagster_dlt.loading.undo import tells, tells_time


def superseding(
    entry: Entry,
    package: Package,
    rows: Rows,
    *,
    whole: Collection[str],
    told_by: Mapping[str, tuple[str, CursorKind]],
    same_runs: Collection[str],
    log: logging.Logger,
) -> Entry:
    """Complete the entry of a load by what it replaces, if it loads a partition once more.

    Only tables that the load writes to are renewed: whether a source that gives nothing has nothing
    cannot be told from here.

    Args:
        entry: The load, which is not yet noted.
        package: Its package.
        rows: Knows what was loaded before.
        whole: Resources that have read all of the partition.
        told_by: Columns that tell the time of rows, by resource, and how.
        same_runs: Ids of the runs whose loads belong together with this one: other calls of the
            same step, and what an earlier attempt has committed.
        log: Where to say which rows stay.
    """
    if entry.loader.partition is None:
        return entry
    renewed = [each for each in package.chains if _is_renewed(package, each, whole)]
    earlier = [
        each
        for each in rows.committed(entry.loader.partition)
        if not each.is_built_by(same_runs) and {*each.resources} & {*entry.resources}
    ]
    replaced = [each for each in earlier if is_covered(each.loader, entry.loader)]
    within = [
        each for each in earlier if each not in replaced and _reaches_in(each.loader, entry.loader)
    ]
    known = {chain.resource for chain in renewed}
    apart = known - {chain.resource for chain in renewed if not tells_time(package, chain)}
    told_by = {name: told for name, told in told_by.items() if name in apart}
    _tell_what_stays(entry, {"all": replaced, "within": within}, known, {*told_by}, log)
    if not renewed:
        return entry
    return replace(
        entry,
        replaces=tuple(each.load_id for each in replaced),
        replaces_within=tuple(each.load_id for each in within),
        renewed=tuple(renewed) if replaced or within else (),
        told_by=told_by if within else {},
    )


def is_covered(earlier: Loader, later: Loader) -> bool:
    """Tell whether all that one load was about is loaded again by a later one."""
    if earlier.partition == later.partition:
        return True
    if earlier.window is None or later.window is None:
        return False
    return later.window.covers(earlier.window)


def _reaches_in(earlier: Loader, later: Loader) -> bool:
    """Tell whether some of what a load was about is loaded again by a later one."""
    if earlier.window is None or later.window is None:
        return False
    return earlier.window.overlaps(later.window)


def _is_renewed(package: Package, chain: Chain, whole: Collection[str]) -> bool:
    return (
        chain.resource in whole
        and _dlt.keeps_rows_by_load(package.schema, chain, package.client)
        and tells(package, chain)
    )


def _tell_what_stays(
    entry: Entry,
    earlier: Mapping[str, Iterable[Entry]],
    renewed: Collection[str],
    told: Collection[str],
    log: logging.Logger,
) -> None:
    for part, loads in earlier.items():
        for each in loads:
            stays = _with_rows(each) & {*entry.resources}
            stays -= {*renewed} & {*told} if part == "within" else {*renewed}
            if stays:
                log.warning(
                    "Rows that load %s has loaded of %s for partition %s stay, beside those that "
                    "are loaded now.",
                    each.load_id,
                    ", ".join(sorted(stays)),
                    each.loader.partition,
                )


def _with_rows(entry: Entry) -> set[str]:
    """Return the resources of which a load may have written rows."""
    owners = {name: chain.resource for chain in entry.chains for name in chain.names}
    written = {name for name, rows in entry.rows.items() if rows}
    found = {owners[name] for name in written & owners.keys()}
    if written - owners.keys():
        # Of tables without load ids the ledger does not know whose they are.
        found |= {*entry.resources} - {*owners.values()}
    return found - {*entry.failed}
