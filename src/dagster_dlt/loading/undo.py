"""Takes back what a load has sent to the destination and never committed.

dlt loads the tables of a chain in any order. A nested row says whose child it is, but not which
load it came with: while its parent is not there, it may be what a dead load left behind, or the
beginning of what another one is about to complete. So rows are taken back in two steps: those that
can be reached from a row with the load id, and orphans, of which something else has to say whose
they are.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from dlt.destinations.job_client_impl import SqlJobClientBase

from dagster_dlt import _dlt
from dagster_dlt._facts import Chain
from dagster_dlt.loading.package import Package

#: Ids in one statement.
_AT_ONCE: Final = 500


def takes_back(package: Package, chain: Chain) -> bool:
    """Tell whether rows of `chain` have to be taken back before they are loaded a second time."""
    return _dlt.adds_rows(package.schema, chain, package.client)


def undo(client: SqlJobClientBase, load_id: str, chains: Sequence[Chain]) -> int:
    """Delete the rows of a load from these chains, as far as they can be told by its id.

    Args:
        client: Client of the destination, connected.
        load_id: The load.
        chains: Tables to which it may have added rows.

    Returns:
        How many rows were deleted.
    """
    _, load, _ = _columns(client)
    present = _present(client, chains)
    return sum(_delete(client, chain, f"{load} = %s", [load_id]) for chain in present)


def undo_some(
    client: SqlJobClientBase,
    load_id: str,
    chain: Chain,
    column: str,
    is_meant: Callable[[object], bool],
) -> int:
    """Delete those rows of a load that have a certain value; return how many.

    Args:
        client: Client of the destination, connected.
        load_id: The load.
        chain: Tables to which it has added rows.
        column: Column of the outermost of them.
        is_meant: Tells by the value in the column whether a row is to be deleted.
    """
    sql, (row_id, load, _) = client.sql_client, _columns(client)
    deleted = 0
    for present in _present(client, [chain]):
        rows = sql.execute_sql(
            f"SELECT {row_id}, {sql.escape_column_name(column)} "  # noqa: S608 - quoted names
            f"FROM {sql.make_qualified_table_name(present.root)} WHERE {load} = %s",
            load_id,
        )
        meant = [row for row, value in rows or [] if value is not None and is_meant(value)]
        for start in range(0, len(meant), _AT_ONCE):
            some = meant[start : start + _AT_ONCE]
            marks = ", ".join(["%s"] * len(some))
            deleted += _delete(client, present, f"{row_id} IN ({marks})", some)
    return deleted


def _delete(
    client: SqlJobClientBase, chain: Chain, condition: str, values: Sequence[object]
) -> int:
    """Delete rows of the outermost table that fulfil a condition, with what is nested in them."""
    sql, deleted = client.sql_client, 0
    with _dlt.transaction(client):
        # Innermost first: rows are found by the ones above them.
        for depth in reversed(range(len(chain.tables))):
            rows = f"FROM {rows_below(client, chain, depth, condition)}"
            ((found,),) = sql.execute_sql(f"SELECT COUNT(*) {rows}", *values) or [(0,)]
            if found:
                sql.execute_sql(f"DELETE {rows}", *values)
                deleted += found
    return deleted


def orphans(client: SqlJobClientBase, chains: Sequence[Chain]) -> dict[str, set[str]]:
    """Return the ids of nested rows that hang from no row of the outermost table, by table."""
    found: dict[str, set[str]] = {}
    for chain in _present(client, chains):
        for depth, (name, above) in enumerate(chain.tables):
            if above is not None:
                rows = client.sql_client.execute_sql(_orphans(client, chain, depth)) or []
                found[name] = {str(row[0]) for row in rows}
    return {name: ids for name, ids in found.items() if ids}


def delete_orphans(
    client: SqlJobClientBase, chains: Sequence[Chain], found: Mapping[str, Collection[str]]
) -> int:
    """Delete rows that were found to be orphans, if they still are; return how many."""
    still = orphans(client, chains) if found else {}
    row_id, _, _ = _columns(client)
    deleted = 0
    for name, ids in found.items():
        table = client.sql_client.make_qualified_table_name(name)
        gone = sorted(still.get(name, set()) & set(ids))
        for start in range(0, len(gone), _AT_ONCE):
            some = gone[start : start + _AT_ONCE]
            marks = ", ".join(["%s"] * len(some))
            client.sql_client.execute_sql(
                f"DELETE FROM {table} WHERE {row_id} IN ({marks})",  # noqa: S608 - quoted names
                *some,
            )
        deleted += len(gone)
    return deleted


def rows_below(client: SqlJobClientBase, chain: Chain, depth: int, condition: str) -> str:
    """Return the table at this place of the chain, for rows below those that fulfil a condition."""
    name, above = chain.tables[depth]
    row_id, _, parent_id = _columns(client)
    table = client.sql_client.make_qualified_table_name(name)
    if above is None:
        return f"{table} WHERE {condition}"
    parents = rows_below(client, chain, chain.names.index(above), condition)
    return f"{table} WHERE {parent_id} IN (SELECT {row_id} FROM {parents})"  # noqa: S608 - quoted


def _orphans(client: SqlJobClientBase, chain: Chain, depth: int) -> str:
    """Return the query for rows at this place of the chain that do not hang from its first table.

    With joins rather than `NOT IN`, which a server may look up once for each row.
    """
    row_id, _, parent_id = _columns(client)
    name, above = chain.tables[depth]
    table = client.sql_client.make_qualified_table_name
    joins, level = "", 0
    while above is not None:
        joins += (
            f" LEFT JOIN {table(above)} t{level + 1} "
            f"ON t{level + 1}.{row_id} = t{level}.{parent_id}"
        )
        above, level = chain.tables[chain.names.index(above)][1], level + 1
    return f"SELECT t0.{row_id} FROM {table(name)} t0{joins} WHERE t{level}.{row_id} IS NULL"  # noqa: S608


def _present(client: SqlJobClientBase, chains: Iterable[Chain]) -> list[Chain]:
    """Return the chains without the tables that are not at the destination."""
    chains = list(chains)
    there = _dlt.existing_tables(client, [name for chain in chains for name in chain.names])
    present = []
    for chain in chains:
        known: set[str | None] = {None}
        for name, above in chain.tables:
            if name in there and above in known:
                known.add(name)
        tables = tuple(each for each in chain.tables if each[0] in known)
        present += [Chain(chain.resource, tables)] if tables else []
    return present


def _columns(client: SqlJobClientBase) -> tuple[str, str, str]:
    """Return the quoted columns for a row's id, its load id and its parent's id."""
    quoted = map(client.sql_client.escape_column_name, _dlt.row_columns(client.schema))
    row_id, load, parent_id = quoted
    return row_id, load, parent_id


def count(client: SqlJobClientBase, load_id: str, chains: Sequence[Chain]) -> dict[str, int]:
    """Count, by table, the rows that would be taken back; tables without such rows are left out.

    Args:
        client: Client of the destination, connected.
        load_id: The load.
        chains: Tables to which it may have added rows.
    """
    found: dict[str, int] = {}
    for chain in _present(client, chains):
        for depth, name in enumerate(chain.names):
            rows = rows_below(client, chain, depth, f"{_columns(client)[1]} = %s")
            query = f"SELECT COUNT(*) FROM {rows}"  # noqa: S608 - quoted
            ((number,),) = client.sql_client.execute_sql(query, load_id) or [(0,)]
            found[name] = int(number)
    for name, ids in orphans(client, chains).items():
        found[name] += len(ids)
    return {name: rows for name, rows in found.items() if rows}


def clean(package: Package, chains: Sequence[Chain]) -> None:
    """Make the tables of `chains` what they were before the package was loaded into them.

    Rows it added are deleted, and tables that it replaces are emptied. What a merge with a key has
    written stays: the merge is applied again. Staging tables are left alone, which another load may
    be using: dlt empties those of a load when it begins.
    """
    client = _dlt.client_of(package.pipeline, package.schema)
    if not isinstance(client, SqlJobClientBase):
        return
    added = [
        chain
        for chain in chains
        if takes_back(package, chain) and _dlt.knows_its_load(package.schema, chain)
    ]
    names = [name for chain in chains for name in chain.names]
    with client:
        undo(client, package.load_id, added)
        own = {name: package.row_ids(name, ids) for name, ids in orphans(client, added).items()}
        delete_orphans(client, added, own)
        replaced = [name for name in names if client.should_truncate_table_before_load(name)]
        there = _dlt.existing_tables(client, replaced) if replaced else set()
        if there:
            client.sql_client.truncate_tables(*sorted(there))
