"""Partitions are windows: what a time partition loads, and what it leaves as it is."""

import datetime as dt
import pickle
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import dagster as dg
import dlt
import pendulum
import pyarrow as pa
import pytest
import requests
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline
from dlt.sources.rest_api import rest_api_source
from dlt.sources.sql_database import sql_table
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    dlt_assets,
)
from dagster_dlt._facts import Window
from dagster_dlt.errors import (
    CursorValueError,
    InvalidResourceAttributeError,
    PartitionedReplaceError,
    PartitionWarning,
    SharedCursorError,
)
from dagster_dlt.loading.windows import Span, wall_clock

BERLIN = ZoneInfo("Europe/Berlin")
UTC = dt.timezone.utc
DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-01-05")
#: Around the night in which summer time began, and the one in which it ended.
BERLIN_DAYS = dg.DailyPartitionsDefinition(
    start_date="2024-01-01", end_date="2024-12-31", timezone="Europe/Berlin"
)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


def wall(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def assets_of(
    source: DltSource,
    pipeline: Pipeline,
    partitions: object = DAYS,
    *,
    row_counts: bool = False,
    **options: Any,
) -> dg.AssetsDefinition:
    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, partitions_def=partitions, **options)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Iterator[Any]:
        events = dlt_resource.run(context=context)
        yield from events.fetch_row_count() if row_counts else events

    return load


def ids(pipeline: Pipeline, table: str = "events") -> list[int]:
    with pipeline.sql_client() as client:
        rows = client.execute_sql(f"select id from {client.make_qualified_table_name(table)}")
    return sorted(row[0] for row in rows or [])


def made_of(rows: list[dict[str, Any]], **incremental: Any) -> DltSource:
    """Return a source of one resource, `events`, with a cursor in its arguments."""

    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource
        def events(at: Any = dlt.sources.incremental("at", **incremental)) -> Any:
            yield rows

        return events

    return clock()


def declared(resource: DltResource, window: str) -> DltResource:
    return resource.apply_hints(additional_table_hints={"x-dagster": {"window": window}})


BEGINNING = utc("2000-01-01")
#: The hours around the night of the second of January, as the sources write them.
HOURS = [utc("2024-01-01T22:00:00") + dt.timedelta(minutes=30 * step) for step in range(60)]


@pytest.mark.parametrize(
    ("initial", "write"),
    [
        (BEGINNING, lambda at: at),
        (pendulum.datetime(2000, 1, 1), pendulum.instance),
        (wall("2000-01-01"), lambda at: at.astimezone(BERLIN).replace(tzinfo=None)),
        (BEGINNING, lambda at: at.astimezone(BERLIN).replace(tzinfo=None)),
        (dt.date(2000, 1, 1), lambda at: at.astimezone(BERLIN).date()),
        ("2000-01-01", lambda at: at.astimezone(BERLIN).date().isoformat()),
        ("2000-01-01", lambda at: at.isoformat()),
        ("2000-01-01T00:00:00Z", lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}"),
        ("2000-01-01T00:00:00Z", lambda at: f"{at:%Y-%m-%dT%H:%M:%S.000Z}"),
        ("2000-01-01T00:00:00.000Z", lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}"),
        ("2000-01-01T00:00:00+01:00", lambda at: at.astimezone(BERLIN).isoformat()),
        ("2000-01-01T00:00:00Z", lambda at: at.astimezone(ZoneInfo("Asia/Tokyo")).isoformat()),
        ("2000-01-01 00:00:00", lambda at: f"{at.astimezone(BERLIN):%Y-%m-%d %H:%M:%S}"),
    ],
    ids=[
        "aware", "pendulum", "naive", "naive-unsaid", "date", "day", "day-of-times", "Z",
        "Z-with-more-digits", "Z-with-fewer-digits", "offset", "other-offset", "text-without-zone",
    ],
)  # fmt: skip
def test_a_partition_loads_the_rows_of_its_window(pipeline, materialize, initial, write):
    rows = [{"id": step, "at": write(at)} for step, at in enumerate(HOURS)]
    assets = assets_of(made_of(rows, initial_value=initial), pipeline, BERLIN_DAYS)

    materialize(assets, partition_key="2024-01-02")

    start, end = dt.datetime(2024, 1, 2, tzinfo=BERLIN), dt.datetime(2024, 1, 3, tzinfo=BERLIN)
    assert ids(pipeline) == [step for step, at in enumerate(HOURS) if start <= at < end]


def range_of(first: str, last: str) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


def days(
    count: int, write: Callable[[dt.datetime], object] = lambda at: at
) -> list[dict[str, Any]]:
    """Return a row for noon of each of the first days of 2024, in UTC."""
    noon = utc("2024-01-01T12:00:00")
    return [
        {"id": day, "at": write(noon + dt.timedelta(days=day - 1))} for day in range(1, count + 1)
    ]


