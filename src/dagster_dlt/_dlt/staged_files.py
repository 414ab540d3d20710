"""Files that wait in a staging destination, a bucket, until a warehouse has copied them."""

import re
from collections.abc import Iterable

from dlt.common.destination.client import SupportsStagingDestination
from dlt.common.schema import Schema
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.destinations import destination_with

_EMPTIES = "truncate_tables_on_staging_destination_before_load"


def keep_staged_files(pipeline: Pipeline) -> None:
    """Let `pipeline` not empty its staging destination when it begins a load.

    By default dlt does, with the files that other loads have there, and those that a package needs
    that is loaded further.
    """
    destination = pipeline.destination
    if pipeline.staging and destination and hasattr(destination.spec, _EMPTIES):
        pipeline.destination = destination_with(destination, **{_EMPTIES: False})


def remove_staged_files(
    pipeline: Pipeline, schema: Schema, load_id: str, tables: Iterable[str]
) -> int:
    """Remove the files of a committed load from the staging destination; return how many.

    They are told by the load id in their names, which dlt's default layout puts there. Where the
    files themselves are the tables, as for Athena, they stay.
    """
    if not pipeline.staging:
        return 0
    client, bucket = pipeline._get_destination_clients(schema)
    if not isinstance(client, SupportsStagingDestination) or not isinstance(
        bucket, FilesystemClient
    ):
        return 0
    own = re.compile(rf"(?<!\d){re.escape(load_id)}(?!\d)")
    files = {
        file
        for table in tables
        if not client.should_load_data_to_staging_dataset_on_staging_destination(table)
        and not client.should_drop_table_on_staging_destination(schema.tables[table])
        for file in bucket.list_table_files(table)
        if own.search(file)
    }
    if files:
        bucket.fs_client.rm([bucket.make_remote_url(file) for file in sorted(files)])
    return len(files)
