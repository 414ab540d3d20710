"""The pipeline's state: in a package, on the disk and at the destination."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from dlt.common.normalizers.utils import generate_dlt_id
from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_ID, C_DLT_LOAD_ID, TTableSchema
from dlt.common.versioned_state import (
    compress_state,
    decompress_state,
    generate_state_version_hash,
    json_decode_state,
)
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.packages import normalized_packages
from dagster_dlt._dlt.tables import transaction


def state_below(working_dir: Path) -> dict[str, Any]:
    """Return the pipeline's state that a working directory holds, if it does."""
    try:
        text = (working_dir / Pipeline.STATE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return dict(json_decode_state(text))


def packed_state(pipeline: Pipeline, load_id: str) -> Mapping[str, Any] | None:
    """Return the row with the pipeline's state that a package will commit, if it has one."""
    return normalized_packages(pipeline).get_load_package_state(load_id).get("pipeline_state")


def state_in(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pipeline's state that a row of `_dlt_pipeline_state` holds."""
    return dict(decompress_state(row["state"]))


def state_before(pipeline: Pipeline, load_id: str) -> dict[str, Any]:
    """Return the pipeline's state as it was before a package was extracted."""
    with suppress(FileNotFoundError):
        text, _ = normalized_packages(pipeline).load_pipeline_state(load_id)
        if text:
            return dict(json_decode_state(text))
    return {}


def pack_state(
    pipeline: Pipeline, load_id: str, state: dict[str, Any], row: Mapping[str, Any]
) -> dict[str, Any]:
    """Put another state into a package, and return its row."""
    packages = normalized_packages(pipeline)
    state["_version_hash"] = generate_state_version_hash(cast("Any", state), ["_local"])
    packed = {
        **row,
        "version_hash": state["_version_hash"],
        "state": compress_state(cast("Any", state)),
    }
    kept = packages.get_load_package_state(load_id)
    kept["pipeline_state"] = cast("Any", packed)
    packages.save_load_package_state(load_id, kept)
    return packed


def write_state_row(client: SqlJobClientBase, load_id: str, row: Mapping[str, Any]) -> None:
    """Write the row with a load's state, in place of what there was."""
    sql, naming = client.sql_client, client.schema.naming
    table = sql.make_qualified_table_name(client.schema.state_table_name)
    columns = {
        sql.escape_column_name(naming.normalize_identifier(name)): value
        for name, value in {**row, C_DLT_ID: generate_dlt_id(), C_DLT_LOAD_ID: load_id}.items()
    }
    column = sql.escape_column_name(naming.normalize_identifier(C_DLT_LOAD_ID))
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    with client, transaction(client):
        sql.execute_sql(f"DELETE FROM {table} WHERE {column} = %s", load_id)  # noqa: S608 - quoted
        sql.execute_sql(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - quoted
            *columns.values(),
        )


def add_tables(pipeline: Pipeline, theirs: Schema) -> list[str]:
    """Add the tables and columns of another schema to that of `pipeline` which has its name.

    Returns the names of the tables that were added to.
    """
    if theirs.name not in pipeline.schema_names:
        return []
    ours, added = pipeline.schemas[theirs.name], []
    for name, table in theirs.tables.items():
        known = ours.tables.get(name)
        new = {
            column: hints
            for column, hints in table["columns"].items()
            if known is None or column not in known["columns"]
        }
        if new:
            ours.update_table(cast("TTableSchema", {**table, "columns": new}))
            added.append(name)
    if added:
        pipeline.schemas.save_schema(ours)
    return added
