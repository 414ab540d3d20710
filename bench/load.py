"""What a load costs through Dagster assets: of many small resources, and of a few slow ones."""

import itertools
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
from _clock import compare, report
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import DagsterDltResource, dlt_assets

RESOURCES = 100
SECONDS = (1, 2, 4)
ROUNDS = 4

ALONE = "Pipeline.run (dlt alone)"
EMPTY = "a step of empty assets (Dagster alone)"
LOADED = "@dlt_assets, materialized"


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


@dlt.source(name="slow")
def slow(ends: list[float]) -> list[object]:
    """Make resources that take seconds, and note when each has given its last row."""

    def rows(seconds: float) -> Iterator[Any]:
        time.sleep(seconds)
        yield {"id": 1}
        ends.append(time.perf_counter())

    return [dlt.resource(rows, name=f"takes_{each}")(each) for each in SECONDS]


def side_by_side(pipeline: Pipeline) -> tuple[float, float]:
    """Load them with `decompose="parallel"`; return when the last event came, and the first.

    The first in seconds before the last resource had given its last row.
    """
    ends: list[float] = []
    events: list[float] = []

    @dlt_assets(dlt_source=slow(ends), dlt_pipeline=pipeline, name="load")
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Iterator[Any]:
        for event in dlt_resource.run(context=context):
            events.append(time.perf_counter())
            yield event

    began = time.perf_counter()
    dg.materialize([load], resources={"dlt_resource": DagsterDltResource(decompose="parallel")})
    return events[-1] - began, max(ends) - events[0]


def main() -> None:
    """Measure and print."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        fresh = pipelines(folder)
        last, ahead = side_by_side(next(fresh))
        seconds = compare(
            ROUNDS,
            {
                ALONE: lambda: next(fresh).run(wide()),
                EMPTY: an_empty_step,
                LOADED: lambda: through_dagster(next(fresh)),
            },
        )
    # Its step and its events Dagster writes also for assets that load nothing.
    seconds[f"{LOADED}, without Dagster's part"] = seconds[LOADED] - seconds[EMPTY]
    report(f"A load of {RESOURCES} resources", seconds, baseline=ALONE)
    print(f"Resources of {SECONDS} seconds, side by side")
    print(f"  all of them, and Dagster's start {last:33.3f} s   x {last / max(SECONDS):.2f}")
    print(f"  first event before the end of the last extraction {ahead:16.3f} s")
    print()


if __name__ == "__main__":
    main()
