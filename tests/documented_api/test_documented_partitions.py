"""Partitioned dlt assets as documented: backfill policies, and a source for each partition."""

import dagster as dg
import dlt
import pytest
from bookshop import assets_of, bookshop, events_of, materialize, query

from dagster_dlt import DagsterDltResource, dlt_assets

# The documents speak of no cursors that partitions could bound.
pytestmark = pytest.mark.filterwarnings("ignore::dagster_dlt.errors.PartitionWarning")

DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-01-05")
COLOURS = dg.StaticPartitionsDefinition(["red", "green", "blue"])


@dlt.source
def paints(colour: str | None = None):
    """Return the paints of one colour, or all."""

    @dlt.resource(primary_key="id", write_disposition="merge")
    def tins():
        stock = [
            {"id": 1, "colour": "red"},
            {"id": 2, "colour": "green"},
            {"id": 3, "colour": "red"},
        ]
        yield [tin for tin in stock if colour in (None, tin["colour"])]

    return tins


@pytest.mark.parametrize(
    "partitions_def",
    [
        dg.HourlyPartitionsDefinition(start_date="2024-01-01-00:00"),
        DAYS,
        dg.MonthlyPartitionsDefinition(start_date="2024-01-01"),
        dg.TimeWindowPartitionsDefinition(
            start="2024-01-01", cron_schedule="0 6 * * *", fmt="%Y-%m-%d"
        ),
    ],
    ids=["hourly", "daily", "monthly", "cron"],
)
def test_a_range_of_time_windows_is_backfilled_in_a_single_run(new_pipeline, partitions_def):
    assets = assets_of(bookshop(), new_pipeline(), partitions_def=partitions_def)

    assert assets.backfill_policy == dg.BackfillPolicy.single_run()


@pytest.mark.parametrize(
    "partitions_def",
    [None, COLOURS, dg.DynamicPartitionsDefinition(name="colours")],
    ids=["none", "static", "dynamic"],
)
def test_other_assets_have_no_backfill_policy(new_pipeline, partitions_def):
    assets = assets_of(bookshop(), new_pipeline(), partitions_def=partitions_def)

    assert assets.backfill_policy is None


@pytest.mark.parametrize("partitions_def", [DAYS, COLOURS], ids=["daily", "static"])
def test_a_backfill_policy_that_is_given_is_kept(new_pipeline, partitions_def):
    policy = dg.BackfillPolicy.multi_run(max_partitions_per_run=2)

    assets = assets_of(
        bookshop(), new_pipeline(), partitions_def=partitions_def, backfill_policy=policy
    )

    assert assets.backfill_policy == policy


def test_the_partitions_are_those_of_all_assets(new_pipeline):
    assets = assets_of(bookshop(), new_pipeline(), partitions_def=DAYS)

    assert assets.partitions_def == DAYS
    assert {spec.partitions_def for spec in assets.specs} == {DAYS}


def test_a_source_is_built_for_each_partition(new_pipeline):
    pipeline = new_pipeline()

    @dlt_assets(dlt_source=paints(), dlt_pipeline=pipeline, partitions_def=COLOURS)
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        source = paints(colour=context.partition_key)
        yield from dlt.run(context=context, dlt_source=source).fetch_row_count()

    counts = {}
    for colour in ("red", "green", "blue"):
        result = materialize(load, partition_key=colour)
        counts[colour] = events_of(result)["dlt_paints_tins"]["dagster/partition_row_count"]

    assert counts == {"red": 2, "green": 1, "blue": 0}
    assert query(pipeline, "select id from raw.tins order by id") == [(1,), (2,), (3,)]


def test_a_run_of_a_range_has_no_row_count(new_pipeline):
    windows = []

    @dlt_assets(dlt_source=paints(), dlt_pipeline=new_pipeline(), partitions_def=DAYS)
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        windows.append([str(day.date()) for day in context.partition_time_window])
        yield from dlt.run(context=context).fetch_row_count()

    result = materialize(
        load,
        tags={
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-01-03",
        },
    )

    assert windows == [["2024-01-01", "2024-01-04"]]
    events = [event for event in result.all_events if event.is_step_materialization]
    assert sorted(event.partition for event in events) == ["2024-01-01", "2024-01-02", "2024-01-03"]
    for event in events:
        assert event.materialization.metadata["rows_loaded"].value == 3
        assert "dagster/partition_row_count" not in event.materialization.metadata
        assert "dagster/row_count" not in event.materialization.metadata