def cursors(pipeline: Pipeline, resource: str = "events", source: str = "clock") -> dict[str, Any]:
    """Return the cursors of a resource that the destination has."""
    fresh = dlt.pipeline(
        pipeline.pipeline_name,
        destination=pipeline.destination,
        dataset_name=pipeline.dataset_name,
        pipelines_dir=f"{pipeline.pipelines_dir}-to-look",
    )
    fresh.sync_destination()
    resources = fresh.state.get("sources", {}).get(source, {}).get("resources", {})
    found = resources.get(resource, {}).get("incremental", {})
    return {path: cursor.get("last_value") for path, cursor in found.items()}


# --- the arithmetic ------------------------------------------------------------------------------

ZONES = st.sampled_from(
    [
        BERLIN,
        ZoneInfo("America/New_York"),
        ZoneInfo("America/Sao_Paulo"),
        ZoneInfo("Australia/Lord_Howe"),
        ZoneInfo("Pacific/Apia"),
        UTC,
    ]
)
#: Days on which the clock changed in one of these zones.
CHANGES = st.sampled_from(
    [
        *("2011-12-30", "2018-02-18", "2018-11-04", "2024-03-10", "2024-03-31"),
        *("2024-04-07", "2024-10-06", "2024-10-27", "2024-11-03"),
    ]
)
MOMENTS = st.one_of(
    st.builds(
        lambda day, seconds: utc(day) + dt.timedelta(seconds=seconds),
        CHANGES,
        st.integers(-48 * 3600, 48 * 3600),
    ),
    st.datetimes(wall("2001-01-01"), wall("2030-01-01"), timezones=st.just(UTC)),
)
STEPS = st.sampled_from([dt.timedelta(minutes=15), dt.timedelta(hours=1), dt.timedelta(days=1)])


def written(at: dt.datetime, zone: dt.tzinfo, kind: str) -> object:
    """Return what a source has in a row for a moment."""
    local = at.astimezone(zone)
    return {
        "datetime": local,
        "local_datetime": local.replace(tzinfo=None, fold=0),
        "date": local.date(),
        "text": local.isoformat(),
        "milliseconds": round(at.timestamp() * 1000),
    }[kind]


@given(MOMENTS, ZONES, STEPS, st.sampled_from(["datetime", "text", "milliseconds"]))
def test_a_window_has_the_moments_from_its_start_to_before_its_end(at, zone, step, kind):
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    start = (at - step / 2).astimezone(zone)
    for window, expected in [
        (Window(start, at.astimezone(zone)), 1),
        (Window(at.astimezone(zone), (at + step).astimezone(zone)), 0),
        (Window(start, (at + step).astimezone(zone)), 0),
        (Window((at + step / 3).astimezone(zone), (at + step).astimezone(zone)), -1),
    ]:
        assert Span(window, kind).side(written(at, zone, kind)) == expected


@given(MOMENTS, ZONES, STEPS, st.sampled_from(["local_datetime", "date"]))
def test_a_time_on_the_wall_is_in_one_of_the_windows_that_follow_each_other(at, zone, step, kind):
    value = written(at, zone, kind)
    bounds = [(at + step * each).astimezone(zone) for each in range(-120, 121)]
    spans = [Span(Window(*pair), kind) for pair in pairwise(bounds)]

    found = [span for span in spans if span.side(value) == 0]

    assert len(found) == 1
    low, high = found[0].exactly(kind)
    assert low <= value < high


@given(MOMENTS, ZONES, STEPS, st.sampled_from(["local_datetime", "date"]))
def test_the_source_is_asked_for_all_of_a_window_at_least(at, zone, step, kind):
    value = written(at, zone, kind)
    span = Span(Window((at - step).astimezone(zone), (at + step).astimezone(zone)), kind)
    low, high = span.for_source

    assert span.side(value) != 0 or low <= value < high


EXAMPLES = st.sampled_from(
    [
        "2000-01-01",
        "2000-01-01T00:00",
        "2000-01-01 00:00:00",
        "2000-01-01T00:00:00Z",
        "2000-01-01T00:00:00.000+02:00",
        "2000-01-01T00:00:00.000000-0330",
    ]
)


@given(MOMENTS, ZONES, STEPS, EXAMPLES)
def test_texts_are_asked_for_in_the_form_of_the_example(at, zone, step, example):
    window = Window((at - step).astimezone(zone), (at + step).astimezone(zone))
    span = Span(window, "text", example)
    low, high = span.for_source

    assert len(low) == len(high) == len(example)
    assert low[10:11] == example[10:11]
    assert low <= high
    # Read back, they are not inside of what they stand for.
    assert span.side(low) <= 0
    assert span.side(high) == 1


