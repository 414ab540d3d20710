"""How a dlt resource appears as an asset, by default and by settings."""

import dagster as dg
import dlt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_dlt import (
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltResourceTranslatorData,
    _dagster,
    build_dlt_asset_specs,
    errors,
)
from sources import assets_of, metadata_by_asset, one, query, shop


def specs_by_name(source, pipeline, translator=None) -> dict[str, dg.AssetSpec]:
    specs = build_dlt_asset_specs(source, pipeline, translator)
    return {spec.metadata["dagster_dlt/resource"]: spec for spec in specs}


def translator(**settings) -> DagsterDltTranslator:
    return DagsterDltTranslator(DagsterDltTranslatorSettings(**settings))


def keys(deps) -> list[list[str]]:
    return [list(dep.asset_key.path) for dep in deps]


@dlt.source(name="shop")
def chain():
    @dlt.resource
    def orders():
        yield [{"id": 1}]

    @dlt.transformer(data_from=orders)
    def details(rows):
        yield from rows

    @dlt.transformer(data_from=details)
    def parcels(rows):
        yield from rows

    return orders, details, parcels


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        (["{dataset}", "{table}"], ["raw", "order_lines"]),
        (["{source}", "{resource}"], ["shop", "orders"]),
        (["lake", "{destination}_{pipeline}", "{table}"], ["lake", "duckdb_shop", "order_lines"]),
    ],
)
def test_a_key_pattern_is_filled_from_the_resource_and_its_pipeline(pipeline, pattern, key):
    source = one("orders", [{"id": 1}], table_name="order_lines")

    spec = specs_by_name(source, pipeline, translator(key=pattern))["orders"]

    assert list(spec.key.path) == key


def test_a_part_of_a_pattern_that_is_not_known_is_left_out():
    data = DltResourceTranslatorData(resource=shop().resources["orders"])

    spec = translator(key=["{dataset}", "{table}"]).get_asset_spec(data)

    assert list(spec.key.path) == ["orders"]


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (["{schema}"], "unknown placeholder 'schema'"),
        (["{table"], "malformed"),
        ([""], "empty part"),
        ([], "not a list"),
        ("{table}", "not a list"),
    ],
)
def test_a_pattern_that_cannot_be_filled_is_refused_when_it_is_written(pattern, problem):
    with pytest.raises(errors.InvalidKeyPatternError, match=problem):
        DagsterDltTranslatorSettings(key=pattern)


@given(name=st.text(min_size=1, max_size=30).filter(str.strip))
def test_any_resource_name_becomes_a_key_that_dagster_takes(name):
    data = DltResourceTranslatorData(resource=dlt.resource([1], name=name))

    spec = DagsterDltTranslator().get_asset_spec(data)

    dg.multi_asset(name="load", specs=[spec], can_subset=True)(lambda: None)


def test_by_default_a_transformer_depends_on_the_head_of_its_chain(pipeline):
    specs = specs_by_name(chain(), pipeline)

    assert keys(specs["parcels"].deps) == [["shop_orders"]]


@pytest.mark.parametrize("upstream", ["location", "none"])
def test_a_transformer_depends_on_its_parent_where_that_is_an_asset(pipeline, upstream):
    specs = specs_by_name(chain(), pipeline, translator(upstream=upstream))

    assert keys(specs["orders"].deps) == []
    assert keys(specs["details"].deps) == [["dlt_shop_orders"]]
    assert keys(specs["parcels"].deps) == [["dlt_shop_details"]]


def test_a_parent_that_is_not_selected_is_no_dependency(pipeline):
    source = chain().with_resources("details")

    specs = specs_by_name(source, pipeline, translator(upstream="none"))

    assert keys(specs["details"].deps) == []


