"""Every shape a dlt resource can have gets right events, names and counts."""

import dagster as dg
import dlt
import pytest

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DltResourceTranslatorData,
    dlt_assets,
)
from sources import assets_of, metadata_by_asset, one, query, rows_by_table, shop


def test_a_nested_table_is_counted_apart_and_shown_with_its_columns(pipeline, materialize):
    found = metadata_by_asset(materialize(assets_of(shop(), pipeline)))["dlt_shop_orders"]

    assert found["rows_loaded"] == 2
    assert rows_by_table(found) == {"orders": 2, "orders__items": 3}
    assert {column.name for column in found["orders__items"].columns} >= {"sku", "_dlt_parent_id"}


def test_a_sibling_with_a_double_underscore_is_not_taken_for_a_child(pipeline, materialize):
    @dlt.source(name="shop")
    def source():
        return (
            dlt.resource([{"id": 1}, {"id": 2}], name="orders"),
            dlt.resource([{"reason": "x"}], name="orders__audit"),
        )

    found = metadata_by_asset(materialize(assets_of(source(), pipeline)))

    assert "orders__audit" not in found["dlt_shop_orders"]
    assert found["dlt_shop_orders"]["dagster/row_count"] == 2
    assert found["dlt_shop_orders__audit"]["dagster/table_name"] == "warehouse.raw.orders__audit"
    assert found["dlt_shop_orders__audit"]["dagster/row_count"] == 1
    columns = found["dlt_shop_orders__audit"]["dagster/column_schema"].columns
    assert "reason" in {column.name for column in columns}


def test_tables_that_rows_decide_belong_to_their_resource(pipeline, materialize):
    rows = [{"t": "click", "marks": [{"x": 1}]}, {"t": "view"}, {"t": "view"}]
    source = one("events", rows, table_name=lambda row: "ev_" + row["t"])

    found = metadata_by_asset(materialize(assets_of(source, pipeline)))["dlt_shop_events"]

    assert found["rows_loaded"] == 3
    assert found["dagster/row_count"] == 3
    assert rows_by_table(found) == {"ev_click": 1, "ev_view": 2, "ev_click__marks": 1}
    assert {"ev_click", "ev_view", "ev_click__marks"} <= found.keys()
    assert "dagster/table_name" not in found


def test_two_resources_in_one_table_each_report_their_own_rows(pipeline, materialize):
    @dlt.source(name="shop")
    def source():
        return (
            dlt.resource([{"id": 1}], name="web", table_name="orders"),
            dlt.resource([{"id": 2}, {"id": 3}], name="till", table_name="orders"),
        )

    assets = assets_of(source(), pipeline)
    found = metadata_by_asset(materialize(assets))

    assert found["dlt_shop_web"]["rows_loaded"] == 1
    assert found["dlt_shop_till"]["rows_loaded"] == 2
    assert found["dlt_shop_web"]["dagster/row_count"] == 3
    assert found["dlt_shop_till"]["dagster/column_schema"].columns
    assert found["dlt_shop_web"]["dagster/table_name"] == "warehouse.raw.orders"
    assert "dagster/table_name" not in found["dlt_shop_till"]
    assert found["dlt_shop_till"]["dagster_dlt/table"] == "warehouse.raw.orders"


@pytest.mark.parametrize("runs", [1, 2])
def test_a_resource_without_rows_is_materialized_with_zero(pipeline, materialize, runs):
    assets = assets_of(one("orders", []), pipeline)
    for _ in range(runs):
        found = metadata_by_asset(materialize(assets))["dlt_shop_orders"]

    assert found["rows_loaded"] == 0
    assert found["dagster/row_count"] == 0
    assert found["dagster/table_name"] == "warehouse.raw.orders"


def test_a_run_with_nothing_new_reports_zero_loaded_and_the_rows_that_are_there(
    pipeline, materialize
):
    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def orders(at=dlt.sources.incremental("at")):
            yield [{"at": 1}, {"at": 2}]

        return orders

    assets = assets_of(source(), pipeline)
    materialize(assets)
    found = metadata_by_asset(materialize(assets))["dlt_shop_orders"]

    assert (found["rows_loaded"], found["dagster/row_count"]) == (0, 2)
    assert found["dataset_name"] == "raw"
    assert found["jobs"] == []
    assert {"first_run", "started_at", "finished_at", "destination_name"} <= found.keys()


def test_a_transformer_loads_without_its_parent(pipeline, materialize):
    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def orders():
            yield [{"id": 1}, {"id": 2}]

        @dlt.transformer(data_from=orders)
        def details(rows):
            yield from ({"id": row["id"], "weight": 3} for row in rows)

        return orders, details

    result = materialize(assets_of(source(), pipeline), selection=[dg.AssetKey("dlt_shop_details")])

    assert metadata_by_asset(result).keys() == {"dlt_shop_details"}
    assert query(pipeline, "select count(*) from raw.details") == [(2,)]
    tables = query(pipeline, "select table_name from information_schema.tables")
    assert ("orders",) not in tables


