"""Every question we ask dlt, and the only file that may touch dlt's private names.

Answers are plain values or frozen facts; nothing here writes to an object it was given.
"""

import inspect
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlt.common.configuration.container import Container
from dlt.common.destination import Destination, TDestinationReferenceArg
from dlt.common.destination.client import (
    DestinationClientDwhConfiguration,
    JobClientBase,
    WithStateSync,
)
from dlt.common.exceptions import TerminalException
from dlt.common.pipeline import LoadInfo, PipelineContext
from dlt.common.runtime import signals
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TSchemaTables, TTableSchema
from dlt.common.schema.utils import get_nested_tables, has_table_seen_data, is_nested_table
from dlt.common.storages.load_package import LoadJobInfo
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.extract import DltResource, DltSource
from dlt.extract.reference import SourceFactory
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._facts import (
    Column,
    Home,
    LoadFacts,
    Location,
    ResourceFacts,
    ResourceFailure,
    Table,
)
from dagster_dlt.errors import NotADltPipelineError, NotADltSourceError, SourceNotCalledError

logger = logging.getLogger(__name__)

# SQL dialects in which a table has no level above its schema, whatever their credentials call
# "database" (a file for SQLite, the dataset itself for MySQL).
_DIALECTS_WITHOUT_CATALOG = frozenset({"sqlite", "mysql"})
# Column properties that describe a column and are shown as such; all others are hints.
_PLAIN_COLUMN_PROPERTIES = frozenset({"name", "data_type", "nullable", "unique", "description"})


#: A dlt source, or a function decorated with `@dlt.source` that was not called yet.
AnySource = DltSource | SourceFactory[Any, Any]


# --- what the user gave us ---------------------------------------------------------------------


def as_source(candidate: object) -> DltSource:
    """Return `candidate` as a dlt source, calling a source function that needs no arguments.

    Raises:
        SourceNotCalledError: it is a source function that needs arguments.
        NotADltSourceError: it is something else.
    """
    if isinstance(candidate, DltSource):
        return candidate
    if isinstance(candidate, SourceFactory):
        missing = [
            name
            for name, parameter in inspect.signature(candidate).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        ]
        if missing:
            name = candidate.name or getattr(candidate, "__name__", "source")
            raise SourceNotCalledError(name, missing)
        return as_source(candidate())
    raise NotADltSourceError(type(candidate).__name__)


def as_pipeline(candidate: object) -> Pipeline:
    """Return `candidate` as a dlt pipeline.

    Raises:
        NotADltPipelineError: it is none.
    """
    if isinstance(candidate, Pipeline):
        return candidate
    raise NotADltPipelineError(type(candidate).__name__)


# --- resources ---------------------------------------------------------------------------------


def root_resource_name(resource: DltResource) -> str:
    """Return the name of the resource at the head of the chain that feeds `resource`.

    dlt says publicly that a resource is a transformer, but not whose, so we walk the pipes.
    """
    pipe = resource._pipe
    while pipe.has_parent:
        pipe = pipe.parent
    return str(pipe.name)


def parent_resource_name(resource: DltResource) -> str | None:
    """Return the name of the resource that feeds the transformer `resource`, if it is one."""
    return str(resource._pipe.parent.name) if resource.is_transformer else None


def can_be_repeated(resource: DltResource) -> bool:
    """Tell whether the resource can be extracted again from its beginning.

    One that is made of a generator cannot: what an attempt has taken from it is gone.
    """
    return not isinstance(resource._pipe.gen, Iterator | AsyncIterator)


def function_of(resource: DltResource) -> Callable[..., Any] | None:
    """Return the function behind `resource`, or None where it is made of data.

    dlt copies `__wrapped__` onto a resource made of a function; `__doc__` alone would not tell,
    since any resource answers it with the text of dlt's own class.
    """
    function = vars(resource).get("__wrapped__")
    return function if inspect.isfunction(function) else None


def docstring(resource: DltResource) -> str | None:
    """Return the documentation of the function behind `resource`."""
    text = vars(resource).get("__doc__")
    return inspect.cleandoc(text) if isinstance(text, str) and text.strip() else None


