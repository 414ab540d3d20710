"""Pipelines and their destinations: where data and state live, and how to reach them."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dlt
from dlt.common.configuration.container import Container
from dlt.common.configuration.resolve import inject_section
from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
from dlt.common.destination import (
    AnyDestination,
    Destination,
    DestinationCapabilitiesContext,
    TDestinationReferenceArg,
)
from dlt.common.destination.client import (
    DestinationClientConfiguration,
    DestinationClientDwhConfiguration,
    JobClientBase,
    WithStateSync,
)
from dlt.common.destination.exceptions import InvalidDestinationReference
from dlt.common.normalizers.naming import NamingConvention
from dlt.common.pipeline import PipelineContext
from dlt.common.schema import Schema
from dlt.common.storages import LoadStorage, NormalizeStorage
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.configuration import seen_by_pools
from dagster_dlt._dlt.secrets import remember_config
from dagster_dlt._facts import Home, Letters, Location, folded
from dagster_dlt._redaction import is_secret_name, redacted, remember

logger = logging.getLogger(__name__)

# SQL dialects in which a table has no level above its schema, whatever their credentials call
# "database" (a file for SQLite, the dataset itself for MySQL).
_DIALECTS_WITHOUT_CATALOG = frozenset({"sqlite", "mysql"})

# What credentials call that level.
_DATABASES = ("database", "catalog", "project_id")

# Credentials of databases that speak DuckDB's dialect and are not a local file. By name: importing
# their classes takes drivers that may not be installed.
_WITHOUT_FILE = frozenset({"MotherDuckCredentials", "DuckLakeCredentials"})


def destination_name(pipeline: Pipeline) -> str | None:
    """Return the name of the pipeline's destination, or None if it has none yet."""
    return pipeline.destination.destination_name if pipeline.destination else None


def schema_paths(pipeline: Pipeline) -> tuple[str | None, str | None]:
    """Return the import and the export schema path of `pipeline`; dlt keeps them to itself."""
    config = pipeline._schema_storage_config
    return config.import_schema_path, config.export_schema_path


def directed(
    pipeline: Pipeline,
    *,
    destination: TDestinationReferenceArg | None = None,
    credentials: object = None,
    staging: TDestinationReferenceArg | None = None,
    dataset_name: str | None = None,
) -> Pipeline:
    """Return a pipeline like another one, in the same directory, that loads somewhere else.

    What is left out is as it was. A name gets the layout that the configuration gives to names.
    The pipeline is not to be run: it shares its directory, and all in it, with the other one.
    """
    # `copy` would go by what dlt lets be pickled, which is the name alone.
    other = object.__new__(type(pipeline))
    vars(other).update(vars(pipeline))
    reference = destination or pipeline.destination
    if reference is not None and (destination or credentials is not None):
        # Not given to dlt, which takes none for an object that it has already.
        params = {} if credentials is None else {"credentials": credentials}
        remember(params)
        other.destination = _made(reference, **params)
    if staging:
        other.staging = _made(staging)
    other._set_dataset_name(dataset_name)
    return other


def _made(reference: TDestinationReferenceArg, **params: object) -> AnyDestination:
    made = Destination.from_reference(reference)
    if made is None:  # for dlt a reference may be nothing
        raise InvalidDestinationReference(reference)
    return destination_with(made, **params)


def dataset_apart(pipeline: Pipeline) -> str | None:
    """Return the dataset of the pipeline, if its destination keeps datasets apart."""
    destination = pipeline.destination
    if destination is None or not issubclass(destination.spec, DestinationClientDwhConfiguration):
        return None
    return pipeline.dataset_name or None


def shares_staging(pipeline: Pipeline) -> bool:
    """Tell whether the configuration gives all datasets one staging dataset."""
    config = described(pipeline).config
    layout = getattr(config, "staging_dataset_name_layout", "%s")
    return "%s" not in layout


def destination_with(destination: AnyDestination, **params: object) -> AnyDestination:
    """Return a destination that is like another one but for some of its settings."""
    other = copy(destination)
    # What watches the connections of the other one is bound to that.
    vars(other).pop("client", None)
    other.config_params = {**destination.config_params, **params}
    if vars(other).pop("capabilities", None):
        _remember_capabilities(other)
    return other


