"""Tables nested in a resource's, as far as they are known before there are rows."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # dlt's own
from dlt.common.schema import Schema
from dlt.common.schema.typing import TSchemaTables
from dlt.common.schema.utils import get_nested_tables
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.destinations import schema_paths
from dagster_dlt._dlt.schemas import normalized_table_name
from dagster_dlt._dlt.sources import table_hint, table_name

logger = logging.getLogger(__name__)

#: Hint of a stand-in with the tables that are known to be nested in that of its resource.
NESTED_TABLES: Final = "x-nested-tables"


def nested_tables_known(
    resource: DltResource,
    source: DltSource,
    pipeline: Pipeline | None,
    declared: Iterable[str] = (),
) -> dict[str, str]:
    """Return the tables nested in that of a resource, each with the one it is nested in.

    They are known from what is declared, from hints, and from schemas: that of the source, and the
    last one that dlt has exported for the pipeline or is to import.
    """
    name = table_name(resource)
    if name is None:
        return {}
    root = normalized_table_name(source.schema, name)
    hinted: Any = table_hint(resource, NESTED_TABLES) or ()
    found = {normalized_table_name(source.schema, each): "" for each in (*declared, *hinted)}
    for tables in _tables(resource, source, pipeline):
        if root in tables:
            below = get_nested_tables(tables, root)[1:]
            found |= {str(table["name"]): str(table.get("parent") or root) for table in below}
    found.pop(root, None)
    # Where nothing says what a table is nested in, its name does.
    parents = {each: above or _longest(each, found) or root for each, above in found.items()}
    return dict(sorted(parents.items(), key=lambda item: (len(_above(item[0], parents)), item[0])))


def _longest(table: str, known: Iterable[str]) -> str:
    return max((each for each in known if table.startswith(f"{each}__")), key=len, default="")


def _above(table: str, parents: dict[str, str]) -> list[str]:
    return [table, *_above(parents[table], parents)] if table in parents else [table]


def _tables(
    resource: DltResource, source: DltSource, pipeline: Pipeline | None
) -> Iterator[TSchemaTables]:
    yield source.schema.tables
    try:
        computed = resource.compute_tables(source.schema.naming)
        yield {str(table["name"]): table for table in computed}
    except Exception as error:  # noqa: BLE001 - hints that rows decide, or that are malformed
        logger.debug("no tables of %r: %s", resource.name, type(error).__name__)
    for path in filter(None, schema_paths(pipeline) if pipeline else ()):
        file = Path(path) / f"{source.schema.name}.schema.yaml"
        if file.is_file():
            yield _exported(file)


def _exported(file: Path) -> TSchemaTables:
    try:
        return Schema.from_dict(yaml.safe_load(file.read_text(encoding="utf-8"))).tables
    except Exception as error:  # noqa: BLE001 - a file by anybody; nothing depends on it
        logger.warning("Schema %s cannot be read: %s", file, error)
        return {}