def test_an_hour_that_the_clock_shows_twice_is_of_the_first_pass():
    first = dt.datetime(2024, 10, 27, 2, 0, tzinfo=BERLIN)

    assert wall_clock(first) == wall("2024-10-27T02:00")
    assert wall_clock(first.replace(fold=1)) == wall("2024-10-27T03:00")
    assert wall_clock(first.replace(minute=30, fold=1)) == wall("2024-10-27T03:00")


@pytest.mark.parametrize("value", [7, "seven", None, "2024", 2.5])
def test_a_value_that_tells_no_time_is_refused(value):
    window = Window(utc("2024-01-01"), utc("2024-01-02"))

    with pytest.raises(CursorValueError, match="tells no time"):
        Span(window, "datetime").side(value)


# --- partitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("zone", "night"), [("Europe/Berlin", "2024-10-27"),
                                             ("Europe/Berlin", "2024-03-31"),
                                             ("America/New_York", "2024-11-03")])  # fmt: skip
def test_hours_around_a_change_of_the_clock_are_loaded_once_each(
    pipeline, materialize, zone, night
):
    start = wall(f"{night}T01:00:00").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    rows = [
        {"id": step, "at": (start + dt.timedelta(minutes=20 * step)).astimezone(ZoneInfo(zone))}
        for step in range(9)
    ]
    for row in rows:
        row["at"] = row["at"].replace(tzinfo=None)
    hours = dg.HourlyPartitionsDefinition(start_date=f"{night}-01:00", timezone=zone)
    assets = assets_of(made_of(rows, initial_value=wall("2000-01-01")), pipeline, hours)

    keys = hours.get_partition_keys(start + dt.timedelta(hours=3))
    for key in keys:
        materialize(assets, partition_key=key)

    assert len(keys) == 3
    assert ids(pipeline) == list(range(9))


def test_a_range_that_is_backfilled_in_one_run_is_one_window(pipeline, materialize):
    assets = assets_of(made_of(days(6), initial_value=BEGINNING), pipeline)

    materialize(assets, tags=range_of("2024-01-02", "2024-01-04"))

    assert ids(pipeline) == [2, 3, 4]


@pytest.mark.parametrize(
    ("initial", "write", "counted"),
    [
        (BEGINNING, lambda at: at, True),
        (dt.date(2000, 1, 1), lambda at: at.astimezone(BERLIN).date(), True),
        ("2000-01-01T00:00:00Z", lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}", True),
        (wall("2000-01-01"), lambda at: at.astimezone(BERLIN).replace(tzinfo=None), False),
    ],
    ids=["aware", "date", "text", "naive"],
)
def test_each_partition_of_a_range_has_its_own_row_count_where_the_cursor_tells(
    pipeline, materialize, initial, write, counted
):
    rows = [{"id": step, "at": write(at)} for step, at in enumerate(HOURS)]
    assets = assets_of(made_of(rows, initial_value=initial), pipeline, BERLIN_DAYS, row_counts=True)

    result = materialize(assets, tags=range_of("2024-01-01", "2024-01-04"))

    found = {
        event.partition: event.step_materialization_data.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    counts = {key: each.get("dagster/partition_row_count") for key, each in found.items()}
    expected = Counter(f"{at.astimezone(BERLIN):%Y-%m-%d}" for at in HOURS)
    assert expected["2024-01-01"] != expected["2024-01-02"] != expected["2024-01-03"]
    assert {key: each and each.value for key, each in counts.items()} == {
        key: expected[key] if counted else None for key in found
    }
    assert list(found) == ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]


def test_the_time_in_a_key_of_several_dimensions_is_the_window(pipeline, materialize):
    both = dg.MultiPartitionsDefinition(
        {"day": DAYS, "shop": dg.StaticPartitionsDefinition(["a", "b"])}
    )
    assets = assets_of(made_of(days(6), initial_value=BEGINNING), pipeline, both)

    materialize(assets, partition_key=dg.MultiPartitionKey({"day": "2024-01-03", "shop": "a"}))

    assert ids(pipeline) == [3]


def test_a_range_of_keys_of_several_dimensions_is_one_window(pipeline, materialize):
    both = dg.MultiPartitionsDefinition(
        {"day": DAYS, "shop": dg.StaticPartitionsDefinition(["a", "b"])}
    )
    assets = assets_of(made_of(days(6), initial_value=BEGINNING), pipeline, both)

    materialize(assets, tags=range_of("2024-01-02|a", "2024-01-03|a"))

    assert ids(pipeline) == [2, 3]


def test_an_op_of_a_partitioned_job_loads_the_window(pipeline):
    @dg.op
    def load(context: dg.OpExecutionContext) -> None:
        source = made_of(days(6), initial_value=BEGINNING)
        list(DagsterDltResource().run(context, source, pipeline))

    @dg.job(partitions_def=DAYS)
    def everything() -> None:
        load()

    assert everything.execute_in_process(partition_key="2024-01-03").success

    assert ids(pipeline) == [3]


