"""Every question we ask dlt, and the only file that may touch dlt's private names.

Answers are plain values or frozen facts; nothing here writes to an object it was given.
"""

import inspect
import json
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import thread as futures_of_threads
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

from dlt.common.configuration import is_secret_hint
from dlt.common.configuration.container import Container
from dlt.common.configuration.inject import get_fun_last_config
from dlt.common.configuration.resolve import inject_section
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
from dlt.common.configuration.utils import get_resolved_traces
from dlt.common.data_types.typing import TDataType
from dlt.common.destination import AnyDestination, Destination, TDestinationReferenceArg
from dlt.common.destination.client import (
    DestinationClientDwhConfiguration,
    JobClientBase,
    WithStateSync,
)
from dlt.common.exceptions import DltException, SignalReceivedException, TerminalException
from dlt.common.normalizers.json.relational import DataItemNormalizer
from dlt.common.normalizers.utils import generate_dlt_id
from dlt.common.pipeline import LoadInfo, PipelineContext
from dlt.common.runtime import signals
from dlt.common.schema import Schema
from dlt.common.schema.typing import (
    C_DLT_ID,
    C_DLT_LOAD_ID,
    TColumnSchema,
    TSchemaTables,
    TTableSchema,
)
from dlt.common.schema.utils import (
    get_merge_strategy,
    get_nested_tables,
    has_column_with_prop,
    has_table_seen_data,
    is_nested_table,
    new_column,
    new_table,
    normalize_table_identifiers,
)
from dlt.common.storages import FileStorage, LoadStorage, NormalizeStorage
from dlt.common.storages.load_package import LoadJobInfo, PackageStorage
from dlt.common.versioned_state import (
    compress_state,
    decompress_state,
    generate_state_version_hash,
    json_decode_state,
)
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase
from dlt.extract import DltResource, DltSource
from dlt.extract.reference import SourceFactory
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._facts import (
    Chain,
    Column,
    Home,
    LoadFacts,
    Location,
    ResourceFacts,
    ResourceFailure,
    Table,
)
from dagster_dlt._redaction import (
    is_secret_name,
    redacted,
    redacted_error,
    remember,
    shielded,
)
from dagster_dlt.errors import NotADltPipelineError, NotADltSourceError, SourceNotCalledError

logger = logging.getLogger(__name__)

# SQL dialects in which a table has no level above its schema, whatever their credentials call
# "database" (a file for SQLite, the dataset itself for MySQL).
_DIALECTS_WITHOUT_CATALOG = frozenset({"sqlite", "mysql"})
# Credentials of databases that speak DuckDB's dialect and are not a local file. By name: importing
# their classes takes drivers that may not be installed.
_WITHOUT_FILE = frozenset({"MotherDuckCredentials", "DuckLakeCredentials"})
# Fields of a configuration that say where data are or who writes them. They are shown, and may
# have the same value as somebody's password.
_PUBLIC_FIELDS = frozenset(
    {"catalog", "database", "dataset_name", "destination_name", "destination_type", "drivername"}
    | {"host", "role", "schema", "user", "username", "warehouse"}
)
# What the errors of drivers are made of: that of PEP 249, and of libraries that have their own.
_DRIVER_ERRORS = frozenset(
    {"Error", "SQLAlchemyError", "GoogleAPIError", "GoogleAuthError", "BotoCoreError"}
)
# Column properties that describe a column and are shown as such; all others are hints.
_PLAIN_COLUMN_PROPERTIES = frozenset({"name", "data_type", "nullable", "unique", "description"})


T = TypeVar("T")

#: A dlt source, or a function decorated with `@dlt.source` that was not called yet.
AnySource = DltSource | SourceFactory[Any, Any]


# --- what the user gave us ---------------------------------------------------------------------


def as_source(candidate: object) -> DltSource:
    """Return `candidate` as a dlt source, calling a source function that needs no arguments.

    Here every source comes in, soon after it was built: what dlt has resolved for it is remembered
    as secret.

    Raises:
        SourceNotCalledError: it is a source function that needs arguments.
        NotADltSourceError: it is something else.
    """
    if isinstance(candidate, DltSource):
        remember_secrets(candidate)
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
        return as_source(shielded(partial(_called, candidate)))
    raise NotADltSourceError(type(candidate).__name__)


