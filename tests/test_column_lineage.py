"""Columns lead to the columns that they are copied from."""

import sqlite3

import dagster as dg
import pytest
from dlt.sources.sql_database import sql_database

from dagster_dlt import DagsterDltTranslator, DagsterDltTranslatorSettings
from sources import assets_of, metadata_by_asset, one


@pytest.fixture
def till(tmp_path):
    """A database with a table whose names dlt normalizes."""
    file = tmp_path / "till.db"
    with sqlite3.connect(file) as connection:
        connection.execute('create table Sales ("Id" integer primary key, "UnitPrice" real)')
        connection.execute("insert into Sales values (1, 2.5)")
    connection.close()
    return f"sqlite:///{file}"


def lineage(found) -> dict[str, tuple[str, str]]:
    return {
        column: (dep.asset_key.to_user_string(), dep.column_name)
        for column, (dep,) in found["dagster/column_lineage"].deps_by_column.items()
    }


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("upstream", ["resource", "location"])
def test_columns_lead_to_those_of_the_table_in_the_source(
    pipeline, materialize, till, deferred, upstream
):
    source = sql_database(till, table_names=["Sales"], defer_table_reflect=deferred)
    translator = DagsterDltTranslator(DagsterDltTranslatorSettings(upstream=upstream))
    assets = assets_of(source, pipeline, dagster_dlt_translator=translator)
    [spec] = assets.specs
    [dep] = spec.deps

    [found] = metadata_by_asset(materialize(assets)).values()

    above = dep.asset_key.to_user_string()
    assert lineage(found) == {"id": (above, "Id"), "unit_price": (above, "UnitPrice")}
    assert above.endswith("Sales")


def test_a_nested_row_leads_to_the_row_it_was_nested_in(pipeline, materialize):
    settings = DagsterDltTranslatorSettings(
        nested_tables="assets", resources={"orders": {"nested_tables": ["orders__items"]}}
    )
    source = one("orders", [{"id": 1, "items": [{"sku": "tea"}]}])
    assets = assets_of(source, pipeline, dagster_dlt_translator=DagsterDltTranslator(settings))

    found = metadata_by_asset(materialize(assets))

    assert lineage(found["dlt_shop_orders__items"]) == {
        "_dlt_parent_id": ("dlt_shop_orders", "_dlt_id")
    }
    assert "dagster/column_lineage" not in found["dlt_shop_orders"]


def test_an_asset_of_several_sources_claims_no_lineage(pipeline, materialize, till):
    class TwoDeps(DagsterDltTranslator):
        def get_asset_spec(self, data):
            spec = super().get_asset_spec(data)
            return spec.replace_attributes(deps=[dg.AssetKey("a"), dg.AssetKey("b")])

    source = sql_database(till, table_names=["Sales"])

    [found] = metadata_by_asset(
        materialize(assets_of(source, pipeline, dagster_dlt_translator=TwoDeps()))
    ).values()

    assert "dagster/column_lineage" not in found