def test_a_direct_call_with_a_partition_loads_the_window(pipeline):
    assets = assets_of(made_of(days(6), initial_value=BEGINNING), pipeline)

    list(assets(dg.build_asset_context(partition_key="2024-01-03"), DagsterDltResource()))

    assert ids(pipeline) == [3]


def test_a_partition_leaves_the_live_cursor_as_it_was(pipeline, materialize):
    rows = days(2)
    source = made_of(rows, initial_value=BEGINNING)
    live, partitioned = assets_of(source, pipeline, None), assets_of(source, pipeline)
    materialize(live)
    before = cursors(pipeline)
    rows += days(4)[2:]

    materialize(partitioned, partition_key="2024-01-03")

    assert before == cursors(pipeline)
    assert before["at"] == utc("2024-01-02T12:00:00")
    materialize(live)
    assert ids(pipeline) == [1, 2, 3, 3, 4]


def test_loads_in_one_process_have_windows_of_their_own(make_pipeline, materialize):
    met = threading.Barrier(2, timeout=60)

    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource
        def events(
            rows: int, at: Any = dlt.sources.incremental("at", initial_value=BEGINNING)
        ) -> Any:
            met.wait()
            yield from days(rows)

        return events(5)

    source = clock()
    pipelines = [make_pipeline(f"shop_{number}", dataset_name=f"raw_{number}") for number in (2, 3)]
    loads = [
        threading.Thread(
            target=materialize,
            args=(assets_of(source, each),),
            kwargs={"partition_key": f"2024-01-0{number}"},
        )
        for number, each in zip((2, 3), pipelines, strict=True)
    ]
    for load in loads:
        load.start()
    for load in loads:
        load.join()

    assert [ids(each) for each in pipelines] == [[2], [3]]


def test_a_run_without_a_partition_goes_by_the_live_cursor(pipeline, materialize):
    assets = assets_of(made_of(days(4), initial_value=utc("2024-01-03")), pipeline, None)

    materialize(assets)

    assert ids(pipeline) == [3, 4]


# --- where cursors are ---------------------------------------------------------------------------


def test_a_cursor_that_is_a_hint_is_bounded(pipeline, materialize):
    @dlt.source(name="clock")
    def clock() -> Any:
        events = dlt.resource(days(5), name="events")
        at = dlt.sources.incremental[dt.datetime]("at")
        return events.apply_hints(incremental=at)

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]


def test_a_cursor_that_the_source_passes_as_an_argument_is_bounded(pipeline, materialize):
    seen = []

    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource
        def events(count: int, at: dlt.sources.incremental[str]) -> Any:
            seen.append((at.start_value, at.end_value))
            yield days(count, lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}")

        return events(5, dlt.sources.incremental("at", initial_value="2000-01-01T00:00:00Z"))

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]
    assert seen == [("2024-01-03T00:00:00Z", "2024-01-04T00:00:00Z")]


@pytest.mark.parametrize("annotation", ["plain", "text"])
def test_the_type_in_the_annotation_tells_what_the_cursor_is(pipeline, materialize, annotation):
    kind: Any = dlt.sources.incremental[dt.date]

    @dlt.source(name="clock")
    def clock() -> Any:
        def events(at=dlt.sources.incremental("at")) -> Any:
            yield days(5, lambda at: at.date())

        events.__annotations__["at"] = (
            kind if annotation == "plain" else "dlt.sources.incremental[dt.date]"
        )
        return dlt.resource(events)

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]


def test_the_hint_of_the_column_tells_what_the_cursor_is(pipeline, materialize):
    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource(columns={"at": {"data_type": "timestamp"}})
        def events(at: Any = dlt.sources.incremental("at")) -> Any:
            yield days(5, lambda at: at.isoformat())

        return events

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]