def remembering(destination: AnyDestination) -> AnyDestination:
    """Return a destination that works out once what it is capable of, for one load.

    dlt asks for it a dozen times in a load, and resolves the configuration each time: that is a
    fifth of the time that a small load takes.
    """
    other = copy(destination)
    _remember_capabilities(other)
    return other


def _remember_capabilities(destination: AnyDestination) -> None:
    usual, known = type(destination).capabilities, dict[object, DestinationCapabilitiesContext]()

    def capabilities(
        config: DestinationClientConfiguration | None = None,
        naming: NamingConvention | None = None,
    ) -> DestinationCapabilitiesContext:
        if config is not None:
            return usual(destination, config, naming)
        key = (type(naming), naming.max_length) if naming else None
        if key not in known:
            known[key] = usual(destination, None, naming)
        return known[key].copy()

    destination.capabilities = capabilities  # type: ignore[method-assign]  # of this object alone


def location_of(pipeline: Pipeline, schema: Schema | None = None) -> Location:
    """Return where `pipeline` writes, as far as it is known without opening a connection.

    Names are those that the destination uses, in its own letters. Whatever cannot be known, because
    there is no destination, no database in its credentials or no driver, is left out.
    """
    schema = schema or any_schema(pipeline)
    try:
        client = client_of(pipeline, schema)
    except Exception as error:  # noqa: BLE001 - descriptive only; drivers raise what they like
        logger.debug("no client for pipeline %r: %s", pipeline.pipeline_name, type(error).__name__)
        return _location_without_client(pipeline, schema)
    config = client.config
    if not isinstance(config, DestinationClientDwhConfiguration):
        return Location()
    dataset = config.normalize_dataset_name(schema)
    if isinstance(client, FilesystemClient):
        url = redacted(client.get_open_table_location("native", Location.TABLE))
        return Location(dataset, path=(dataset,), url=url.rstrip("/"))
    if not isinstance(client, SqlJobClientBase):
        return Location(dataset, path=(dataset,))
    # ClickHouse has no datasets: their names are in front of those of the tables.
    *path, table = client.sql_client.make_qualified_table_name_path("t", quote=False)
    if not client.sql_client.catalog_name(quote=False):
        path = [*_database(config.credentials, client.capabilities), *path]
    return Location(dataset, _told(path), prefix=table[:-1], letters=_letters(client.capabilities))


def _location_without_client(pipeline: Pipeline, schema: Schema) -> Location:
    """Return what is known where secrets, or a driver, are missing: definitions need neither."""
    name, destination = pipeline.dataset_name, pipeline.destination
    dataset = schema.naming.normalize_table_identifier(name) if name else None
    if destination is None or dataset is None:
        return Location(dataset, path=(dataset,) if dataset else ())
    config = destination.spec()
    if not isinstance(config, DestinationClientDwhConfiguration):
        return Location()
    try:
        config._bind_dataset_name(dataset_name=name)
        destination.configuration(config, accept_partial=True)
        dataset = config.normalize_dataset_name(schema)
        caps = destination.capabilities(config, schema.naming)
    except Exception as error:  # noqa: BLE001 - as above
        logger.debug("no names for %r: %s", pipeline.pipeline_name, type(error).__name__)
        caps = destination.capabilities()
    database = _database(config.credentials, caps)
    # What dlt takes where nobody has chosen: the rest of the credentials are not here either.
    by_default = _database(_fresh(config.credentials), caps)
    if not database or database == by_default:
        database = _configured_database(destination, caps)
    path, prefix = [*database, folded(dataset, letters := _letters(caps))], ""
    if separator := getattr(config, "dataset_table_separator", None):
        prefix = f"{path.pop()}{separator}"
    return Location(dataset, _told(path), prefix, letters)


def _fresh(credentials: object) -> object:
    """Return credentials of the same kind that nothing was configured of."""
    try:
        return type(credentials)()
    except Exception:  # noqa: BLE001 - descriptive only
        return None


