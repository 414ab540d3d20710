"""What a load did."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from operator import itemgetter
from typing import Any

from dlt.common.pipeline import LoadInfo
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TTableSchema
from dlt.common.storages.load_package import LoadJobInfo
from dlt.extract import DltResource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.destinations import location_of
from dagster_dlt._dlt.schemas import Trees, row_columns
from dagster_dlt._facts import Column, CursorMove, LoadFacts, ResourceFacts, SchemaChanges, Table
from dagster_dlt._redaction import redacted

# Column properties that describe a column and are shown as such; all others are hints.
_PLAIN_COLUMN_PROPERTIES = frozenset({"name", "data_type", "nullable", "unique", "description"})


@dataclass(frozen=True)
class Counts:
    """What a process notes of a load that it does itself, from the extract step on."""

    #: Rows by resource that the extract step was given.
    extracted: Mapping[str, int] = field(default_factory=dict)
    #: Rows of resources that share a table with others, of which dlt counts the rows of all.
    own_rows: Mapping[str, int] = field(default_factory=dict)
    #: Where cursors were and are, by resource and path.
    before: Mapping[tuple[str, str], object] = field(default_factory=dict)
    after: Mapping[tuple[str, str], object] = field(default_factory=dict)


def load_facts(
    pipeline: Pipeline, info: LoadInfo | None, schema: Schema | None = None
) -> LoadFacts:
    """Copy what `info` says of the load as a whole; None stands for one of a dead process.

    dlt reads a schema from the disk whenever it is asked for one: `schema` is at hand, or not.
    """
    location, trace = location_of(pipeline, schema), pipeline.last_trace
    if info is None:
        destination = pipeline.destination
        return LoadFacts(
            destination_name=destination.destination_name,
            destination_type=destination.destination_type,
            dataset_name=location.dataset,
            first_run=False,
            started_at=None,
            finished_at=None,
            location=location,
            schema_version=schema.stored_version if schema else None,
        )
    return LoadFacts(
        destination_name=info.destination_name,
        destination_type=info.destination_type,
        # Where there was nothing to load, dlt leaves out the dataset and the times of loading.
        dataset_name=info.dataset_name or location.dataset,
        first_run=info.first_run,
        started_at=info.started_at or (trace.started_at if trace else None),
        finished_at=info.finished_at or (trace.finished_at if trace else None),
        location=location,
        load_ids=tuple(info.loads_ids),
        seconds=_seconds(pipeline),
        schema_version=schema.stored_version if schema else None,
    )


def _seconds(pipeline: Pipeline) -> dict[str, float]:
    trace = pipeline.last_trace
    found: dict[str, float] = {}
    for step in trace.steps if trace else ():
        if step.step in {"extract", "normalize", "load"} and step.finished_at:
            passed = (step.finished_at - step.started_at).total_seconds()
            found[step.step] = round(found.get(step.step, 0.0) + passed, 3)
    return found


def rows_extracted(pipeline: Pipeline) -> dict[str, int]:
    """Return the rows by resource that the last extract step of `pipeline` was given."""
    trace = pipeline.last_trace
    extracted = trace.last_extract_info if trace else None
    found: dict[str, int] = {}
    for metrics in extracted.metrics.values() if extracted else ():
        for each in metrics:
            for name, written in each["resource_metrics"].items():
                found[name] = found.get(name, 0) + written.items_count
    return found


def cursors_of(state: Mapping[str, Any], source: str) -> dict[tuple[str, str], object]:
    """Return where cursors of a source are in a pipeline's state, by resource and path."""
    resources = state.get("sources", {}).get(source, {}).get("resources", {})
    return {
        (resource, path): cursor.get("last_value")
        for resource, own in resources.items()
        for path, cursor in own.get("incremental", {}).items()
    }


def row_counts(pipeline: Pipeline) -> dict[str, int]:
    """Return the rows by table that the last normalize step of `pipeline` wrote."""
    trace = pipeline.last_trace
    normalized = trace.last_normalize_info if trace else None
    return dict(normalized.row_counts) if normalized else {}


def resource_facts(
    resource: DltResource,
    schema: Schema,
    info: LoadInfo | None,
    *,
    rows: Mapping[str, int] | None,
    counts: Counts | None = None,
) -> ResourceFacts:
    """Copy what a load did for one resource; the arguments are those of `facts_by_resource`."""
    found = facts_by_resource({"": resource}, schema, info, rows=rows, counts=counts)
    return found[""]


def facts_by_resource(
    resources: Mapping[str, DltResource],
    schema: Schema,
    info: LoadInfo | None,
    *,
    rows: Mapping[str, int] | None,
    counts: Counts | None = None,
) -> dict[str, ResourceFacts]:
    """Copy what a load did for each of some resources.

    Args:
        resources: The resources.
        schema: The schema of their source as it is after the load.
        info: What dlt says of the load, or None where its process died.
        rows: Rows written by table; None where an earlier attempt wrote them.
        counts: What this process has noted while it loaded the resources.
    """
    report = _Report(schema, info, rows, counts or Counts())
    return {name: report.facts(resource) for name, resource in resources.items()}


