"""Whether assets downstream, such as dbt models, find the tables that dlt loads."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from dagster_dlt.constants import (
    DAGSTER_TABLE_NAME,
    META_KEY_RESOURCE,
    META_KEY_RESOURCES,
    META_KEY_TABLE,
)
from dagster_dlt.errors import TableNotLoadedError
from dagster_dlt.metadata import plain


def check_table_links(definitions: dg.Definitions) -> None:
    """Refuse assets that read, from a dataset that dlt loads, a table that no asset stands for.

    A dbt source that no dlt asset has the table of becomes an asset of its own in Dagster: a dlt
    resource that was renamed leaves its models without a dependency, and nothing says so.

    Tables of dlt's own, such as `_dlt_loads`, are let pass, and so is a table that an asset of the
    dependency's key stands for, whoever fills it.

    Args:
        definitions: The definitions of a code location, those of dlt and of dbt together.

    Raises:
        TableNotLoadedError: names the first such table, who reads it, and the nearest one.

    Example:
        >>> import dagster as dg
        >>> from dagster_dlt import check_table_links
        >>> defs = dg.Definitions(assets=[dg.AssetSpec("orders")])
        >>> check_table_links(defs)
    """
    specs = list(_specs(definitions.assets or ()))
    keys = {spec.key for spec in specs}
    tables = {name for spec in specs if (name := _table_name(spec.metadata))}
    ours = {
        name
        for spec in specs
        if META_KEY_RESOURCE in spec.metadata or META_KEY_RESOURCES in spec.metadata
        for name in (_table_name(spec.metadata), plain(spec.metadata.get(META_KEY_TABLE)))
        if name
    }
    datasets = {name.rpartition(".")[0] for name in ours}
    for spec in specs:
        for dep in spec.deps:
            name = _table_name(dep.metadata)
            if name and name not in tables and dep.asset_key not in keys and _is_in(datasets, name):
                raise TableNotLoadedError(name, spec.key.to_user_string(), sorted(ours))


def _specs(assets: Iterable[object]) -> Iterator[dg.AssetSpec]:
    for each in assets:
        if isinstance(each, dg.AssetsDefinition):
            yield from each.specs
        elif isinstance(each, dg.AssetSpec):
            yield each
        elif isinstance(each, dg.SourceAsset):
            yield dg.AssetSpec(each.key, metadata=each.metadata)


def _table_name(metadata: Mapping[str, Any]) -> str | None:
    name = plain(metadata.get(DAGSTER_TABLE_NAME))
    return str(name) if name else None


def _is_in(datasets: Iterable[str], name: str) -> bool:
    """Tell whether a table is in a dataset, also where letters or the database are not known."""
    folder, _, table = name.lower().rpartition(".")
    if table.startswith("_dlt"):
        return False
    return any(f".{folder}".endswith(f".{each.lower()}") for each in datasets if each)
