"""Gives Arrow tables and data frames the column by which a dead load's rows can be taken back.

dlt adds `_dlt_load_id` to rows it reads itself, and to Arrow data only where its configuration says
so, for all tables at once. A table that is at the destination without it cannot have it any more.
"""

from collections.abc import Callable
from typing import Any

from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_LOAD_ID
from dlt.common.storages.load_package import load_package_state
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt


def add_load_ids(source: DltSource, pipeline: Pipeline) -> None:
    """Let the resources of `source` add the load id to Arrow data that is appended to new tables.

    Args:
        source: The source that is about to be extracted; it is changed.
        pipeline: The pipeline, after its schemas were restored.
    """
    stored = pipeline.schemas
    schema = stored.get(source.schema.name, source.schema)
    client = _dlt.client_of(pipeline, schema)
    for resource in _dlt.selected_resources(source).values():
        table = _dlt.table_name(resource)
        if _dlt.has_files(client) and _dlt.table_format_of(resource) != "delta":
            continue  # what is in a file is told by its name
        if table is not None and _dlt.is_appended(resource) and _has_room(schema, table):
            resource.add_map(_adds(schema, client.capabilities))


def _has_room(schema: Schema, table: str) -> bool:
    known = schema.tables.get(_dlt.normalized_table_name(schema, table))
    columns = known["columns"] if known else {}
    return not columns or schema.naming.normalize_identifier(C_DLT_LOAD_ID) in columns


def _adds(schema: Schema, capabilities: DestinationCapabilitiesContext) -> Callable[[Any], Any]:
    def add(item: Any) -> Any:  # noqa: ANN401 - any data at all
        kind = type(item).__module__.partition(".")[0]
        if kind == "pandas":
            name = schema.naming.normalize_identifier(C_DLT_LOAD_ID)
            return item.assign(**{name: load_package_state()["load_id"]})
        if kind == "pyarrow":
            from dlt.common.libs.pyarrow import add_dlt_load_id_column  # noqa: PLC0415 - is heavy

            load_id = load_package_state()["load_id"]
            return add_dlt_load_id_column(item, {}, capabilities, schema.naming, load_id)
        return item

    return add
