"""What loads have committed to a destination with their rows: the pipeline's state, and schemas."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from dlt.common.destination.client import JobClientBase
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_LOAD_ID
from dlt.common.versioned_state import decompress_state
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.impl.filesystem.filesystem import FILENAME_SEPARATOR, FilesystemClient
from dlt.destinations.job_client_impl import SqlJobClientBase


class Stored(Protocol):
    """States and schemas at a destination."""

    def restored_load(self, pipeline: str) -> str | None:
        """Return the load whose state dlt restores: the newest one that has committed a state."""
        ...

    def states_after(self, pipeline: str, load_id: str) -> list[str]:
        """Return the loads that have committed a state and are newer than `load_id`."""
        ...

    def states(self, pipeline: str, load_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the state that each of these loads has committed, if it did."""
        ...

    def schemas(self, loads: Mapping[str, str]) -> list[Schema]:
        """Return the schemas that loads have stored, by load and name of the schema."""
        ...

    def store_again(self, schema: Schema) -> None:
        """Make a schema the newest one of its name, if it is stored already."""
        ...


def stored_at(client: JobClientBase) -> Stored | None:
    """Return what is stored at the destination of `client`, if loads store anything there."""
    if isinstance(client, SqlJobClientBase):
        return SqlStored(client)
    return FilesStored(client) if isinstance(client, FilesystemClient) else None


class SqlStored:
    """Tables with states and schemas."""

    def __init__(self, client: SqlJobClientBase) -> None:
        self._client = client
        sql, schema = client.sql_client, client.schema
        self._states = sql.make_qualified_table_name(schema.state_table_name)
        self._loads = sql.make_qualified_table_name(schema.loads_table_name)

    def _columns(self, *names: str) -> list[str]:
        client = self._client
        return [
            client.sql_client.escape_column_name(client.schema.naming.normalize_identifier(name))
            for name in names
        ]

    def restored_load(self, pipeline: str) -> str | None:
        """Return the load whose state dlt restores."""
        with self._client as client:
            try:
                stored = client.get_stored_state(pipeline)
            except DatabaseUndefinedRelation:
                return None
        return stored._dlt_load_id if stored else None

    def states_after(self, pipeline: str, load_id: str) -> list[str]:
        """Return the loads that have committed a state later than one."""
        load, name, id_, status = self._columns(C_DLT_LOAD_ID, "pipeline_name", "load_id", "status")
        query = (
            f"SELECT s.{load} FROM {self._states} s "  # noqa: S608 - quoted names
            f"JOIN {self._loads} l ON l.{id_} = s.{load} "
            f"WHERE s.{name} = %s AND l.{status} = 0 AND s.{load} > %s"
        )
        with self._client as client:
            rows = client.sql_client.execute_sql(query, pipeline, load_id) or []
        return [str(row[0]) for row in rows]

    def states(self, _pipeline: str, load_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the states that loads have committed."""
        load, state = self._columns(C_DLT_LOAD_ID, "state")
        marks = ", ".join(["%s"] * len(load_ids))
        query = f"SELECT {load}, {state} FROM {self._states} WHERE {load} IN ({marks})"  # noqa: S608 - quoted
        with self._client as client:
            try:
                rows = client.sql_client.execute_sql(query, *load_ids) or []
            except DatabaseUndefinedRelation:
                return {}
        return {str(load_id): dict(decompress_state(text)) for load_id, text in rows}

    def schemas(self, loads: Mapping[str, str]) -> list[Schema]:
        """Return the schemas that loads have stored."""
        load, version = self._columns("load_id", "schema_version_hash")
        marks = ", ".join(["%s"] * len(loads))
        query = (
            f"SELECT DISTINCT {version} FROM {self._loads} "  # noqa: S608 - quoted names
            f"WHERE {load} IN ({marks})"
        )
        with self._client as client:
            rows = client.sql_client.execute_sql(query, *loads) or []
            return _schemas(client, (row[0] for row in rows))

    def store_again(self, schema: Schema) -> None:
        """Make a schema the newest one of its name."""
        _store_again(self._client, schema)


class FilesStored:
    """Folders with states and schemas, a file for each."""

    def __init__(self, client: FilesystemClient) -> None:
        self._client = client
        self._listed: list[tuple[str, list[str]]] | None = None

    def restored_load(self, pipeline: str) -> str | None:
        """Return the load whose state dlt restores."""
        return max(self._paths(pipeline), default=None)

    def states_after(self, pipeline: str, load_id: str) -> list[str]:
        """Return the loads that have committed a state later than one."""
        return [each for each in self._paths(pipeline) if each > load_id]

    def states(self, pipeline: str, load_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the states that loads have committed."""
        paths = self._paths(pipeline)
        return {
            each: dict(decompress_state(self._read(paths[each])["state"]))
            for each in load_ids
            if each in paths
        }

    def schemas(self, loads: Mapping[str, str]) -> list[Schema]:
        """Return the schemas that loads have stored."""
        client, hashes = self._client, set[str]()
        for load_id, name in loads.items():
            file = f"{name}{FILENAME_SEPARATOR}{load_id}.jsonl"
            folder = client.get_table_dir(client.schema.loads_table_name)
            with suppress(FileNotFoundError):
                hashes.add(self._read(client.pathlib.join(folder, file))["schema_version_hash"])
        return _schemas(client, hashes)

    def store_again(self, schema: Schema) -> None:
        """Make a schema the newest one of its name."""
        _store_again(self._client, schema)

    def old_states(self, pipeline: str) -> list[str]:
        """Return the loads whose states are more than dlt keeps, which are those begun first."""
        most = self._client.config.max_state_files
        return sorted(self._paths(pipeline), key=float)[:-most] if most > 0 else []

    def remove_states(self, pipeline: str, load_ids: Iterable[str]) -> None:
        """Remove the states of loads."""
        paths = self._paths(pipeline)
        for each in load_ids:
            self._client._delete_file(paths[each])

    def _paths(self, pipeline: str) -> dict[str, str]:
        """Return the files with states of a pipeline by load; listed once."""
        table = self._client.schema.state_table_name
        if self._listed is None:
            try:
                self._listed = list(self._client._list_dlt_table_files(table))
            except DestinationUndefinedEntity:
                return {}
        return {load_id: path for path, (name, load_id, _) in self._listed if name == pipeline}

    def _read(self, path: str) -> dict[str, Any]:
        known: dict[str, Any] = json.loads(self._client.fs_client.cat_file(path))
        return known


def _store_again(client: SqlJobClientBase | FilesystemClient, schema: Schema) -> None:
    """Make a schema the newest one of its name at the destination, if it is stored there.

    dlt stores none a second time, whatever was stored after it.
    """
    with client:
        newest = client.get_stored_schema(schema.name)
        known = client.get_stored_schema_by_hash(schema.stored_version_hash)
        if newest and known and newest.version_hash != known.version_hash:
            client._update_schema_in_storage(schema)


def _schemas(client: SqlJobClientBase | FilesystemClient, hashes: Iterable[str]) -> list[Schema]:
    stored = [client.get_stored_schema_by_hash(each) for each in hashes]
    return [Schema.from_stored_schema(json.loads(each.schema)) for each in stored if each]