def _called(function: SourceFactory[Any, Any]) -> object:
    try:
        return function()
    finally:
        # Now: an error in the function may tell what was resolved for it.
        remember_secrets(function)


def as_pipeline(candidate: object) -> Pipeline:
    """Return `candidate` as a dlt pipeline.

    Raises:
        NotADltPipelineError: it is none.
    """
    if isinstance(candidate, Pipeline):
        return candidate
    raise NotADltPipelineError(type(candidate).__name__)


def no_source() -> DltSource:
    """Return a source without resources, for what is loaded without the one it came from."""
    return DltSource(Schema("nothing"), "nothing", [])


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


def is_appended(resource: DltResource) -> bool:
    """Tell whether rows of `resource` are added to those that are there, whatever they are."""
    disposition = resource.write_disposition
    if isinstance(disposition, Mapping):
        disposition = disposition.get("disposition")
    hints: Mapping[str, Any] = resource._hints or {}
    keyed = hints.get("primary_key") or hints.get("merge_key")
    return disposition == "append" or (disposition == "merge" and not keyed)


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
    remember({"credentials": credentials})
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
    return Location(
        database=redacted(database) if database else None,
        dataset=config.normalize_dataset_name(schema),
    )


def any_schema(pipeline: Pipeline) -> Schema:
    """Return a schema of the pipeline, or an empty one with the destination's naming.

    `destination_client()` would name the empty one after the pipeline, which fails for a
    pipeline whose name is no identifier, such as `github-issues`.
    """
    if pipeline.schema_names:
        return pipeline.default_schema
    with pipeline._maybe_destination_capabilities():
        return Schema("any")


def schema_for(pipeline: Pipeline, source: DltSource) -> Schema:
    """Return the schema that `pipeline` has for `source`, or the one that it will have.

    A source may have a naming of its own, and with it names its tables and the dataset.
    """
    if source.schema.name in pipeline.schema_names:
        return pipeline.schemas[source.schema.name]
    with pipeline._maybe_destination_capabilities():
        return source.schema.clone(update_normalizers=True)


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


def file_of(pipeline: Pipeline) -> Path | None:
    """Return the file that is the destination of `pipeline`, if it is one: DuckDB, SQLite."""
    client = _client(pipeline, any_schema(pipeline))
    if not isinstance(client, SqlJobClientBase):
        return None
    if client.capabilities.sqlglot_dialect not in {"duckdb", "sqlite"}:
        return None
    credentials = client.config.credentials
    if type(credentials).__name__ in _WITHOUT_FILE:
        return None
    database = getattr(credentials, "database", None)
    # `:memory:` and `:external:`, a connection that was passed, have none that is known.
    if not isinstance(database, str) or not database or database.startswith(":"):
        return None
    return Path(database).resolve()


def has_packages(pipelines_dir: Path, name: str) -> bool:
    """Tell whether packages wait in the working directory of the pipeline `name`.

    `Pipeline.has_pending_data` says the same, but making a pipeline writes into the directory.
    """
    working_dir = pipelines_dir / name
    folders = (
        working_dir / "normalize" / NormalizeStorage.EXTRACTED_FOLDER,
        working_dir / "load" / LoadStorage.NORMALIZED_FOLDER,
    )
    return any(folder.is_dir() and any(folder.iterdir()) for folder in folders)


def _client(pipeline: Pipeline, schema: Schema) -> JobClientBase:
    # Explicit credentials first: without the rest of them there may be no client.
    for destination in filter(None, (pipeline.destination, pipeline.staging)):
        given = destination.config_params
        remember({name: value for name, value in given.items() if is_secret_name(name)})
    # Configuration may be given for one pipeline by its name, which dlt's own methods look for.
    section = ConfigSectionContext(
        pipeline_name=pipeline.pipeline_name, merge_style=ConfigSectionContext.prefer_existing
    )
    with inject_section(section):
        client, staging = pipeline._get_destination_clients(schema)
    for each in filter(None, (client, staging)):
        _remember_config(each.config)
    remember(public=[pipeline.pipeline_name, pipeline.dataset_name])
    return client


