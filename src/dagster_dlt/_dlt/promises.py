"""What the hints of a resource promise of its rows, and what a load says of them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from dlt.common.schema import Schema
from dlt.common.schema.utils import has_table_seen_data
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.schemas import root_of, row_columns
from dagster_dlt._dlt.sources import table_hint, table_name
from dagster_dlt._facts import LoadSigns, Promises, Reference
from dagster_dlt._redaction import is_secret_name

#: Words in hints by which people say that values of a column are not for everybody.
_PERSONAL: Final = frozenset({"pii", "personal", "secret", "sensitive", "confidential"})
#: Answers of a contract that keep rows, or parts of them, out. Values that are left out of their
#: row leave no trace.
_REFUSALS: Final = frozenset({"freeze", "discard_row"})
#: dlt's own columns.
_OWN: Final = "_dlt_"


def promises_of(resource: DltResource, source: DltSource | None = None) -> Promises:
    """Return what the hints of a resource promise, with the contract of its source."""
    columns = known_columns(resource)
    columns = {name: hints for name, hints in columns.items() if not name.startswith(_OWN)}
    key = tuple(name for name, hints in columns.items() if hints.get("primary_key"))
    contracts = [resource.schema_contract, source.schema_contract if source else None]
    return Promises(
        table=table_name(resource),
        columns=tuple(columns),
        primary_key=key,
        not_null=tuple(
            name
            for name, hints in columns.items()
            if hints.get("nullable") is False and name not in key
        ),
        # The key alone is a promise of its own.
        unique=tuple(
            name for name, hints in columns.items() if hints.get("unique") and key != (name,)
        ),
        references=tuple(_references(resource)),
        types={
            name: str(hints["data_type"])
            for name, hints in columns.items()
            if hints.get("data_type")
        },
        hidden=tuple(name for name, hints in columns.items() if is_hidden(name, hints)),
        refuses=any(_refuses(contract) for contract in contracts),
    )


def known_columns(resource: DltResource) -> dict[str, dict[str, Any]]:
    """Return the columns that are known before there are rows, with their hints."""
    try:
        return {
            name: {**hints} for name, hints in resource.compute_table_schema()["columns"].items()
        }
    except Exception:  # noqa: BLE001 - hints that rows decide, or that are malformed, in many ways
        return {}


def references_of(resource: DltResource) -> Sequence[Mapping[str, object]]:
    """Return the references of a resource to other tables, as dlt has them."""
    hints: Mapping[str, Any] = resource._hints or {}
    found = hints.get("references") or ()
    return [] if callable(found) else [cast("Mapping[str, object]", each) for each in found]


def _references(resource: DltResource) -> Iterator[Reference]:
    for each in references_of(resource):
        given: Mapping[str, Any] = each
        columns, others = tuple(given["columns"]), tuple(given["referenced_columns"])
        if columns and len(columns) == len(others):
            yield Reference(columns, str(given["referenced_table"]), others)


def _refuses(contract: object) -> bool:
    answers = contract.values() if isinstance(contract, Mapping) else [contract]
    return any(answer in _REFUSALS for answer in answers if isinstance(answer, str))


def is_hidden(name: str, hints: Mapping[str, Any]) -> bool:
    """Tell whether nobody is to see the values of a column: secrets, and what people are."""
    return is_secret_name(name) or any(
        _says_personal(key, value) for key, value in hints.items() if key.startswith("x-")
    )


def is_private(resource: DltResource) -> bool:
    """Tell whether nobody is to see any value of a resource's table."""
    hints: Mapping[str, Any] = (resource._hints or {}).get("additional_table_hints") or {}
    return any(_says_personal(key, table_hint(resource, key)) for key in hints)


def _says_personal(key: str, value: object) -> bool:
    if not value:
        return False
    words: list[object] = [key]
    if isinstance(value, Mapping):
        words += [name for name, each in value.items() if each]
        words += [each for each in value.values() if isinstance(each, str)]
    elif isinstance(value, list | tuple | set | frozenset):
        words += value
    elif isinstance(value, str):
        words.append(value)
    return any(_PERSONAL & set(re.split(r"[^a-z]+", str(word).lower())) for word in words)


def table_columns(schema: Schema, table: str) -> Mapping[str, Mapping[str, Any]] | None:
    """Return the columns of a table with their hints; None where it has had no rows."""
    found = schema.tables.get(table)
    if found is None or not has_table_seen_data(found):
        return None
    return cast("Mapping[str, Mapping[str, Any]]", schema.get_table_columns(table))


def load_signs(pipeline: Pipeline, load_ids: Collection[str]) -> LoadSigns:
    """Return what loads of a pipeline that has just run say of their rows."""
    trace = pipeline.last_trace
    if trace is None:
        return LoadSigns()
    given: dict[str, int] = {}
    for load_id, metrics in (
        trace.last_extract_info.metrics if trace.last_extract_info else {}
    ).items():
        for table, each in metrics[0]["table_metrics"].items() if load_id in load_ids else ():
            given[table] = given.get(table, 0) + each.items_count
    kept = trace.last_normalize_info.row_counts if trace.last_normalize_info else {}
    new: dict[str, tuple[str, ...]] = {}
    for package in trace.last_load_info.load_packages if trace.last_load_info else ():
        if package.load_id in load_ids:
            updates = {name: list(each["columns"]) for name, each in package.schema_update.items()}
            new.update(_new_columns(pipeline.schemas[package.schema_name], updates))
    return LoadSigns(
        rows={table: (rows, kept.get(table, 0)) for table, rows in given.items() if kept},
        new_columns=new,
    )


def _new_columns(
    schema: Schema, updates: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    known = {table: table_columns(schema, table) or {} for table in updates}
    # Where files are the destination, the update of a new table lacks what its hints had declared.
    row_id = row_columns(schema)[0]
    new_tables = {
        table
        for table, columns in updates.items()
        if known[table].keys() <= {*columns} or row_id in columns
    }
    for table, columns in updates.items():
        if table not in new_tables:
            yield table, tuple(columns)
            continue
        variants = tuple(each for each in columns if known[table].get(each, {}).get("variant"))
        root = root_of(schema.tables, table)
        if variants or (root and root["name"] != table and root["name"] not in new_tables):
            yield table, variants