def test_the_cursor_of_what_feeds_a_transformer_is_bounded(pipeline, materialize):
    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource
        def ticks(at: Any = dlt.sources.incremental("at", initial_value=BEGINNING)) -> Any:
            yield from days(5)

        @dlt.transformer
        def events(tick: Mapping[str, Any], add: int) -> Any:
            yield {"id": tick["id"] + add}

        return ticks | events(10)

    source = clock()
    assert list(source.resources) == ["events"]

    materialize(assets_of(source, pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [13]


# dlt itself forgets the decorator's word when the resource is called.
@pytest.mark.parametrize(
    ("decorated", "with_arguments"), [(True, False), (False, False), (False, True)]
)
def test_a_resource_that_is_read_in_the_pool_still_is(
    pipeline, materialize, with_arguments, decorated
):
    threads = []

    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource(parallelized=decorated)
        def events(
            count: int = 5, at: Any = dlt.sources.incremental("at", initial_value=BEGINNING)
        ) -> Any:
            threads.append(threading.current_thread().name)
            yield from days(count)

        made = events(5) if with_arguments else events
        return made if decorated else made.parallelize()

    source = clock()
    materialize(assets_of(source, pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]
    assert [name for name in threads if not name.startswith("dlt-pool-")] == []


def test_a_cursor_of_a_transformer_is_bounded(pipeline, materialize):
    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.transformer
        def events(
            count: int,
            add: int,
            at: Any = dlt.sources.incremental("at", initial_value=BEGINNING),
        ) -> Any:
            yield [{**row, "id": row["id"] + add} for row in days(count)]

        return dlt.resource([5], name="counts") | events(10)

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [13]


@pytest.mark.parametrize("kind", ["rows", "aware", "naive", "date", "text", "pandas"])
def test_tables_of_arrow_and_pandas_are_cut_to_the_window(pipeline, materialize, kind):
    initial: Any = "2000-01-01" if kind == "text" else BEGINNING
    at = [row["at"].astimezone(BERLIN) for row in days(5, lambda at: at + dt.timedelta(hours=10.5))]
    columns = {
        "aware": pa.array(at, pa.timestamp("us", "UTC")),
        "naive": pa.array([each.replace(tzinfo=None) for each in at], pa.timestamp("us")),
        "date": pa.array([each.date() for each in at], pa.date32()),
        "text": pa.array([each.isoformat() for each in at], pa.string()),
    }
    ids_of_rows = list(range(1, 6))

    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource
        def events(at: Any = dlt.sources.incremental("at", initial_value=initial)) -> Any:
            table = pa.table({"id": ids_of_rows, "at": columns.get(kind, columns["naive"])})
            if kind == "rows":
                yield table.to_pylist()
            else:
                yield table.to_pandas() if kind == "pandas" else table

        return events

    materialize(assets_of(clock(), pipeline, BERLIN_DAYS), partition_key="2024-01-03")

    assert ids(pipeline) == [3]


@pytest.mark.parametrize("backend", ["sqlalchemy", "pyarrow"])
@pytest.mark.parametrize("deferred", [False, True])
def test_a_table_of_a_database_is_asked_for_the_window_alone(
    pipeline, materialize, tmp_path, backend, deferred
):
    file = tmp_path / "clock.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("create table events (id integer, at datetime)")
        rows = [(row["id"], f"{row['at']:%Y-%m-%d %H:%M:%S.%f}") for row in days(5)]
        connection.executemany("insert into events values (?, ?)", rows)
    asked = []

    def note(query: Any, _table: Any, _incremental: Any, _engine: Any) -> Any:
        asked.append(dict(query.compile().params))
        return query

    @dlt.source(name="clock")
    def clock() -> Any:
        return sql_table(
            credentials=f"sqlite:///{file}",
            table="events",
            incremental=dlt.sources.incremental("at", initial_value=wall("2000-01-01")),
            backend=backend,
            defer_table_reflect=deferred,
            query_adapter_callback=note,
        )

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]
    assert list(asked[0].values()) == [wall("2024-01-03"), wall("2024-01-04")]


@pytest.mark.parametrize("column", ["timestamp", "timestamptz", "date"])
def test_a_table_of_postgres_is_read_in_the_time_zone_of_the_partition(
    pipeline, materialize, postgres, column
):
    at_socket = make_url(postgres()).set(drivername="postgresql+psycopg2")
    url = at_socket.set(host="", query={"host": unquote(at_socket.host)})
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("set time zone 'Asia/Tokyo'")
        connection.exec_driver_sql(f"create table events (id integer, at {column})")
        for row in days(5, lambda at: (at - dt.timedelta(hours=12)).astimezone(BERLIN)):
            at = row["at"] if column == "timestamptz" else row["at"].replace(tzinfo=None)
            connection.exec_driver_sql("insert into events values (%s, %s)", (row["id"], at))
    engine.dispose()

    @dlt.source(name="clock")
    def clock() -> Any:
        at = dlt.sources.incremental("at")
        text = url.render_as_string(hide_password=False)
        return sql_table(credentials=text, table="events", incremental=at)

    materialize(assets_of(clock(), pipeline, BERLIN_DAYS), partition_key="2024-01-03")

    assert ids(pipeline) == [3]


def test_an_endpoint_is_asked_for_the_window(pipeline, materialize, monkeypatch):
    asked = []

    class Answer(requests.Response):
        status_code = 200
        url = "https://clock.invalid/events"

        def json(self, **_: Any) -> Any:
            return days(5, lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}")

    def send(_session: Any, request: Any, **_: Any) -> Answer:
        if request.url.startswith(Answer.url):  # and nobody else's in this process
            asked.append(parse_qs(urlsplit(request.url).query))
        return Answer()

    monkeypatch.setattr("requests.Session.send", send)
    at = {
        "cursor_path": "at",
        "initial_value": "2000-01-01T00:00:00Z",
        "start_param": "since",
        "end_param": "until",
    }
    endpoint = {"path": "events", "paginator": "single_page", "incremental": at}
    source = rest_api_source(
        {
            "client": {"base_url": "https://clock.invalid/"},
            "resources": [{"name": "events", "endpoint": endpoint}],
        },
        name="clock",
    )

    materialize(assets_of(source, pipeline), partition_key="2024-01-03")

    assert asked == [{"since": ["2024-01-03T00:00:00Z"], "until": ["2024-01-04T00:00:00Z"]}]
    assert ids(pipeline) == [3]


@pytest.mark.parametrize(("order", "taken"), [("asc", 4), ("desc", 4), (None, 5)])
def test_the_order_of_rows_lets_dlt_stop_at_the_end_of_the_window(
    pipeline, materialize, order, taken
):
    seen = []

    @dlt.source(name="clock")
    def clock() -> Any:
        at = dlt.sources.incremental("at", initial_value=BEGINNING, row_order=order)

        @dlt.resource
        def events(at: Any = at) -> Any:
            for row in days(5) if order != "desc" else reversed(days(5)):
                seen.append(row["id"])
                yield row

        return events

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]
    assert len(seen) == taken


@pytest.mark.parametrize("as_table", [False, True])
def test_a_cursor_that_counts_down_has_the_same_window(pipeline, materialize, as_table):
    bounds = []

    @dlt.source(name="clock")
    def clock() -> Any:
        at = dlt.sources.incremental("at", initial_value=utc("2030-01-01"), last_value_func=min)

        @dlt.resource
        def events(at: Any = at) -> Any:
            bounds.append((at.start_value, at.end_value))
            rows = days(5, lambda at: at.replace(hour=0))
            yield pa.Table.from_pylist(rows) if as_table else rows

        return events

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]
    assert bounds == [(utc("2024-01-04"), utc("2024-01-03"))]


