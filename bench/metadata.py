"""What true metadata cost in a load of many tables: bytes of events, and time after dlt's load."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import dagster as dg
import dlt
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient as Client

from dagster_dlt import DagsterDltResource, dlt_assets
from dagster_dlt.loading import run as loading

TABLES = (100, 400, 800)

T = TypeVar("T")


class Cost(NamedTuple):
    """What one run has taken."""

    #: Seconds of the run, and those of them after dlt's load that are ours.
    whole: float
    ours: float
    #: Bytes of all events of materializations, and of the largest one.
    written: int
    largest: int
    #: Sessions at the destination that were opened for them.
    sessions: int


@dlt.source(name="wide")
def wide(tables: int) -> list[object]:
    """Make resources, of which each fourth one has a nested table."""
    row: dict[str, Any] = {f"column_{number}": number for number in range(10)}
    kinds = [row, row, row, {**row, "lines": [{"sku": 1}]}]
    names = range(tables * 4 // 5)
    return [dlt.resource([kinds[number % 4]], name=f"r{number}") for number in names]


class Clock:
    """Takes the time of what comes after dlt's load: the facts, and then the events."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.ours = 0.0
        self.known_at = 0.0
        self.sessions = 0

    def facts(self, look_up: Callable[..., T]) -> Callable[..., T]:
        """Return a function that looks up what was loaded, and says how long that takes."""

        def timed(*args: object) -> T:
            began = time.perf_counter()
            found = look_up(*args)
            self.known_at = time.perf_counter()
            self.ours += self.known_at - began
            return found

        return timed

    def events(self, events: Iterator[T]) -> Iterator[T]:
        """Yield events: what Dagster does with them is not ours."""
        asked = time.perf_counter()
        for event in events:
            self.ours += time.perf_counter() - max(asked, self.known_at)
            yield event
            asked = time.perf_counter()

    def session(self, begin: Callable[..., T]) -> Callable[..., T]:
        """Return a function that opens a session, which is counted if the load is over."""
        thread = threading.current_thread()

        def counted(*args: object) -> T:
            self.sessions += bool(self.known_at) and threading.current_thread() is thread
            return begin(*args)

        return counted


def cost_of(tables: int) -> Cost:
    """Load so many tables as assets, and return what it took."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.ephemeral() as instance:
        pipeline = dlt.pipeline(
            "wide",
            pipelines_dir=folder,
            destination=dlt.destinations.duckdb(str(Path(folder, "x.duckdb"))),
            dataset_name="raw",
        )

        @dlt_assets(dlt_source=wide(tables), dlt_pipeline=pipeline, name="load")
        def load(
            context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource
        ) -> Iterator[Any]:
            yield from clock.events(dlt_resource.run(context=context).fetch_row_count())

        with (
            patch.object(loading, "outcome_of", clock.facts(loading.outcome_of)),
            patch.object(Client, "open_connection", clock.session(Client.open_connection)),
        ):
            began = time.perf_counter()
            resources = {"dlt_resource": DagsterDltResource()}
            result = dg.materialize([load], resources=resources, instance=instance)
            whole = time.perf_counter() - began
        entries = [each for each in instance.all_logs(result.run_id) if each.asset_materialization]
        sizes = [len(each.to_json().encode()) for each in entries]
    return Cost(whole, clock.ours, sum(sizes), max(sizes), clock.sessions)


def main() -> None:
    """Measure and print."""
    logging.disable(logging.CRITICAL)
    cost_of(10)  # imports, once
    print("Events of a load of many tables, with row counts")
    for tables in TABLES:
        cost = cost_of(tables)
        print(
            f"  {tables} tables {cost.whole:8.2f} s, after dlt's load {cost.ours:6.3f} s"
            f"   {cost.ours / cost.whole:6.2%}"
            f"   {1000 * cost.ours / tables:6.2f} ms and {cost.written / tables:6.0f} bytes a table"
            f"   largest {cost.largest} bytes   {cost.sessions} session(s)"
        )
    print()


if __name__ == "__main__":
    main()