def table_name(resource: DltResource) -> str | None:
    """Return the name of the table as the resource gives it, or None if rows decide."""
    return resource.table_name if isinstance(resource.table_name, str) else None


def table_hint(resource: DltResource, name: str) -> object:
    """Return an additional table hint (`x-…`) of `resource`, or None.

    `compute_table_schema()` would answer publicly, but not for tables that rows decide.
    """
    hints: Mapping[str, Any] = (resource._hints or {}).get("additional_table_hints") or {}
    return hints.get(name)


def selected_resources(source: DltSource) -> dict[str, DltResource]:
    """Return the selected resources of `source` by name, in their order."""
    return dict(source.selected_resources)


# --- pipelines and destinations ----------------------------------------------------------------


def destination_name(pipeline: Pipeline) -> str | None:
    """Return the name of the pipeline's destination, or None if it has none yet."""
    return pipeline.destination.destination_name if pipeline.destination else None


def schema_paths(pipeline: Pipeline) -> tuple[str | None, str | None]:
    """Return the import and the export schema path of `pipeline`; dlt keeps them to itself."""
    config = pipeline._schema_storage_config
    return config.import_schema_path, config.export_schema_path


def with_credentials(
    destination: TDestinationReferenceArg | None, credentials: object
) -> TDestinationReferenceArg | None:
    """Return `destination` with the credentials that a run was given."""
    if credentials is None or destination is None:
        return destination
    return Destination.from_reference(destination, credentials=credentials)


def location_of(pipeline: Pipeline) -> Location:
    """Return where `pipeline` writes, as far as it is known without opening a connection.

    The dataset is named as the destination names it. Whatever cannot be known, because there is
    no destination, no credentials or no driver, is left out.
    """
    schema = any_schema(pipeline)
    try:
        client = _client(pipeline, schema)
    except Exception as error:  # noqa: BLE001 - descriptive only; drivers raise what they like
        logger.debug("no client for pipeline %r: %s", pipeline.pipeline_name, type(error).__name__)
        name = pipeline.dataset_name
        return Location(dataset=schema.naming.normalize_table_identifier(name) if name else None)
    config = client.config
    if not isinstance(config, DestinationClientDwhConfiguration):
        return Location()
    database = _database(client) if isinstance(client, SqlJobClientBase) else None
    return Location(database=database, dataset=config.normalize_dataset_name(schema))


def any_schema(pipeline: Pipeline) -> Schema:
    """Return a schema of the pipeline, or an empty one with the destination's naming.

    `destination_client()` would name the empty one after the pipeline, which fails for a
    pipeline whose name is no identifier, such as `github-issues`.
    """
    if pipeline.schema_names:
        return pipeline.default_schema
    with pipeline._maybe_destination_capabilities():
        return Schema("any")


def _database(client: SqlJobClientBase) -> str | None:
    catalog = client.sql_client.catalog_name(quote=False)
    if catalog:
        return str(catalog)
    if client.capabilities.sqlglot_dialect in _DIALECTS_WITHOUT_CATALOG:
        return None
    database = getattr(client.config.credentials, "database", None)
    if not database or not isinstance(database, str):
        return None
    if client.capabilities.sqlglot_dialect == "duckdb":
        # DuckDB names a database after its file, up to the first dot.
        return database.replace("\\", "/").rsplit("/", 1)[-1].split(".", 1)[0]
    return database


def schema_of(resource: DltResource, pipeline: Pipeline) -> Schema:
    """Return the schema that `pipeline` keeps the tables of `resource` in."""
    name = resource.source_name
    return pipeline.schemas[name] if name in pipeline.schema_names else pipeline.default_schema


def normalized_table_name(schema: Schema, name: str) -> str:
    """Return the name the destination knows a table by, `__` between nested names included."""
    return schema.naming.normalize_tables_path(name)


@contextmanager
def leaving_active_pipeline() -> Iterator[None]:
    """Put back dlt's active pipeline of this thread after a block that creates another."""
    container = Container()[PipelineContext]
    previous = container.pipeline() if container.is_active() else None
    try:
        yield
    finally:
        if container.is_active():
            container.deactivate()
        if isinstance(previous, Pipeline):
            previous.activate()