# --- secrets -----------------------------------------------------------------------------------


def remember_secrets(made: AnySource | None = None) -> None:
    """Remember what is never to be shown of what dlt has resolved in this thread.

    dlt notes what it resolves by thread, and forgets it at the end of each step. What was passed to
    a source function explicitly it does not note: that is in the last configuration of the
    function, or in a variable that the functions of the resources see.

    Args:
        made: A source that was built just now, or the function that builds it.
    """
    for trace in get_resolved_traces().resolved_traces:
        if is_secret_hint(trace.hint) or is_secret_name(trace.key):
            remember({trace.key: trace.value})
    if made is None:
        return
    function = made if isinstance(made, SourceFactory) else getattr(made, "_factory", None)
    _remember_last_config(function)
    if isinstance(made, DltSource):
        remember(public=[made.name, *made.resources])
        for resource in made.resources.values():
            _remember_arguments(resource)


def _remember_last_config(function: Callable[..., Any] | None) -> None:
    config = get_fun_last_config(function) if function else None
    if config:
        _remember_config(config)


def _remember_arguments(resource: DltResource) -> None:
    function = function_of(resource)
    if function is None:
        return
    _remember_last_config(function)
    given = dict(resource._explicit_args or {})
    inner = inspect.unwrap(function)
    if inspect.isfunction(inner):
        for name, cell in zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=True):
            with suppress(ValueError):  # nothing is in the cell yet
                given[name] = cell.cell_contents
    remember({name: value for name, value in given.items() if is_secret_name(name)})


def _remember_config(config: BaseConfiguration) -> None:
    """Remember the values of secret fields, and what is shown of the others."""
    for name, hint in config.get_resolvable_fields().items():
        value = getattr(config, name, None)
        if isinstance(value, BaseConfiguration):
            _remember_config(value)
        elif is_secret_hint(hint) or is_secret_name(name) or isinstance(value, Mapping):
            remember({name: value})
        elif name in _PUBLIC_FIELDS:
            remember(public=[value])


# --- tables at the destination -----------------------------------------------------------------


def can_take_rows_back(pipeline: Pipeline) -> bool:
    """Tell whether rows can be deleted at the destination: it takes SQL, and deletes for merges."""
    client = _client(pipeline, any_schema(pipeline))
    if not isinstance(client, SqlJobClientBase):
        return False
    strategies = list(client.capabilities.supported_merge_strategies or [])
    if select := client.capabilities.merge_strategies_selector:
        # Athena, for example, deletes from Iceberg tables only.
        strategies = list(select(strategies, table_schema=new_table("any")))
    return "delete-insert" in strategies


def client_of(pipeline: Pipeline, schema: Schema) -> JobClientBase:
    """Return a client of the destination, for tables of `schema`; opens no connection."""
    return _client(pipeline, schema)


def client_with_table(
    pipeline: Pipeline, schema: Schema, table: str, columns: Mapping[str, TDataType]
) -> SqlJobClientBase:
    """Return a client of the SQL destination whose schema has one more table.

    Args:
        pipeline: The pipeline.
        schema: The schema, which is not changed.
        table: Name of the table.
        columns: dlt's data type of each column; each holds a value in every row.
    """
    schema = schema.clone()
    given = [new_column(name, kind, nullable=False) for name, kind in columns.items()]
    schema.update_table(normalize_table_identifiers(new_table(table, columns=given), schema.naming))
    client = _client(pipeline, schema)
    if not isinstance(client, SqlJobClientBase):
        raise TypeError(type(client).__name__)
    return client


def create_table(client: SqlJobClientBase, table: str) -> None:
    """Create a table of the client's schema, if it is not there, with its dataset.

    `update_stored_schema()` would also note the schema as one that was loaded.
    """
    client.initialize_storage()
    name = client.schema.naming.normalize_table_identifier(table)
    if hasattr(client, "_to_table_object"):  # SQLAlchemy makes statements of objects
        client._to_table_object(client.schema.tables[name])
        new, _, exists = client.sql_client.compare_storage_table(name)
        if not exists:
            client.sql_client.create_table(new)
        return
    there = list(client.get_storage_tables([name]))
    statements, _ = client._build_schema_update_sql(there)
    client.sql_client.execute_many(statements)


