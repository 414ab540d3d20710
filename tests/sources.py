"""Tiny sources in memory that feed all tests. Each function names the shape it is about."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import dlt
import pytest
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import DagsterDltResource, dlt_assets


@dlt.source(name="shop")
def shop() -> Any:
    """Two tables, one of them with a nested one."""

    @dlt.resource(primary_key="id", write_disposition="merge")
    def customers() -> Iterator[Any]:
        """Everybody who ever bought something."""
        yield [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}]

    @dlt.resource
    def orders() -> Iterator[Any]:
        """What they bought."""
        yield [
            {"id": 1, "items": [{"sku": "tea"}, {"sku": "cup"}]},
            {"id": 2, "items": [{"sku": "jam"}]},
        ]

    return customers, orders


def one(name: str, rows: Sequence[Any], source: str = "shop", **hints: Any) -> DltSource:
    """Return a source with one resource of these rows."""

    def generate() -> Iterator[Any]:
        yield list(rows)

    def build() -> Any:
        return dlt.resource(generate, name=name, **hints)

    return dlt.source(build, name=source)()


def assets_of(source: Any, pipeline: Pipeline, **options: Any) -> dg.AssetsDefinition:
    """Return the assets of `source`, loaded with row counts, in an op named `load`."""

    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, **{"name": "load", **options})
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Iterator[Any]:
        yield from dlt_resource.run(context=context).fetch_row_count()

    return load


def metadata_by_asset(
    result: dg.ExecuteInProcessResult, node: str = "load"
) -> dict[str, dict[str, Any]]:
    """Return the plain values of each materialization's metadata, by asset key."""
    return {
        event.asset_key.to_user_string(): {
            name: value.value for name, value in event.metadata.items()
        }
        for event in result.asset_materializations_for_node(node)
    }


def rows_by_table(found: Mapping[str, Any]) -> dict[str, int]:
    """Return the rows that a load wrote to each table, by an event's plain metadata."""
    return {each.data["table"]: each.data["rows"] for each in found["dagster_dlt/tables"].records}


def query(pipeline: Pipeline, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query at the pipeline's destination."""
    with pipeline.sql_client() as client:
        return [tuple(row) for row in client.execute_sql(sql) or []]


def outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next load fail as it does when the network is gone."""
    load = Pipeline.load
    left = [OSError("the network is gone")]

    def failing_once(self: Pipeline, *args: Any, **kwargs: Any) -> Any:
        if left:
            raise PipelineStepFailed(self, "load", "1", left.pop())
        return load(self, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "load", failing_once)
