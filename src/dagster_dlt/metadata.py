"""What a load did, as Dagster metadata. Pure functions over facts: nothing is asked or changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import dagster as dg

from dagster_dlt._facts import Column, LoadFacts, Location, ResourceFacts, Table
from dagster_dlt.constants import (
    DAGSTER_COLUMN_SCHEMA,
    DAGSTER_STORAGE_KIND,
    DAGSTER_TABLE_NAME,
    META_KEY_RESOURCE,
    META_KEY_RESOURCES,
    META_KEY_TABLE,
    META_KEY_TABLES,
)

#: What is the same for all resources of a load; of two loads the later one's.
_OF_A_LOAD: Final = (
    "finished_at",
    "dataset_name",
    "destination_name",
    "destination_type",
    DAGSTER_STORAGE_KIND,
)


def definition_metadata(
    location: Location, table: str | None, destination_name: str | None
) -> dict[str, Any]:
    """Return what is known of a resource's table before anything is loaded."""
    metadata: dict[str, Any] = {}
    if destination_name:
        metadata[DAGSTER_STORAGE_KIND] = destination_name
    if table and location.dataset:
        metadata[DAGSTER_TABLE_NAME] = location.qualified(table)
    return metadata


def load_metadata(
    load: LoadFacts, resource: ResourceFacts, spec_metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the metadata of one resource's materialization.

    Args:
        load: The load as a whole.
        resource: What the load did for this resource.
        spec_metadata: Metadata of the asset's spec: where it has the table's name as
            `dagster_dlt/table`, the event has it there too.
    """
    known = spec_metadata or {}
    metadata: dict[str, Any] = {
        META_KEY_RESOURCE: resource.resource,
        "first_run": load.first_run,
        "started_at": load.started_at.isoformat() if load.started_at else None,
        "finished_at": load.finished_at.isoformat() if load.finished_at else None,
        "dataset_name": load.dataset_name,
        "destination_name": load.destination_name,
        "destination_type": load.destination_type,
        "jobs": [dict(job) for job in resource.jobs],
        DAGSTER_STORAGE_KIND: load.destination_name,
    }
    if resource.rows_loaded is not None:
        metadata["rows_loaded"] = resource.rows_loaded
    if resource.rows:
        metadata[META_KEY_TABLES] = dict(resource.rows)
    if resource.table:
        key = META_KEY_TABLE if META_KEY_TABLE in known else DAGSTER_TABLE_NAME
        metadata[key] = load.location.qualified(resource.table)
        metadata[DAGSTER_COLUMN_SCHEMA] = table_schema(resource.tables[0])
    elif DAGSTER_TABLE_NAME in known:
        metadata[DAGSTER_TABLE_NAME] = _table_name(load, known)
    others = resource.nested if resource.table else (*resource.tables, *resource.nested)
    for table in others:
        metadata.setdefault(table.name, table_schema(table))
    return {key: value for key, value in metadata.items() if value is not None}


def asset_metadata(
    load: LoadFacts,
    resources: Sequence[ResourceFacts],
    spec_metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the metadata of an asset's materialization by one load.

    Args:
        load: The load as a whole.
        resources: What it did for each resource that the asset stands for.
        spec_metadata: As in `load_metadata`.
    """
    if len(resources) == 1:
        return load_metadata(load, resources[0], spec_metadata)
    names = [each.resource for each in resources]
    found = load_metadata(load, _as_one(resources))
    del found[META_KEY_RESOURCE]
    return {META_KEY_RESOURCES: names, **found}


def _as_one(resources: Sequence[ResourceFacts]) -> ResourceFacts:
    """Add up what one load did for several resources, of which some may share a table."""
    tables = {table.name: table for each in resources for table in each.tables}
    nested = {table.name: table for each in resources for table in each.nested}
    jobs = {str(job): job for each in resources for job in each.jobs}
    own_rows = [each.rows_loaded for each in resources if each.rows_loaded is not None]
    whole = ResourceFacts(
        resource="",
        tables=tuple(tables.values()),
        nested=tuple(nested.values()),
        rows={name: rows for each in resources for name, rows in each.rows.items()},
        rows_loaded=sum(own_rows) if len(own_rows) == len(resources) else None,
        jobs=tuple(jobs.values()),
    )
    # The columns of many tables would bury the rest.
    return whole if whole.table else replace(whole, tables=(), nested=())


def together(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of two loads of one asset as those of one: rows, tables and jobs add up.

    Args:
        before: The earlier one; its values may be those of an event.
        after: The later one, which decides about what does not add up.
    """
    names = [resources_of(each) for each in (before, after)]
    if set(names[0]) == set(names[1]):
        found = dict(after)
    else:
        found = {key: after[key] for key in _OF_A_LOAD if key in after}
        found[META_KEY_RESOURCES] = list(dict.fromkeys([*names[0], *names[1]]))
        if plain(before.get(DAGSTER_TABLE_NAME)) == after.get(DAGSTER_TABLE_NAME):
            one_table = (DAGSTER_TABLE_NAME, DAGSTER_COLUMN_SCHEMA)
            found.update({key: after[key] for key in one_table if key in after})
    found.update({key: before[key] for key in ("first_run", "started_at") if key in before})
    found["jobs"] = [*plain(before.get("jobs", [])), *after.get("jobs", [])]
    rows = [plain(each.get("rows_loaded")) for each in (before, after)]
    # Where one of them is not known, neither is the sum.
    found.pop("rows_loaded", None)
    if None not in rows:
        found["rows_loaded"] = sum(rows)
    tables = [plain(each.get(META_KEY_TABLES, {})) for each in (before, after)]
    if any(tables):
        found[META_KEY_TABLES] = {
            name: tables[0].get(name, 0) + tables[1].get(name, 0)
            for name in {**tables[0], **tables[1]}
        }
    return found


def resources_of(event_metadata: Mapping[str, Any]) -> list[str]:
    """Return the names of the resources that an event is about."""
    if META_KEY_RESOURCES in event_metadata:
        return list(plain(event_metadata[META_KEY_RESOURCES]))
    name = plain(event_metadata.get(META_KEY_RESOURCE))
    return [str(name)] if name else []


def _table_name(load: LoadFacts, known: Mapping[str, Any]) -> object:
    """Return the name of a table that a load has not created, from that in the definition.

    The definition's dataset need not be the one that is loaded into.
    """
    name = known[DAGSTER_TABLE_NAME]
    if META_KEY_TABLE in known:  # it is the user's own
        return name
    return load.location.qualified(str(plain(name)).rsplit(".", 1)[-1])


def plain(value: object) -> Any:  # noqa: ANN401 - whatever was put in
    """Return a value of metadata as it was before Dagster wrapped it for an event."""
    return value.value if isinstance(value, dg.MetadataValue) else value


def table_schema(table: Table) -> dg.TableSchema:
    """Return the columns of `table` as Dagster shows them."""
    return dg.TableSchema(columns=[_column(column) for column in table.columns])


def _column(column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type=column.data_type or "unknown",
        description=column.description,
        constraints=dg.TableColumnConstraints(
            nullable=column.nullable, unique=column.unique, other=list(column.hints)
        ),
    )