def existing_tables(client: SqlJobClientBase, names: Sequence[str]) -> set[str]:
    """Return which of these tables are at the destination."""
    return {name for name, columns in client.get_storage_tables(names) if columns}


@contextmanager
def transaction(client: SqlJobClientBase) -> Iterator[None]:
    """Run a block in a transaction where the destination has them."""
    if client.capabilities.supports_transactions:
        with client.sql_client.begin_transaction():
            yield
    else:
        yield


def with_private_staging(pipeline: Pipeline, suffix: str) -> AnyDestination:
    """Return the destination of `pipeline` with a staging dataset of another name.

    A bucket that files are staged in is not emptied, since other loads have files there.
    """
    config = _client(pipeline, any_schema(pipeline)).config
    destination = copy(pipeline.destination)
    # What watches the connections of the usual one is bound to that.
    vars(destination).pop("client", None)
    params = {**destination.config_params}
    layout = getattr(config, "staging_dataset_name_layout", "%s_staging")
    params["staging_dataset_name_layout"] = f"{layout}_{suffix}"
    if hasattr(config, "truncate_tables_on_staging_destination_before_load"):
        params["truncate_tables_on_staging_destination_before_load"] = False
    destination.config_params = params
    return destination


def staging_dataset(pipeline: Pipeline) -> str:
    """Return the name of the dataset with the staging tables of a SQL destination."""
    client = _client(pipeline, any_schema(pipeline))
    if not isinstance(client, SqlJobClientBase):
        raise TypeError(type(client).__name__)
    return str(client.sql_client.staging_dataset_name)


# --- load packages -----------------------------------------------------------------------------


def normalized_packages(pipeline: Pipeline) -> PackageStorage:
    """Return where `pipeline` keeps the packages that are to be loaded."""
    return pipeline._get_load_storage().normalized_packages


def remember_schemas(pipeline: Pipeline) -> None:
    """Let `pipeline` know the schemas of packages that it has extracted.

    dlt writes down what a package is about after it has written the package. A process that dies
    between leaves a first package that dlt would not normalize, for want of a schema.
    """
    packages = pipeline._get_normalize_storage().extracted_packages
    for load_id in pipeline.list_extracted_load_packages():
        schema = packages.load_schema(load_id)
        if schema.name not in pipeline.schema_names:
            pipeline._inject_schema(schema)


def stores_below(working_dir: Path) -> tuple[PackageStorage, PackageStorage, PackageStorage]:
    """Return where a working directory has its extracted, normalized and completed packages.

    A pipeline object would know, but to make one writes to the directory, which may be in use.
    """
    extracted = working_dir / "normalize" / NormalizeStorage.EXTRACTED_FOLDER
    load = working_dir / "load"
    return (
        PackageStorage(FileStorage(str(extracted)), "extracted"),
        PackageStorage(FileStorage(str(load / LoadStorage.NORMALIZED_FOLDER)), "normalized"),
        PackageStorage(FileStorage(str(load / LoadStorage.LOADED_FOLDER)), "loaded"),
    )


