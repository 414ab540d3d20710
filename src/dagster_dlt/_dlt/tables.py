"""Tables and datasets at a destination with SQL."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dlt.common.data_types.typing import TDataType
from dlt.common.destination import AnyDestination
from dlt.common.destination.client import JobClientBase, LoadJob
from dlt.common.destination.typing import PreparedTableSchema
from dlt.common.schema import Schema
from dlt.common.schema.utils import new_column, new_table, normalize_table_identifiers
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.destinations import (
    client_of,
    described,
    destination_with,
    see_clients,
)


def takes_sql_that_deletes(pipeline: Pipeline) -> bool:
    """Tell whether the destination takes SQL by which rows can be deleted."""
    client = described(pipeline)
    return isinstance(client, SqlJobClientBase) and deletes_rows(client)


def deletes_rows(client: SqlJobClientBase) -> bool:
    """Tell whether rows can be deleted by SQL, as they are for merges."""
    strategies = list(client.capabilities.supported_merge_strategies or [])
    if select := client.capabilities.merge_strategies_selector:
        # Athena, for example, deletes from Iceberg tables only.
        strategies = list(select(strategies, table_schema=new_table("any")))
    return "delete-insert" in strategies


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
    client = client_of(pipeline, schema)
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
    """Return the destination of `pipeline` with a staging dataset of another name."""
    config = described(pipeline).config
    layout = getattr(config, "staging_dataset_name_layout", "%s_staging")
    return destination_with(pipeline.destination, staging_dataset_name_layout=f"{layout}_{suffix}")


@contextmanager
def before_merges(pipeline: Pipeline, which: str, ask: Callable[[], None]) -> Iterator[None]:
    """Ask before load `which` merges, or replaces, tables by what it has collected.

    dlt has a job for that: SQL, once all files are in the staging tables, or for tables that are
    files with a log a reference to these. It is created in the thread that runs the load, and
    tried again on an error.
    """
    usual = pipeline._destination

    def ask_first(client: JobClientBase) -> None:
        create = client.create_load_job
        kind = ".sql" if isinstance(client, SqlJobClientBase) else ".reference"

        def create_load_job(
            table: PreparedTableSchema,
            file_path: str,
            load_id: str,
            restore: bool = False,  # noqa: FBT001, FBT002 - as dlt has it
        ) -> LoadJob:
            if load_id == which and file_path.endswith(kind):
                ask()
            return create(table, file_path, load_id, restore)

        client.create_load_job = create_load_job  # type: ignore[method-assign]  # of this object alone

    see_clients(pipeline, ask_first)
    try:
        yield
    finally:
        pipeline._destination = usual


def staging_dataset(pipeline: Pipeline) -> str:
    """Return the name of the dataset with the staging tables of a SQL destination."""
    client = described(pipeline)
    if not isinstance(client, SqlJobClientBase):
        raise TypeError(type(client).__name__)
    return str(client.sql_client.staging_dataset_name)
