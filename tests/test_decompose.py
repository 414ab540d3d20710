"""Resources that are loaded in parts: in turn, or side by side, each reported once it is in."""

import threading

import dagster as dg
import dlt
import pytest

from contents import Contents
from dagster_dlt import DagsterDltResource
from sources import assets_of, query


def load(source, pipeline, decompose, **options):
    resource = DagsterDltResource(decompose=decompose, **options)
    return dg.materialize(
        [assets_of(source, pipeline)], resources={"dlt_resource": resource}, raise_on_error=False
    )


@dlt.source(name="shop")
def three(rows=1, met=lambda: None):
    """Three incremental resources; each gives the rows after its cursor, up to `rows`."""

    def make(name):
        def generate(at=dlt.sources.incremental("at", initial_value=0)):
            met()
            yield [{"at": at.last_value + 1 + row, name: True} for row in range(rows)]

        return dlt.resource(generate, name=name)

    return [make(name) for name in ("a", "b", "c")]


@pytest.mark.parametrize("decompose", ["serialize", "parallel"])
def test_parts_end_like_one_package_cursors_included(pipeline, decompose):
    for _ in range(3):
        assert load(three(2), pipeline, decompose).success

    for name in ("a", "b", "c"):
        rows = [row for (row,) in query(pipeline, f'select "at" from raw.{name} order by "at"')]
        assert rows == [1, 2, 3, 4, 5, 6]
    assert query(pipeline, "select count(*) from raw._dlt_loads") == [(9,)]


def test_cursors_of_loads_that_overlapped_are_there_for_plain_runs_after_the_next(pipeline):
    assert load(three(2), pipeline, "parallel").success
    assert load(three(2), pipeline, "none").success

    fresh = dlt.pipeline(
        "shop", pipelines_dir="elsewhere", destination=pipeline.destination, dataset_name="raw"
    )
    fresh.run(three(2))

    for name in ("a", "b", "c"):
        assert query(pipeline, f'select count(*), max("at") from raw.{name}') == [(6, 6)]


def test_a_part_is_materialized_while_another_is_still_extracted(pipeline):
    seen = threading.Event()

    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def slow():
            # Ends only once the other one has been reported.
            assert seen.wait(60)
            yield {"id": 1}

        @dlt.resource
        def quick():
            yield {"id": 1}

        return slow, quick

    @dg.multi_asset(specs=list(assets_of(source(), pipeline).specs))
    def watched(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for event in dlt_resource.run(context=context):
            if "quick" in event.asset_key.path[-1]:
                seen.set()
            yield event

    result = dg.materialize(
        [watched], resources={"dlt_resource": DagsterDltResource(decompose="parallel")}
    )

    keys = [e.asset_key.path[-1] for e in result.get_asset_materialization_events()]
    assert [key.rpartition("_")[2] for key in keys] == ["quick", "slow"]


def test_resources_that_feed_each_other_or_share_a_table_stay_together(pipeline):
    @dlt.source(name="shop")
    def source():
        @dlt.resource(selected=False)
        def pages():
            yield {"page": 1}

        @dlt.transformer(data_from=pages)
        def items(page):
            yield {"item": page["page"]}

        @dlt.transformer(data_from=pages)
        def prices(page):
            yield {"price": page["page"]}

        return (
            pages,
            items,
            prices,
            dlt.resource([{"id": 1}], name="north", table_name="sales"),
            dlt.resource([{"id": 2}], name="other"),
            dlt.resource([{"id": 3}], name="south", table_name="sales"),
        )

    assert load(source(), pipeline, "parallel").success

    together = query(
        pipeline,
        "select count(distinct _dlt_load_id) from "
        "(select _dlt_load_id from raw.items union all select _dlt_load_id from raw.prices)",
    )
    assert together == [(1,)]
    assert query(pipeline, "select count(distinct _dlt_load_id) from raw.sales") == [(1,)]
    assert query(pipeline, "select count(*) from raw._dlt_loads") == [(3,)]


def test_a_run_after_a_failed_extract_extracts_nothing_twice(pipeline):
    calls = []

    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def fine():
            calls.append("fine")
            yield {"id": 1}

        @dlt.resource
        def bad():
            calls.append("bad")
            message = "the line is dead"
            raise ConnectionError(message)
            yield

        return fine, bad

    load(source(), pipeline, "none")
    first, calls = calls, []
    load(source(), pipeline, "none")

    assert sorted(first) == ["bad", "fine", "fine"]
    assert sorted(calls) == ["bad", "fine"]


def test_parts_side_by_side_keep_the_cursors_of_all_where_files_are_the_destination(
    make_pipeline, tmp_path
):
    pipeline = make_pipeline(destination=dlt.destinations.filesystem(str(tmp_path / "bucket")))
    together = threading.Barrier(3, timeout=60)

    assert load(three(2, together.wait), pipeline, "parallel").success
    assert load(three(2), pipeline, "parallel").success

    tables = Contents.read(str(tmp_path / "bucket"), "raw").tables
    for name in ("a", "b", "c"):
        assert sorted(row["at"] for row in tables[name]) == [1, 2, 3, 4]


def test_where_the_disk_alone_keeps_the_cursors_parts_take_turns(make_pipeline, monkeypatch, capfd):
    monkeypatch.setenv("RESTORE_FROM_DESTINATION", "false")
    pipeline = make_pipeline()

    for _ in range(2):
        assert load(three(2), pipeline, "parallel").success

    for name in ("a", "b", "c"):
        assert query(pipeline, f'select count(*), max("at") from raw.{name}') == [(4, 4)]
    assert "resources are loaded one after the other" in capfd.readouterr().err