def state_below(working_dir: Path) -> dict[str, Any]:
    """Return the pipeline's state that a working directory holds, if it does."""
    try:
        text = (working_dir / Pipeline.STATE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return dict(json_decode_state(text))


def finish_package(pipeline: Pipeline, load_id: str) -> None:
    """Move a package away that was committed, when its process did not come to do so."""
    pipeline._get_load_storage().complete_load_package(load_id, aborted=False)


def packed_state(pipeline: Pipeline, load_id: str) -> Mapping[str, Any] | None:
    """Return the row with the pipeline's state that a package will commit, if it has one."""
    return normalized_packages(pipeline).get_load_package_state(load_id).get("pipeline_state")


def state_in(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pipeline's state that a row of `_dlt_pipeline_state` holds."""
    return dict(decompress_state(row["state"]))


def state_before(pipeline: Pipeline, load_id: str) -> dict[str, Any]:
    """Return the pipeline's state as it was before a package was extracted."""
    with suppress(FileNotFoundError):
        text, _ = normalized_packages(pipeline).load_pipeline_state(load_id)
        if text:
            return dict(json_decode_state(text))
    return {}


def pack_state(
    pipeline: Pipeline, load_id: str, state: dict[str, Any], row: Mapping[str, Any]
) -> dict[str, Any]:
    """Put another state into a package, and return its row."""
    packages = normalized_packages(pipeline)
    state["_version_hash"] = generate_state_version_hash(cast("Any", state), ["_local"])
    packed = {
        **row,
        "version_hash": state["_version_hash"],
        "state": compress_state(cast("Any", state)),
    }
    kept = packages.get_load_package_state(load_id)
    kept["pipeline_state"] = cast("Any", packed)
    packages.save_load_package_state(load_id, kept)
    return packed


def write_state_row(client: SqlJobClientBase, load_id: str, row: Mapping[str, Any]) -> None:
    """Write the row with a load's state, in place of what there was."""
    sql, naming = client.sql_client, client.schema.naming
    table = sql.make_qualified_table_name(client.schema.state_table_name)
    columns = {
        sql.escape_column_name(naming.normalize_identifier(name)): value
        for name, value in {**row, C_DLT_ID: generate_dlt_id(), C_DLT_LOAD_ID: load_id}.items()
    }
    column = sql.escape_column_name(naming.normalize_identifier(C_DLT_LOAD_ID))
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    with client, transaction(client):
        sql.execute_sql(f"DELETE FROM {table} WHERE {column} = %s", load_id)  # noqa: S608 - quoted
        sql.execute_sql(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - quoted
            *columns.values(),
        )


def state_rows(client: SqlJobClientBase, load_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the pipeline's state that each of these loads has committed, if it did."""
    sql, naming = client.sql_client, client.schema.naming
    table = sql.make_qualified_table_name(client.schema.state_table_name)
    load, state = (
        sql.escape_column_name(naming.normalize_identifier(name))
        for name in (C_DLT_LOAD_ID, "state")
    )
    marks = ", ".join(["%s"] * len(load_ids))
    query = f"SELECT {load}, {state} FROM {table} WHERE {load} IN ({marks})"  # noqa: S608 - quoted
    with client:
        try:
            rows = sql.execute_sql(query, *load_ids) or []
        except DatabaseUndefinedRelation:
            return {}
    return {str(load_id): dict(decompress_state(text)) for load_id, text in rows}


def restored_load(pipeline: Pipeline, client: SqlJobClientBase) -> str | None:
    """Return the load whose state dlt restores: the newest one that has committed a state."""
    with client:
        try:
            stored = client.get_stored_state(pipeline.pipeline_name)
        except DatabaseUndefinedRelation:
            return None
    return stored._dlt_load_id if stored else None


def states_after(pipeline: Pipeline, client: SqlJobClientBase, load_id: str) -> list[str]:
    """Return the loads that have committed a state of `pipeline` and are newer than `load_id`."""
    sql, naming = client.sql_client, client.schema.naming
    states = sql.make_qualified_table_name(client.schema.state_table_name)
    loads = sql.make_qualified_table_name(client.schema.loads_table_name)
    load, name, id_, status = (
        sql.escape_column_name(naming.normalize_identifier(column))
        for column in (C_DLT_LOAD_ID, "pipeline_name", "load_id", "status")
    )
    query = (
        f"SELECT s.{load} FROM {states} s JOIN {loads} l ON l.{id_} = s.{load} "  # noqa: S608 - quoted
        f"WHERE s.{name} = %s AND l.{status} = 0 AND s.{load} > %s"
    )
    with client:
        rows = sql.execute_sql(query, pipeline.pipeline_name, load_id) or []
    return [str(row[0]) for row in rows]


def add_stored_tables(
    pipeline: Pipeline, client: SqlJobClientBase, load_ids: Sequence[str]
) -> list[str]:
    """Add tables and columns to the schemas of `pipeline` that these loads have stored.

    Returns the names of the tables that were added to.
    """
    sql, naming = client.sql_client, client.schema.naming
    table = sql.make_qualified_table_name(client.schema.loads_table_name)
    load, version = (
        sql.escape_column_name(naming.normalize_identifier(name))
        for name in ("load_id", "schema_version_hash")
    )
    marks = ", ".join(["%s"] * len(load_ids))
    query = f"SELECT DISTINCT {version} FROM {table} WHERE {load} IN ({marks})"  # noqa: S608 - quoted
    added: list[str] = []
    with client:
        for (hash_,) in sql.execute_sql(query, *load_ids) or []:
            stored = client.get_stored_schema_by_hash(hash_)
            if stored is not None:
                added += _add_tables(pipeline, Schema.from_stored_schema(json.loads(stored.schema)))
    return sorted(set(added))


def _add_tables(pipeline: Pipeline, theirs: Schema) -> list[str]:
    if theirs.name not in pipeline.schema_names:
        return []
    ours, added = pipeline.schemas[theirs.name], []
    for name, table in theirs.tables.items():
        known = ours.tables.get(name)
        new = {
            column: hints
            for column, hints in table["columns"].items()
            if known is None or column not in known["columns"]
        }
        if new:
            ours.update_table(cast("TTableSchema", {**table, "columns": new}))
            added.append(name)
    if added:
        pipeline.schemas.save_schema(ours)
    return added


def chains_of(schema: Schema) -> list[Chain]:
    """Return the tables of `schema` that have seen data, as dlt loads them: each with its nested.

    The table with the pipeline's state is among them.
    """
    tables = schema.tables
    below: dict[str, list[str]] = {}
    for name, table in tables.items():
        if is_nested_table(table) and has_table_seen_data(table):
            below.setdefault(_way_up(tables, name)[-1], []).append(name)
    roots = [
        name
        for name in schema.data_table_names(seen_data_only=True)
        if not is_nested_table(tables[name])
    ]
    if schema.state_table_name in tables:
        roots.append(schema.state_table_name)
    chains = []
    for name in roots:
        nested = sorted(below.get(name, []), key=lambda each: len(_way_up(tables, each)))
        order = (name, *nested)
        resource = str(tables[name].get("resource") or name)
        chains.append(Chain(resource, tuple((each, tables[each].get("parent")) for each in order)))
    return chains


def _way_up(tables: TSchemaTables, name: str) -> list[str]:
    """Return a table's name and those of the tables above it, the outermost last."""
    above = tables[name].get("parent")
    return [name, *_way_up(tables, above)] if above else [name]


def adds_rows(schema: Schema, chain: Chain, client: JobClientBase) -> bool:
    """Tell whether loading the tables of `chain` twice doubles rows: append, merge without keys."""
    table = client.prepare_load_table(chain.root)
    if table["write_disposition"] == "merge":
        return get_merge_strategy(schema.tables, chain.root) != "scd2" and not any(
            has_column_with_prop(cast("Any", table), key) for key in ("primary_key", "merge_key")
        )
    return table["write_disposition"] == "append"


def knows_its_load(schema: Schema, chain: Chain) -> bool:
    """Tell whether the rows of `chain` say which load they came with, and whose children are."""
    load, parent = row_columns(schema)[1:]
    tables = schema.tables
    return load in tables[chain.root]["columns"] and all(
        parent in tables[name]["columns"] for name, above in chain.tables if above
    )


def row_columns(schema: Schema) -> tuple[str, str, str]:
    """Return the names of the columns for the row's id, its load id and its parent's id."""
    names = (C_DLT_ID, C_DLT_LOAD_ID, DataItemNormalizer.C_DLT_PARENT_ID)
    row_id, load_id, parent_id = map(schema.naming.normalize_identifier, names)
    return row_id, load_id, parent_id


# --- stopping ----------------------------------------------------------------------------------

#: What stops the load that the code at hand belongs to, if it belongs to one.
_STOP: ContextVar["Stop | None"] = ContextVar("dagster_dlt_stop", default=None)


class _SignalOfThisLoad(int):
    """A signal that is there for the code of a load that was asked to stop, and for no other.

    dlt keeps the signal that it received in one variable of the process, and asks for its truth
    wherever it can stop: at each item, before normalized files are committed, before new jobs.
    """

    def __bool__(self) -> bool:
        return is_stopped()


_SIGNAL: Final = _SignalOfThisLoad(signal.SIGTERM)


class Stop:
    """Stops one load of this process; the others do not notice.

    What code belongs to the load is told by its context, so a stop that was asked for holds as long
    as that code runs, even when nobody waits for it any more.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._left = threading.Event()
        # Reentrant: the garbage collector may close an iterator, which asks, while it is held.
        self._lock = threading.RLock()
        self._pipelines: WeakSet[Pipeline] = WeakSet()
        self._clients: WeakSet[SqlClientBase[Any]] = WeakSet()

    def enter(self) -> None:
        """Let the code that runs in this context from now on belong to the load."""
        _STOP.set(self)

    def ask(self) -> None:
        """Ask the load to stop where dlt can, with a package that can be finished."""
        self._asked.set()
        # Where dlt's own handler has received a signal, all loads stop anyway.
        if not signals.was_signal_received():
            signals.set_received_signal(_SIGNAL)
        signals.wake_all()
        for pipeline in self._watched(self._pipelines):
            _cancel_normalize(pipeline)

    @property
    def asked(self) -> bool:
        """The load was asked to stop."""
        return self._asked.is_set()

    @property
    def left(self) -> bool:
        """Nobody waits for the load any more."""
        return self._left.is_set()

    def watch(self, pipeline: Pipeline) -> None:
        """Remember what the load runs."""
        with self._lock:
            self._pipelines.add(pipeline)

    def watch_client(self, client: JobClientBase) -> None:
        """Remember the connection of `client`, whose statements can be cancelled."""
        if isinstance(client, SqlJobClientBase):
            with self._lock:
                self._clients.add(client.sql_client)

    def cancel_statements(self) -> None:
        """Cancel what the destination does for the load right now, where the driver offers that.

        dlt takes the errors that drivers raise then for outages: it rolls the transaction back and
        puts the job back among those to be done. Connections are not closed instead where a driver
        cannot cancel: whether the statement was committed would be unknown, and dlt would run the
        job again.
        """
        for client in self._watched(self._clients):
            with suppress(Exception):  # drivers raise what they like; the statement may be over
                _cancel(client.native_connection)

    def leave(self, thread: threading.Thread) -> None:
        """Wait no longer for the load, which runs in `thread`, and for what it started.

        dlt does not wait long for a resource in a thread of its pool that blocks when another one
        fails. Such threads are daemons, as `thread` is, but a process that ends waits for the
        threads of every pool all the same; not for these.
        """
        self._left.set()
        prefix = f"dlt-pool-{thread.ident}-"
        for each in threading.enumerate():
            if each.name.startswith(prefix):
                # Typed as a mapping that cannot be changed; it is a dictionary.
                futures_of_threads._threads_queues.pop(each, None)  # type: ignore[attr-defined]

    def _watched(self, watched: WeakSet[T]) -> list[T]:
        with self._lock:
            return list(watched)


def _cancel_normalize(pipeline: Pipeline) -> None:
    """Let dlt's normalizers stop at their next row; in whatever process, they look for a file."""
    with suppress(Exception):  # the package may be there not yet, or no more
        packages = pipeline._get_load_storage().new_packages
        for load_id in packages.list_packages():
            packages.cancel(load_id)


def _cancel(connection: object) -> None:
    # The connection of SQLAlchemy stands before the driver's own.
    pooled = getattr(connection, "connection", None)
    driver = getattr(pooled, "driver_connection", connection)
    # psycopg2 and others say `cancel`, DuckDB and SQLite say `interrupt`.
    for name in ("cancel", "interrupt"):
        method = getattr(driver, name, None)
        if callable(method):
            method()
            return


def is_stopped() -> bool:
    """Tell whether the load that this code belongs to was asked to stop."""
    stop = _STOP.get()
    return stop is not None and stop.asked


def raise_if_stopped(*, waits: bool = False) -> None:
    """End the load that this code belongs to if it was asked to stop.

    Args:
        waits: dlt stops by itself here, and waits for what it has under way: jobs, processes that
            normalize. Only what was left behind is ended, so that it does not commit later what a
            run since then has loaded again.

    Raises:
        CancelledError: it was. An `Exception`, on which dlt closes the files it writes, which it
            does not for its own, a `BaseException`.
    """
    stop = _STOP.get()
    if stop is not None and (stop.left if waits else stop.asked):
        raise CancelledError


def watch(pipeline: Pipeline) -> None:
    """Let the load that this code belongs to know `pipeline` and the connections it will open.

    dlt makes a client for each job through the pipeline's destination, of which this one gets its
    own: the user's is shared by all loads.
    """
    stop = _STOP.get()
    if stop is None or pipeline.destination is None:
        return
    stop.watch(pipeline)
    destination = copy(pipeline.destination)
    make = destination.client

    def client(*args: Any, **kwargs: Any) -> JobClientBase:  # noqa: ANN401 - passed on as it is
        made: JobClientBase = make(*args, **kwargs)
        stop.watch_client(made)
        return made

    destination.client = client  # type: ignore[method-assign]  # of this object alone
    pipeline._destination = destination


# --- errors ------------------------------------------------------------------------------------


def failure_of(error: PipelineStepFailed, pipeline: Pipeline, source: DltSource) -> ResourceFailure:
    """Say which resource of `source` the error is about, and why, by what its causes carry."""
    remember_secrets(source)
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
        cause=first_cause(error),
        pipelines_dir=pipeline.pipelines_dir if pipeline.has_pending_data else None,
        error=redacted_error(error),
    )


def comes_from_outside(error: BaseException) -> bool:
    """Tell whether dlt, the system or a driver has raised an error, rather than a mistake of ours.

    dlt wraps what a driver raises in a query, but not always what it raises when it connects.
    """
    return isinstance(error, DltException | OSError) or any(
        each.__name__ in _DRIVER_ERRORS and each.__bases__[-1:] == (Exception,)
        for each in type(error).__mro__
    )


def first_cause(error: BaseException) -> str:
    """Return type and text of what an error began with."""
    *_, first = _chain(error)
    return f"{type(first).__name__}: {redacted(first)}".rstrip(".")


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


def resource_of(schema: Schema, table: str) -> str | None:
    """Return the resource that a table belongs to, itself or by the one that it is nested in."""
    root = _root_of(schema.tables, table)
    return str(root["resource"]) if root and root.get("resource") else None


def resources_of_table(schema: Schema, table: str | None, source: DltSource) -> set[str]:
    """Return the resources whose rows are in a table, or in the one that it is nested in."""
    root = _root_of(schema.tables, table)
    if root is None:
        return set()
    sharing = {
        name
        for name, resource in selected_resources(source).items()
        if str(root["name"]) in _root_tables(schema, resource)
    }
    return sharing | ({str(root["resource"])} if root.get("resource") else set())


def _chain(error: BaseException) -> Iterator[BaseException]:
    yield error
    below = error.exception if isinstance(error, PipelineStepFailed) else error.__cause__
    if below is None and not error.__suppress_context__:
        below = error.__context__
    if below is not None:
        yield from _chain(below)


def can_be_resumed(error: PipelineStepFailed) -> bool:
    """Tell whether a load that failed with `error` may succeed if it is simply continued.

    What fails in normalize fails again, what dlt calls terminal does; the rest is an outage. To be
    asked to stop is none of these, although dlt calls it terminal.
    """
    if any(isinstance(cause, SignalReceivedException) for cause in _chain(error)):
        return True
    if error.step == "normalize":
        return False
    return not any(isinstance(cause, TerminalException) for cause in _chain(error))


# --- what a load did ---------------------------------------------------------------------------


def load_facts(pipeline: Pipeline, info: LoadInfo | None) -> LoadFacts:
    """Copy what `info` says of the load as a whole; None stands for one of a dead process."""
    location, trace = location_of(pipeline), pipeline.last_trace
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
    info: LoadInfo | None,
    *,
    rows: Mapping[str, int] | None,
    own_rows: int | None = None,
) -> ResourceFacts:
    """Copy what a load did for one resource.

    Args:
        resource: The resource.
        schema: The schema of its source as it is after the load.
        info: What dlt says of the load, or None where its process died.
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


def _jobs_of(info: LoadInfo | None, tables: set[str]) -> Iterator[Mapping[str, object]]:
    for package in info.load_packages if info else ():
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
