"""Nested tables as assets of their own: which ones there are, and what a load did for one."""

from collections.abc import Mapping
from dataclasses import replace

import dagster as dg
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import ResourceFacts, SchemaChanges
from dagster_dlt.translator import DagsterDltTranslator, DltResourceTranslatorData

#: Specs of nested tables, by the name of the resource and of the table.
NestedSpecs = Mapping[str, Mapping[str, dg.AssetSpec]]


def nested_specs(
    source: DltSource,
    pipeline: Pipeline | None,
    translator: DagsterDltTranslator,
    specs: Mapping[str, dg.AssetSpec],
) -> NestedSpecs:
    """Ask the translator for the specs of nested tables that are known, where settings want them.

    Args:
        source: The source.
        pipeline: The pipeline that will load it.
        translator: The translator.
        specs: Those of the resources, by name.
    """
    if translator.settings.nested_tables != "assets":
        return {}
    location = _dlt.location_of(pipeline, _dlt.schema_for(pipeline, source)) if pipeline else None
    found: dict[str, dict[str, dg.AssetSpec]] = {}
    for name, spec in specs.items():
        resource = source.resources[name]
        declared = translator.declared_nested_tables(resource)
        data = DltResourceTranslatorData(resource, pipeline, source=source, location=location)
        tables = found.setdefault(name, {})
        for table, above in _dlt.nested_tables_known(resource, source, pipeline, declared).items():
            parent = tables.get(above, spec).key
            tables[table] = translator.get_nested_asset_spec(data, table, spec, parent)
    return found


def narrowed(facts: ResourceFacts, table: str) -> ResourceFacts:
    """Return what a load did for one nested table of a resource."""
    found = tuple(each for each in facts.nested if each.name == table)
    changes = facts.changes
    return ResourceFacts(
        resource=facts.resource,
        tables=found,
        rows={table: facts.rows[table]} if table in facts.rows else {},
        rows_loaded=None if facts.rows_loaded is None else facts.rows.get(table, 0),
        changes=changes and _of_table(changes, table),
        jobs=tuple(job for job in facts.jobs if job["table_name"] == table),
    )


def _of_table(changes: SchemaChanges, table: str) -> SchemaChanges:
    return replace(
        changes,
        tables=tuple(name for name in changes.tables if name == table),
        columns=tuple(each for each in changes.columns if each.rpartition(".")[0] == table),
        variants=tuple(each for each in changes.variants if each.rpartition(".")[0] == table),
    )