class _Report:
    """What dlt says of a load, looked through once for all resources."""

    def __init__(
        self,
        schema: Schema,
        info: LoadInfo | None,
        rows: Mapping[str, int] | None,
        counts: Counts,
    ) -> None:
        self._schema = schema
        self._trees = Trees(schema)
        self._rows = rows
        self._counts = counts
        self._is_told = info is not None
        self._jobs: defaultdict[str, list[tuple[int, str, LoadJobInfo]]] = defaultdict(list)
        self._updates: defaultdict[str, list[TTableSchema]] = defaultdict(list)
        number = count()
        for package in info.load_packages if info else ():
            for job in chain.from_iterable(package.jobs.values()):
                entry = (next(number), package.load_id, job)
                self._jobs[job.job_file_info.table_name].append(entry)
            for name, added in package.schema_update.items():
                self._updates[name].append(added)

    def facts(self, resource: DltResource) -> ResourceFacts:
        """Return what was done for one resource."""
        counts, rows = self._counts, self._rows
        roots = self._trees.roots(resource)
        nested = [name for root in roots for name in self._trees.nested(root)]
        mine = [*roots, *nested]
        own_rows = counts.own_rows.get(resource.name)
        read = _columns_read(resource, self._schema) if len(roots) == 1 else {}
        return ResourceFacts(
            resource=resource.name,
            tables=tuple(_table(self._schema, name, read) for name in roots),
            nested=tuple(_table(self._schema, name) for name in nested),
            rows={} if rows is None else {name: rows.get(name, 0) for name in mine},
            rows_loaded=_rows_loaded(roots, rows) if own_rows is None else own_rows,
            rows_extracted=counts.extracted.get(resource.name),
            cursors=tuple(
                CursorMove(path, counts.before.get((name, path)), after)
                for (name, path), after in counts.after.items()
                if name == resource.name
            ),
            changes=self._changes(mine) if self._is_told else None,
            jobs=tuple(self._jobs_of(mine)),
        )

    def _changes(self, names: Sequence[str]) -> SchemaChanges:
        """Return what the load has added, as dlt notes it where it migrates tables."""
        tables, columns, variants = [], [], []
        row_id = row_columns(self._schema)[0]
        updates = [(table, each) for table in names for each in self._updates.get(table, ())]
        for name, added in updates:
            known = self._schema.tables[name]["columns"]
            new = [column for column in added["columns"] if column in known]
            # Of a new table that is files dlt leaves out what its hints had declared.
            if row_id in new or len(new) == len(self._schema.get_table_columns(name)):
                tables.append(name)
                continue
            columns += [f"{name}.{column}" for column in new]
            variants += [
                f"{name}.{column}" for column in new if added["columns"][column].get("variant")
            ]
        return SchemaChanges(*map(tuple, (tables, columns, variants)))

    def _jobs_of(self, names: Sequence[str]) -> Iterator[Mapping[str, object]]:
        """Return the jobs of some tables, in dlt's order."""
        entries = (entry for name in names for entry in self._jobs.get(name, ()))
        for _, load_id, job in sorted(entries, key=itemgetter(0)):
            yield {"load_id": load_id, **_job(job)}


def _rows_loaded(roots: Sequence[str], rows: Mapping[str, int] | None) -> int | None:
    return None if rows is None else sum(rows.get(name, 0) for name in roots)


def _table(schema: Schema, name: str, read: Mapping[str, str] | None = None) -> Table:
    columns = schema.get_table_columns(name, include_incomplete=True)
    if read is None:
        row_id, _, parent_id = row_columns(schema)
        read = {parent_id: row_id}
    return Table(
        name=name,
        columns=tuple(_column(*item) for item in columns.items()),
        origins={column: origin for column, origin in read.items() if column in columns},
    )


def _columns_read(resource: DltResource, schema: Schema) -> Mapping[str, str]:
    """Return the columns of the one table that a resource reads, by those of its own.

    dlt has them as hints under their own names: since the definition, or, where it reflects the
    table as it reads it, since then.
    """
    places: list[Mapping[str, Any]] = [{**place} for place in resource.inputs]
    columns = resource.columns
    tables = [table for place in places for table in place.get("tables") or ()]
    if len(places) != 1 or len(tables) != 1 or not isinstance(columns, dict):
        return {}
    return {schema.naming.normalize_identifier(str(name)): str(name) for name in columns}


def _column(name: str, column: TColumnSchema) -> Column:
    hints = {hint for hint, value in column.items() if value} - _PLAIN_COLUMN_PROPERTIES
    return Column(
        name=name,
        data_type=column.get("data_type"),
        nullable=column.get("nullable", True) is not False,
        unique=bool(column.get("unique", False)),
        description=column.get("description"),
        hints=tuple(sorted(hints)),
        tags={
            hint: str(value)
            for hint, value in column.items()
            if hint in hints and isinstance(value, str | int | float) and value is not True
        },
    )


def _job(job: LoadJobInfo) -> Mapping[str, object]:
    return {
        "state": job.state,
        "table_name": job.job_file_info.table_name,
        "job_id": job.job_file_info.job_id(),
        "file_format": job.job_file_info.file_format,
        "file_size": job.file_size,
        "created_at": job.created_at.isoformat() if job.created_at else None,
        "elapsed": job.elapsed,
        "retry_count": job.job_file_info.retry_count,
        "failed_message": redacted(job.failed_message) if job.failed_message else None,
    }


def count_rows(items: object) -> int:
    """Return how many rows a page of data items is: list, Arrow table, data frame, or one item."""
    if isinstance(items, list | tuple):
        return sum(1 if isinstance(item, Mapping) else count_rows(item) for item in items)
    if isinstance(rows := getattr(items, "num_rows", None), int):
        return rows
    if hasattr(items, "columns") and hasattr(items, "index"):
        return len(items.index)
    return 1
