"""What was started, by whom, and what became of it: a small book beside dlt's own notes.

dlt notes a load at the destination when it is committed. A load whose process dies before that, and
whose disk is gone, leaves rows that nothing knows of. So each package is noted here before the
first of its rows is sent, and whoever comes next finds it, on any machine.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Final

from dlt.common.destination.exceptions import DestinationException
from dlt.common.schema import Schema
from dlt.pipeline.pipeline import Pipeline
from filelock import FileLock

from dagster_dlt import _dlt
from dagster_dlt.errors import LoadTakenBackError
from dagster_dlt.loading.book import Book
from dagster_dlt.loading.entry import TAKEN_BACK, Entry, Loader
from dagster_dlt.loading.files_book import FilesBook
from dagster_dlt.loading.life import beating, cause_of_death
from dagster_dlt.loading.machine import machine, sign_of_life
from dagster_dlt.loading.rows import Rows
from dagster_dlt.loading.sql_book import SqlBook
from dagster_dlt.loading.turns import Turn

#: Seconds for which committed loads are read back: longer than a pending package is kept.
HORIZON: Final = 8 * 24 * 3600.0


class Ledger:
    """The ledger of one pipeline at its destination.

    Args:
        book: What it is written in.
        pipeline: Name of the pipeline.
        turn: The right to open the destination.
        is_over: Tells whether a Dagster run has ended, by its id.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        book: Book,
        pipeline: str,
        *,
        turn: Turn,
        is_over: Callable[[str], bool] = lambda _run: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._pipeline = pipeline
        self._turn = turn
        self._is_over = is_over
        self._clock = clock
        #: Loads of this process whose sign of life is given.
        self._held: dict[str, FileLock] = {}
        holding = partial(self.holding, wait=False)
        #: What can be taken back.
        self.rows = Rows(book, pipeline, holding=holding, clock=clock)

    def connected(self) -> AbstractContextManager[object]:
        """Hold what several questions take, so that it is not opened for each; may be nested."""
        return self._book.connected()

    # --- reading -------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Return the loads that are not over, and those of the last days, oldest first.

        A load that dlt has noted as committed is so here, whatever its process came to say.
        """
        return self._book.loads(self._pipeline, self._clock() - HORIZON)

    def leases(self) -> list[Entry]:
        """Return the leases that are held or waited for, of all pipelines of the dataset."""
        return self._book.leases()

    def is_dead(self, entry: Entry, loader: Loader) -> bool:
        """Tell whether the process behind a load that is not over has gone.

        A destination that is a file is not opened for signs of life while it is loaded.
        """
        return self.cause_of_death(entry, loader) is not None

    def cause_of_death(self, entry: Entry, loader: Loader | None = None) -> str | None:
        """Return how it is known that a load is dead, in words; None while it may be alive."""
        now = None if self._turn.is_needed else self._clock()
        return cause_of_death(entry, loader, is_over=self._is_over, now=now)

    @property
    def takes_turns(self) -> bool:
        """Whether the destination takes one writer at a time, so that loads never overlap there."""
        return self._turn.is_needed

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
                status = self._book.change(noted, "loading", "committed", self._clock())
            except DestinationException as error:
                # dlt's own note is what counts; the next run takes it from there.
                log.warning("The ledger does not say that %s is over: %s", entry.load_id, error)
                return
            if status in TAKEN_BACK:
                # With its cursors, and what it has sent since: so it is as if it had never been.
                self.rows.take_back_again(entry)
                raise LoadTakenBackError(entry.load_id, entry.resources)

    @contextmanager
    def living(self, entry: Entry) -> Iterator[Entry]:
        """Write an entry, and show that its process lives until the block ends."""
        now = self._clock()
        entry = replace(entry, machine=machine(), started_at=now, beat_at=now)
        with self.holding(entry.load_id):
            self.write(entry)
            beat = partial(self._beat, entry)
            with nullcontext() if self._turn.is_needed else beating(beat):
                yield entry

    def conclude(self, entry: Entry) -> None:
        """Note that a load is committed, in place of its process; when, dlt has noted."""
        self._book.change(entry, "loading", "committed", entry.beat_at)

    def write(self, entry: Entry) -> None:
        """Write an entry, in place of what there was for its package."""
        self._book.write(entry)

    def note(self, entry: Entry) -> None:
        """Note more of a load that is going on."""
        self._book.note(entry)

    def remove(self, entry: Entry) -> None:
        """Remove an entry."""
        self._book.remove(entry)

    def _beat(self, entry: Entry) -> None:
        self._book.beat(entry, self._clock())


def ledger_of(
    pipeline: Pipeline,
    turn: Turn,
    *,
    schema: Schema | None = None,
    is_over: Callable[[str], bool] = lambda _run: False,
) -> Ledger | None:
    """Return the ledger at the destination of `pipeline`, or None where there can be none.

    It takes SQL that deletes, or files on a disk or in an object store.

    Args:
        pipeline: The pipeline.
        turn: The right to open the destination.
        schema: Schema of the source, whose naming tells how tables are called.
        is_over: Tells whether a Dagster run has ended, by its id.
    """
    # Looked up once: the directory of the pipeline may be gone when the next client is made.
    known = schema or _dlt.any_schema(pipeline)
    book: Book
    if _dlt.takes_sql_that_deletes(pipeline):
        book = SqlBook.of(pipeline, known, turn)
    elif files := _dlt.files_of(pipeline, known):
        book = FilesBook(files)
    else:
        return None
    return Ledger(book, pipeline.pipeline_name, turn=turn, is_over=is_over)
