"""dbt models depend on dlt's assets, without a key configured in dbt."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import duckdb
import pytest
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    check_table_links,
    errors,
)
from sources import assets_of, one, shop

PROJECT = {
    "dbt_project.yml": """
        name: marts
        version: "1.0"
        profile: marts
        models: {marts: {+materialized: table}}
        """,
    "profiles.yml": """
        marts:
          target: dev
          outputs:
            dev: {type: duckdb, path: FOLDER/warehouse.duckdb, schema: marts, threads: 1}
        """,
    "models/sources.yml": """
        sources:
          - name: raw
            tables: [{name: orders}, {name: _dlt_loads}]
          - name: sales
            schema: raw
            tables: [{name: customers}]
        """,
    "models/named_like_its_schema.sql": """
        select count(*) as orders from {{ source('raw', 'orders') }}
        """,
    "models/named_otherwise.sql": "select name from {{ source('sales', 'customers') }}",
    "models/loads.sql": "select load_id from {{ source('raw', '_dlt_loads') }}",
}
ORDERS, CUSTOMERS = "source.marts.raw.orders", "source.marts.sales.customers"
BOTH = {"named_like_its_schema": "orders", "named_otherwise": "customers"}


def write(folder: Path) -> None:
    for name, text in PROJECT.items():
        lines = [line.removeprefix(8 * " ") for line in text.splitlines()]
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("\n".join(lines).replace("FOLDER", str(folder)))


def dbt(command: str, folder: Path) -> None:
    """Run a command of dbt in this process."""
    from dbt.cli.main import dbtRunner

    where = ["--project-dir", str(folder), "--profiles-dir", str(folder)]
    silent = ["--quiet", "--no-send-anonymous-usage-stats", "--log-level-file", "none"]
    done = dbtRunner().invoke([*silent, command, *where])

    assert done.success, done.exception


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A dbt project that was built on what dlt has loaded."""
    folder = tmp_path_factory.mktemp("dbt")
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        patch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")
        patch.setenv("DLT_DATA_DIR", str(folder / "dlt"))
        pipeline_of(folder).run(shop())
        dbt("build", folder)
        yield folder


def manifest_of(project: Path, **changed: str) -> dict[str, Any]:
    """Return what dbt made of the project, or would, had its sources something in common."""
    manifest: dict[str, Any] = json.loads((project / "target" / "manifest.json").read_text())
    for source in (ORDERS, CUSTOMERS):
        manifest["sources"][source].update(changed)
    return manifest


def models_of(manifest: dict[str, Any]) -> dg.AssetsDefinition:
    from dagster_dbt import dbt_assets

    @dbt_assets(manifest=manifest)
    def models():
        pass

    return models


def pipeline_of(project: Path) -> Pipeline:
    return dlt.pipeline(
        "shop",
        pipelines_dir=str(project / "pipelines"),
        destination=dlt.destinations.duckdb(str(project / "warehouse.duckdb")),
        dataset_name="raw",
    )


def parents(*assets: dg.AssetsDefinition) -> dict[str, list[str]]:
    """Return the keys that each asset depends on in Dagster."""
    resources = {"dlt_resource": DagsterDltResource()}
    graph = dg.Definitions(assets=assets, resources=resources).resolve_asset_graph()
    return {
        key.to_user_string(): [each.to_user_string() for each in graph.get(key).parent_keys]
        for key in graph.get_all_asset_keys()
    }


def renamed() -> Any:
    """Return the shop, whose orders are called bookings from now on."""
    return one("bookings", [{"id": 1}])


pytestmark = pytest.mark.filterwarnings(
    # Dagster says so of every link by the name of a table.
    "ignore:.*was resolved to upstream asset:dagster.BetaWarning"
)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "dlt_shop_{}"),
        ({"key": ["{dataset}", "{table}"]}, "raw/{}"),
        ({"key": ["lake", "{source}", "{resource}"]}, "lake/shop/{}"),
    ],
)
def test_models_depend_on_the_assets_whose_tables_they_read(project, settings, key):
    translator = DagsterDltTranslator(DagsterDltTranslatorSettings(**settings))
    loaded = assets_of(shop(), pipeline_of(project), dagster_dlt_translator=translator)
    models = models_of(manifest_of(project))

    found = parents(loaded, models)

    assert {model: found[model] for model in BOTH} == {
        model: [key.format(table)] for model, table in BOTH.items()
    }
    check_table_links(dg.Definitions(assets=[loaded, models]))