def test_a_transformer_that_depends_on_its_parent_still_runs_alone(pipeline, materialize):
    assets = assets_of(chain(), pipeline, dagster_dlt_translator=translator(upstream="none"))

    both = materialize(assets)
    alone = materialize(assets, selection=[dg.AssetKey("dlt_shop_details")])

    assert len(both.get_asset_materialization_events()) == 3
    assert metadata_by_asset(alone).keys() == {"dlt_shop_details"}
    assert query(pipeline, "select count(*) from raw.orders") == [(1,)]


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (
            {
                "kind": "sql_database",
                "location": "postgresql+psycopg2://db.example.com:5432",
                "database": "crm",
                "db_schema": "public",
                "tables": ["orders"],
            },
            ["postgresql", "db.example.com", "crm", "public", "orders"],
        ),
        (
            {
                "kind": "rest_api",
                "location": "https://api.example.com/v1",
                "endpoints": ["users/{id}/posts"],
            },
            ["https", "api.example.com", "v1", "users", "_id_", "posts"],
        ),
        (
            {"kind": "filesystem", "location": "s3://bucket/landing", "glob": "*.csv"},
            ["s3", "bucket", "landing"],
        ),
        ({"kind": "crm"}, ["crm"]),
    ],
)
def test_a_place_that_dlt_knows_becomes_an_external_asset(pipeline, place, key):
    source = one("orders", [{"id": 1}])
    source.resources["orders"].add_input({"resource_name": "orders", **place})

    spec = specs_by_name(source, pipeline, translator(upstream="location"))["orders"]

    takes_dots = "." in _dagster.NOT_IN_KEYS
    assert keys(spec.deps) == [key if takes_dots else [part.replace(".", "_") for part in key]]


def test_attributes_are_set_by_resource_without_a_translator_of_ones_own(pipeline):
    attributes = {
        "description": "Lines.",
        "group_name": "sales",
        "owners": ["team:sales"],
        "tags": {"tier": "gold"},
        "kinds": ["csv"],
        "metadata": {"contact": "Ada"},
        "code_version": "7",
        "automation_condition": "eager",
        "freshness_policy": {"fail_hours": 26, "warn_hours": 25},
    }

    specs = specs_by_name(shop(), pipeline, translator(resources={"orders": attributes}))

    spec = specs["orders"]
    assert (spec.description, spec.group_name, spec.owners) == ("Lines.", "sales", ["team:sales"])
    assert spec.tags["tier"] == "gold"
    assert spec.kinds == {"dlt", "duckdb", "csv"}
    assert spec.metadata["contact"] == "Ada"
    assert spec.metadata["dagster/table_name"] == "warehouse.raw.orders"
    assert spec.code_version == "7"
    assert spec.automation_condition == dg.AutomationCondition.eager()
    assert spec.freshness_policy is not None
    assert specs["customers"].group_name is None


def test_a_hint_on_the_resource_sets_attributes_and_settings_win_over_it(pipeline, materialize):
    source = shop()
    hint = {"owners": ["team:data"], "group_name": "raw", "automation_condition": "@daily"}
    source.resources["orders"].apply_hints(additional_table_hints={"x-dagster": hint})
    settings = {"orders": {"group_name": "sales"}}

    assets = assets_of(
        source, pipeline, dagster_dlt_translator=translator(upstream="none", resources=settings)
    )

    spec = assets.specs_by_key[dg.AssetKey("dlt_shop_orders")]
    assert (spec.group_name, spec.owners) == ("sales", ["team:data"])
    assert spec.automation_condition == dg.AutomationCondition.on_cron("@daily")
    assert materialize(assets).success


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"owner": ["a@b.c"]}, "Did you mean 'owners'"),
        ({"automation_condition": "sometimes"}, "not a condition"),
        ({"freshness_policy": {"hours": 3}}, "fail_hours"),
        ([1], "not a mapping"),
    ],
)
def test_attributes_that_cannot_be_used_are_refused_with_the_resource(attributes, problem):
    with pytest.raises(errors.InvalidResourceAttributeError, match=problem) as raised:
        DagsterDltTranslatorSettings(resources={"orders": attributes})

    assert "'orders'" in str(raised.value)


def test_attributes_that_dagster_refuses_are_refused_with_the_resource(pipeline):
    settings = {"orders": {"group_name": "not a group"}}

    with pytest.raises(errors.InvalidResourceAttributeError, match="'orders'"):
        build_dlt_asset_specs(shop(), pipeline, translator(resources=settings))


def test_an_unknown_upstream_is_refused():
    with pytest.raises(errors.InvalidSettingError, match="'both'"):
        DagsterDltTranslatorSettings(upstream="both")


def test_a_subclass_that_forgets_its_parents_constructor_has_settings():
    class Own(DagsterDltTranslator):
        def __init__(self) -> None:
            self.region = "eu"

    assert Own().settings == DagsterDltTranslatorSettings()
