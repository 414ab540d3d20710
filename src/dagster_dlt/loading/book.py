"""What a ledger is written in: a table at destinations with SQL, objects where there are files."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final, Protocol

from dagster_dlt.loading.entry import Entry, Status
from dagster_dlt.loading.undo import Undo

#: Name of the table, or folder. dlt takes what begins with `_dlt` for its own, so nobody loads it
#: as data.
TABLE: Final = "_dlt_dagster_loads"


class Book(Protocol):
    """Entries at a destination, for all pipelines of a dataset.

    Whatever was written is read and listed by everyone who looks afterwards. Nobody sees half an
    entry.
    """

    def connected(self) -> AbstractContextManager[object]:
        """Hold what several questions take, so that it is not opened for each; may be nested."""
        ...

    def undo(self, schema_name: str) -> Undo:
        """Return what deletes rows where the book is, once it is connected.

        Args:
            schema_name: Schema that the tables belong to.
        """
        ...

    def loads(self, pipeline: str, since: float) -> list[Entry]:
        """Return a pipeline's loads that are not over, and those begun since then, oldest first.

        A load that dlt has noted as committed is so here, whatever its process came to say.
        """
        ...

    def leases(self) -> list[Entry]:
        """Return the leases that are held or waited for."""
        ...

    def going_on(self) -> list[Entry]:
        """Return the loads that are not over, of all pipelines; those dlt has noted are."""
        ...

    def earlier(self, pipeline: str, partition: str) -> list[Entry]:
        """Return what was loaded of a partition or range, and of all that may overlap it.

        Those are the ranges, for a single partition, and everything for a range. It may have been
        committed, taken back or replaced since, or not be over.
        """
        ...

    def known(self, load_ids: Collection[str]) -> list[Entry]:
        """Return loads by their ids, as far as they are known."""
        ...

    def write(self, entry: Entry) -> None:
        """Write an entry, in place of what there was for its package."""
        ...

    def note(self, entry: Entry) -> None:
        """Note more of something that goes on, unless it was removed."""
        ...

    def beat(self, entry: Entry, moment: float) -> None:
        """Note when something that goes on gave its last sign of life, unless it was removed."""
        ...

    def change(self, entry: Entry, before: Status, after: Status, moment: float) -> str | None:
        """Change the status of a load unless somebody was faster; return what it is then."""
        ...

    def settle(self, entry: Entry, status: Status) -> None:
        """Give a committed load another status, which nobody contests."""
        ...

    def remove(self, entry: Entry) -> None:
        """Remove an entry, if it is there."""
        ...


def as_noted(found: Iterable[Entry], committed: Mapping[str, float]) -> list[Entry]:
    """Return entries in the order of their loads, with what dlt has noted of those that go on.

    Args:
        found: The entries.
        committed: When loads were committed that dlt has noted.
    """
    return [
        replace(entry, status="committed", unsaid=True, beat_at=committed[entry.load_id])
        if entry.load_id in committed
        else entry
        for entry in sorted(found, key=lambda entry: entry.load_id)
    ]
