"""What a load of 100 small resources costs through Dagster assets, against `Pipeline.run`."""

import itertools
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
from _clock import compare, report
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import DagsterDltResource, dlt_assets

RESOURCES = 100
ROUNDS = 4


@dlt.source(name="wide")
def wide() -> list[object]:
    """Make the resources, as a source function does."""
    return [dlt.resource([{"id": 1}], name=f"r{number}") for number in range(RESOURCES)]


def pipelines(folder: str) -> Iterator[Pipeline]:
    """Yield a new pipeline into a new database each time."""
    for number in itertools.count():
        place = Path(folder) / str(number)
        place.mkdir()
        yield dlt.pipeline(
            "wide",
            pipelines_dir=str(place),
            destination=dlt.destinations.duckdb(str(place / "x.duckdb")),
            dataset_name="raw",
        )


def through_dagster(pipeline: Pipeline) -> None:
    """Load as assets, in this process."""

    @dlt_assets(dlt_source=wide(), dlt_pipeline=pipeline, name="load")
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Iterator[Any]:
        yield from dlt_resource.run(context=context)

    dg.materialize([load], resources={"dlt_resource": DagsterDltResource()})


def an_empty_step() -> None:
    """Let Dagster record as many assets that load nothing."""
    specs = [dg.AssetSpec(f"r{number}") for number in range(RESOURCES)]

    @dg.multi_asset(specs=specs, name="load")
    def load() -> Iterator[Any]:
        yield from (dg.MaterializeResult(asset_key=spec.key) for spec in specs)

    dg.materialize([load])


def main() -> None:
    """Measure and print."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        fresh = pipelines(folder)
        seconds = compare(
            ROUNDS,
            {
                "Pipeline.run (dlt alone)": lambda: next(fresh).run(wide()),
                "a step of empty assets (Dagster alone)": an_empty_step,
                "@dlt_assets, materialized": lambda: through_dagster(next(fresh)),
            },
        )
    report(f"A load of {RESOURCES} resources", seconds, baseline="Pipeline.run (dlt alone)")


if __name__ == "__main__":
    main()
