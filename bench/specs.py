"""What it costs to turn 1,000 resources into asset specs."""

import tempfile
from pathlib import Path

import dagster as dg
import dlt
from _clock import compare, report
from dlt.extract import DltSource

from dagster_dlt import DltSourceSnapshot, build_dlt_asset_specs

RESOURCES = 1_000
ROUNDS = 5


@dlt.source(name="wide")
def wide() -> list[object]:
    """Make the resources, as a source function does."""

    def make(number: int) -> object:
        def rows() -> object:
            """Rows."""
            yield {"id": number}

        return dlt.resource(rows, name=f"r{number}")

    return [make(number) for number in range(RESOURCES)]


def loop(source: DltSource) -> None:
    """Ask dlt for the same facts, without Dagster."""
    for resource in source.selected_resources.values():
        source.schema.naming.normalize_tables_path(str(resource.table_name))


def by_hand(source: DltSource) -> list[dg.AssetSpec]:
    """Write the specs as a user would who has no library."""
    return [
        dg.AssetSpec(
            key=f"dlt_wide_{name}",
            deps=[f"wide_{name}"],
            kinds={"dlt", "duckdb"},
            metadata={"dagster/table_name": f"raw.{name}", "dagster/storage_kind": "duckdb"},
        )
        for name in source.selected_resources
    ]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        destination = dlt.destinations.duckdb(f"{folder}/x.duckdb")
        pipeline = dlt.pipeline(
            "wide", pipelines_dir=folder, destination=destination, dataset_name="raw"
        )
        source = wide()
        names = list(source.resources)
        snapshot = DltSourceSnapshot(Path(folder) / "wide.json")
        snapshot.write(wide)
        seconds = compare(
            ROUNDS,
            {
                "making the source (dlt alone)": wide,
                "looping over its resources (dlt alone)": lambda: loop(source),
                "asset specs written by hand (Dagster alone)": lambda: by_hand(source),
                "build_dlt_asset_specs": lambda: build_dlt_asset_specs(source, pipeline),
                "the same, of names instead of a source": lambda: build_dlt_asset_specs(
                    wide, pipeline, resources=names
                ),
                "the same, of a snapshot instead of a source": lambda: build_dlt_asset_specs(
                    wide, pipeline, snapshot=snapshot
                ),
            },
        )
    report(f"{RESOURCES:,} resources as specs", seconds, baseline="making the source (dlt alone)")


if __name__ == "__main__":
    main()
