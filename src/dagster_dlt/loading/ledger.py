"""What was started, by whom, and what became of it: a small table beside `_dlt_loads`.

dlt notes a load at the destination when it is committed. A load whose process dies before that, and
whose disk is gone, leaves rows that nothing knows of. So each package is noted here before the
first of its rows is sent, and whoever comes next finds it, on any machine.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import Final

from dlt.common.data_types import TDataType
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DatabaseException, DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.pipeline import Pipeline
from filelock import FileLock, Timeout

from dagster_dlt import _dlt
from dagster_dlt._facts import Chain
from dagster_dlt.errors import LoadTakenBackError
from dagster_dlt.loading.entry import RANGE, TAKEN_BACK, Entry, Loader, Status
from dagster_dlt.loading.machine import machine, sign_of_life
from dagster_dlt.loading.turns import Turn
from dagster_dlt.loading.undo import count, delete_orphans, orphans, undo, undo_some
from dagster_dlt.loading.windows import stored_inside

#: Name of the table. dlt takes what begins with `_dlt` for its own, so nobody loads it as data.
TABLE: Final = "_dlt_dagster_loads"
#: Seconds between two signs of life of a load.
BEAT: Final = 60.0
#: Seconds without a sign of life after which a load of another machine counts as dead.
LEASE: Final = 900.0
#: Seconds for which committed loads are read back: longer than a pending package is kept.
HORIZON: Final = 8 * 24 * 3600.0
#: Times that the table is created where others create it, or its dataset, at the same moment.
_TRIES: Final = 5

_TEXTS: Final = (
    "load_id",
    "pipeline_name",
    "run_id",
    "step_key",
    "partition_key",
    "status",
    "facts",
)
_NUMBERS: Final = ("attempt", "started_at", "beat_at")
_COLUMNS: Final = (*_TEXTS, *_NUMBERS)


class Ledger:
    """The ledger of one pipeline at its destination.

    Args:
        connect: Makes a client of the destination, for a schema that has the ledger's table.
        pipeline: Name of the pipeline.
        turn: The right to open the destination.
        is_over: Tells whether a Dagster run has ended, by its id.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        connect: Callable[[], SqlJobClientBase],
        pipeline: str,
        *,
        turn: Turn,
        is_over: Callable[[str], bool] = lambda _run: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connect = connect
        self._client = client = connect()
        self._pipeline = pipeline
        self._turn = turn
        self._in_use = threading.RLock()
        self._is_open = False
        self._is_over = is_over
        self._clock = clock
        sql, naming = client.sql_client, client.schema.naming
        self._table = sql.make_qualified_table_name(TABLE)
        self._column = {
            name: sql.escape_column_name(naming.normalize_path(name)) for name in _COLUMNS
        }
        self._loads = sql.make_qualified_table_name(client.schema.loads_table_name)
        self._loads_id, self._loads_time = (
            sql.escape_column_name(naming.normalize_path(name))
            for name in ("load_id", "inserted_at")
        )
        #: Loads of this process whose sign of life is given.
        self._held: dict[str, FileLock] = {}

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Hold the one connection, which loads of several threads share; may be nested."""
        with self._turn, self._in_use:
            if self._is_open:
                yield
                return
            with self._turn.open(self._client):
                self._is_open = True
                try:
                    yield
                finally:
                    self._is_open = False

    # --- reading -------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Return the loads that are not over, and those of the last days, oldest first.

        A load that dlt has noted as committed is so here, whatever its process came to say.
        """
        column = self._column
        horizon = int((self._clock() - HORIZON) * 1000)
        with self.connected():
            return self._read(
                f"{column['pipeline_name']} = %s AND {column['status']} <> 'lease' AND "
                f"({column['status']} IN ('loading', 'undoing') OR {column['started_at']} > %s)",
                self._pipeline,
                horizon,
            )

    def committed(self, partition: str) -> list[Entry]:
        """Return what was ever committed of a partition or range, and of all that may overlap it.

        Those are the ranges, for a single partition, and everything for a range.
        """
        column, likes = self._column, f"%{RANGE}%" if RANGE not in partition else "%_%"
        with self.connected():
            return self._read(
                f"{column['pipeline_name']} = %s AND {column['status']} = 'committed' "
                f"AND ({column['partition_key']} = %s OR {column['partition_key']} LIKE %s)",
                self._pipeline,
                partition,
                likes,
            )

    def leases(self) -> list[Entry]:
        """Return the leases that are held or waited for, of all pipelines of the dataset."""
        with self.connected():
            return self._read(f"{self._column['status']} = 'lease'")

    def _read(self, condition: str, *values: str | int) -> list[Entry]:
        names = ", ".join(self._column.values())
        query = f"SELECT {names} FROM {self._table} WHERE {condition}"  # noqa: S608 - quoted names
        try:
            rows = self._client.sql_client.execute_sql(query, *values) or []
        except DatabaseUndefinedRelation:
            return []
        found = sorted(map(Entry.of, rows), key=lambda entry: entry.load_id)
        committed = self._committed([each.load_id for each in found if each.status == "loading"])
        return [
            replace(entry, status="committed", beat_at=committed[entry.load_id])
            if entry.load_id in committed
            else entry
            for entry in found
        ]

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
            rows = self._client.sql_client.execute_sql(query, *load_ids) or []
        except DatabaseUndefinedRelation:
            return {}
        return {str(load_id): _seconds(moment) for load_id, moment in rows}

    def is_dead(self, entry: Entry, loader: Loader) -> bool:
        """Tell whether the process behind a load that is not over has gone.

        On the same machine its lock says so. Elsewhere it is dead if `loader` is a later attempt
        of the same step, if Dagster says that its run has ended, or when it gives no sign of life;
        a destination that is a file is not opened for such signs while it is loaded.
        """
        return self.cause_of_death(entry, loader) is not None

    def cause_of_death(self, entry: Entry, loader: Loader | None = None) -> str | None:
        """Return how it is known that a load is dead, in words; None while it may be alive."""
        if entry.machine == machine():
            return None if sign_of_life(entry.load_id).is_given() else "its process is gone"
        if loader is not None:
            same_step = (entry.loader.run_id, entry.loader.step) == (loader.run_id, loader.step)
            if same_step and entry.loader.attempt < loader.attempt:
                return "its step is tried again"
        if self._is_over(entry.loader.run_id):
            return "its run has ended"
        if not self._turn.is_needed and self._clock() - entry.beat_at > LEASE:
            return "it gives no sign of life"
        return None

    @property
    def takes_turns(self) -> bool:
        """Whether the destination takes one writer at a time, so that loads never overlap there."""
        return self._turn.is_needed

    def rows_of(self, entry: Entry) -> dict[str, int]:
        """Return the rows that `undo` would take back, by table."""
        with self.connected():
            return count(self._client, entry.load_id, entry.chains)

    def alive(self, entry: Entry) -> list[Entry]:
        """Return the other loads that may be going on at this moment."""
        if self._turn.is_needed:
            return []  # it is this one's turn
        return [
            other
            for other in self.entries()
            if other.status == "loading"
            and other.load_id != entry.load_id
            and not self.is_dead(other, entry.loader)
        ]

    # --- writing -------------------------------------------------------------------------------

    @contextmanager
    def holding(self, load_id: str, *, wait: bool = True) -> Iterator[None]:
        """Keep others on this machine from taking a load for dead; may be nested.

        Raises:
            filelock.Timeout: another process has it, which is not to be waited for.
        """
        if load_id in self._held:
            yield
            return
        with sign_of_life(load_id).given(wait=wait) as lock:
            self._held[load_id] = lock
            try:
                yield
            finally:
                del self._held[load_id]

    def let_go(self, entry: Entry) -> None:
        """Let others take an entry of this process for that of a dead one."""
        if lock := self._held.get(entry.load_id):
            lock.release()

    @contextmanager
    def loading(self, entry: Entry, log: logging.Logger) -> Iterator[Entry]:
        """Note a load before its first row is sent, and show that it lives until it is over.

        An error leaves the entry as it is: the load is to be finished, or undone.

        Raises:
            LoadTakenBackError: another process took it for dead, and its rows back.
        """
        with self.living(replace(entry, status="loading")) as noted:
            yield noted
            try:
                status = self._change(entry.load_id, "loading", "committed")
            except DatabaseException as error:
                # dlt's own note is what counts; the next run takes it from there.
                log.warning("The ledger does not say that %s is over: %s", entry.load_id, error)
                return
            if status in TAKEN_BACK:
                # With its cursors, and what it has sent since: so it is as if it had never been.
                with self.connected():
                    undo(self._client, entry.load_id, entry.chains)
                raise LoadTakenBackError(entry.load_id, entry.resources)

    @contextmanager
    def living(self, entry: Entry) -> Iterator[Entry]:
        """Write an entry, and show that its process lives until the block ends."""
        now = self._clock()
        entry = replace(entry, machine=machine(), started_at=now, beat_at=now)
        with self.holding(entry.load_id):
            self.write(entry)
            over = threading.Event()
            beats = threading.Thread(
                target=self._beat, args=(entry.load_id, over), daemon=True, name="dagster-dlt-beat"
            )
            if not self._turn.is_needed:
                beats.start()
            try:
                yield entry
            finally:
                over.set()
                if beats.is_alive():
                    beats.join()

    def write(self, entry: Entry) -> None:
        """Write an entry, in place of what there was for its package."""
        with self.connected():
            for _ in range(_TRIES):
                with suppress(DatabaseUndefinedRelation):
                    self._replace(entry)
                    return
                with suppress(DatabaseException):  # another load creates it at this moment
                    _dlt.create_table(self._client, TABLE)
            self._replace(entry)

    def _replace(self, entry: Entry) -> None:
        sql, column = self._client.sql_client, self._column
        delete = f"DELETE FROM {self._table} WHERE {column['load_id']} = %s"  # noqa: S608 - quoted
        names, marks = ", ".join(column.values()), ", ".join(["%s"] * len(column))
        with _dlt.transaction(self._client):
            sql.execute_sql(delete, entry.load_id)
            sql.execute_sql(
                f"INSERT INTO {self._table} ({names}) VALUES ({marks})",  # noqa: S608 - quoted
                *entry.values(),
            )

    def note(self, entry: Entry) -> None:
        """Note more of a load that is going on."""
        with self.connected():
            self._set(entry.load_id, facts=replace(entry, machine=machine()).facts)

    def remove(self, entry: Entry) -> None:
        """Remove an entry."""
        with self.connected(), suppress(DatabaseUndefinedRelation):
            self._client.sql_client.execute_sql(
                f"DELETE FROM {self._table} WHERE {self._column['load_id']} = %s",  # noqa: S608 - quoted
                entry.load_id,
            )

    def undo(self, entry: Entry) -> int | None:
        """Take back the rows of a dead load, after noting it; return how many were deleted.

        Nothing is done, and None returned, where the load turns out to be alive on this machine,
        or over. Nested rows without a parent stay while another load of their tables is not over,
        which they may be the beginning of: they belong to no row, and are deleted another time.
        """
        load_id = entry.load_id
        try:
            with self.holding(load_id, wait=False):
                if self._change(load_id, "loading", "undoing") not in TAKEN_BACK:
                    return None
                with self.connected():
                    rows = undo(self._client, load_id, entry.chains)
                if entry.staging:
                    self.drop(entry.staging)
                return rows + self._sweep(entry)
        except Timeout:
            return None

    def _sweep(self, entry: Entry) -> int:
        with self.connected():
            # In this order: a load that is noted after they were found has sent none of them.
            found = orphans(self._client, entry.chains)
            if found and self._is_busy(found):
                return 0
            deleted = delete_orphans(self._client, entry.chains, found)
        self._change(entry.load_id, "undoing", "undone")
        return deleted

    def remove_replaced(self, entry: Entry) -> int:
        """Remove the rows that a committed load replaces; return how many. May be done twice."""
        renewed = [chain for chain in entry.renewed if chain.resource not in entry.failed]
        resources = {chain.resource for chain in renewed}
        marks = ", ".join(["%s"] * len(entry.replaces))
        over = replace(
            entry,
            replaces=(),
            replaces_within=(),
            renewed=(),
            told_by={},
            machine=entry.machine or machine(),
        )
        with self.connected():
            deleted = sum(undo(self._client, each, renewed) for each in entry.replaces)
            deleted += self._remove_within(entry, renewed)
            if entry.replaces:
                condition = f"{self._column['load_id']} IN ({marks})"
                for each in self._read(condition, *entry.replaces):
                    if {*each.resources} <= resources:
                        self._set(each.load_id, status="replaced")
            self._set(entry.load_id, facts=over.facts)
        return deleted

    def _remove_within(self, entry: Entry, renewed: Sequence[Chain]) -> int:
        deleted, window = 0, entry.loader.window
        for chain in renewed:
            if window and chain.resource in entry.told_by:
                column, kind = entry.told_by[chain.resource]
                is_inside = partial(stored_inside, window, kind)
                for each in entry.replaces_within:
                    deleted += undo_some(self._client, each, chain, column, is_inside)
        return deleted

    def drop(self, dataset: str) -> None:
        """Drop a staging dataset that one load had for itself, if it is there."""
        sql = self._client.sql_client
        with self.connected(), sql.with_alternative_dataset_name(dataset):
            if sql.has_dataset():
                sql.drop_dataset()

    def _is_busy(self, tables: Iterable[str]) -> bool:
        """Tell whether a load that is not over adds rows to these tables, in whatever pipeline."""
        wanted = set(tables)
        return any(
            entry.status == "loading" and wanted.intersection(chain.names)
            for entry in self._read(f"{self._column['status']} = 'loading'")
            for chain in entry.chains
        )

    def _change(self, load_id: str, before: Status, after: Status) -> str | None:
        """Change the status of a load unless somebody was faster; return what it is then."""
        status, now = self._column["status"], int(self._clock() * 1000)
        with self.connected():
            if after == "undoing" and self._committed([load_id]):
                return "committed"
            self._set(load_id, where=f"{status} = '{before}'", status=after, beat_at=now)
            rows = self._client.sql_client.execute_sql(
                f"SELECT {status} FROM {self._table} "  # noqa: S608 - quoted names
                f"WHERE {self._column['load_id']} = %s",
                load_id,
            )
        return str(rows[0][0]) if rows else None

    def _beat(self, load_id: str, over: threading.Event) -> None:
        while not over.wait(BEAT):
            # With a connection of its own, since dlt may be busy with the other one. A beat that is
            # missed costs nothing: the lease is many beats long.
            with suppress(Exception), self._connect() as client:
                self._set(load_id, client, beat_at=int(self._clock() * 1000))

    def _set(
        self,
        load_id: str,
        client: SqlJobClientBase | None = None,
        where: str | None = None,
        **values: str | int,
    ) -> None:
        column = self._column
        changes = ", ".join(f"{column[name]} = %s" for name in values)
        (client or self._client).sql_client.execute_sql(
            f"UPDATE {self._table} SET {changes} "  # noqa: S608 - quoted names
            f"WHERE {column['load_id']} = %s{f' AND {where}' if where else ''}",
            *values.values(),
            load_id,
        )