def test_models_in_other_letters_find_their_tables_by_a_setting(project):
    settings = DagsterDltTranslatorSettings(table_names="upper")
    loaded = assets_of(
        shop(), pipeline_of(project), dagster_dlt_translator=DagsterDltTranslator(settings)
    )
    manifest = manifest_of(project, database="WAREHOUSE", schema="RAW")
    for source in (ORDERS, CUSTOMERS):
        manifest["sources"][source]["name"] = manifest["sources"][source]["name"].upper()

    assert parents(loaded, models_of(manifest))["named_otherwise"] == ["dlt_shop_customers"]


def test_models_depend_on_the_asset_of_a_nested_table(project):
    settings = DagsterDltTranslatorSettings(
        nested_tables="assets", resources={"orders": {"nested_tables": ["orders__items"]}}
    )
    loaded = assets_of(
        shop(), pipeline_of(project), dagster_dlt_translator=DagsterDltTranslator(settings)
    )
    manifest = manifest_of(project)
    manifest["sources"][ORDERS]["name"] = "orders__items"
    models = models_of(manifest)

    found = parents(loaded, models)

    assert found["named_like_its_schema"] == ["dlt_shop_orders__items"]
    assert found["dlt_shop_orders__items"] == ["dlt_shop_orders"]
    check_table_links(dg.Definitions(assets=[loaded, models]))


def test_models_read_what_was_loaded(project):
    with duckdb.connect(str(project / "warehouse.duckdb")) as connection:
        counted = connection.execute("from marts.named_like_its_schema").fetchall()
        names = connection.execute("from marts.named_otherwise order by 1").fetchall()

    assert (counted, names) == ([(2,)], [("Ada",), ("Bo",)])


def test_a_resource_that_was_renamed_is_missed_by_its_models(project):
    loaded, models = assets_of(renamed(), pipeline_of(project)), models_of(manifest_of(project))
    defs = dg.Definitions(assets=[loaded, models])

    # Dagster makes an asset of its own of the source.
    assert parents(loaded, models)["named_like_its_schema"] == ["raw/orders"]
    with pytest.raises(errors.TableNotLoadedError, match=r"'warehouse\.raw\.(orders|customers)'"):
        check_table_links(defs)


@pytest.mark.parametrize(
    ("source", "changed", "remedy"),
    [
        (ORDERS, {"name": "order"}, "Did you mean 'warehouse.raw.orders'"),
        (ORDERS, {"name": "orders__items"}, "nested_tables='assets'"),
        (ORDERS, {"database": "WAREHOUSE"}, "table_names="),
        (CUSTOMERS, {"name": "people", "identifier": "customers"}, "rather than by its identifier"),
    ],
    ids=["misspelled", "nested", "letters", "identifier"],
)
def test_what_keeps_a_model_from_its_table_is_said(project, source, changed, remedy):
    manifest = manifest_of(project)
    manifest["sources"][source].update(changed)
    assets = [assets_of(shop(), pipeline_of(project)), models_of(manifest)]

    with pytest.raises(errors.TableNotLoadedError) as raised:
        check_table_links(dg.Definitions(assets=assets))

    assert remedy in str(raised.value)


@pytest.mark.parametrize("changed", [{"schema": "elsewhere"}, {"database": "lake"}])
def test_tables_of_others_are_no_concern_of_ours(project, changed):
    assets = [
        assets_of(shop(), pipeline_of(project)),
        models_of(manifest_of(project, **changed)),
    ]

    check_table_links(dg.Definitions(assets=assets))


def test_a_table_that_an_asset_of_its_key_stands_for_is_not_missed(project):
    assets = [
        assets_of(renamed(), pipeline_of(project)),
        models_of(manifest_of(project)),
        dg.AssetSpec(["raw", "orders"]),
        dg.AssetSpec(["sales", "customers"]),
    ]

    check_table_links(dg.Definitions(assets=assets))


def test_of_two_assets_with_one_table_models_depend_on_the_first(project):
    @dlt.source(name="shop")
    def source():
        return (
            dlt.resource([{"id": 1}], name="web", table_name="orders"),
            dlt.resource([{"id": 2}], name="till", table_name="orders"),
        )

    found = parents(assets_of(source(), pipeline_of(project)), models_of(manifest_of(project)))

    assert found["named_like_its_schema"] == ["dlt_shop_web"]
