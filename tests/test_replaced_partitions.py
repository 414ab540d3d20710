"""A partition that is loaded again replaces what it had loaded before."""

from datetime import datetime, timedelta, timezone

import dagster as dg
import dlt
import pytest

from dagster_dlt import DagsterDltResource, dlt_assets
from dagster_dlt.loading.rows import Rows
from places import Died, Place, load, retry
from sources import query


@dlt.source(name="shop")
def shop(partition, keys, disposition="append"):
    @dlt.resource(
        write_disposition=disposition, primary_key="id" if "append" not in disposition else None
    )
    def orders():
        yield [
            {"id": f"{partition}{key}", "of": partition, "items": [{"sku": key, "tags": [key]}]}
            for key in keys
        ]

    return orders


KEYED = [
    "append",
    "merge",
    {"disposition": "merge", "strategy": "upsert"},
]


def ids(place):
    return place.column("select id from raw.orders")


def skus(place):
    return place.column(
        "select o.id || i.sku || t.value from raw.orders o "
        "join raw.orders__items i on i._dlt_parent_id = o._dlt_id "
        "join raw.orders__items__tags t on t._dlt_parent_id = i._dlt_id"
    )


@pytest.mark.parametrize("disposition", KEYED[:2], ids=["append", "merge"])
def test_a_partition_that_is_loaded_again_has_the_rows_of_the_last_time(place, disposition):
    load(place.pipeline(), shop("a", "123", disposition), partition="a")
    load(place.pipeline(), shop("b", "123", disposition), partition="b")

    loaded = load(place.pipeline(), shop("a", "34", disposition), partition="a", run_id="again")

    assert loaded["orders"].rows_loaded == 2
    assert ids(place) == ["a3", "a4", "b1", "b2", "b3"]
    assert skus(place) == ["a333", "a444", "b111", "b222", "b333"]
    assert len(place.column("select sku from raw.orders__items")) == 5
    assert len(place.column("select value from raw.orders__items__tags")) == 5


def test_a_partition_of_an_upsert_replaces_as_well(postgres, tmp_path):
    place = Place("postgres", postgres(), tmp_path / "disk")
    load(place.pipeline(), shop("a", "123", KEYED[2]), partition="a")

    load(place.pipeline(), shop("a", "34", KEYED[2]), partition="a", run_id="again")

    assert ids(place) == ["a3", "a4"]
    assert skus(place) == ["a333", "a444"]


def test_a_partition_can_be_loaded_any_number_of_times(place):
    for number in range(4):
        load(place.pipeline(), shop("a", "12"), partition="a", run_id=f"{number}")

    assert ids(place) == ["a1", "a2"]
    assert [each.status for each in place.entries()] == ["replaced"] * 3 + ["committed"]


def test_a_load_without_partitions_is_added_to_what_is_there(place):
    load(place.pipeline(), shop("a", "12"))
    load(place.pipeline(), shop("a", "12"), run_id="again")

    assert ids(place) == ["a1", "a1", "a2", "a2"]