def test_a_cursor_with_an_end_of_its_own_is_left_alone(pipeline, materialize):
    source = made_of(days(5), initial_value=utc("2024-01-02"), end_value=utc("2024-01-04"))

    materialize(assets_of(source, pipeline), partition_key="2024-01-01")

    assert ids(pipeline) == [2, 3]


@pytest.mark.skipif(
    dlt.sources.incremental.allow_external_schedulers is False, reason="dlt 1.30 has no opting out"
)
def test_a_cursor_that_opts_out_of_schedulers_is_left_alone(pipeline, materialize):
    source = made_of(days(3), initial_value=utc("2024-01-02"), allow_external_schedulers=False)

    materialize(assets_of(source, pipeline), partition_key="2024-01-01")

    assert ids(pipeline) == [2, 3]


def test_rows_without_a_time_are_what_the_cursor_says_of_them(pipeline, materialize):
    rows = [*days(3), {"id": 9, "at": None}]
    source = made_of(rows, initial_value=BEGINNING, on_cursor_value_missing="exclude")

    materialize(assets_of(source, pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "factor", "said_in"),
    [("milliseconds", 10**3, "hint"), ("nanoseconds", 10**9, "settings")],
)
def test_a_number_with_a_declared_unit_is_bounded(pipeline, materialize, unit, factor, said_in):
    source = made_of(days(5, lambda at: int(at.timestamp()) * factor), initial_value=0)
    translator = None
    if said_in == "hint":
        declared(source.events, unit)
    else:
        settings = DagsterDltTranslatorSettings(resources={"events": {"window": unit}})
        translator = DagsterDltTranslator(settings)

    assets = assets_of(source, pipeline, dagster_dlt_translator=translator)
    materialize(assets, partition_key="2024-01-03")

    assert ids(pipeline) == [3]


def test_numbers_in_tables_are_bounded_in_their_unit(pipeline, materialize):
    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource
        def events(at: Any = dlt.sources.incremental("at", initial_value=0)) -> Any:
            yield pa.Table.from_pylist(days(5, lambda at: int(at.timestamp())))

        return declared(events, "seconds")

    materialize(assets_of(clock(), pipeline), partition_key="2024-01-03")

    assert ids(pipeline) == [3]


def test_a_number_without_a_unit_is_not_taken_for_a_time(pipeline, materialize):
    source = made_of([{"id": 1, "at": 1}], initial_value=0)
    with pytest.warns(PartitionWarning, match=r"'events\.at' do not say how they tell time"):
        assets = assets_of(source, pipeline)

    with pytest.raises(SharedCursorError) as caught:
        materialize(assets, partition_key="2024-01-03")

    assert caught.value.cursors == {"events": "at"}
    assert not Path(pipeline.pipelines_dir, ".dagster").exists()
    assert pickle.loads(pickle.dumps(caught.value)).by_time  # noqa: S301 - our own


