"""Tables that are read back: what is stored of their columns, and how they are queried."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any

from dlt.common.destination.capabilities import DestinationCapabilitiesContext
from dlt.common.destination.client import JobClientBase, WithStateSync
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase, WithSchemas, WithSqlClient

#: Rows that are fetched at a time.
_AT_ONCE = 10_000


def stored_schema(client: JobClientBase, name: str) -> Schema | None:
    """Return the newest schema of a name that loads have stored at the destination."""
    if not isinstance(client, WithStateSync):
        return None
    with suppress(DatabaseUndefinedRelation, DestinationUndefinedEntity):
        stored = client.get_stored_schema(name)
        return Schema.from_stored_schema(json.loads(stored.schema)) if stored else None
    return None


def answers_queries(client: JobClientBase) -> bool:
    """Tell whether the tables of a destination can be queried with SQL."""
    return isinstance(client, WithSqlClient)


def show_schema(client: JobClientBase) -> None:
    """Tell a destination that makes tables of files which ones there are."""
    if isinstance(client, WithSqlClient) and isinstance(client.sql_client, WithSchemas):
        client.sql_client.set_schemas([client.schema])


def columns_there(client: JobClientBase, table: str) -> TTableSchemaColumns:
    """Return the columns that a table has at the destination, as dlt describes them.

    The stored schema need not know all of them: where two loads overlap, the next one puts together
    what they have added.
    """
    known = dict(client.schema.get_table_columns(table)) if table in client.schema.tables else {}
    if not isinstance(client, SqlJobClientBase):
        return known
    there = dict(client.get_storage_tables([table]))[table]
    return {name: known.get(name, column) for name, column in there.items()}


def keeps_zone(client: JobClientBase, column: TColumnSchema) -> bool:
    """Tell whether a destination keeps the times of a column with a zone."""
    able = client.capabilities
    if not able.supports_tz_aware_datetime:
        return False
    return not able.supports_naive_datetime or bool(column.get("timezone", True))


def read_capabilities(client: JobClientBase) -> DestinationCapabilitiesContext:
    """Return what tells the types of columns when they are read.

    Where a destination has no zones, dlt keeps times in UTC: read back, they have their zone again.
    """
    able = copy(client.capabilities)
    able.supports_tz_aware_datetime = True
    able.supports_nested_types = False
    return able


def borrowed_duckdb(client: JobClientBase) -> tuple[Any, Callable[[], object]] | None:
    """Return a connection to the DuckDB database that is the destination, and what closes it.

    It stays open when the client's own is closed, with the connections that were made of that. None
    where the destination is something else, such as files that DuckDB reads.
    """
    if not isinstance(client, SqlJobClientBase):
        return None
    pool = getattr(client.config.credentials, "conn_pool", None)
    if client.capabilities.sqlglot_dialect != "duckdb" or pool is None:
        return None
    connection = pool.borrow_conn()
    return connection, partial(pool.return_conn, connection)


def rows_of(client: SqlClientBase[Any], sql: str, values: tuple[Any, ...]) -> Iterator[Any]:
    """Yield what a query finds: tables of Arrow where the driver makes them, else lists of rows.

    The driver of PostgreSQL fetches everything at once, unless the cursor has a name.
    """
    native = client.native_connection
    if type(native).__module__.startswith("psycopg2"):
        with client.begin_transaction(), native.cursor(name="dagster_dlt") as cursor:
            cursor.execute(sql, values or None)
            while rows := cursor.fetchmany(_AT_ONCE):
                yield rows
        return
    with client.execute_query(sql, *values) as cursor:
        if type(native).__module__.lstrip("_").startswith("duckdb"):
            yield from cursor.iter_arrow(_AT_ONCE * 10)
            return
        while rows := cursor.fetchmany(_AT_ONCE):
            yield rows