def _configured_database(
    destination: AnyDestination, caps: DestinationCapabilitiesContext
) -> list[str]:
    """Return the database that dlt's configuration has for credentials that lack the rest."""
    for name in (destination.destination_name, destination.destination_type.rsplit(".", 1)[-1]):
        given = {
            key: dlt.config.get(f"destination.{name}.credentials.{key}", str) for key in _DATABASES
        }
        if found := _database(SimpleNamespace(**given), caps):
            return found
    return []


def _told(parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(redacted(part) for part in parts)


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


def _letters(caps: DestinationCapabilitiesContext) -> Letters:
    """Return what the destination makes of letters, which dlt has as a function."""
    folded = caps.casefold_identifier("aA")
    return "upper" if folded == "AA" else "lower" if folded == "aa" else "as they are"


def _database(credentials: object, caps: DestinationCapabilitiesContext) -> list[str]:
    """Return the database that credentials connect to, if tables there have it above their schema.

    dlt connects to it and leaves it out of its queries; dbt has it in the names of relations.
    """
    if caps.sqlglot_dialect in _DIALECTS_WITHOUT_CATALOG:
        return []
    given = (getattr(credentials, name, None) for name in _DATABASES)
    database = next((each for each in given if isinstance(each, str) and each), None)
    if database is None:
        return []
    if caps.sqlglot_dialect == "duckdb":
        # DuckDB names a database after its file, up to the first dot.
        file = database.replace("\\", "/").rsplit("/", 1)[-1]
        # ... and what a passed connection has open is not known without asking it.
        return {":memory:": ["memory"], ":external:": []}.get(file, [file.split(".", 1)[0]])
    # A name in a connection string is spelled as it is, unless the database folds to upper case:
    # then it is an identifier like any other.
    return [folded(database, letters) if (letters := _letters(caps)) == "upper" else database]


def schema_of(resource: DltResource, pipeline: Pipeline) -> Schema:
    """Return the schema that `pipeline` keeps the tables of `resource` in."""
    name = resource.source_name
    return pipeline.schemas[name] if name in pipeline.schema_names else pipeline.default_schema


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
    with leaving_active_pipeline(), seen_by_pools():
        pipeline.activate()
        yield


def home_of(pipeline: Pipeline) -> Home:
    """Return where data and state of `pipeline` live; builds a client, but opens no connection."""
    client = described(pipeline)
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
    client = described(pipeline)
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


#: What is known of destinations in a block, by pipeline, destination and dataset.
_DESCRIBED: ContextVar[dict[tuple[int, int, str | None], tuple[object, JobClientBase]] | None] = (
    ContextVar("described", default=None)
)


@contextmanager
def described_once() -> Iterator[None]:
    """Describe each destination once in a block, in which its configuration stays as it is."""
    token = _DESCRIBED.set({})
    try:
        yield
    finally:
        _DESCRIBED.reset(token)


def described(pipeline: Pipeline) -> JobClientBase:
    """Return a client that says what the destination of `pipeline` is; it is never connected.

    To make one takes milliseconds: dlt resolves the configuration for it.
    """
    known = _DESCRIBED.get()
    if known is None:
        return client_of(pipeline, any_schema(pipeline))
    destination = pipeline._destination
    key = (id(pipeline), id(destination), pipeline.dataset_name)
    if key not in known:
        # With what the ids are of, so that nothing else gets them meanwhile.
        known[key] = ((pipeline, destination), client_of(pipeline, any_schema(pipeline)))
    return known[key][1]


def client_of(pipeline: Pipeline, schema: Schema) -> JobClientBase:
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
        remember_config(each.config)
    remember(public=[pipeline.pipeline_name, pipeline.dataset_name])
    return client


def see_clients(pipeline: Pipeline, see: Callable[[JobClientBase], None]) -> None:
    """Show each client of the destination that `pipeline` makes from now on.

    dlt makes a client for each job through the pipeline's destination, of which this one gets its
    own: the user's is shared by all loads.
    """
    destination = copy(pipeline._destination)
    make = destination.client

    def client(*args: Any, **kwargs: Any) -> JobClientBase:  # noqa: ANN401 - passed on as it is
        made: JobClientBase = make(*args, **kwargs)
        see(made)
        return made

    destination.client = client  # type: ignore[method-assign]  # of this object alone
    pipeline._destination = destination