@pytest.mark.parametrize("initial", ["7", "abc", "2024", None])
def test_a_text_that_is_no_time_is_not_taken_for_one(pipeline, materialize, initial):
    with pytest.warns(PartitionWarning, match="do not say how they tell time"):
        assets = assets_of(made_of(days(2), initial_value=initial), pipeline)

    with pytest.raises(SharedCursorError, match="'2024-01-03' is not loaded"):
        materialize(assets, partition_key="2024-01-03")


def test_a_cursor_in_the_configuration_is_not_read_to_be_bounded(pipeline):
    @dlt.source
    def clock() -> Any:
        @dlt.resource
        def events(at: dlt.sources.incremental[str] = dlt.config.value) -> Any:
            yield []

        return declared(events, "text")

    with pytest.warns(PartitionWarning, match=r"'events\.\?'"):
        assets_of(clock(), pipeline)


def test_a_value_that_tells_no_time_fails_its_resource(pipeline, materialize):
    rows = [{"id": 1, "at": "soon"}]
    assets = assets_of(made_of(rows, initial_value="2000-01-01"), pipeline)

    result = materialize(assets, partition_key="2024-01-03", raise_on_error=False)

    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = str(failure.step_failure_data.error)
    assert "Cursor 'at' of resource 'events' has the str 'soon', which tells no time" in error


# --- sources that know their partition -----------------------------------------------------------


def test_a_resource_that_selects_its_rows_itself_is_left_alone(pipeline, materialize):
    @dlt.source(name="clock")
    def clock(day: str = "") -> Any:
        @dlt.resource
        def events(id: Any = dlt.sources.incremental("id", initial_value=0)) -> Any:  # noqa: A002
            yield [row for row in days(5) if str(row["at"].date()) == day]

        return declared(events, "own")

    @dlt_assets(dlt_source=clock(), dlt_pipeline=pipeline, partitions_def=DAYS)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Iterator[Any]:
        yield from dlt_resource.run(context=context, dlt_source=clock(context.partition_key))

    materialize(load, partition_key="2024-01-03")

    assert ids(pipeline) == [3]
    assert cursors(pipeline) == {"id": 3}


def test_what_feeds_a_resource_of_its_own_still_has_to_have_a_window(pipeline, materialize):
    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource
        def counts(number: Any = dlt.sources.incremental("number", initial_value=0)) -> Any:
            yield {"number": 1}

        @dlt.transformer(data_from=counts)
        def events(row: Any) -> Any:
            yield row

        return declared(events, "own")

    with pytest.warns(PartitionWarning):
        assets = assets_of(clock(), pipeline)

    with pytest.raises(SharedCursorError, match="'number' of 'counts'"):
        materialize(assets, partition_key="2024-01-03")


def test_an_unknown_word_for_a_window_is_refused(pipeline):
    source = made_of([], initial_value=0)
    declared(source.events, "millis")

    with pytest.raises(InvalidResourceAttributeError, match="Did you mean 'milliseconds'"):
        assets_of(source, pipeline)


@pytest.mark.parametrize("decompose", ["none", "parallel"])
def test_the_code_of_a_source_can_ask_for_the_window(pipeline, decompose):
    seen: dict[str, Any] = {}

    @dlt.source(name="clock")
    def clock() -> Any:
        @dlt.resource
        def events() -> Any:
            seen["generator"] = dlt.current.interval()

            @dlt.defer
            def later() -> Any:
                seen["deferred"] = dlt.current.interval()
                return {"id": 1}

            yield later()

        @dlt.resource(parallelized=True)
        def others() -> Any:
            seen["parallelized"] = dlt.current.interval()
            yield {"id": 1}

        @dlt.transformer(data_from=others)
        def more(row: Any) -> Any:
            seen["transformer"] = dlt.current.interval()
            yield row

        return [declared(each, "own") for each in (events, others, more)]

    result = dg.materialize(
        [assets_of(clock(), pipeline, BERLIN_DAYS)],
        partition_key="2024-03-31",
        resources={"dlt_resource": DagsterDltResource(decompose=decompose)},
    )

    assert result.success
    window = (dt.datetime(2024, 3, 31, tzinfo=BERLIN), dt.datetime(2024, 4, 1, tzinfo=BERLIN))
    assert seen == dict.fromkeys(["generator", "deferred", "parallelized", "transformer"], window)
    assert dlt.current.interval() is None


# --- what is said when assets are defined --------------------------------------------------------


