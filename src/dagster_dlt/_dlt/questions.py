"""SQL questions to a destination, in one session."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dlt.common.destination.client import JobClientBase, WithStateSync
from dlt.common.schema import Schema
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase, WithSchemas, WithSqlClient
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.destinations import client_of


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
            yield client.sql_client, _stored_schema(client, schema.name) if stored else None
        return
    if not isinstance(client, WithSqlClient):
        message = f"a destination of type {pipeline.destination.destination_type!r} takes no SQL"
        raise TypeError(message)
    found = _stored_schema(client, schema.name) if stored else None
    sql = client.sql_client
    if isinstance(sql, WithSchemas):
        # Tables are those of schemas here; what is asked may refer to those of other sources.
        names = [name for name in pipeline.schema_names if name != schema.name]
        sql.set_schemas([found or schema, *(pipeline.schemas[name] for name in names)])
    with sql:
        yield sql, found


def _stored_schema(client: JobClientBase, name: str) -> Schema | None:
    """Return the schema of a name that the last load has stored at the destination."""
    if not isinstance(client, WithStateSync):
        return None
    try:
        found = client.get_stored_schema(name)
    except Exception:  # noqa: BLE001 - destinations without a table say so in their own ways
        return None
    return Schema.from_stored_schema(json.loads(found.schema)) if found else None


def limited(sql: SqlClientBase[Any], query: str, rows: int) -> str:
    """Return a query, which begins with SELECT, for its first rows."""
    first, last = sql._limit_clause_sql(rows)
    return " ".join(filter(None, ["SELECT", first, query.removeprefix("SELECT "), last]))
