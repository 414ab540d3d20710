"""SQL questions to a destination, in one session."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dlt.common.schema import Schema
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase, WithSchemas, WithSqlClient
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.destinations import client_of
from dagster_dlt._dlt.reading import stored_schema


@contextmanager
def asked(
    pipeline: Pipeline,
    schema: Schema,
    opened: Callable[[SqlJobClientBase], AbstractContextManager[None]],
    *,
    stored: bool,
) -> Iterator[tuple[SqlClientBase[Any], Schema | None]]:
    """Open a session at the destination of a pipeline, and return what is asked in it.

    Args:
        pipeline: The pipeline.
        schema: The schema whose tables are asked for.
        opened: Opens the connection of a database.
        stored: Whether the destination is asked for the schema that it has, which is returned too.

    Raises:
        TypeError: the destination takes no SQL.
    """
    client = client_of(pipeline, schema)
    if isinstance(client, SqlJobClientBase):
        with opened(client):
            yield client.sql_client, stored_schema(client, schema.name) if stored else None
        return
    if not isinstance(client, WithSqlClient):
        message = f"a destination of type {pipeline.destination.destination_type!r} takes no SQL"
        raise TypeError(message)
    found = stored_schema(client, schema.name) if stored else None
    sql = client.sql_client
    if isinstance(sql, WithSchemas):
        # Tables are those of schemas here; what is asked may refer to those of other sources.
        names = [name for name in pipeline.schema_names if name != schema.name]
        sql.set_schemas([found or schema, *(pipeline.schemas[name] for name in names)])
    with sql:
        yield sql, found


def limited(sql: SqlClientBase[Any], query: str, rows: int) -> str:
    """Return a query, which begins with SELECT, for its first rows."""
    first, last = sql._limit_clause_sql(rows)
    return " ".join(filter(None, ["SELECT", first, query.removeprefix("SELECT "), last]))
