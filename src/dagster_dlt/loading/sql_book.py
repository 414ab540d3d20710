"""A ledger's entries at a destination with SQL: a small table beside `_dlt_loads`."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Final

from dlt.common.data_types import TDataType
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseException, DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.loading.book import TABLE, as_noted
from dagster_dlt.loading.entry import COLUMNS, NUMBERS, RANGE, TEXTS, Entry, Status
from dagster_dlt.loading.machine import machine
from dagster_dlt.loading.sql_undo import SqlUndo
from dagster_dlt.loading.turns import Turn

#: Times that the table is created where others create it, or its dataset, at the same moment.
_TRIES: Final = 5


class SqlBook:
    """The table with the entries.

    Args:
        connect: Makes a client of the destination, for a schema that has the table.
        turn: The right to open the destination.
    """

    def __init__(self, connect: Callable[[], SqlJobClientBase], turn: Turn) -> None:
        self._connect = connect
        #: The one client, which loads of several threads share.
        self.client = client = connect()
        self._turn = turn
        self._in_use = threading.RLock()
        self._is_open = False
        sql, naming = client.sql_client, client.schema.naming
        self._table = sql.make_qualified_table_name(TABLE)
        #: Quoted names of the columns.
        self.column = {
            name: sql.escape_column_name(naming.normalize_path(name)) for name in COLUMNS
        }
        self._loads = sql.make_qualified_table_name(client.schema.loads_table_name)
        self._loads_id, self._loads_time = (
            sql.escape_column_name(naming.normalize_path(name))
            for name in ("load_id", "inserted_at")
        )

    @classmethod
    def of(cls, pipeline: Pipeline, schema: Schema, turn: Turn) -> "SqlBook":
        """Return the book at the destination of `pipeline`, for a schema that tells the naming."""
        columns: dict[str, TDataType] = {
            **dict.fromkeys(TEXTS, "text"),
            **dict.fromkeys(NUMBERS, "bigint"),
        }
        return cls(lambda: _dlt.client_with_table(pipeline, schema, TABLE, columns), turn)

    @contextmanager
    def connected(self) -> Iterator[SqlJobClientBase]:
        """Hold the one connection; may be nested."""
        with self._turn, self._in_use:
            if self._is_open:
                yield self.client
                return
            with self._turn.open(self.client):
                self._is_open = True
                try:
                    yield self.client
                finally:
                    self._is_open = False

    def undo(self, _schema_name: str) -> SqlUndo:
        """Return what deletes rows, see `Book`."""
        return SqlUndo(self.client)

    # --- reading -------------------------------------------------------------------------------

    def loads(self, pipeline: str, since: float) -> list[Entry]:
        """Return loads of a pipeline, see `Book`."""
        column = self.column
        with self.connected():
            return self.read(
                f"{column['pipeline_name']} = %s AND {column['status']} <> 'lease' AND "
                f"({column['status']} IN ('loading', 'undoing') OR {column['started_at']} > %s)",
                pipeline,
                int(since * 1000),
            )

    def leases(self) -> list[Entry]:
        """Return leases, see `Book`."""
        with self.connected():
            return self.read(f"{self.column['status']} = 'lease'")

    def going_on(self) -> list[Entry]:
        """Return the loads that are not over, see `Book`."""
        with self.connected():
            found = self.read(f"{self.column['status']} = 'loading'")
        return [each for each in found if each.status == "loading"]

    def earlier(self, pipeline: str, partition: str) -> list[Entry]:
        """Return what was loaded of a partition or range, see `Book`."""
        column, likes = self.column, f"%{RANGE}%" if RANGE not in partition else "%_%"
        with self.connected():
            return self.read(
                f"{column['pipeline_name']} = %s AND {column['status']} IN ('committed', 'loading')"
                f" AND ({column['partition_key']} = %s OR {column['partition_key']} LIKE %s)",
                pipeline,
                partition,
                likes,
            )

    def known(self, load_ids: Collection[str]) -> list[Entry]:
        """Return loads by their ids, see `Book`."""
        if not load_ids:
            return []
        marks = ", ".join(["%s"] * len(load_ids))
        with self.connected():
            return self.read(f"{self.column['load_id']} IN ({marks})", *load_ids)

    def read(self, condition: str, *values: str | int) -> list[Entry]:
        """Return the entries that fulfil a condition; takes a connection."""
        names = ", ".join(self.column.values())
        query = f"SELECT {names} FROM {self._table} WHERE {condition}"  # noqa: S608 - quoted names
        try:
            rows = self.client.sql_client.execute_sql(query, *values) or []
        except DatabaseUndefinedRelation:
            return []
        found = [*map(Entry.of, rows)]
        open_ones = sorted(each.load_id for each in found if each.status == "loading")
        return as_noted(found, self._committed(open_ones))

    def _committed(self, load_ids: Sequence[str]) -> dict[str, float]:
        """Return which of these loads dlt has noted as committed, and when."""
        if not load_ids:
            return {}
        marks = ", ".join(["%s"] * len(load_ids))
        query = (
            f"SELECT {self._loads_id}, {self._loads_time} FROM {self._loads} "  # noqa: S608 - quoted
            f"WHERE {self._loads_id} IN ({marks})"
        )
        try:
            rows = self.client.sql_client.execute_sql(query, *load_ids) or []
        except DatabaseUndefinedRelation:
            return {}
        return {str(load_id): _seconds(moment) for load_id, moment in rows}

    # --- writing -------------------------------------------------------------------------------

    def write(self, entry: Entry) -> None:
        """Write an entry, in place of what there was for its package."""
        with self.connected():
            for _ in range(_TRIES):
                with suppress(DatabaseUndefinedRelation):
                    self._replace(entry)
                    return
                with suppress(DatabaseException):  # another load creates it at this moment
                    _dlt.create_table(self.client, TABLE)
            self._replace(entry)

    def _replace(self, entry: Entry) -> None:
        sql, column = self.client.sql_client, self.column
        delete = f"DELETE FROM {self._table} WHERE {column['load_id']} = %s"  # noqa: S608 - quoted
        names, marks = ", ".join(column.values()), ", ".join(["%s"] * len(column))
        with _dlt.transaction(self.client):
            sql.execute_sql(delete, entry.load_id)
            sql.execute_sql(
                f"INSERT INTO {self._table} ({names}) VALUES ({marks})",  # noqa: S608 - quoted
                *entry.values(),
            )

    def note(self, entry: Entry) -> None:
        """Note more of something that goes on."""
        with self.connected():
            own = replace(entry, machine=entry.machine or machine())
            self.set(entry.load_id, facts=own.facts)

    def beat(self, entry: Entry, moment: float) -> None:
        """Note a sign of life, through a connection of its own: dlt may be busy with the other."""
        with self._connect() as client:
            self.set(entry.load_id, client, beat_at=int(moment * 1000))

    def change(self, entry: Entry, before: Status, after: Status, moment: float) -> str | None:
        """Change the status of a load unless somebody was faster; return what it is then."""
        status = self.column["status"]
        with self.connected():
            if after == "undoing" and self._committed([entry.load_id]):
                return "committed"
            self.set(
                entry.load_id,
                where=f"{status} = '{before}'",
                status=after,
                beat_at=int(moment * 1000),
            )
            rows = self.client.sql_client.execute_sql(
                f"SELECT {status} FROM {self._table} "  # noqa: S608 - quoted names
                f"WHERE {self.column['load_id']} = %s",
                entry.load_id,
            )
        return str(rows[0][0]) if rows else None

    def settle(self, entry: Entry, status: Status) -> None:
        """Give a committed load another status, see `Book`."""
        with self.connected():
            self.set(entry.load_id, status=status)

    def remove(self, entry: Entry) -> None:
        """Remove an entry."""
        with self.connected(), suppress(DatabaseUndefinedRelation):
            self.client.sql_client.execute_sql(
                f"DELETE FROM {self._table} WHERE {self.column['load_id']} = %s",  # noqa: S608 - quoted
                entry.load_id,
            )

    def set(
        self,
        load_id: str,
        client: SqlJobClientBase | None = None,
        where: str | None = None,
        **values: str | int,
    ) -> None:
        """Change columns of an entry; takes a connection."""
        column = self.column
        changes = ", ".join(f"{column[name]} = %s" for name in values)
        (client or self.client).sql_client.execute_sql(
            f"UPDATE {self._table} SET {changes} "  # noqa: S608 - quoted names
            f"WHERE {column['load_id']} = %s{f' AND {where}' if where else ''}",
            *values.values(),
            load_id,
        )


def _seconds(moment: object) -> float:
    """Return seconds since 1970 of a time that a destination gives, as such or as text, in UTC."""
    known = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
    return (known if known.tzinfo else known.replace(tzinfo=timezone.utc)).timestamp()
