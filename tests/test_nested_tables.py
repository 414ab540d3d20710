"""Nested tables as assets of their own: which there are, what they depend on, what they report."""

import dagster as dg
import dlt
import pytest

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltIOManager,
    DltResourceSpec,
    DltSourceSnapshot,
    build_dlt_asset_specs,
    dlt_assets,
    errors,
)
from sources import assets_of, metadata_by_asset, one, query, shop

ORDERS = [
    {"id": 1, "items": [{"sku": "tea", "parts": [{"n": 1}, {"n": 2}]}, {"sku": "cup"}]},
    {"id": 2, "items": [{"sku": "jam"}]},
]
ITEMS = "dlt_shop_orders__items"
PARTS = "dlt_shop_orders__items__parts"


def translator(*names: str, **settings) -> DagsterDltTranslator:
    resources = {"orders": {"nested_tables": list(names)}} if names else {}
    return DagsterDltTranslator(
        DagsterDltTranslatorSettings(nested_tables="assets", resources=resources, **settings)
    )


def nested_assets(pipeline, source=None, **options):
    options = {
        "dagster_dlt_translator": translator("orders__items", "orders__items__parts"),
        **options,
    }
    return assets_of(source or one("orders", ORDERS), pipeline, **options)


def parents(assets) -> dict[str, set[str]]:
    return {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for spec in assets.specs
    }


def test_without_the_setting_nested_tables_are_no_assets(pipeline):
    assets = assets_of(one("orders", ORDERS, nested_hints={"items": {}}), pipeline)

    assert [key.to_user_string() for key in assets.keys] == ["dlt_shop_orders"]


def test_each_nested_table_depends_on_the_one_it_is_nested_in(pipeline):
    assert parents(nested_assets(pipeline)) == {
        "dlt_shop_orders": {"shop_orders"},
        ITEMS: {"dlt_shop_orders"},
        PARTS: {ITEMS},
    }


def test_each_nested_table_reports_its_own_rows_name_and_columns(pipeline, materialize):
    found = metadata_by_asset(materialize(nested_assets(pipeline)))

    for key, table, rows in ((ITEMS, "orders__items", 3), (PARTS, "orders__items__parts", 2)):
        assert found[key]["rows_loaded"] == rows
        assert found[key]["dagster/row_count"] == rows
        assert found[key]["dagster/table_name"] == f"warehouse.raw.{table}"
        assert found[key]["dagster_dlt/nested_table"] == table
        [(counted,)] = query(pipeline, f"select count(*) from raw.{table}")
        assert counted == rows
    columns = {column.name for column in found[ITEMS]["dagster/column_schema"].columns}
    assert columns >= {"sku", "_dlt_parent_id"}
    assert found["dlt_shop_orders"]["dagster/row_count"] == 2


def test_hints_tell_of_nested_tables(pipeline):
    hints = {
        "items": dlt.mark.make_nested_hints(columns=[{"name": "sku", "data_type": "text"}]),
        ("items", "parts"): dlt.mark.make_nested_hints(columns=[{"name": "n"}]),
    }
    source = one("orders", ORDERS, nested_hints=hints)

    found = parents(nested_assets(pipeline, source, dagster_dlt_translator=translator()))

    assert found == {
        "dlt_shop_orders": {"shop_orders"},
        ITEMS: {"dlt_shop_orders"},
        PARTS: {ITEMS},
    }


def test_the_schema_that_dlt_exported_last_tells_of_nested_tables(
    make_pipeline, materialize, tmp_path
):
    pipeline = make_pipeline(export_schema_path=str(tmp_path / "schemas"))
    source = one("orders", ORDERS)
    before = nested_assets(pipeline, source, dagster_dlt_translator=translator())
    assert len(list(before.keys)) == 1

    materialize(before)
    after = nested_assets(pipeline, source, dagster_dlt_translator=translator())

    assert parents(after).keys() == {"dlt_shop_orders", ITEMS, PARTS}


def test_declared_resources_and_snapshots_tell_of_nested_tables(pipeline, tmp_path):
    @dlt.source(name="shop")
    def built_later():
        hints = {"items": dlt.mark.make_nested_hints(columns=[{"name": "sku"}])}
        return dlt.resource(ORDERS, name="orders", nested_hints=hints)

    declared = build_dlt_asset_specs(
        built_later,
        pipeline,
        translator(),
        resources=[DltResourceSpec(name="orders", nested_tables=["orders__items"])],
    )
    snapshot = DltSourceSnapshot(tmp_path / "shop.json")
    snapshot.write(built_later)
    kept = build_dlt_asset_specs(built_later, pipeline, translator(), snapshot=snapshot)

    for specs in (declared, kept):
        keys = [spec.metadata.get("dagster_dlt/nested_table") for spec in specs]
        assert keys == [None, "orders__items"]


