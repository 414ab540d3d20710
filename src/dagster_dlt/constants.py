"""Metadata keys of dagster-dlt: the documented three, and the ones we add. Imports nothing."""

from typing import Final

META_KEY_SOURCE: Final = "dagster_dlt/source"
META_KEY_PIPELINE: Final = "dagster_dlt/pipeline"
META_KEY_TRANSLATOR: Final = "dagster_dlt/translator"

#: Name of the dlt resource behind an asset. Set on every spec and event, so that an asset finds
#: its resource again whatever its key became.
META_KEY_RESOURCE: Final = "dagster_dlt/resource"
#: The same, as a list, on the event of an asset that stands for several resources.
META_KEY_RESOURCES: Final = "dagster_dlt/resources"
#: Which call of `run` an event is of, in a step that has several for one asset.
META_KEY_CALL: Final = "dagster_dlt/call"
#: Qualified name of the asset's table where another asset already carries it as
#: `dagster/table_name`: Dagster refuses one storage location on two assets.
META_KEY_TABLE: Final = "dagster_dlt/table"
#: Every table the resource wrote in this load, nested ones included, with rows, bytes and files.
META_KEY_TABLES: Final = "dagster_dlt/tables"
#: On the spec and the events of an asset that is a nested table: the table's name.
META_KEY_NESTED_TABLE: Final = "dagster_dlt/nested_table"

#: What a load has cost, and what it has changed.
META_KEY_ROWS_EXTRACTED: Final = "dagster_dlt/rows_extracted"
META_KEY_BYTES: Final = "dagster_dlt/bytes_loaded"
META_KEY_FILES: Final = "dagster_dlt/files_loaded"
META_KEY_JOB_RETRIES: Final = "dagster_dlt/job_retries"
META_KEY_SECONDS: Final = "dagster_dlt/{step}_seconds"
META_KEY_CURSOR: Final = "dagster_dlt/cursor"
META_KEY_CURSOR_VALUE: Final = "dagster_dlt/cursor_value"
META_KEY_LOAD_ID: Final = "dagster_dlt/load_id"
META_KEY_SCHEMA_VERSION: Final = "dagster_dlt/schema_version"
META_KEY_SCHEMA_CHANGES: Final = "dagster_dlt/schema_changes"

#: On a failed step: what was not loaded, where a package waits, and the command that shows it.
META_KEY_FAILED_RESOURCES: Final = "dagster_dlt/failed_resources"
META_KEY_PIPELINES_DIR: Final = "dagster_dlt/pipelines_dir"
META_KEY_INSPECT: Final = "dagster_dlt/inspect"
#: On a failed step: URLs of the archives in which packages wait for another machine.
META_KEY_PARKED: Final = "dagster_dlt/parked"

#: On the observation of a dry run: what the run would do.
META_KEY_DRY_RUN: Final = "dagster_dlt/dry_run"

#: On the spec of a derived asset check: what it asks.
META_KEY_CHECK: Final = "dagster_dlt/check"
#: On the results of derived asset checks: rows that were looked at, those that fail, how many
#: different values they have, a sample of them, the query that finds them, and what was looked at.
META_KEY_CHECKED_ROWS: Final = "dagster_dlt/checked_rows"
META_KEY_FAILED_ROWS: Final = "dagster_dlt/failed_rows"
META_KEY_FAILED_VALUES: Final = "dagster_dlt/failed_values"
META_KEY_ROWS_WITHOUT: Final = "dagster_dlt/rows_without"
META_KEY_SAMPLE: Final = "dagster_dlt/sample"
META_KEY_QUERY: Final = "dagster_dlt/query"
META_KEY_SCOPE: Final = "dagster_dlt/scope"
META_KEY_NEWEST: Final = "dagster_dlt/newest"
META_KEY_AGE_HOURS: Final = "dagster_dlt/age_hours"
META_KEY_USUAL_ROWS: Final = "dagster_dlt/usual_rows"
META_KEY_DRIFT: Final = "dagster_dlt/drift"

DAGSTER_TABLE_NAME: Final = "dagster/table_name"
DAGSTER_URI: Final = "dagster/uri"
DAGSTER_COLUMN_LINEAGE: Final = "dagster/column_lineage"
DAGSTER_STORAGE_KIND: Final = "dagster/storage_kind"
DAGSTER_COLUMN_SCHEMA: Final = "dagster/column_schema"
DAGSTER_ROW_COUNT: Final = "dagster/row_count"
DAGSTER_PARTITION_ROW_COUNT: Final = "dagster/partition_row_count"
DAGSTER_CODE_REFERENCES: Final = "dagster/code_references"
