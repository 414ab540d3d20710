"""Warehouses that copy files from a bucket: a DuckDB that does so stands for them."""

from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import pytest
from dlt.common.destination.client import SupportsStagingDestination
from dlt.destinations.impl.duckdb.duck import DuckDbClient, DuckDbCopyJob
from dlt.destinations.job_impl import ReferenceFollowupJobRequest

from dagster_dlt import DagsterDltResource, dlt_assets


class CopyJob(DuckDbCopyJob):
    def __init__(self, file_path: str) -> None:
        super().__init__(file_path)
        self._staged = ReferenceFollowupJobRequest.resolve_reference(file_path)

    def run(self) -> None:
        sql = self._job_client.sql_client
        table = sql.make_qualified_table_name(self.load_table_name)
        sql.execute_sql(f"INSERT INTO {table} BY NAME FROM read_parquet('{self._staged}')")


class CopyingClient(DuckDbClient, SupportsStagingDestination):
    def should_truncate_table_before_load_on_staging_destination(self, _table: str) -> bool:
        return self.config.truncate_tables_on_staging_destination_before_load

    def create_load_job(self, table, file_path, load_id, restore=False):  # noqa: FBT002 - as dlt has it
        if ReferenceFollowupJobRequest.is_reference_job(file_path):
            return CopyJob(file_path)
        return super().create_load_job(table, file_path, load_id, restore)


class warehouse(dlt.destinations.duckdb):  # noqa: N801 - dlt calls a destination's class so
    def _raw_capabilities(self) -> Any:
        capabilities = super()._raw_capabilities()
        capabilities.preferred_staging_file_format = "parquet"
        capabilities.supported_staging_file_formats = ["parquet"]
        return capabilities

    @property
    def client_class(self) -> type[CopyingClient]:
        return CopyingClient


@pytest.fixture
def bucket(tmp_path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def pipeline(tmp_path, bucket) -> dlt.Pipeline:
    return dlt.pipeline(
        "shop",
        pipelines_dir=str(tmp_path / "pipelines"),
        destination=warehouse(str(tmp_path / "warehouse.duckdb")),
        staging=dlt.destinations.filesystem(str(bucket)),
        dataset_name="raw",
    )


def materialize(pipeline: dlt.Pipeline, *disposition: str) -> dg.ExecuteInProcessResult:
    @dlt.source(name="shop")
    def shop() -> list[object]:
        return [
            dlt.resource(
                [{"id": 1, "lines": [1, 2]}], name=each, write_disposition=each, primary_key="id"
            )
            for each in disposition
        ]

    @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Any:
        yield from dlt_resource.run(context=context)

    return dg.materialize([load], resources={"dlt_resource": DagsterDltResource()})


def files_in(bucket: Path) -> set[str]:
    return {str(each.relative_to(bucket)) for each in bucket.rglob("*.parquet")}


def rows_of(pipeline: dlt.Pipeline, table: str) -> int:
    with pipeline.sql_client() as client:
        ((rows,),) = client.execute_sql(f"SELECT count(*) FROM raw.{table}")
    return rows


def test_files_of_other_loads_stay_in_the_bucket_and_ones_own_go_once_they_are_loaded(
    pipeline, bucket
):
    assert materialize(pipeline, "append").success
    other = bucket / "raw" / "append" / "1700000000.5.0123456789.parquet"
    other.write_bytes(b"of a load that is going on")

    assert materialize(pipeline, "append", "merge", "replace").success

    assert files_in(bucket) == {str(other.relative_to(bucket))}
    tables = ("append", "append__lines", "merge", "merge__lines", "replace", "replace__lines")
    assert [rows_of(pipeline, table) for table in tables] == [2, 4, 1, 2, 1, 2]


def test_rows_are_loaded_also_where_the_files_cannot_be_removed(pipeline, bucket, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError

    monkeypatch.setattr(LocalFileSystem, "rm", refuse)

    assert materialize(pipeline, "append").success
    assert files_in(bucket)
    assert rows_of(pipeline, "append") == 1