def test_what_was_loaded_before_stays_until_the_new_load_is_committed(place):
    load(place.pipeline(), shop("a", "123"), partition="a")

    with place.dying("before commit"):
        load(place.pipeline(), shop("a", "34"), partition="a", run_id="again")
    place.lose_disk()
    before = ids(place)
    load(place.pipeline(), shop("a", "34"), partition="a", run_id="third")

    assert {"a1", "a2", "a3"} <= {*before}
    assert ids(place) == ["a3", "a4"]


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_what_a_load_was_to_replace_when_it_died_is_removed_by_the_next_one(
    place, monkeypatch, disk
):
    load(place.pipeline(), shop("a", "123"), partition="a")
    with monkeypatch.context() as patched:
        patched.setattr(Rows, "remove_replaced", lambda *_: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            load(place.pipeline(), shop("a", "34"), partition="a", run_id="again")
    twice = ids(place)
    if disk == "lost":
        place.lose_disk()

    load(place.pipeline(), shop("b", "1"), partition="b")

    assert twice == ["a1", "a2", "a3", "a3", "a4"]
    assert ids(place) == ["a3", "a4", "b1"]


def test_a_source_that_gives_nothing_leaves_what_is_there(place, caplog):
    load(place.pipeline(), shop("a", "12"), partition="a")

    load(place.pipeline(), shop("a", ""), partition="a", run_id="again")

    assert ids(place) == ["a1", "a2"]


@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_a_source_that_says_that_there_is_nothing_takes_away_what_was_there(place, disposition):
    def orders(*rows):
        @dlt.resource(primary_key="id", write_disposition=disposition)
        def orders():
            yield dlt.mark.materialize_table_schema()
            yield from rows

        return dlt.source(lambda: orders, name="shop")()

    load(place.pipeline(), orders({"id": "a1", "lines": [1, 2]}), partition="a")
    load(place.pipeline(), orders({"id": "b1", "lines": [3]}), partition="b", run_id="b")

    load(place.pipeline(), orders(), partition="a", run_id="again")

    assert place.column("select id from raw.orders") == ["b1"]
    assert place.column("select value from raw.orders__lines") == [3]


def test_a_load_that_was_limited_leaves_what_is_there(place, caplog):
    load(place.pipeline(), shop("a", "12"), partition="a")
    source = shop("a", "3")
    source.orders.add_limit(1)

    load(place.pipeline(), source, partition="a", run_id="again")

    assert ids(place) == ["a1", "a2", "a3"]
    assert "of orders for partition a stay" in caplog.text


def test_where_rows_cannot_be_deleted_a_warning_says_that_they_stay(tmp_path, caplog):
    @dlt.destination(name="sink")
    def sink(items, table):
        pass

    pipeline = dlt.pipeline(
        "shop", pipelines_dir=str(tmp_path), destination=sink, dataset_name="raw"
    )

    load(pipeline, shop("a", "12"), partition="a")

    assert "Rows that partition a has loaded before stay" in caplog.text


def test_a_retry_that_finishes_a_package_replaces_too(place):
    load(place.pipeline(), shop("a", "12"), partition="a")
    with place.dying("before commit"):
        load(place.pipeline(), shop("a", "23"), partition="a", run_id="again")

    retry(place.pipeline(), shop("a", "23"), partition="a", run_id="again")

    assert ids(place) == ["a2", "a3"]


@pytest.mark.parametrize("disposition", KEYED[:2], ids=["append", "merge"])
def test_a_new_run_replaces_what_it_has_finished_of_a_killed_one(place, disposition):
    with place.dying("before commit"):
        load(place.pipeline(), shop("a", "12", disposition), partition="a", run_id="killed")

    load(place.pipeline(), shop("a", "23", disposition), partition="a", run_id="new")

    assert ids(place) == ["a2", "a3"]


def test_a_run_that_goes_on_finishes_what_a_new_one_was_to_replace_it_with(place):
    with place.dying("before commit"):
        load(place.pipeline(), shop("a", "12"), partition="a", run_id="first")
    with place.dying("before commit", load=2):
        load(place.pipeline(), shop("a", "23"), partition="a", run_id="second")

    retry(place.pipeline(), shop("a", "12"), partition="a", run_id="first")

    assert ids(place) == ["a2", "a3"]


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_load_that_was_killed_once_it_was_committed_is_replaced(place, disk):
    with place.dying("after commit"):
        load(place.pipeline(), shop("a", "12"), partition="a", run_id="killed")
    if disk == "lost":
        place.lose_disk()

    load(place.pipeline(), shop("a", "23"), partition="a", run_id="new")

    assert ids(place) == ["a2", "a3"]


DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-08")


@dlt.source(name="shop")
def visits():
    @dlt.resource
    def visits(
        # A name that dlt does not give to the column.
        at=dlt.sources.incremental(
            "visitedAt", initial_value=datetime(2024, 1, 1, tzinfo=timezone.utc)
        ),
    ):
        first = datetime(2024, 1, 1, tzinfo=timezone.utc)
        yield [{"visitedAt": first + timedelta(hours=hour), "hour": hour} for hour in range(7 * 24)]

    return visits


@pytest.fixture
def days(pipeline):
    """Return functions that materialize days, and that count what is there."""

    @dlt_assets(
        dlt_source=visits(),
        dlt_pipeline=pipeline,
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        name="load",
    )
    def load_visits(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)

    def materialize(first, last=None):
        tags = {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last or first,
        }
        result = dg.materialize(
            [load_visits],
            resources={"dlt_resource": DagsterDltResource()},
            **({"tags": tags} if last else {"partition_key": first}),
        )
        assert result.success

    def found():
        return sorted(row[0] for row in query(pipeline, "select hour from raw.visits"))

    return materialize, found


def test_a_day_that_is_materialized_again_is_there_once(days):
    materialize, found = days

    for day in ("2024-01-01", "2024-01-02", "2024-01-01"):
        materialize(day)

    assert found() == list(range(48))


def test_a_day_that_a_range_had_loaded_replaces_its_part_of_the_range(days):
    materialize, found = days
    materialize("2024-01-01", "2024-01-04")

    materialize("2024-01-02")
    materialize("2024-01-02")

    assert found() == list(range(96))


def test_calls_of_one_step_add_up_and_are_replaced_together(pipeline):
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def orders(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for page in ("12", "34"):
            yield from dlt_resource.run(context, shop(context.partition_key, page), pipeline)

    for key in ("a", "b", "a"):
        resources = {"dlt_resource": DagsterDltResource()}
        assert dg.materialize([orders], partition_key=key, resources=resources).success

    found = sorted(row[0] for row in query(pipeline, "select id from raw.orders"))
    assert found == ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "b4"]


def test_a_range_replaces_the_days_in_it_and_no_others(days):
    materialize, found = days
    for day in ("2024-01-01", "2024-01-02", "2024-01-03"):
        materialize(day)

    materialize("2024-01-02", "2024-01-04")
    materialize("2024-01-02", "2024-01-04")

    assert found() == list(range(96))
