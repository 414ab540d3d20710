import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from dagster_dlt import check_table_links

PROJECT = Path(__file__).parents[2] / "examples" / "flights"
NEW_YORK = ZoneInfo("America/New_York")
ROWS = {"airlines": 16, "airports": 1_458, "planes": 3_322, "flights": 336_776, "weather": 26_115}
JANUARY = {"flights": 27_004, "weather": 2_226}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """The project, importable, with all that it writes in a directory of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("flights")
        patch.setenv("FLIGHTS_HOME", str(directory))
        patch.delenv("FLIGHTS_DESTINATION", raising=False)
        patch.syspath_prepend(str(PROJECT / "src"))
        yield directory
        for module in [name for name in sys.modules if name.split(".")[0] == "flights"]:
            del sys.modules[module]


@pytest.fixture(scope="module")
def defs(home):
    from flights.definitions import defs

    return defs()


def materialize(defs, assets, **how):
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, asset_selection=list(assets.keys), **how
        )


def query(sql):
    from flights.defs.assets import pipeline

    with pipeline.sql_client() as client, client.execute_query(sql) as cursor:
        return cursor.fetchall()


def rows_of(table):
    from flights.sources import read_csv

    name = {"flights": "flights.csv.zip"}.get(table, f"{table}.csv")
    return sum(batch.num_rows for batch in read_csv(name))


def hours_of(table):
    from flights.sources import read_csv

    name = {"flights": "flights.csv.zip"}.get(table, f"{table}.csv")
    for batch in read_csv(name):
        yield from batch.column("time_hour").to_pylist()


def test_the_definitions_load(defs):
    dg.Definitions.validate_loadable(defs)

    graph = defs.resolve_asset_graph()

    assert {key.to_user_string() for key in graph.materializable_asset_keys} == {
        "dlt_reference_data_airlines",
        "dlt_reference_data_airports",
        "dlt_reference_data_planes",
        "dlt_operations_flights",
        "dlt_operations_weather",
        "stg_flights",
        "delays_by_carrier_and_month",
        "busiest_routes",
        "weather_effect",
    }


def test_every_model_depends_on_the_dlt_assets_whose_tables_it_reads(defs):
    graph = defs.resolve_asset_graph()

    def parents(name):
        return {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys}

    assert parents("stg_flights") == {"dlt_operations_flights"}
    assert parents("delays_by_carrier_and_month") == {"stg_flights", "dlt_reference_data_airlines"}
    assert parents("busiest_routes") == {"stg_flights", "dlt_reference_data_airports"}
    assert parents("weather_effect") == {"stg_flights", "dlt_operations_weather"}
    check_table_links(defs)


def test_every_asset_has_the_docstring_of_its_resource_as_description(defs):
    from flights.sources import operations, reference_data

    for make in (reference_data, operations):
        source = make()
        for name in source.resources:
            spec = defs.resolve_asset_graph().get(dg.AssetKey(f"dlt_{source.name}_{name}"))

            assert spec.description
            assert spec.description.endswith(".")


def test_na_is_null_and_numbers_and_times_are_typed():
    from flights.sources import read_csv

    first = next(read_csv("flights.csv.zip"))
    types = {field.name: str(field.type) for field in first.schema}

    assert types["dep_delay"] == "int64"
    assert types["tailnum"] == "string"
    assert types["time_hour"] == "timestamp[us, tz=UTC]"
    assert first.column("dep_delay").null_count > 0


@pytest.mark.parametrize("table", ["flights", "weather"])
def test_the_twelve_months_cover_every_row_exactly_once(table):
    from flights.defs.assets import months

    windows = [months.time_window_for_partition_key(key) for key in months.get_partition_keys()]
    hours = Counter(hours_of(table))
    covering = {
        hour: sum(window.start <= hour < window.end for window in windows) for hour in hours
    }

    assert len(windows) == 12
    assert set(covering.values()) == {1}
    assert hours.total() == ROWS[table]


@pytest.mark.parametrize("table", ROWS)
def test_the_files_hold_the_rows_that_the_demo_expects(table):
    assert rows_of(table) == ROWS[table]


def test_a_month_is_loaded_as_new_york_counts_it(defs):
    from flights.defs.assets import operations_assets

    materialize(defs, operations_assets, partition_key="2013-01-01")

    start = datetime(2013, 1, 1, tzinfo=NEW_YORK)
    end = datetime(2013, 2, 1, tzinfo=NEW_YORK)
    for table, expected in JANUARY.items():
        in_file = sum(start <= hour < end for hour in hours_of(table))
        [(loaded, first, last)] = query(
            f"SELECT count(*), min(time_hour), max(time_hour) FROM nyc.{table}"
        )

        assert loaded == in_file == expected
        assert start <= first <= last < end


def test_twelve_months_at_once_load_every_flight_once_however_often(defs):
    from flights.defs.assets import months, operations_assets

    every = months.get_partition_keys()
    for keys in (every, every, every[4:5]):
        # What the months share is the destination, and the directory of the pipeline.
        with ThreadPoolExecutor(len(every)) as threads:
            list(
                threads.map(
                    lambda key: materialize(defs, operations_assets, partition_key=key), keys
                )
            )

        for table in JANUARY:
            assert query(f"SELECT count(*) FROM nyc.{table}") == [(ROWS[table],)]
    assert query("SELECT count(DISTINCT time_hour) FROM nyc.flights") == [
        (len(set(hours_of("flights"))),)
    ]


def test_the_reference_tables_do_not_grow_when_loaded_again(defs):
    from flights.defs.assets import reference_data_assets

    for _ in range(2):
        materialize(defs, reference_data_assets)

        for table in ("airlines", "airports", "planes"):
            assert query(f"SELECT count(*) FROM nyc.{table}") == [(ROWS[table],)]