def test_a_resource_without_a_cursor_is_warned_of_where_it_is_defined(pipeline):
    @dlt.source
    def mixed() -> Any:
        @dlt.resource
        def never() -> Any:
            pytest.fail("is not to be read")
            yield

        @dlt.resource
        def timed(at: Any = dlt.sources.incremental("at", initial_value="2000-01-01")) -> Any:
            pytest.fail("is not to be read")
            yield

        @dlt.transformer(data_from=timed)
        def fed(row: Any) -> Any:
            yield row

        return never, timed, fed

    with pytest.warns(PartitionWarning) as caught:

        @dlt_assets(dlt_source=mixed(), dlt_pipeline=pipeline, partitions_def=DAYS)
        def load(): ...

    (warning,) = caught
    assert "Resources 'never' have no cursor" in str(warning.message)
    assert '{"window": "own"}' in str(warning.message)
    assert warning.filename == __file__


def test_assets_without_partitions_are_not_warned_of(pipeline):
    assets_of(made_of([], initial_value=0), pipeline, None)


# --- tables that partitions would take from each other -------------------------------------------


def replaced(rows: list[dict[str, Any]]) -> DltSource:
    source = made_of(rows, initial_value=BEGINNING)
    source.events.apply_hints(write_disposition="replace")
    return source


@pytest.fixture
def replacing(pipeline: Pipeline) -> dg.AssetsDefinition:
    with pytest.warns(PartitionWarning, match="'events' would replace the rows"):
        return assets_of(replaced(days(5)), pipeline)


def test_a_partition_does_not_replace_the_table_of_all_others(replacing, pipeline, materialize):
    with pytest.raises(PartitionedReplaceError) as caught:
        materialize(replacing, partition_key="2024-01-03")

    assert caught.value.resources == ("events",)
    assert not Path(pipeline.pipelines_dir, ".dagster").exists()


def test_a_range_that_is_not_all_does_not_replace_the_table(replacing, materialize):
    with pytest.raises(PartitionedReplaceError):
        materialize(replacing, tags=range_of("2024-01-01", "2024-01-03"))


def test_a_run_of_all_partitions_replaces_the_table(replacing, pipeline, materialize):
    materialize(replacing, tags=range_of("2024-01-01", "2024-01-04"))

    assert ids(pipeline) == [1, 2, 3, 4]


def test_what_run_is_told_of_the_write_disposition_counts(pipeline, materialize):
    @dlt_assets(
        dlt_source=made_of(days(5), initial_value=BEGINNING),
        dlt_pipeline=pipeline,
        partitions_def=DAYS,
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Iterator[Any]:
        yield from dlt_resource.run(context=context, write_disposition="replace")

    with pytest.raises(PartitionedReplaceError):
        materialize(load, partition_key="2024-01-03")


def test_a_partition_with_a_dataset_of_its_own_replaces_its_table(make_pipeline, materialize):
    with pytest.warns(PartitionWarning):

        @dlt_assets(dlt_source=replaced([]), dlt_pipeline=make_pipeline(), partitions_def=DAYS)
        def load(
            context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource
        ) -> Iterator[Any]:
            name = f"raw_{context.partition_key.replace('-', '_')}"
            pipeline = make_pipeline(dataset_name=name)
            yield from dlt_resource.run(context, replaced(days(5)), pipeline)

    materialize(load, partition_key="2024-01-03")

    assert ids(make_pipeline("look", dataset_name="raw_2024_01_03")) == [3]


# --- keys that are no time -----------------------------------------------------------------------

TENANTS = dg.StaticPartitionsDefinition(["acme", "Big Corp"])


def test_tenants_do_not_share_a_live_cursor(pipeline, materialize):
    source = made_of(days(3), initial_value=BEGINNING)
    with pytest.warns(PartitionWarning, match="would be shared by all keys"):
        assets = assets_of(source, pipeline, TENANTS)

    with pytest.raises(SharedCursorError, match="which would then leave rows out"):
        materialize(assets, partition_key="acme")


def test_tenants_with_pipelines_of_their_own_have_cursors_of_their_own(make_pipeline, materialize):
    def clock() -> DltSource:
        return made_of(days(3), initial_value=BEGINNING)

    with pytest.warns(PartitionWarning):

        @dlt_assets(dlt_source=clock(), dlt_pipeline=make_pipeline(), partitions_def=TENANTS)
        def load(
            context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource
        ) -> Iterator[Any]:
            tenant = context.partition_key.lower().replace(" ", "_")
            pipeline = make_pipeline(f"shop_{tenant}", dataset_name=f"raw_{tenant}")
            yield from dlt_resource.run(context, clock(), pipeline)

    for tenant in ("acme", "Big Corp"):
        materialize(load, partition_key=tenant)

    assert ids(make_pipeline("look", dataset_name="raw_acme")) == [1, 2, 3]
    assert ids(make_pipeline("look", dataset_name="raw_big_corp")) == [1, 2, 3]


def test_tenants_without_a_cursor_are_not_warned_of(pipeline):
    @dlt.source
    def tenants() -> Any:
        return dlt.resource([{"id": 1}], name="rows", write_disposition="append")

    assets_of(tenants(), pipeline, TENANTS)