@contextmanager
def active(pipeline: Pipeline) -> Iterator[None]:
    """Make `pipeline` dlt's active one in this thread, and put back the one that was."""
    with leaving_active_pipeline():
        pipeline.activate()
        yield


def home_of(pipeline: Pipeline) -> Home:
    """Return where data and state of `pipeline` live; builds a client, but opens no connection."""
    client = _client(pipeline, any_schema(pipeline))
    config = client.config
    try:
        location = config.data_location()
    except Exception:  # noqa: BLE001 - destinations that have none say so in their own ways
        location = str(config)
    database = getattr(getattr(config, "credentials", None), "database", None)
    parts = (config.destination_type, config.destination_name, location, database)
    return Home(
        destination="|".join(map(str, parts)),
        restores_state=bool(pipeline.config.restore_from_destination)
        and isinstance(client, WithStateSync),
        in_working_dir=isinstance(database, str)
        and Path(pipeline.working_dir).resolve() in Path(database).resolve().parents,
    )


def _client(pipeline: Pipeline, schema: Schema) -> JobClientBase:
    client, _ = pipeline._get_destination_clients(schema)
    return client


# --- stopping ----------------------------------------------------------------------------------


@contextmanager
def asked_to_stop() -> Iterator[None]:
    """Ask every load of this process to stop; dlt has one flag for all, which is put back."""
    signals.set_received_signal(signal.SIGTERM)
    signals.wake_all()
    try:
        yield
    finally:
        signals.set_received_signal(0)


# --- errors ------------------------------------------------------------------------------------


def failure_of(error: PipelineStepFailed, pipeline: Pipeline, source: DltSource) -> ResourceFailure:
    """Say which resource of `source` the error is about, and why, by what its causes carry."""
    causes = list(_chain(error))
    named = _first_attribute(causes, "pipe_name")
    table = _first_attribute(causes, "table_name") or _table_of_job(causes)
    wanted = selected_resources(source)
    resource = named or (_resource_of_table(pipeline, source, table) if table else None)
    return ResourceFailure(
        resource=resource if resource in wanted else None,
        stage=error.step,
        held_back=tuple(name for name in wanted if name != resource),
        table=table,
        load_id=error.load_id,
        cause=f"{type(causes[-1]).__name__}: {causes[-1]}".rstrip("."),
        pipelines_dir=pipeline.pipelines_dir if pipeline.has_pending_data else None,
        error=error,
    )


def _first_attribute(causes: Sequence[BaseException], name: str) -> str | None:
    return next((str(value) for each in causes if (value := getattr(each, name, None))), None)


def _table_of_job(causes: Sequence[BaseException]) -> str | None:
    job = _first_attribute(causes, "job_id")
    return job.split(".", 1)[0] if job else None


def _resource_of_table(pipeline: Pipeline, source: DltSource, table: str) -> str | None:
    for schema in (source.schema, *(pipeline.schemas[name] for name in pipeline.schema_names)):
        root = _root_of(schema.tables, table)
        if root and root.get("resource"):
            return str(root["resource"])
    # A table that the failure kept from getting into the schema.
    for name, resource in selected_resources(source).items():
        given = table_name(resource)
        if given and normalized_table_name(source.schema, given) == table:
            return name
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    yield error
    below = error.exception if isinstance(error, PipelineStepFailed) else error.__cause__
    if below is None and not error.__suppress_context__:
        below = error.__context__
    if below is not None:
        yield from _chain(below)


def can_be_resumed(error: PipelineStepFailed) -> bool:
    """Tell whether a load that failed with `error` may succeed if it is simply continued.

    What fails in normalize fails again, and what dlt calls terminal is; the rest is an outage.
    """
    if error.step == "normalize":
        return False
    return not any(isinstance(cause, TerminalException) for cause in _chain(error))


# --- what a load did ---------------------------------------------------------------------------


def load_facts(pipeline: Pipeline, info: LoadInfo) -> LoadFacts:
    """Copy what `info` says of the load as a whole."""
    location, trace = location_of(pipeline), pipeline.last_trace
    return LoadFacts(
        destination_name=info.destination_name,
        destination_type=info.destination_type,
        # Where there was nothing to load, dlt leaves out the dataset and the times of loading.
        dataset_name=info.dataset_name or location.dataset,
        first_run=info.first_run,
        started_at=info.started_at or (trace.started_at if trace else None),
        finished_at=info.finished_at or (trace.finished_at if trace else None),
        location=location,
    )


