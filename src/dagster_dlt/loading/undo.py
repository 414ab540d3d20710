"""Takes back what a load has sent to the destination: what it never committed, or is replaced.

dlt loads the tables of a chain in any order. A nested row says whose child it is, but not which
load it came with: while its parent is not there, it may be what a dead load left behind, or the
beginning of what another one is about to complete. So rows are taken back in two steps: those that
can be reached from a row with the load id, and orphans, of which something else has to say whose
they are.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from dlt.common.destination.client import JobClientBase
from dlt.common.schema import Schema
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
from dlt.destinations.job_client_impl import SqlJobClientBase

from dagster_dlt import _dlt
from dagster_dlt._facts import Chain
from dagster_dlt.loading.files_undo import FilesUndo
from dagster_dlt.loading.package import Package
from dagster_dlt.loading.sql_undo import SqlUndo
from dagster_dlt.loading.taken import Taken


class Undo(Protocol):
    """Deletes rows of loads at a destination, whose client is connected.

    All of it may be done twice. Tables that are not there are left out.
    """

    def tells(self, schema: Schema, chain: Chain) -> bool:
        """Tell whether rows of `chain` can be told by the load they came with."""
        ...

    def count(self, load_id: str, chains: Sequence[Chain]) -> dict[str, int]:
        """Count, by table, the rows that would be taken back; tables without any are left out.

        Args:
            load_id: The load.
            chains: Tables to which it may have added rows.
        """
        ...

    def undo(self, load_id: str, chains: Sequence[Chain]) -> Taken:
        """Delete the rows of a load from these chains, as far as they can be told by its id.

        Args:
            load_id: The load.
            chains: Tables to which it may have added rows.
        """
        ...

    def tells_time(self, chain: Chain) -> bool:
        """Tell whether rows of one load can be told from each other by a value they have."""
        ...

    def undo_some(
        self, load_id: str, chain: Chain, column: str, is_meant: Callable[[object], bool]
    ) -> Taken:
        """Delete those rows of a load that have a certain value.

        Args:
            load_id: The load.
            chain: Tables to which it has added rows.
            column: Column of the outermost of them.
            is_meant: Tells by the value in the column whether a row is to be deleted.
        """
        ...

    def orphans(self, chains: Sequence[Chain]) -> dict[str, set[str]]:
        """Return the ids of nested rows that hang from no row of the outermost table, by table."""
        ...

    def delete_orphans(
        self, chains: Sequence[Chain], found: Mapping[str, Collection[str]]
    ) -> Taken:
        """Delete rows that were found to be orphans, if they still are."""
        ...

    def empty(self, tables: Sequence[str]) -> None:
        """Delete all rows of tables."""
        ...

    def drop(self, dataset: str) -> None:
        """Drop a staging dataset that one load had for itself, if it is there."""
        ...


def undo_at(client: JobClientBase) -> Undo | None:
    """Return what deletes rows of the client's schema at its destination, if anything does."""
    if isinstance(client, SqlJobClientBase):
        return SqlUndo(client) if _dlt.deletes_rows(client) else None
    if isinstance(client, FilesystemClient) and _dlt.are_whole(client):
        return FilesUndo(client, client.schema.name)
    return None


def takes_back(package: Package, chain: Chain) -> bool:
    """Tell whether rows of `chain` have to be taken back before they are loaded a second time."""
    return _dlt.adds_rows(package.schema, chain, package.client)


def tells(package: Package, chain: Chain) -> bool:
    """Tell whether rows of `chain` can be told by the load they came with."""
    undo = undo_at(package.client)
    return undo is not None and undo.tells(package.schema, chain)


def tells_time(package: Package, chain: Chain) -> bool:
    """Tell whether rows that came with one load can be told from each other by their time."""
    undo = undo_at(package.client)
    return undo is not None and undo.tells_time(chain)


def clean(package: Package, chains: Sequence[Chain]) -> None:
    """Make the tables of `chains` what they were before the package was loaded into them.

    Rows it added are deleted, and tables that it replaces are emptied. What a merge with a key has
    written stays: the merge is applied again. Staging tables are left alone, which another load may
    be using: dlt empties those of a load when it begins.
    """
    client = _dlt.client_of(package.pipeline, package.schema)
    undo = undo_at(client)
    if undo is None:
        return
    added = [
        chain
        for chain in chains
        if takes_back(package, chain) and undo.tells(package.schema, chain)
    ]
    names = [name for chain in chains for name in chain.names]
    with client:
        undo.undo(package.load_id, added)
        own = {name: package.row_ids(name, ids) for name, ids in undo.orphans(added).items()}
        undo.delete_orphans(added, own)
        undo.empty([name for name in names if client.should_truncate_table_before_load(name)])
