"""Cursors: what a load package commits with its rows, and how one resource's is put back."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from dlt.common.schema import Schema
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.loading.entry import Entry
from dagster_dlt.loading.ledger import Ledger
from dagster_dlt.loading.package import Package

#: Seconds by which the clocks of two machines may differ.
SKEW: Final = 60.0


def merge(pipeline: Pipeline, entries: Sequence[Entry], log: logging.Logger) -> bool:
    """Complete the state that dlt has restored by what loads that overlapped have committed.

    dlt restores the row with the newest load id, whole. Load ids are made when a load begins, so
    the row of one that began earlier and ended later is forgotten, with its cursors and tables.
    What was extracted by a load is its own to advance: of each resource the value counts that was
    committed last.

    Returns whether there were any.
    """
    stored = _dlt.stored_at(_dlt.client_of(pipeline, _dlt.any_schema(pipeline)))
    if stored is None:
        return False
    name = pipeline.pipeline_name
    restored = stored.restored_load(name)
    if restored is None or not unseen(entries, restored, []):
        return False
    later = stored.states_after(name, f"{float(restored) - SKEW:.7f}")
    overlapping = unseen(entries, restored, later)
    if not overlapping:
        return False
    states = stored.states(name, [entry.load_id for entry in overlapping])
    with pipeline.managed_state() as state:
        for entry in overlapping:
            if entry.load_id in states:
                refreshed = entry.refresh is not None
                # What failed has kept its cursor, unless a refresh had taken away what is behind.
                names = set(entry.resources) - (set() if refreshed else set(entry.failed))
                take_over(state, states[entry.load_id], names, forgets=refreshed)
    schemas = stored.schemas({entry.load_id: entry.schema for entry in overlapping})
    added = sorted({table for each in schemas for table in _dlt.add_tables(pipeline, each)})
    log.debug("Merged the cursors of %d overlapping loads, and tables %s.", len(overlapping), added)
    return True


def keep_schema(pipeline: Pipeline, schema: str, log: logging.Logger) -> None:
    """Let the next load restore a schema that has what loads that overlapped have added.

    One of them may have stored a smaller one since this one was stored first, and dlt restores the
    newest.
    """
    try:
        ours = pipeline.schemas[schema]
        stored = _dlt.stored_at(_dlt.client_of(pipeline, ours))
        if stored:
            stored.store_again(ours)
    except Exception as error:  # noqa: BLE001 - the next load completes it again
        log.warning("Schema %r was not stored again: %s", schema, error)


def tidy(pipeline: Pipeline, schema: Schema, ledger: Ledger) -> None:
    """Remove states that no load restores or merges any more, where each is a file of its own.

    dlt would do so after each load, by the order in which loads began. So it would remove the one
    of a long load that was committed last; and on a disk, a load that reads the folder meanwhile
    takes it for empty.
    """
    if not _dlt.has_files(_dlt.described(pipeline)):
        return  # in a table dlt keeps all states
    stored, name = _dlt.stored_at(_dlt.client_of(pipeline, schema)), pipeline.pipeline_name
    if not isinstance(stored, _dlt.FilesStored):
        return
    old = stored.old_states(name)
    if not old or len(ledger.leases()) > 1:
        return
    merged = unseen(ledger.entries(), stored.restored_load(name) or "0", [])
    stored.remove_states(name, {*old} - {entry.load_id for entry in merged})


def unseen(entries: Sequence[Entry], restored: str, states: Collection[str]) -> list[Entry]:
    """Return the loads whose cursors may be missing in a state, in the order of their commits.

    The one that has committed the state is among them, so that it counts where it was later.

    Args:
        entries: What the ledger knows.
        restored: The load that has committed the state.
        states: Loads with a state of about that time or later. One that is not in the ledger was
            made with plain dlt: what was committed before it began, it has seen.
    """
    noted = {entry.load_id for entry in entries}
    plain = [float(load_id) for load_id in {restored, *states} - noted]
    began = max([float(restored) - SKEW, *plain])
    found = [each for each in entries if each.status == "committed" and each.beat_at > began]
    if all(entry.load_id == restored for entry in found):
        return []
    return sorted(found, key=lambda entry: entry.beat_at)


def take_over(
    state: Any,  # noqa: ANN401 - dlt's state
    theirs: Mapping[str, Any],
    resources: Collection[str],
    *,
    forgets: bool = False,
) -> None:
    """Take the cursors of some resources from another state, and what else it alone has.

    Args:
        state: The state that is changed.
        theirs: The other one.
        resources: The resources.
        forgets: The other state has no cursors that a refresh has taken away.
    """
    for source, their in theirs.get("sources", {}).items():
        ours = state.setdefault("sources", {}).setdefault(source, {})
        known = their.get("resources", {})
        for name in resources:
            if name in known:
                ours.setdefault("resources", {})[name] = known[name]
            elif forgets:
                ours.get("resources", {}).pop(name, None)
        for key, value in their.items():
            ours.setdefault(key, value)


def put_back(package: Package, resources: Collection[str]) -> None:
    """Let a package commit the cursors of some resources as they were before it was extracted.

    May be called again for the same package, after a crash at any point of it.
    """
    doc = _dlt.packed_state(package.pipeline, package.load_id)
    # After a refresh there is no going back: the rows that the old cursors stand behind are gone.
    base = {} if package.refresh else _dlt.state_before(package.pipeline, package.load_id)
    if doc is not None:
        state = _dlt.state_in(doc)
        _put_back(state, base, resources)
        doc = _dlt.pack_state(package.pipeline, package.load_id, state, doc)
        client = _dlt.client_of(package.pipeline, package.schema)
        if isinstance(client, SqlJobClientBase):
            _dlt.write_state_row(client, package.load_id, doc)
            package.settle(package.schema.state_table_name)
    with package.pipeline.managed_state() as local:
        _put_back(local, base, resources)


def _put_back(state: Any, base: Mapping[str, Any], resources: Collection[str]) -> None:  # noqa: ANN401 - dlt's state
    for source, kept in state.get("sources", {}).items():
        known = base.get("sources", {}).get(source, {}).get("resources", {})
        for name in resources:
            if name in known:
                kept.setdefault("resources", {})[name] = known[name]
            else:
                kept.get("resources", {}).pop(name, None)