def row_counts(pipeline: Pipeline) -> dict[str, int]:
    """Return the rows by table that the last normalize step of `pipeline` wrote."""
    trace = pipeline.last_trace
    normalized = trace.last_normalize_info if trace else None
    return dict(normalized.row_counts) if normalized else {}


def resources_in(info: LoadInfo, pipeline: Pipeline) -> set[str]:
    """Return the names of the resources that have a load job in the packages of `info`."""
    found: set[str] = set()
    for package in info.load_packages:
        tables = pipeline.schemas[package.schema_name].tables
        for jobs in package.jobs.values():
            for job in jobs:
                root = _root_of(tables, job.job_file_info.table_name)
                if root and (name := root.get("resource")):
                    found.add(name)
    return found


def _root_of(tables: TSchemaTables, name: str | None) -> TTableSchema | None:
    table = tables.get(name) if name else None
    return _root_of(tables, table.get("parent")) if table and is_nested_table(table) else table


def resource_facts(
    resource: DltResource,
    schema: Schema,
    info: LoadInfo,
    *,
    rows: Mapping[str, int] | None,
    own_rows: int | None = None,
) -> ResourceFacts:
    """Copy what a load did for one resource.

    Args:
        resource: The resource.
        schema: The schema of its source as it is after the load.
        info: What dlt says of the load.
        rows: Rows written by table; None where an earlier attempt wrote them.
        own_rows: Rows the resource itself gave, where it shares its table with another one.
    """
    roots = _root_tables(schema, resource)
    nested = [name for root in roots for name in _nested_tables(schema, root)]
    mine = [*roots, *nested]
    return ResourceFacts(
        resource=resource.name,
        tables=tuple(_table(schema, name) for name in roots),
        nested=tuple(_table(schema, name) for name in nested),
        rows={} if rows is None else {name: rows.get(name, 0) for name in mine},
        rows_loaded=_rows_loaded(roots, rows) if own_rows is None else own_rows,
        jobs=tuple(_jobs_of(info, set(mine))),
    )


def _rows_loaded(roots: Sequence[str], rows: Mapping[str, int] | None) -> int | None:
    return None if rows is None else sum(rows.get(name, 0) for name in roots)


def _root_tables(schema: Schema, resource: DltResource) -> list[str]:
    """Return the tables with data that `resource` writes to directly.

    dlt notes on a table the first resource that described it; where two resources share one,
    the other is found by the table's name.
    """
    given = table_name(resource)
    shared = normalized_table_name(schema, given) if given else None
    return [
        name
        for name, table in schema.tables.items()
        if not is_nested_table(table)
        and has_table_seen_data(table)
        and (table.get("resource") == resource.name or name == shared)
    ]


def _nested_tables(schema: Schema, root: str) -> list[str]:
    chain = get_nested_tables(schema.tables, root)
    return [str(table["name"]) for table in chain[1:] if has_table_seen_data(table)]


def _table(schema: Schema, name: str) -> Table:
    columns = schema.get_table_columns(name, include_incomplete=True)
    return Table(name=name, columns=tuple(_column(*item) for item in columns.items()))


def _column(name: str, column: TColumnSchema) -> Column:
    hints = {hint for hint, value in column.items() if value} - _PLAIN_COLUMN_PROPERTIES
    return Column(
        name=name,
        data_type=column.get("data_type"),
        nullable=column.get("nullable", True) is not False,
        unique=bool(column.get("unique", False)),
        description=column.get("description"),
        hints=tuple(sorted(hints)),
    )


def _jobs_of(info: LoadInfo, tables: set[str]) -> Iterator[Mapping[str, object]]:
    for package in info.load_packages:
        for jobs in package.jobs.values():
            for job in jobs:
                if job.job_file_info.table_name in tables:
                    yield {"load_id": package.load_id, **_job(job)}


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
        "failed_message": job.failed_message,
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
