"""Load New York's flights of 2013 through Dagster, count what arrived, and build marts of it.

However often it runs, there are as many rows: the small tables are merged on their keys, and months
that are loaded again replace what they had loaded. The runs are kept in the project's Dagster home,
where `dg dev` shows them afterwards.
"""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# The demo runs from a checkout, without an installation of this project.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
# Dagster's telemetry is off in dagster.yaml; this is dlt's.
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dagster as dg
import dlt
from dlt.common.runtime.collector_base import Collector
from flights.definitions import defs
from flights.defs.assets import months, operations_assets, pipeline, reference_data_assets
from flights.defs.marts import marts_assets
from flights.pipeline import database, home

SETTINGS = Path(__file__).resolve().parent / "data" / "dagster" / "dagster.yaml"

#: What the data set holds.
ROWS = {"airlines": 16, "airports": 1_458, "planes": 3_322, "flights": 336_776, "weather": 26_115}


@dataclass(frozen=True)
class Loaded:
    """One line of the table at the end; `seconds` count from the start of the asset's run."""

    asset: str
    table: str
    seconds: float


def main() -> int:
    """Materialize every asset, print the table, and return 1 when a count is wrong."""
    say(f"Loading into {os.environ.get('FLIGHTS_DESTINATION') or database()}")
    first, last = months.get_first_partition_key(), months.get_last_partition_key()
    with dagster_instance() as instance:
        loaded = [
            *load(reference_data_assets, instance, title="The reference tables"),
            *load(
                operations_assets,
                instance,
                title=f"The months {first} to {last} in a single run",
                # As a backfill from the UI does it: one run, and one event for each month.
                tags={
                    "dagster/asset_partition_range_start": first or "",
                    "dagster/asset_partition_range_end": last or "",
                },
            ),
        ]
        build_marts(instance)
    return report(loaded, count_rows(pipeline))


def dagster_instance() -> dg.DagsterInstance:
    """Return the instance whose runs the UI of this project shows."""
    directory = home() / "dagster"
    directory.mkdir(parents=True, exist_ok=True)
    settings = directory / "dagster.yaml"
    if not settings.exists():
        shutil.copy(SETTINGS, settings)
    os.environ["DAGSTER_HOME"] = str(directory)
    return dg.DagsterInstance.get()


def load(
    assets: dg.AssetsDefinition,
    instance: dg.DagsterInstance,
    *,
    title: str,
    tags: Mapping[str, str] | None = None,
) -> Sequence[Loaded]:
    """Load `assets` in a run of its own, and say what happens while it does."""
    say(f"\n{title}")
    progress = Progress()
    pipeline.collector = progress
    result = materialize(assets, instance, tags)
    loaded = []
    for spec in assets.specs:
        newest = instance.fetch_materializations(spec.key, limit=1).records[0]
        table = spec.metadata["dagster/table_name"].rpartition(".")[-1]
        asset = spec.key.to_user_string()
        loaded.append(Loaded(asset, table, newest.timestamp - progress.started))
        progress.say(f"{asset} is loaded", at=newest.timestamp)
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            say(f"  {check.asset_key.to_user_string()}: {check.description}")
    return loaded


def materialize(
    assets: dg.AssetsDefinition,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize `assets` in a run of its own."""
    job = defs().resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=list(assets.keys),
        tags=tags,
        run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
    )


class Progress(Collector):
    """Says which stage dlt is in, behind the seconds since the start of the run."""

    def __init__(self) -> None:
        self.started = time.time()
        self.stage = ""

    def say(self, text: str, *, at: float | None = None) -> None:
        """Print `text` behind the seconds that had passed `at` that time, or now."""
        say(f"{(at or time.time()) - self.started:6.1f} s  {text}")

    def update(self, *_: object, **__: object) -> None:
        """Leave single rows and files uncounted."""

    def _start(self, step: str) -> None:
        # The step reads "Load operations in 1763641234.56". dlt's own state is a second step of
        # the same stage.
        stage = step.split(maxsplit=1)[0].lower()
        if stage != self.stage:
            self.stage = stage
            self.say(stage)

    def _stop(self) -> None:
        pass


def count_rows(pipeline: dlt.Pipeline) -> Mapping[str, int]:
    """Ask the destination how many rows each table has."""
    rows = {}
    with pipeline.sql_client() as client:
        for table in ROWS:
            name = client.make_qualified_table_name(table)
            with client.execute_query(f"SELECT count(*) FROM {name}") as cursor:  # noqa: S608
                [(rows[table],)] = cursor.fetchall()
    return rows


#: What is printed of the marts.
FINDINGS = {
    "The busiest routes": "SELECT route, flights, arrival_delay FROM analytics.busiest_routes "
    "ORDER BY flights DESC LIMIT 3",
    "Departures by the weather": "SELECT weather, flights, departure_delay, percent_cancelled "
    "FROM analytics.weather_effect ORDER BY departure_delay DESC",
}


def build_marts(instance: dg.DagsterInstance) -> None:
    """Run dbt's models and tests through Dagster, and print some of what they say."""
    if os.environ.get("FLIGHTS_DESTINATION"):
        say("\nThe dbt project reads DuckDB, so it is left out.")
        return
    say("\nThe marts, by dbt")
    materialize(marts_assets, instance)
    for title, query in FINDINGS.items():
        with pipeline.sql_client() as client, client.execute_query(query) as cursor:
            names, rows = [column[0] for column in cursor.description], cursor.fetchall()
        lines = [names, *([str(value) for value in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        say(f"\n{title}")
        for line in lines:
            cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
            say(f"  {'  '.join(cells)}".rstrip())


def report(loaded: Sequence[Loaded], rows: Mapping[str, int]) -> int:
    """Print the table; return 1 when a count differs from what the data set holds."""
    width = max(len(line.asset) for line in loaded)
    say(f"\n{'asset':{width}}  {'rows':>8}  {'seconds':>7}")
    wrong = 0
    for line in loaded:
        expected, found = ROWS[line.table], rows[line.table]
        note = "" if found == expected else f"  expected {expected:,}"
        wrong += found != expected
        say(f"{line.asset:{width}}  {found:>8,}  {line.seconds:>7.1f}{note}")
    say("\nTo see the assets and these runs in Dagster's UI: make ui")
    return 1 if wrong else 0


def say(text: str) -> None:
    """Print a line at once, also when the output goes into a file."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
