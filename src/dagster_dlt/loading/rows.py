"""Rows that loads have sent to a destination with SQL, and that can be taken back there."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from time import time

from filelock import Timeout

from dagster_dlt._facts import Chain
from dagster_dlt.loading.entry import RANGE, TAKEN_BACK, Entry
from dagster_dlt.loading.machine import machine
from dagster_dlt.loading.sql_book import SqlBook
from dagster_dlt.loading.undo import count, delete_orphans, orphans, undo, undo_some
from dagster_dlt.loading.windows import stored_inside


class Rows:
    """What the entries of one pipeline say of rows, and what becomes of these.

    Args:
        book: The entries.
        pipeline: Name of the pipeline.
        holding: Keeps others from taking a load for dead, and fails if somebody else does so.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        book: SqlBook,
        pipeline: str,
        *,
        holding: Callable[[str], AbstractContextManager[None]],
        clock: Callable[[], float] = time,
    ) -> None:
        self._book = book
        self._pipeline = pipeline
        self._holding = holding
        self._clock = clock

    def of(self, entry: Entry) -> dict[str, int]:
        """Return the rows that `take_back` would take, by table."""
        with self._book.connected() as client:
            return count(client, entry.load_id, entry.chains)

    def committed(self, partition: str) -> list[Entry]:
        """Return what was ever committed of a partition or range, and of all that may overlap it.

        Those are the ranges, for a single partition, and everything for a range.
        """
        column, likes = self._book.column, f"%{RANGE}%" if RANGE not in partition else "%_%"
        with self._book.connected():
            found = self._book.read(
                f"{column['pipeline_name']} = %s AND {column['status']} IN ('committed', 'loading')"
                f" AND ({column['partition_key']} = %s OR {column['partition_key']} LIKE %s)",
                self._pipeline,
                partition,
                likes,
            )
        # One whose process died before it could say so is known from dlt's own note.
        return [entry for entry in found if entry.status == "committed"]

    def take_back(self, entry: Entry) -> int | None:
        """Take back the rows of a dead load, after noting it; return how many were deleted.

        Nothing is done, and None returned, where the load turns out to be alive on this machine,
        or over. Nested rows without a parent stay while another load of their tables is not over,
        which they may be the beginning of: they belong to no row, and are deleted another time.
        """
        try:
            with self._holding(entry.load_id):
                status = self._book.change(entry, "loading", "undoing", self._clock())
                if status not in TAKEN_BACK:
                    return None
                rows = self.take_back_again(entry)
                if entry.staging:
                    self.drop(entry.staging)
                return rows + self._sweep(entry)
        except Timeout:
            return None

    def take_back_again(self, entry: Entry) -> int:
        """Take back what a load has sent since its rows were taken back; return how many."""
        with self._book.connected() as client:
            return undo(client, entry.load_id, entry.chains)

    def _sweep(self, entry: Entry) -> int:
        with self._book.connected() as client:
            # In this order: a load that is noted after they were found has sent none of them.
            found = orphans(client, entry.chains)
            if found and self._is_busy(found):
                return 0
            deleted = delete_orphans(client, entry.chains, found)
        self._book.change(entry, "undoing", "undone", self._clock())
        return deleted

    def _is_busy(self, tables: Iterable[str]) -> bool:
        """Tell whether a load that is not over adds rows to these tables, in whatever pipeline."""
        wanted = set(tables)
        return any(
            entry.status == "loading" and wanted.intersection(chain.names)
            for entry in self._book.read(f"{self._book.column['status']} = 'loading'")
            for chain in entry.chains
        )

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
        with self._book.connected() as client:
            deleted = sum(undo(client, each, renewed) for each in entry.replaces)
            deleted += self._remove_within(entry, renewed)
            if entry.replaces:
                condition = f"{self._book.column['load_id']} IN ({marks})"
                for each in self._book.read(condition, *entry.replaces):
                    if {*each.resources} <= resources:
                        self._book.set(each.load_id, status="replaced")
            self._book.set(entry.load_id, facts=over.facts)
        return deleted

    def _remove_within(self, entry: Entry, renewed: Sequence[Chain]) -> int:
        deleted, window = 0, entry.loader.window
        for chain in renewed:
            if window and chain.resource in entry.told_by:
                column, kind = entry.told_by[chain.resource]
                is_inside = partial(stored_inside, window, kind)
                for each in entry.replaces_within:
                    deleted += undo_some(self._book.client, each, chain, column, is_inside)
        return deleted

    def drop(self, dataset: str) -> None:
        """Drop a staging dataset that one load had for itself, if it is there."""
        with self._book.connected() as client:
            sql = client.sql_client
            with sql.with_alternative_dataset_name(dataset):
                if sql.has_dataset():
                    sql.drop_dataset()
