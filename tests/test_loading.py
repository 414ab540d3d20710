"""A load never destroys: state is kept, pending packages are finished, options mean dlt's."""

from inspect import signature

import dagster as dg
import dlt
import pytest
from dlt.common.destination.exceptions import DestinationTransientException
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline
from hypothesis import given
from hypothesis import strategies as st

from dagster_dlt import DagsterDltResource, DltEventIterator, RunOptions, _dlt, dlt_assets
from sources import assets_of, metadata_by_asset, one, outage, query, shop

# A table that takes no new columns once it is there.
FROZEN = {"schema_contract": {"columns": "freeze"}}


def numbers(seen: list[int | None], rows: list[int]):
    """Return a source whose resource notes its cursor's start each time it is called."""

    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def orders(at=dlt.sources.incremental("at")):
            seen.append(at.last_value)
            yield [{"at": number} for number in rows]

        return orders

    return source()


def test_the_run_options_are_those_of_dlt():
    theirs = set(signature(Pipeline.run).parameters) - {"self", "data"}

    assert set(RunOptions.__annotations__) == theirs


def test_a_cursor_is_kept_by_the_destination_when_the_disk_is_gone(
    make_pipeline, materialize, tmp_path
):
    seen: list[int | None] = []
    for disk in ("first", "second"):
        pipeline = make_pipeline(pipelines_dir=str(tmp_path / disk))
        materialize(assets_of(numbers(seen, [1, 2]), pipeline))

    assert seen == [None, 2]
    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]


def test_a_cursor_is_kept_where_the_destination_keeps_no_state(make_pipeline, materialize):
    received: list[object] = []

    @dlt.destination(name="sink")
    def sink(items, table):
        received.extend(items)

    seen: list[int | None] = []
    pipeline = make_pipeline(destination=sink)
    assets = assets_of(numbers(seen, [1, 2]), pipeline)
    materialize(assets)
    result = materialize(assets)

    assert seen == [None, 2]
    assert len(received) == 2
    found = metadata_by_asset(result)["dlt_shop_orders"]
    assert "dagster/row_count" not in found


def test_a_cursor_is_kept_when_restoring_is_switched_off(make_pipeline, materialize):
    seen: list[int | None] = []
    pipeline = make_pipeline()
    pipeline.config.restore_from_destination = False
    assets = assets_of(numbers(seen, [1, 2]), pipeline)

    materialize(assets)
    found = metadata_by_asset(materialize(assets))["dlt_shop_orders"]

    assert seen == [None, 2]
    assert found["dataset_name"] == "raw"
    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]


def test_refresh_set_on_the_pipeline_is_applied(make_pipeline, materialize):
    pipeline = make_pipeline(refresh="drop_sources")
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)

    materialize(assets)
    found = metadata_by_asset(materialize(assets))["dlt_shop_orders"]

    assert found["dagster/row_count"] == 1


def test_dev_mode_adds_one_suffix_to_the_dataset(make_pipeline, materialize):
    pipeline = make_pipeline(dev_mode=True)
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)

    materialize(assets)
    found = metadata_by_asset(materialize(assets))["dlt_shop_orders"]

    assert found["dataset_name"] == pipeline.dataset_name
    assert pipeline.dataset_name.count("_") == 1
    assert found["dagster/row_count"] == 2


def test_a_dataset_layout_is_applied_once(make_pipeline, materialize, monkeypatch):
    monkeypatch.setenv("DATASET_NAME_LAYOUT", "lake_%s")
    pipeline = make_pipeline()

    found = metadata_by_asset(materialize(assets_of(shop(), pipeline)))

    assert found["dlt_shop_orders"]["dataset_name"] == "lake_raw"


def test_schema_paths_of_the_pipeline_are_used(make_pipeline, materialize, tmp_path):
    pipeline = make_pipeline(export_schema_path=str(tmp_path / "export"))

    materialize(assets_of(shop(), pipeline))

    assert (tmp_path / "export" / "shop.schema.yaml").exists()


def test_options_of_a_run_reach_dlt(make_pipeline, materialize):
    pipeline = make_pipeline()

    @dlt_assets(dlt_source=one("orders", [{"id": 1}]), dlt_pipeline=pipeline)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(
            context,
            write_disposition="replace",
            dataset_name="other",
            loader_file_format="parquet",
        ).fetch_row_count()

    materialize(load)
    found = metadata_by_asset(materialize(load))["dlt_shop_orders"]

    assert found["dagster/row_count"] == 1
    assert found["dagster/table_name"] == "warehouse.other.orders"
    assert found["jobs"][0]["file_format"] == "parquet"


