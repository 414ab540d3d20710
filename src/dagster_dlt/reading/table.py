"""Finds a loaded table at its destination, and the rows of it that are wanted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dlt.common.schema import Schema
from dlt.common.schema.typing import TTableSchemaColumns
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import Chain, CursorKind, DeclaredWindow
from dagster_dlt.errors import (
    NotReadableError,
    PartitionNotToldError,
    UnknownColumnError,
    UnknownTableError,
)
from dagster_dlt.loading.partitions import told_by
from dagster_dlt.loading.sql_undo import rows_below
from dagster_dlt.loading.turns import Turn, turn_of
from dagster_dlt.reading.conditions import REMEDY, Condition, Tellers, kind_of
from dagster_dlt.reading.loads import entries_at, loads_of
from dagster_dlt.reading.part import Cell


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a table.

    Attributes:
        asset: The asset behind it, for errors.
        source: The source, as far as it is known; its name is that of the schema.
        resource: Name of the resource.
        declared: What users say of the cursors, by resource.
        table: Name of the table; None for that of the asset itself.
        of_asset: Name of the asset's table, as far as its definition says: that of the resource, or
            one nested in it.
        columns: Names of the columns; None for all.
        dlt_columns: All columns are those that dlt has added, too.
        cells: Partitions whose rows are wanted; None for all rows.
        keys: Their keys.
        order: Returns the keys of all partitions of the asset, in their order.
        is_known: What is known of the source are all its cursors.
        expressions: What tells partitions apart, by dimension, as the user says.
    """

    asset: str
    source: DltSource
    resource: str
    declared: Mapping[str, DeclaredWindow] = field(default_factory=dict)
    table: str | None = None
    of_asset: str | None = None
    columns: Sequence[str] | None = None
    dlt_columns: bool = True
    cells: Sequence[Cell] | None = None
    keys: Sequence[str] = ()
    order: Callable[[], Sequence[str]] = tuple
    is_known: bool = True
    expressions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """A query for the rows of a table, and a connection to ask it through."""

    client: Any
    sql: str
    values: tuple[Any, ...]
    columns: TTableSchemaColumns
    #: The destination is one file, which takes turns.
    is_file: bool


@dataclass(frozen=True)
class _Place:
    """A destination, connected."""

    pipeline: Pipeline
    turn: Turn
    client: Any


@contextmanager
def found(pipeline: Pipeline, wanted: Wanted) -> Iterator[Query]:
    """Find the table of an asset where a pipeline loads, and hold a connection to it.

    Raises:
        NotReadableError: the destination takes no queries, or nothing is loaded.
        UnknownTableError: the resource has no such table, or several.
        UnknownColumnError: the table has no such column.
        PartitionNotToldError: nothing tells the wanted partitions from others.
    """
    turn = turn_of(pipeline)
    with turn:
        schema = _schema(pipeline, wanted, turn)
        client: Any = _dlt.client_of(pipeline, schema)
        _dlt.show_schema(client)
        with turn.open(client):
            yield _query(_Place(pipeline, turn, client), schema, wanted)


def tables_of(pipeline: Pipeline, wanted: Wanted) -> list[str]:
    """Return the names of all tables of an asset: its own, and what is nested in it.

    Raises:
        NotReadableError: the destination takes no queries, or nothing is loaded.
    """
    turn = turn_of(pipeline)
    with turn:
        schema = _schema(pipeline, wanted, turn)
    return [name for chain in _chains(schema, wanted) for name in chain.names]


def _schema(pipeline: Pipeline, wanted: Wanted, turn: Turn) -> Schema:
    name = wanted.source.name
    client: Any = _dlt.client_of(pipeline, _dlt.schema_for(pipeline, wanted.source))
    destination = str(_dlt.destination_name(pipeline))
    if not _dlt.answers_queries(client):
        problem = f"destination {destination!r} takes no queries"
        raise NotReadableError(wanted.asset, problem, "Read it with the destination's own client")
    with turn.open(client):
        schema = _dlt.stored_schema(client, name)
    if schema is None:
        place = f"dataset {pipeline.dataset_name!r} of destination {destination!r}"
        problem = f"nothing of source {name!r} is loaded into {place}"
        remedy = "Materialize it first; if it was, give DltIOManager(dlt_resource=) what loads it"
        raise NotReadableError(wanted.asset, problem, remedy)
    return schema


