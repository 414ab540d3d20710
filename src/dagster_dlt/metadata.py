"""What a load did, as Dagster metadata. Pure functions over facts: nothing is asked or changed."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagster_dlt._facts import Column, LoadFacts, Location, ResourceFacts, Table
from dagster_dlt.constants import (
    DAGSTER_COLUMN_SCHEMA,
    DAGSTER_STORAGE_KIND,
    DAGSTER_TABLE_NAME,
    META_KEY_RESOURCE,
    META_KEY_TABLE,
    META_KEY_TABLES,
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
        metadata[DAGSTER_TABLE_NAME] = known[DAGSTER_TABLE_NAME]
    others = resource.nested if resource.table else (*resource.tables, *resource.nested)
    for table in others:
        metadata.setdefault(table.name, table_schema(table))
    return {key: value for key, value in metadata.items() if value is not None}


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