def test_two_sources_in_one_pipeline_keep_to_their_own_schema(make_pipeline, materialize):
    pipeline = make_pipeline()
    first = assets_of(one("items", [{"a": 1}], source="web"), pipeline, name="first")
    second = assets_of(one("items2", [{"b": 1}, {"b": 2}], source="till"), pipeline, name="second")

    materialize(first)
    found = metadata_by_asset(materialize(second), "second")["dlt_till_items2"]

    assert found["rows_loaded"] == 2
    columns = found["dagster/column_schema"].columns
    assert {column.name for column in columns} == {"b", "_dlt_id", "_dlt_load_id"}


def test_names_that_dagster_does_not_allow_become_keys_that_it_does(make_pipeline, materialize):
    pipeline = make_pipeline(dataset_name="my-dataset")
    assets = assets_of(one("order items", [{"id": 1}]), pipeline)

    found = metadata_by_asset(materialize(assets))

    assert found.keys() == {"dlt_shop_order_items"}
    entry = found["dlt_shop_order_items"]
    assert entry["dagster/table_name"] == "warehouse.my_dataset.order_items"
    assert entry["dagster_dlt/resource"] == "order items"
    assert entry["dagster/row_count"] == 1


def test_the_table_name_is_one_that_a_query_can_use(pipeline, materialize):
    found = metadata_by_asset(materialize(assets_of(shop(), pipeline)))

    for entry in found.values():
        counted = query(pipeline, f"select count(*) from {entry['dagster/table_name']}")
        assert counted == [(entry["dagster/row_count"],)]


def test_arrow_tables_are_counted_by_their_rows(pipeline, materialize):
    import pyarrow as pa

    @dlt.source(name="shop")
    def source():
        return (
            dlt.resource([pa.table({"id": [1, 2]})], name="web", table_name="orders"),
            dlt.resource([pa.table({"id": [3, 4, 5]})], name="till", table_name="orders"),
        )

    found = metadata_by_asset(materialize(assets_of(source(), pipeline)))

    assert found["dlt_shop_web"]["rows_loaded"] == 2
    assert found["dlt_shop_till"]["rows_loaded"] == 3


def test_one_definition_runs_twice_in_one_process(pipeline, materialize):
    assets = assets_of(shop(), pipeline)

    materialize(assets)
    found = metadata_by_asset(materialize(assets))

    assert found["dlt_shop_customers"]["dagster/row_count"] == 2
    assert found["dlt_shop_orders"]["dagster/row_count"] == 4


def test_a_run_leaves_the_schema_and_the_pipeline_of_the_definition_alone(pipeline, materialize):
    source = shop()
    before = (source.schema.to_pretty_json(), dict(vars(pipeline)))

    result = materialize(assets_of(source, pipeline))

    assert result.success
    assert source.schema.to_pretty_json() == before[0]
    assert vars(pipeline) == before[1]


class Prefixed(DagsterDltTranslator):
    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(key=dg.AssetKey([data.resource.name]))


@pytest.mark.parametrize(
    "replaced", [{"orders": "x"}, {"orders": "customers", "customers": "orders"}]
)
def test_keys_changed_afterwards_still_load_the_right_resource(pipeline, materialize, replaced):
    assets = assets_of(shop(), pipeline, dagster_dlt_translator=Prefixed())
    keys = {dg.AssetKey([old]): dg.AssetKey(["new", new]) for old, new in replaced.items()}
    renamed = assets.with_attributes(asset_key_replacements=keys)

    found = metadata_by_asset(materialize(renamed, selection=[keys[dg.AssetKey(["orders"])]]))

    assert [entry["dagster_dlt/resource"] for entry in found.values()] == ["orders"]
    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]


def test_two_definitions_share_a_source_and_a_pipeline(pipeline, materialize):
    first = assets_of(shop().with_resources("customers"), pipeline, name="first")
    second = assets_of(shop().with_resources("orders"), pipeline, name="second")

    result = materialize(first, second)

    assert len(result.get_asset_materialization_events()) == 2


def test_nothing_is_loaded_when_checks_alone_are_selected(pipeline):
    calls: list[str] = []

    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def orders():
            calls.append("orders")
            yield {"id": 1}

        return orders

    key = dg.AssetKey("dlt_shop_orders")

    @dlt_assets(
        dlt_source=source(),
        dlt_pipeline=pipeline,
        check_specs=[dg.AssetCheckSpec("fine", asset=key)],
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)
        yield dg.AssetCheckResult(asset_key=key, check_name="fine", passed=True)

    job = dg.define_asset_job("only", selection=dg.AssetSelection.all_asset_checks())
    resources = {"dlt_resource": DagsterDltResource()}
    defs = dg.Definitions(assets=[load], jobs=[job], resources=resources)

    assert defs.resolve_job_def("only").execute_in_process().success
    assert calls == []
