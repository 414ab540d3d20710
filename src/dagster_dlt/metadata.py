"""What a load did, as Dagster metadata. Pure functions over facts: nothing is asked or changed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Final

import dagster as dg

from dagster_dlt._facts import Column, LoadFacts, Location, ResourceFacts, SchemaChanges, Table
from dagster_dlt.constants import (
    DAGSTER_COLUMN_LINEAGE,
    DAGSTER_COLUMN_SCHEMA,
    DAGSTER_STORAGE_KIND,
    DAGSTER_TABLE_NAME,
    DAGSTER_URI,
    META_KEY_BYTES,
    META_KEY_CURSOR,
    META_KEY_CURSOR_VALUE,
    META_KEY_FILES,
    META_KEY_JOB_RETRIES,
    META_KEY_LOAD_ID,
    META_KEY_NESTED_TABLE,
    META_KEY_RESOURCE,
    META_KEY_RESOURCES,
    META_KEY_ROWS_EXTRACTED,
    META_KEY_SCHEMA_CHANGES,
    META_KEY_SCHEMA_VERSION,
    META_KEY_SECONDS,
    META_KEY_TABLE,
    META_KEY_TABLES,
)

#: How many jobs, tables and names an event lists, and how long a value of a cursor is shown, so
#: that the size of an event has a bound.
MOST_JOBS: Final = 20
MOST_TABLES: Final = 20
MOST_NAMES: Final = 50
MOST_LETTERS: Final = 100

_TABLES: Final = dg.TableSchema(
    columns=[
        dg.TableColumn("table", "string"),
        dg.TableColumn("rows", "int"),
        dg.TableColumn("bytes", "int"),
        dg.TableColumn("files", "int"),
    ]
)

#: What adds up over the loads of one asset.
_SUMS: Final = ("rows_loaded", META_KEY_ROWS_EXTRACTED, META_KEY_BYTES, META_KEY_FILES)

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
        metadata |= table_metadata(location, table)
    return metadata


def table_metadata(location: Location, table: str) -> dict[str, str]:
    """Return what a query calls a table, and where its files are, if it is kept in files."""
    url = location.url_of(table)
    return {
        DAGSTER_TABLE_NAME: location.qualified(table),
        **({DAGSTER_URI: url} if url else {}),
    }


def load_metadata(
    load: LoadFacts,
    resource: ResourceFacts,
    spec_metadata: Mapping[str, Any] | None = None,
    upstream: dg.AssetKey | None = None,
) -> dict[str, Any]:
    """Return the metadata of one resource's materialization.

    Its size does not grow with what is loaded: jobs and tables are listed up to a number.

    Args:
        load: The load as a whole.
        resource: What the load did for this resource.
        spec_metadata: Metadata of the asset's spec: where it has the table's name as
            `dagster_dlt/table`, the event has it there too.
        upstream: The one asset that columns come from.
    """
    known = spec_metadata or {}
    is_nested = META_KEY_NESTED_TABLE in known
    # In the order in which Dagster shows them: what people look for first.
    metadata: dict[str, Any] = {
        META_KEY_RESOURCE: resource.resource,
        META_KEY_NESTED_TABLE: known.get(META_KEY_NESTED_TABLE),
        "rows_loaded": resource.rows_loaded,
        META_KEY_TABLES: _tables(resource) if resource.rows and not is_nested else None,
        **_changes(load, resource),
        **_cost(load, resource),
        "first_run": load.first_run,
        "started_at": load.started_at.isoformat() if load.started_at else None,
        "finished_at": load.finished_at.isoformat() if load.finished_at else None,
        "dataset_name": load.dataset_name,
        "destination_name": load.destination_name,
        "destination_type": load.destination_type,
        DAGSTER_STORAGE_KIND: load.destination_name,
    }
    if resource.table:
        metadata |= table_metadata(load.location, resource.table)
        if META_KEY_TABLE in known:
            metadata[META_KEY_TABLE] = metadata.pop(DAGSTER_TABLE_NAME)
        metadata[DAGSTER_COLUMN_SCHEMA] = table_schema(resource.tables[0])
        if upstream and resource.tables[0].origins:
            metadata[DAGSTER_COLUMN_LINEAGE] = _lineage(resource.tables[0], upstream)
    elif DAGSTER_TABLE_NAME in known:
        metadata[DAGSTER_TABLE_NAME] = _table_name(load, known)
    others = resource.nested if resource.table else (*resource.tables, *resource.nested)
    for table in others[:MOST_TABLES]:
        metadata.setdefault(table.name, table_schema(table))
    metadata["jobs"] = [dict(job) for job in resource.jobs[:MOST_JOBS]]
    return {key: value for key, value in metadata.items() if value is not None}


def _cost(load: LoadFacts, resource: ResourceFacts) -> dict[str, Any]:
    """Return numbers that Dagster plots over time."""
    data = _data_jobs(resource)
    return {
        META_KEY_ROWS_EXTRACTED: resource.rows_extracted,
        META_KEY_BYTES: sum(_number(job["file_size"]) for job in data),
        META_KEY_FILES: len(data),
        META_KEY_JOB_RETRIES: sum(_number(job["retry_count"]) for job in resource.jobs),
        **{META_KEY_SECONDS.format(step=step): seconds for step, seconds in load.seconds.items()},
    }


def _changes(load: LoadFacts, resource: ResourceFacts) -> dict[str, Any]:
    found: dict[str, Any] = {
        META_KEY_LOAD_ID: ", ".join(load.load_ids) or None,
        META_KEY_SCHEMA_VERSION: load.schema_version,
    }
    if resource.cursors:
        found[META_KEY_CURSOR] = "\n".join(
            f"{move.path}: {_shown(move.before)} → {_shown(move.after)}"
            for move in resource.cursors[:MOST_TABLES]
        )
    if len(resource.cursors) == 1:
        found[META_KEY_CURSOR_VALUE] = _typed(resource.cursors[0].after)
    if resource.changes:
        words = {
            "new tables": resource.changes.tables,
            "new columns": resource.changes.columns,
            "of them for values of another type": resource.changes.variants,
        }
        said = [f"{what}: {_named(names)}" for what, names in words.items() if names]
        found[META_KEY_SCHEMA_CHANGES] = "\n".join(said) or None
    return found


def _data_jobs(resource: ResourceFacts) -> list[Mapping[str, object]]:
    """Return the jobs that carry rows; others merge, or refer to files."""
    return [job for job in resource.jobs if job["file_format"] not in {"sql", "reference"}]


def _tables(resource: ResourceFacts) -> dg.TableMetadataValue:
    data = _data_jobs(resource)
    sizes, files = Counter[object](), Counter[object](job["table_name"] for job in data)
    for job in data:
        sizes[job["table_name"]] += _number(job["file_size"])
    return _tables_of(
        {name: (rows, sizes[name], files[name]) for name, rows in resource.rows.items()}
    )


def _tables_of(rows: Mapping[str, tuple[int, int, int]]) -> dg.TableMetadataValue:
    """Return tables with rows, bytes and files, the fullest first where not all are listed."""
    listed = list(rows.items())
    if len(listed) > MOST_TABLES:
        listed = sorted(listed, key=lambda item: item[1], reverse=True)
        rest = [
            sum(column) for column in zip(*(each for _, each in listed[MOST_TABLES:]), strict=True)
        ]
        listed = listed[:MOST_TABLES]
        listed.append((f"{len(rows) - MOST_TABLES} more", (rest[0], rest[1], rest[2])))
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({"table": name, "rows": each[0], "bytes": each[1], "files": each[2]})
            for name, each in listed
        ],
        schema=_TABLES,
    )


def _tables_in(value: object) -> dict[str, tuple[int, int, int]]:
    if not isinstance(value, dg.TableMetadataValue):
        return {}
    return {
        str(each.data["table"]): (
            int(each.data["rows"] or 0),
            int(each.data["bytes"] or 0),
            int(each.data["files"] or 0),
        )
        for each in value.records
    }


def _named(names: Sequence[str]) -> str:
    left = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {left} more" if left > 0 else "")


def _shown(value: object) -> str:
    text = value.isoformat() if isinstance(value, date) else str(value)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"


def _typed(value: object) -> Any:  # noqa: ANN401 - whatever Dagster has a type for
    if isinstance(value, datetime) and value.tzinfo:
        return dg.MetadataValue.timestamp(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return None if value is None else _shown(value)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def asset_metadata(
    load: LoadFacts,
    resources: Sequence[ResourceFacts],
    spec_metadata: Mapping[str, Any] | None = None,
    upstream: dg.AssetKey | None = None,
) -> dict[str, Any]:
    """Return the metadata of an asset's materialization by one load.

    Args:
        load: The load as a whole.
        resources: What it did for each resource that the asset stands for.
        spec_metadata: As in `load_metadata`.
        upstream: As there.
    """
    if len(resources) == 1:
        return load_metadata(load, resources[0], spec_metadata, upstream)
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
    given = [each.rows_extracted for each in resources if each.rows_extracted is not None]
    changes = [each.changes for each in resources if each.changes]
    whole = ResourceFacts(
        resource="",
        tables=tuple(tables.values()),
        nested=tuple(nested.values()),
        rows={name: rows for each in resources for name, rows in each.rows.items()},
        rows_loaded=sum(own_rows) if len(own_rows) == len(resources) else None,
        rows_extracted=sum(given) if len(given) == len(resources) else None,
        cursors=tuple(
            replace(move, path=f"{each.resource}.{move.path}")
            for each in resources
            for move in each.cursors
        ),
        changes=SchemaChanges(
            tables=tuple(name for each in changes for name in each.tables),
            columns=tuple(name for each in changes for name in each.columns),
            variants=tuple(name for each in changes for name in each.variants),
        ),
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
    jobs = [*plain(before.get("jobs", [])), *after.get("jobs", [])]
    found["jobs"] = jobs[:MOST_JOBS]
    for key in _SUMS:
        values = [plain(each.get(key)) for each in (before, after)]
        # Where one of them is not known, neither is the sum.
        found.pop(key, None)
        if None not in values:
            found[key] = sum(values)
    tables = [_tables_in(each.get(META_KEY_TABLES)) for each in (before, after)]
    if any(tables):
        none = (0, 0, 0)
        found[META_KEY_TABLES] = _tables_of(
            {
                name: _added(tables[0].get(name, none), tables[1].get(name, none))
                for name in {**tables[0], **tables[1]}
            }
        )
    return found


def _added(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


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


def _lineage(table: Table, upstream: dg.AssetKey) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key=upstream, column_name=origin)]
            for column, origin in table.origins.items()
        }
    )


def _column(column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type=column.data_type or "unknown",
        description=column.description,
        tags=dict(column.tags),
        constraints=dg.TableColumnConstraints(
            nullable=column.nullable, unique=column.unique, other=list(column.hints)
        ),
    )
