"""Events of many tables stay small, and so does what they cost the destination."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import dlt
import pytest
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from dagster_dlt import DagsterDltResource
from sources import assets_of

FEW, MANY = 12, 24


@dlt.source(name="wide")
def wide(number: int) -> Iterator[Any]:
    """Give so many resources, and one that writes twice as many tables, each with one nested."""
    for each in range(number):
        yield dlt.resource([{"id": 1}], name=f"r{each:02}")
    rows = [{"table": each, "marks": [{"x": 1}]} for each in range(number)]
    yield dlt.resource(rows, name="by_row", table_name=lambda row: f"t{row['table']:02}")


@dataclass(frozen=True)
class Load:
    """The bytes of the event of each asset, what is in it, and the sessions for their rows."""

    sizes: dict[str, int]
    metadata: dict[str, Any]
    sessions: int


def load(pipeline: Any, number: int) -> Load:
    opened, begin = [], DuckDbSqlClient.open_connection

    def counted(client: Any) -> Any:
        opened.append(threading.current_thread())
        return begin(client)

    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setattr(DuckDbSqlClient, "open_connection", counted)
        result = dg.materialize(
            [assets_of(wide(number), pipeline)],
            resources={"dlt_resource": DagsterDltResource()},
            instance=instance,
        )
        logs = instance.all_logs(result.run_id)
    events = [(entry, entry.asset_materialization) for entry in logs]
    found = {made.asset_key.to_user_string(): (entry, made) for entry, made in events if made}
    return Load(
        {key: len(entry.to_json()) for key, (entry, _) in found.items()},
        {key: made.metadata for key, (_, made) in found.items()},
        # The load has a thread of its own.
        opened.count(threading.current_thread()),
    )


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Load]:
    found = {}
    for number in (FEW, MANY):
        folder = tmp_path_factory.mktemp("load")
        pipeline = dlt.pipeline(
            "wide",
            pipelines_dir=str(folder / "pipelines"),
            destination=dlt.destinations.duckdb(str(folder / "warehouse.duckdb")),
            dataset_name="raw",
        )
        found[number] = load(pipeline, number)
    return found


def test_the_event_of_a_table_is_as_long_whatever_else_is_loaded(loads):
    few, many = loads[FEW].sizes, loads[MANY].sizes

    assert few["dlt_wide_r01"] == pytest.approx(many["dlt_wide_r01"], rel=0.02)


def test_the_events_of_twice_as_many_tables_are_twice_as_long(loads):
    of_tables = {
        number: sum(size for key, size in each.sizes.items() if key != "dlt_wide_by_row")
        for number, each in loads.items()
    }

    assert of_tables[MANY] / of_tables[FEW] == pytest.approx(MANY / FEW, rel=0.02)


def test_the_event_of_a_resource_with_many_tables_has_a_bound(loads):
    few, many = loads[FEW], loads[MANY]
    key = "dlt_wide_by_row"

    assert len(many.metadata[key]["jobs"].value) == 20
    assert many.sizes[key] == pytest.approx(few.sizes[key], rel=0.05)
    assert many.sizes[key] < 10 * many.sizes["dlt_wide_r01"]


def test_the_tables_of_a_load_are_counted_in_one_session(loads):
    assert [each.sessions for each in loads.values()] == [1, 1]
    assert loads[MANY].metadata["dlt_wide_by_row"]["dagster/row_count"].value == MANY


def test_the_tables_of_a_range_of_partitions_are_counted_in_one_session(
    pipeline, materialize, monkeypatch
):
    opened, begin = [], DuckDbSqlClient.open_connection

    @dlt.source(name="timed")
    def timed() -> Iterator[Any]:
        for name in ("days", "nights", "weeks"):
            rows = [{"day": f"2024-01-0{day}"} for day in (1, 2, 2)]
            yield dlt.resource(rows, name=name, columns={"day": {"data_type": "date"}})

    source = timed()
    for each in source.resources.values():
        each.apply_hints(incremental=dlt.sources.incremental("day", initial_value="2000-01-01"))
    days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-03")
    assets = assets_of(
        source, pipeline, partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run()
    )
    monkeypatch.setattr(
        DuckDbSqlClient,
        "open_connection",
        lambda client: (opened.append(threading.current_thread()), begin(client))[1],
    )
    result = materialize(
        assets,
        tags={
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-01-02",
        },
    )

    counts = [
        (event.partition, event.materialization.metadata["dagster/partition_row_count"].value)
        for event in result.get_asset_materialization_events()
    ]

    assert opened.count(threading.current_thread()) == 1
    assert sorted(counts) == [("2024-01-01", 1)] * 3 + [("2024-01-02", 2)] * 3
