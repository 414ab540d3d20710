"""Takes rows back where files are the destination; what it does is said by `Undo`.

The rows of a load are in files of its own, nested ones too, whose names say whose they are: to take
them back is to remove these. In a Delta table they are told as in SQL, by the ids in the rows.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from dlt.common.schema import Schema
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient

from dagster_dlt import _dlt
from dagster_dlt._facts import Chain
from dagster_dlt.loading.taken import Taken


class FilesUndo:
    """Removes files, and deletes from Delta tables.

    Args:
        client: Client of the destination.
        schema_name: Schema of the tables, which the names of files may have.
    """

    def __init__(self, client: FilesystemClient, schema_name: str) -> None:
        self._client = client
        self._files = _dlt.SentFiles(client, schema_name)
        self._delta = _dlt.DeltaTables(client, schema_name)
        self._id, self._load, self._parent = _dlt.row_columns(client.schema)

    def tells(self, schema: Schema, chain: Chain) -> bool:
        """Tell whether rows can be told, see `Undo`."""
        if chain.root == schema.state_table_name:
            return True
        match _dlt.table_format(self._client, chain.root):
            case "delta":
                return _dlt.knows_its_load(schema, chain)
            case "iceberg":
                return False
            case _:
                return _dlt.tells_loads(self._client)

    def tells_time(self, chain: Chain) -> bool:
        """Tell whether it is a Delta table: a file goes as a whole, see `Undo`."""
        return _dlt.table_format(self._client, chain.root) == "delta"

    def count(self, load_id: str, chains: Sequence[Chain]) -> dict[str, int]:
        """Count the rows that would be taken back, see `Undo`."""
        found: Counter[str] = Counter()
        for chain in chains:
            if tables := self._tables(chain):
                ids = self._below(tables, self._ids_of(tables, load_id))
                found.update({name: len(ids[name]) for name, _ in tables})
                continue
            for name in chain.names:
                files = self._files.of(name, load_id)
                found[name] += sum(map(self._files.lines, files))
        for name, orphans in self.orphans(chains).items():
            found[name] += len(orphans)
        return {name: rows for name, rows in found.items() if rows}

    def undo(self, load_id: str, chains: Sequence[Chain]) -> Taken:
        """Delete the rows of a load, see `Undo`.

        The state goes first: dlt takes the cursors of one that is there for those of a load that
        was committed.
        """
        taken, own = Taken(), self._client.schema.state_table_name
        for chain in sorted(chains, key=lambda chain: chain.root != own):
            if tables := self._tables(chain):
                taken += self._delete(tables, self._ids_of(tables, load_id))
                continue
            for name in chain.names:
                files = self._files.of(name, load_id)
                self._files.remove(files)
                taken += Taken(files=len(files))
        return taken

    def undo_some(
        self, load_id: str, chain: Chain, column: str, is_meant: Callable[[object], bool]
    ) -> Taken:
        """Delete those rows of a load that have a certain value, see `Undo`."""
        tables = self._tables(chain)
        if chain.root not in dict(tables):
            return Taken()
        rows = self._delta.read(chain.root, [self._id, column], self._load, [load_id])
        meant = {id_ for id_, value in rows if value is not None and is_meant(value)}
        return self._delete(tables, meant)

    def _tables(self, chain: Chain) -> list[tuple[str, str | None]]:
        """Return the Delta tables of a chain that are there; dlt makes them in any order."""
        return [each for each in chain.tables if self._delta.has(each[0])]

    def _ids_of(self, tables: Sequence[tuple[str, str | None]], load_id: str) -> set[str]:
        root, above = tables[0]
        if above is not None:
            return set()
        return {id_ for (id_,) in self._delta.read(root, [self._id], self._load, [load_id])}

    def _below(
        self, tables: Sequence[tuple[str, str | None]], roots: Collection[str]
    ) -> dict[str | None, set[str]]:
        """Return the ids of some outermost rows and of all that is nested in them, by table."""
        found: defaultdict[str | None, set[str]] = defaultdict(set)
        for name, above in tables:
            if above is None:
                found[name] = {*roots}
            elif parents := found[above]:
                nested = self._delta.read(name, [self._id], self._parent, parents)
                found[name] = {id_ for (id_,) in nested}
        return found

    def _delete(self, tables: Sequence[tuple[str, str | None]], roots: Collection[str]) -> Taken:
        """Delete outermost rows, with what is nested in them."""
        found, deleted = self._below(tables, roots), 0
        # Innermost first: rows are found by the ones above them.
        for name, above in reversed(tables):
            column, ids = (self._parent, found[above]) if above else (self._id, found[name])
            deleted += self._delta.delete(name, column, ids)
        return Taken(deleted)

    def orphans(self, chains: Sequence[Chain]) -> dict[str, set[str]]:
        """Return nested rows that hang from nothing, see `Undo`; files have none."""
        found: dict[str, set[str]] = {}
        for chain in chains:
            held: defaultdict[str | None, set[str]] = defaultdict(set)
            for name, above in self._tables(chain):
                if above is None:
                    held[name] = {id_ for (id_,) in self._delta.read(name, [self._id])}
                    continue
                rows = self._delta.read(name, [self._id, self._parent])
                held[name] = {id_ for id_, parent in rows if parent in held[above]}
                found[name] = {id_ for id_, parent in rows if parent not in held[above]}
        return {name: ids for name, ids in found.items() if ids}

    def delete_orphans(
        self, chains: Sequence[Chain], found: Mapping[str, Collection[str]]
    ) -> Taken:
        """Delete rows that were found to be orphans, if they still are, see `Undo`."""
        still = self.orphans(chains) if found else {}
        gone = {name: still.get(name, set()) & {*ids} for name, ids in found.items()}
        deleted = [self._delta.delete(name, self._id, ids) for name, ids in gone.items()]
        return Taken(sum(deleted))

    def empty(self, tables: Sequence[str]) -> None:
        """Remove the files of tables, see `Undo`; a Delta table is replaced in one go."""
        plain = [each for each in tables if not self._delta.has(each)]
        if plain:
            self._client.truncate_tables(plain)

    def drop(self, dataset: str) -> None:
        """Drop nothing: files have no staging dataset."""