def test_the_executed_pipeline_is_offered_and_the_users_stays_active(pipeline, materialize):
    seen: dict[str, object] = {}

    @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        pipeline.activate()
        events = dlt_resource.run(context=context)
        assert isinstance(events, DltEventIterator)
        yield from events
        seen["trace"] = events.pipeline.last_trace.last_normalize_info.row_counts["orders"]
        seen["schema"] = events.pipeline.default_schema.name
        seen["active"] = dlt.pipeline() is pipeline

    materialize(load)

    assert seen == {"trace": 2, "schema": "shop", "active": True}
    assert pipeline.default_schema_name is None


def test_the_body_can_be_called_directly_as_a_test_of_it_does(pipeline):
    assets = assets_of(shop(), pipeline)

    events = list(assets(dg.build_asset_context(), dlt_resource=DagsterDltResource()))

    assert {event.asset_key.to_user_string() for event in events} == {
        "dlt_shop_customers",
        "dlt_shop_orders",
    }


def test_a_failed_load_fails_the_step_and_leaves_the_next_run_alone(pipeline, materialize):
    good = assets_of(one("orders", [{"id": 1}], **FROZEN), pipeline)
    bad = assets_of(one("orders", [{"id": 2, "surprise": True}], **FROZEN), pipeline)
    materialize(good)

    with pytest.raises(dg.Failure, match="resource 'orders' failed in normalize"):
        materialize(bad)
    found = metadata_by_asset(materialize(good))

    assert found["dlt_shop_orders"]["dagster/row_count"] == 2


@pytest.mark.parametrize("same_run", [True, False], ids=["retry", "next run"])
def test_a_package_left_by_an_outage_is_finished_first(
    pipeline, materialize, monkeypatch, same_run
):
    calls: list[int] = []

    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def orders():
            calls.append(1)
            yield {"id": len(calls)}

        return orders

    outage(monkeypatch)
    policy = dg.RetryPolicy(max_retries=1) if same_run else None
    assets = assets_of(source(), pipeline, retry_policy=policy)
    if not same_run:
        with pytest.raises(dg.Failure, match="the network is gone"):
            materialize(assets)

    found = metadata_by_asset(materialize(assets))["dlt_shop_orders"]

    # A retry finishes what it had extracted; a new run then extracts what is new.
    rows = [(1,)] if same_run else [(1,), (2,)]
    assert query(pipeline, "select id from raw.orders order by id") == rows
    assert found["dagster/row_count"] == len(rows)


def test_an_outage_may_be_resumed_and_a_refusal_may_not(pipeline):
    passing = PipelineStepFailed(pipeline, "load", "1", DestinationTransientException("later"))
    refusal = PipelineStepFailed(pipeline, "normalize", "1", ValueError("never"))

    assert _dlt.can_be_resumed(passing)
    assert not _dlt.can_be_resumed(refusal)


pages = st.recursive(
    st.one_of(st.dictionaries(st.text(), st.integers()), st.integers(), st.text()),
    lambda inner: st.lists(inner, min_size=1),
    max_leaves=20,
)


@given(page=pages)
def test_a_page_has_as_many_rows_as_it_has_items(page):
    def leaves(item) -> int:
        return sum(leaves(each) for each in item) if isinstance(item, list) else 1

    assert _dlt.count_rows(page) == leaves(page)


def test_a_count_that_cannot_be_had_is_a_warning(pipeline, materialize, monkeypatch):
    from dagster_dlt import dlt_event_iterator

    def refused(*_args):
        message = "no such table"
        raise RuntimeError(message)

    monkeypatch.setattr(dlt_event_iterator, "_fetch_row_count", refused)

    found = metadata_by_asset(materialize(assets_of(shop(), pipeline)))

    assert "dagster/row_count" not in found["dlt_shop_orders"]
    assert found["dlt_shop_orders"]["rows_loaded"] == 2


@pytest.mark.parametrize("kind", ["table", "batch", "frame"])
def test_rows_of_new_arrow_tables_say_which_load_they_came_with(pipeline, materialize, kind):
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame({"id": [1, 2]})
    table = pa.Table.from_pandas(frame)
    data = {"table": table, "batch": table.to_batches()[0], "frame": frame}[kind]

    for _ in range(2):
        materialize(assets_of(one("orders", [data]), pipeline))

    loads = query(pipeline, "select load_id from raw._dlt_loads order by 1")
    found = query(pipeline, "select distinct _dlt_load_id from raw.orders order by 1")
    assert found == loads
    assert len(loads) == 2


def test_arrow_tables_that_are_there_without_load_ids_stay_as_they_are(
    pipeline, materialize, capfd
):
    import pyarrow as pa

    source = one("orders", [pa.table({"id": [1]})])
    pipeline.run(one("orders", [pa.table({"id": [0]})]))

    materialize(assets_of(source, pipeline))

    assert query(pipeline, "select * from raw.orders order by id") == [(0,), (1,)]
    assert "it has added to orders until then cannot be told from others" in capfd.readouterr().err