def _query(place: _Place, schema: Schema, wanted: Wanted) -> Query:
    chain, table = _table(schema, wanted)
    client = place.client
    there = _dlt.columns_there(client, table)
    columns = {name: there[name] for name in _names(schema, table, list(there), wanted)}
    sql = client.sql_client
    selected = ", ".join(sql.escape_column_name(name) for name in columns)
    condition = _condition(place, chain, wanted)
    rows = sql.make_qualified_table_name(table)
    if condition:
        rows = rows_below(client, chain, chain.names.index(table), condition.sql)
    values = condition.values if condition else ()
    text = f"SELECT {selected} FROM {rows}"  # noqa: S608 - quoted
    return Query(client, text, values, columns, place.turn.is_needed)


def _chains(schema: Schema, wanted: Wanted) -> list[Chain]:
    roots = _dlt.Trees(schema).roots(wanted.source.resources[wanted.resource])
    return [chain for chain in _dlt.chains_of(schema) if chain.root in roots]


def _table(schema: Schema, wanted: Wanted) -> tuple[Chain, str]:
    """Return the table that is wanted, in its chain."""
    chains = _chains(schema, wanted)
    known = [name for chain in chains for name in chain.names]
    if wanted.table is None:
        # The definition may spell it in the letters of the destination.
        named = str(wanted.of_asset).lower()
        for each in chains:
            for name in each.names:
                if name.lower() == named:
                    return each, name
        if len(chains) == 1:
            return chains[0], chains[0].root
        raise UnknownTableError(wanted.asset, None, [chain.root for chain in chains])
    for name in (wanted.table, _dlt.normalized_table_name(schema, wanted.table)):
        for chain in chains:
            if name in chain.names:
                return chain, name
    raise UnknownTableError(wanted.asset, wanted.table, known)


def _names(schema: Schema, table: str, there: Sequence[str], wanted: Wanted) -> list[str]:
    if wanted.columns is None:
        prefix = _dlt.row_columns(schema)[0][: -len("id")]
        names = [name for name in there if wanted.dlt_columns or not name.startswith(prefix)]
        return names or list(there)
    names = []
    for name in wanted.columns:
        as_stored = schema.naming.normalize_path(name)
        if name not in there and as_stored not in there:
            raise UnknownColumnError(wanted.asset, table, name, there)
        names.append(name if name in there else as_stored)
    return list(dict.fromkeys(names))


def _condition(place: _Place, chain: Chain, wanted: Wanted) -> Condition | None:
    """Return what is true of the rows of the wanted partitions; None where all are wanted."""
    cells, client = wanted.cells, place.client
    if cells is None:
        return None
    columns = _dlt.columns_there(client, chain.root)
    cursor = _cursor(wanted, columns)
    tellers = Tellers(wanted.asset, client, columns, wanted.expressions, cursor)
    if tellers.tell(cells):
        return tellers.condition(cells)
    if not (
        _dlt.knows_its_load(client.schema, chain)
        and _dlt.keeps_rows_by_load(client.schema, chain, client)
    ):
        problem = "nothing in the rows does, not even which load they came with"
        raise PartitionNotToldError(wanted.asset, problem, REMEDY)
    keys = list(wanted.keys)
    entries = entries_at(wanted.asset, place.pipeline, client.schema, place.turn, keys)
    loads = loads_of(wanted.asset, wanted.resource, keys, wanted.order, entries)
    load = client.sql_client.escape_column_name(_dlt.row_columns(client.schema)[1])
    return Condition(f"{load} IN ({', '.join(['%s'] * len(loads))})", tuple(loads))


def _cursor(wanted: Wanted, columns: TTableSchemaColumns) -> tuple[str, CursorKind] | None:
    """Return the column of the resource's cursor, and how it tells time."""
    resource = wanted.resource
    names = set(columns)
    if found := told_by(wanted.source, wanted.declared, lambda _: names).get(resource):
        return found
    if wanted.is_known or wanted.declared.get(resource) == "own":
        return None
    # A source that is declared by names alone has no cursors; its loads have noted them.
    noted = [name for name, column in columns.items() if column.get("incremental")]
    kind = kind_of(columns[noted[0]]) if len(noted) == 1 else None
    return (noted[0], kind) if kind else None
