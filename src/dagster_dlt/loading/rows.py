"""Rows that loads have sent to a destination, and that can be taken back there."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from time import time

from filelock import Timeout

from dagster_dlt._facts import Chain
from dagster_dlt.loading.book import Book
from dagster_dlt.loading.entry import TAKEN_BACK, Entry
from dagster_dlt.loading.machine import machine
from dagster_dlt.loading.taken import Taken
from dagster_dlt.loading.undo import Undo
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
        book: Book,
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
        with self._book.connected():
            return self._book.undo(entry.schema).count(entry.load_id, entry.chains)

    def committed(self, partition: str) -> list[Entry]:
        """Return what was ever committed of a partition or range, and of all that may overlap it.

        Those are the ranges, for a single partition, and everything for a range.
        """
        with self._book.connected():
            found = self._book.earlier(self._pipeline, partition)
        # One whose process died before it could say so is known from dlt's own note.
        return [entry for entry in found if entry.status == "committed"]

    def take_back(self, entry: Entry) -> Taken | None:
        """Take back the rows of a dead load, after noting it; return how much.

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

    def take_back_again(self, entry: Entry) -> Taken:
        """Take back what a load has sent since its rows were taken back; return how much."""
        with self._book.connected():
            return self._book.undo(entry.schema).undo(entry.load_id, entry.chains)

    def _sweep(self, entry: Entry) -> Taken:
        undo = self._book.undo(entry.schema)
        with self._book.connected():
            # In this order: a load that is noted after they were found has sent none of them.
            found = undo.orphans(entry.chains)
            if found and self._is_busy(found):
                return Taken()
            deleted = undo.delete_orphans(entry.chains, found)
        self._book.change(entry, "undoing", "undone", self._clock())
        return deleted

    def _is_busy(self, tables: Iterable[str]) -> bool:
        """Tell whether a load that is not over adds rows to these tables, in whatever pipeline."""
        wanted = set(tables)
        return any(
            wanted.intersection(chain.names)
            for entry in self._book.going_on()
            for chain in entry.chains
        )

    def remove_replaced(self, entry: Entry) -> Taken:
        """Remove the rows that a committed load replaces; return how many. May be done twice."""
        renewed = [chain for chain in entry.renewed if chain.resource not in entry.failed]
        resources = {chain.resource for chain in renewed}
        undo = self._book.undo(entry.schema)
        over = replace(
            entry,
            replaces=(),
            replaces_within=(),
            renewed=(),
            told_by={},
            machine=entry.machine or machine(),
        )
        with self._book.connected():
            taken = sum((undo.undo(each, renewed) for each in entry.replaces), Taken())
            taken += self._remove_within(undo, entry, renewed)
            for each in self._book.known(entry.replaces):
                if {*each.resources} <= resources:
                    self._book.settle(each, "replaced")
            self._book.note(over)
        return taken

    def _remove_within(self, undo: Undo, entry: Entry, renewed: Sequence[Chain]) -> Taken:
        taken, window = Taken(), entry.loader.window
        for chain in renewed:
            if window and chain.resource in entry.told_by:
                column, kind = entry.told_by[chain.resource]
                is_inside = partial(stored_inside, window, kind)
                for each in entry.replaces_within:
                    taken += undo.undo_some(each, chain, column, is_inside)
        return taken

    def drop(self, dataset: str) -> None:
        """Drop a staging dataset that one load had for itself, if it is there."""
        with self._book.connected():
            self._book.undo("").drop(dataset)
