"""The source that most tests of the documented API load, and short ways to load and look."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import dlt
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import DagsterDltResource, dlt_assets


@dlt.source
def bookshop() -> Any:
    """Four resources: merged, appended with nested rows, derived, and empty."""

    @dlt.resource(
        primary_key="isbn",
        write_disposition="merge",
        columns={
            "isbn": {"unique": True, "description": "As printed on the back."},
            "price": {"precision": 8},
        },
    )
    def books() -> Iterator[Any]:
        """Every title on the shelves."""
        yield [
            {"isbn": "1", "title": "Emma", "price": 12},
            {"isbn": "2", "title": "Ulysses", "price": 19},
        ]

    @dlt.resource
    def sales() -> Iterator[Any]:
        """What was sold."""
        yield [
            {"id": 1, "lines": [{"isbn": "1"}, {"isbn": "2"}]},
            {"id": 2, "lines": [{"isbn": "1"}]},
            {"id": 3, "lines": []},
        ]

    @dlt.transformer(data_from=books)
    def reviews(titles: Any) -> Iterator[Any]:
        """What readers say of a title."""
        yield [{"isbn": title["isbn"], "stars": 5} for title in titles]

    @dlt.resource
    def returns() -> Iterator[Any]:
        yield from ()

    return books, sales, reviews, returns


def rows(name: str, *items: Mapping[str, Any], source: str = "shop", **hints: Any) -> DltSource:
    """Return a source with one resource of these rows."""
    return dlt.source(lambda: dlt.resource(list(items), name=name, **hints), name=source)()


def assets_of(
    source: DltSource, pipeline: Pipeline, run: Mapping[str, Any] | None = None, **options: Any
) -> dg.AssetsDefinition:
    """Return the assets of `source` in an op `load`, which runs with the options in `run`."""

    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, **{"name": "load", **options})
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource) -> Iterator[Any]:
        yield from dlt.run(context=context, **(run or {}))

    return load


def materialize(*assets: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
    """Materialize `assets` with the dlt resource under the documented key."""
    return dg.materialize(list(assets), resources={"dlt": DagsterDltResource()}, **options)


def events_of(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Return the plain values of each materialization's metadata, by asset key."""
    return {
        event.materialization.asset_key.to_user_string(): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.all_events
        if event.is_step_materialization
    }


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """Return the text of the failed step's error."""
    (event,) = (event for event in result.all_events if event.is_step_failure)
    return event.step_failure_data.error.to_string()


def query(pipeline: Pipeline, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query at the pipeline's destination."""
    with pipeline.sql_client() as client:
        return [tuple(row) for row in client.execute_sql(sql) or []]


def tables_of(pipeline: Pipeline) -> set[str]:
    """Return the names of the data tables at the pipeline's destination."""
    found = query(pipeline, "select table_name from information_schema.tables")
    return {name for (name,) in found if not name.startswith("_dlt")}
