"""Takes rows back where there is SQL that deletes; what it does is said by `Undo`."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from dlt.common.schema import Schema
from dlt.destinations.job_client_impl import SqlJobClientBase

from dagster_dlt import _dlt
from dagster_dlt._facts import Chain
from dagster_dlt.loading.taken import Taken

#: Ids in one statement.
_AT_ONCE: Final = 500


class SqlUndo:
    """Deletes rows by statements.

    Args:
        client: Client of the destination.
    """

    def __init__(self, client: SqlJobClientBase) -> None:
        self._client = client

    def tells(self, schema: Schema, chain: Chain) -> bool:
        """Tell whether rows can be told, see `Undo`."""
        return _dlt.knows_its_load(schema, chain)

    def tells_time(self, _chain: Chain) -> bool:
        """Tell whether rows can be told from each other: always, see `Undo`."""
        return True

    def undo(self, load_id: str, chains: Sequence[Chain]) -> Taken:
        """Delete the rows of a load from these chains, as far as they can be told by its id."""
        _, load, _ = self._columns()
        present = self._present(chains)
        return Taken(sum(self._delete(chain, f"{load} = %s", [load_id]) for chain in present))

    def undo_some(
        self,
        load_id: str,
        chain: Chain,
        column: str,
        is_meant: Callable[[object], bool],
    ) -> Taken:
        """Delete those rows of a load that have a certain value; return how many."""
        sql, (row_id, load, _) = self._client.sql_client, self._columns()
        deleted = 0
        for present in self._present([chain]):
            rows = sql.execute_sql(
                f"SELECT {row_id}, {sql.escape_column_name(column)} "  # noqa: S608 - quoted names
                f"FROM {sql.make_qualified_table_name(present.root)} WHERE {load} = %s",
                load_id,
            )
            meant = [row for row, value in rows or [] if value is not None and is_meant(value)]
            for start in range(0, len(meant), _AT_ONCE):
                some = meant[start : start + _AT_ONCE]
                marks = ", ".join(["%s"] * len(some))
                deleted += self._delete(present, f"{row_id} IN ({marks})", some)
        return Taken(deleted)

    def _delete(self, chain: Chain, condition: str, values: Sequence[object]) -> int:
        """Delete outermost rows that fulfil a condition, with what is nested in them."""
        sql, deleted = self._client.sql_client, 0
        with _dlt.transaction(self._client):
            # Innermost first: rows are found by the ones above them.
            for depth in reversed(range(len(chain.tables))):
                rows = f"FROM {rows_below(self._client, chain, depth, condition)}"
                ((found,),) = sql.execute_sql(f"SELECT COUNT(*) {rows}", *values) or [(0,)]
                if found:
                    sql.execute_sql(f"DELETE {rows}", *values)
                    deleted += found
        return deleted

    def orphans(self, chains: Sequence[Chain]) -> dict[str, set[str]]:
        """Return the ids of nested rows that hang from no row of the outermost table, by table."""
        found: dict[str, set[str]] = {}
        for chain in self._present(chains):
            for depth, (name, above) in enumerate(chain.tables):
                if above is not None:
                    rows = self._client.sql_client.execute_sql(self._orphans(chain, depth)) or []
                    found[name] = {str(row[0]) for row in rows}
        return {name: ids for name, ids in found.items() if ids}

    def delete_orphans(
        self, chains: Sequence[Chain], found: Mapping[str, Collection[str]]
    ) -> Taken:
        """Delete rows that were found to be orphans, if they still are; return how many."""
        still = self.orphans(chains) if found else {}
        row_id, _, _ = self._columns()
        deleted = 0
        for name, ids in found.items():
            table = self._client.sql_client.make_qualified_table_name(name)
            gone = sorted(still.get(name, set()) & set(ids))
            for start in range(0, len(gone), _AT_ONCE):
                some = gone[start : start + _AT_ONCE]
                marks = ", ".join(["%s"] * len(some))
                self._client.sql_client.execute_sql(
                    f"DELETE FROM {table} WHERE {row_id} IN ({marks})",  # noqa: S608 - quoted names
                    *some,
                )
            deleted += len(gone)
        return Taken(deleted)

    def _orphans(self, chain: Chain, depth: int) -> str:
        """Return the query for rows at a place of the chain that do not hang from its first table.

        With joins rather than `NOT IN`, which a server may look up once for each row.
        """
        row_id, _, parent_id = self._columns()
        name, above = chain.tables[depth]
        table = self._client.sql_client.make_qualified_table_name
        joins, level = "", 0
        while above is not None:
            joins += (
                f" LEFT JOIN {table(above)} t{level + 1} "
                f"ON t{level + 1}.{row_id} = t{level}.{parent_id}"
            )
            above, level = chain.tables[chain.names.index(above)][1], level + 1
        return f"SELECT t0.{row_id} FROM {table(name)} t0{joins} WHERE t{level}.{row_id} IS NULL"  # noqa: S608

    def _present(self, chains: Iterable[Chain]) -> list[Chain]:
        """Return the chains without the tables that are not at the destination."""
        chains = list(chains)
        there = _dlt.existing_tables(
            self._client, [name for chain in chains for name in chain.names]
        )
        present = []
        for chain in chains:
            known: set[str | None] = {None}
            for name, above in chain.tables:
                if name in there and above in known:
                    known.add(name)
            tables = tuple(each for each in chain.tables if each[0] in known)
            present += [Chain(chain.resource, tables)] if tables else []
        return present

    def _columns(self) -> tuple[str, str, str]:
        return _columns(self._client)

    def count(self, load_id: str, chains: Sequence[Chain]) -> dict[str, int]:
        """Count the rows that would be taken back, see `Undo`."""
        found: dict[str, int] = {}
        for chain in self._present(chains):
            for depth, name in enumerate(chain.names):
                rows = rows_below(self._client, chain, depth, f"{self._columns()[1]} = %s")
                query = f"SELECT COUNT(*) FROM {rows}"  # noqa: S608 - quoted
                ((number,),) = self._client.sql_client.execute_sql(query, load_id) or [(0,)]
                found[name] = int(number)
        for name, ids in self.orphans(chains).items():
            found[name] += len(ids)
        return {name: rows for name, rows in found.items() if rows}

    def empty(self, tables: Sequence[str]) -> None:
        """Delete all rows of tables, see `Undo`."""
        if there := _dlt.existing_tables(self._client, tables) if tables else set():
            self._client.sql_client.truncate_tables(*sorted(there))

    def drop(self, dataset: str) -> None:
        """Drop a staging dataset, see `Undo`."""
        sql = self._client.sql_client
        with sql.with_alternative_dataset_name(dataset):
            if sql.has_dataset():
                sql.drop_dataset()


def rows_below(client: SqlJobClientBase, chain: Chain, depth: int, condition: str) -> str:
    """Return the table at this place of the chain, for rows below those that fulfil a condition."""
    name, above = chain.tables[depth]
    row_id, _, parent_id = _columns(client)
    table = client.sql_client.make_qualified_table_name(name)
    if above is None:
        return f"{table} WHERE {condition}"
    parents = rows_below(client, chain, chain.names.index(above), condition)
    return f"{table} WHERE {parent_id} IN (SELECT {row_id} FROM {parents})"  # noqa: S608 - quoted


def _columns(client: SqlJobClientBase) -> tuple[str, str, str]:
    """Return the quoted columns for a row's id, its load id and its parent's id."""
    quoted = map(client.sql_client.escape_column_name, _dlt.row_columns(client.schema))
    row_id, load, parent_id = quoted
    return row_id, load, parent_id
