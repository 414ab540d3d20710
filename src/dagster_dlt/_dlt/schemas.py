"""Schemas: which tables belong together, whose they are, and what their columns are called."""

from collections import defaultdict
from typing import Any, cast

from dlt.common.destination.client import JobClientBase
from dlt.common.normalizers.json.relational import DataItemNormalizer
from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_ID, C_DLT_LOAD_ID, TSchemaTables, TTableSchema
from dlt.common.schema.utils import (
    get_merge_strategy,
    has_column_with_prop,
    has_table_seen_data,
    is_nested_table,
)
from dlt.extract import DltResource, DltSource

from dagster_dlt._dlt.sources import selected_resources, table_name
from dagster_dlt._facts import Chain


def normalized_table_name(schema: Schema, name: str) -> str:
    """Return the name the destination knows a table by, `__` between nested names included."""
    return schema.naming.normalize_tables_path(name)


def chains_of(schema: Schema) -> list[Chain]:
    """Return the tables of `schema` that have seen data, as dlt loads them: each with its nested.

    The table with the pipeline's state is among them.
    """
    tables = schema.tables
    below: dict[str, list[str]] = {}
    for name, table in tables.items():
        if is_nested_table(table) and has_table_seen_data(table):
            below.setdefault(_way_up(tables, name)[-1], []).append(name)
    roots = [
        name
        for name in schema.data_table_names(seen_data_only=True)
        if not is_nested_table(tables[name])
    ]
    if schema.state_table_name in tables:
        roots.append(schema.state_table_name)
    chains = []
    for name in roots:
        nested = sorted(below.get(name, []), key=lambda each: len(_way_up(tables, each)))
        order = (name, *nested)
        resource = str(tables[name].get("resource") or name)
        chains.append(Chain(resource, tuple((each, tables[each].get("parent")) for each in order)))
    return chains


def _way_up(tables: TSchemaTables, name: str) -> list[str]:
    """Return a table's name and those of the tables above it, the outermost last."""
    above = tables[name].get("parent")
    return [name, *_way_up(tables, above)] if above else [name]


def adds_rows(schema: Schema, chain: Chain, client: JobClientBase) -> bool:
    """Tell whether loading the tables of `chain` twice doubles rows: append, merge without keys."""
    table = client.prepare_load_table(chain.root)
    if table["write_disposition"] == "merge":
        return get_merge_strategy(schema.tables, chain.root) != "scd2" and not any(
            has_column_with_prop(cast("Any", table), key) for key in ("primary_key", "merge_key")
        )
    return table["write_disposition"] == "append"


def keeps_rows_by_load(schema: Schema, chain: Chain, client: JobClientBase) -> bool:
    """Tell whether rows stay until something deletes them, each with the load that wrote it last.

    With `scd2` and `insert-only` rows are what they were at some time; `replace` deletes by itself.
    """
    disposition = client.prepare_load_table(chain.root)["write_disposition"]
    if disposition == "merge":
        # None where nobody has chosen one: that is `delete-insert`.
        strategy: str | None = get_merge_strategy(schema.tables, chain.root)
        return strategy in {None, "delete-insert", "upsert"}
    return disposition == "append"


def knows_its_load(schema: Schema, chain: Chain) -> bool:
    """Tell whether the rows of `chain` say which load they came with, and whose children are."""
    load, parent = row_columns(schema)[1:]
    tables = schema.tables
    return load in tables[chain.root]["columns"] and all(
        parent in tables[name]["columns"] for name, above in chain.tables if above
    )


def row_columns(schema: Schema) -> tuple[str, str, str]:
    """Return the names of the columns for the row's id, its load id and its parent's id."""
    names = (C_DLT_ID, C_DLT_LOAD_ID, DataItemNormalizer.C_DLT_PARENT_ID)
    row_id, load_id, parent_id = map(schema.naming.normalize_identifier, names)
    return row_id, load_id, parent_id


def resource_of(schema: Schema, table: str) -> str | None:
    """Return the resource that a table belongs to, itself or by the one that it is nested in."""
    root = root_of(schema.tables, table)
    return str(root["resource"]) if root and root.get("resource") else None


def resources_of_table(schema: Schema, table: str | None, source: DltSource) -> set[str]:
    """Return the resources whose rows are in a table, or in the one that it is nested in."""
    root = root_of(schema.tables, table)
    if root is None:
        return set()
    trees = Trees(schema)
    sharing = {
        name
        for name, resource in selected_resources(source).items()
        if str(root["name"]) in trees.roots(resource)
    }
    return sharing | ({str(root["resource"])} if root.get("resource") else set())


def root_of(tables: TSchemaTables, name: str | None) -> TTableSchema | None:
    table = tables.get(name) if name else None
    return root_of(tables, table.get("parent")) if table and is_nested_table(table) else table


class Trees:
    """The tables of a schema that have data, each with those nested in it.

    The schema is looked through once, for as many resources as it has.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._order: dict[str, int] = {}
        self._of_resource: defaultdict[str | None, list[str]] = defaultdict(list)
        self._below: defaultdict[str | None, list[str]] = defaultdict(list)
        for number, (name, table) in enumerate(schema.tables.items()):
            if is_nested_table(table):
                self._below[table.get("parent")].append(name)
            elif has_table_seen_data(table):
                self._order[name] = number
                self._of_resource[table.get("resource")].append(name)

    def roots(self, resource: DltResource) -> list[str]:
        """Return the tables that a resource writes to directly, in the order of the schema.

        dlt notes on a table the first resource that described it; where two resources share one,
        the other is found by the table's name.
        """
        given = table_name(resource)
        shared = normalized_table_name(self._schema, given) if given else ""
        found = set(self._of_resource.get(resource.name, ()))
        if shared in self._order:
            found.add(shared)
        return sorted(found, key=self._order.__getitem__)

    def of(self, resource: DltResource) -> list[str]:
        """Return all tables that rows of a resource go into, nested ones last."""
        roots = self.roots(resource)
        return [*roots, *(name for root in roots for name in self.nested(root))]

    def nested(self, root: str) -> list[str]:
        """Return the tables below another one, each after the one that it is nested in."""
        below = self._below.get(root, [])
        found = [each for name in below for each in (name, *self.nested(name))]
        return [name for name in found if has_table_seen_data(self._schema.tables[name])]