def test_a_nested_table_that_is_selected_alone_is_loaded_with_its_resource(pipeline):
    assets = nested_assets(pipeline)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [assets],
            selection=[dg.AssetKey(ITEMS)],
            instance=instance,
            resources={"dlt_resource": DagsterDltResource()},
        )

        assert result.success
        # What was loaded along with it is reported as well.
        for key, rows in (("dlt_shop_orders", 2), (ITEMS, 3), (PARTS, 2)):
            event = instance.get_latest_materialization_event(dg.AssetKey(key))
            assert event.asset_materialization.metadata["dagster/row_count"].value == rows


def test_a_known_nested_table_without_rows_is_materialized_with_zero(pipeline, materialize):
    assets = nested_assets(pipeline, one("orders", [{"id": 1}]))

    found = metadata_by_asset(materialize(assets))

    assert found[ITEMS]["rows_loaded"] == 0
    assert found[ITEMS]["dagster/table_name"] == "warehouse.raw.orders__items"


def test_models_can_depend_on_a_nested_table(pipeline):
    assets = nested_assets(pipeline)

    @dg.asset(deps=[ITEMS])
    def items_sold():
        pass

    result = dg.materialize([assets, items_sold], resources={"dlt_resource": DagsterDltResource()})

    assert result.success
    assert result.asset_materializations_for_node("items_sold")


def test_a_nested_table_is_read_back_by_what_depends_on_it(pipeline):
    assets = nested_assets(pipeline, io_manager_key="dlt_io_manager")
    read = []

    @dg.asset(ins={"items": dg.AssetIn(key=ITEMS)})
    def items_sold(items):
        read.extend(sorted(items["sku"]))

    resources = {"dlt_resource": DagsterDltResource(), "dlt_io_manager": DltIOManager()}

    assert dg.materialize([assets, items_sold], resources=resources).success
    assert read == ["cup", "jam", "tea"]


def test_a_nested_table_keeps_owners_group_and_tags_of_its_resource(pipeline):
    @dlt_assets(
        dlt_source=one("orders", ORDERS),
        dlt_pipeline=pipeline,
        dagster_dlt_translator=DagsterDltTranslator(
            DagsterDltTranslatorSettings(
                key=["{dataset}", "{table}"],
                nested_tables="assets",
                resources={
                    "orders": {
                        "nested_tables": ["orders__items"],
                        "group_name": "sales",
                        "owners": ["team:sales"],
                        "tags": {"tier": "1"},
                    }
                },
            )
        ),
    )
    def load():
        pass

    spec = load.specs_by_key[dg.AssetKey(["raw", "orders__items"])]
    assert (spec.group_name, list(spec.owners)) == ("sales", ["team:sales"])
    assert spec.tags["tier"] == "1"
    assert spec.kinds == {"dlt", "duckdb"}


def test_a_translator_decides_about_nested_tables_too(pipeline):
    class Short(DagsterDltTranslator):
        def get_nested_asset_spec(self, data, table, spec, parent):
            nested = super().get_nested_asset_spec(data, table, spec, parent)
            return nested.replace_attributes(key=dg.AssetKey(["raw", table]))

    settings = translator("orders__items", "orders__items__parts").settings
    assets = nested_assets(pipeline, dagster_dlt_translator=Short(settings))

    assert parents(assets)["raw/orders__items__parts"] == {"raw/orders__items"}


def test_a_failed_resource_reports_no_nested_tables_and_a_retry_does(pipeline, materialize):
    attempts = []

    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def orders():
            attempts.append(1)
            if len(attempts) == 1:
                message = "try again"
                raise RuntimeError(message)
            yield ORDERS

        return orders

    assets = nested_assets(pipeline, source(), retry_policy=dg.RetryPolicy(max_retries=1))

    found = metadata_by_asset(materialize(assets))

    assert len(attempts) == 2
    assert found[ITEMS]["rows_loaded"] == 3


def test_names_that_are_no_list_are_refused():
    with pytest.raises(errors.InvalidResourceAttributeError, match="not a list of names"):
        translator_settings = {"orders": {"nested_tables": "orders__items"}}
        DagsterDltTranslatorSettings(resources=translator_settings)


def test_an_unknown_choice_is_refused():
    with pytest.raises(errors.InvalidSettingError, match=r"nested_tables='asset'.*'assets'"):
        DagsterDltTranslatorSettings(nested_tables="asset")


def test_resources_that_share_nothing_keep_their_keys(pipeline, materialize):
    found = metadata_by_asset(
        materialize(assets_of(shop(), pipeline, dagster_dlt_translator=translator("orders__items")))
    )

    assert found.keys() == {"dlt_shop_customers", "dlt_shop_orders", ITEMS}