def ledger_of(
    pipeline: Pipeline,
    turn: Turn,
    *,
    schema: Schema | None = None,
    is_over: Callable[[str], bool] = lambda _run: False,
) -> Ledger | None:
    """Return the ledger at the destination of `pipeline`, or None where there can be none.

    It takes SQL, and deletes: files and sinks have neither.

    Args:
        pipeline: The pipeline.
        turn: The right to open the destination.
        schema: Schema of the source, whose naming tells how tables are called.
        is_over: Tells whether a Dagster run has ended, by its id.
    """
    if not _dlt.can_take_rows_back(pipeline):
        return None
    columns: dict[str, TDataType] = {
        **dict.fromkeys(_TEXTS, "text"),
        **dict.fromkeys(_NUMBERS, "bigint"),
    }
    # Looked up once: the directory of the pipeline may be gone when the next client is made.
    naming = schema or _dlt.any_schema(pipeline)
    return Ledger(
        lambda: _dlt.client_with_table(pipeline, naming, TABLE, columns),
        pipeline.pipeline_name,
        turn=turn,
        is_over=is_over,
    )


def _seconds(moment: object) -> float:
    """Return seconds since 1970 of a time that a destination gives, as such or as text, in UTC."""
    known = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
    return (known if known.tzinfo else known.replace(tzinfo=timezone.utc)).timestamp()
