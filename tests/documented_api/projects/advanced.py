"""The guide's advanced part: translator, upstream and downstream assets, several groups."""

import dagster as dg
import dlt
from ticket_source import tickets

from dagster_dlt import DagsterDltResource, DagsterDltTranslator, dlt_assets
from dagster_dlt.translator import DltResourceTranslatorData


class ShortKeys(DagsterDltTranslator):
    """Names assets like their resources, all below one upstream asset."""

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        default = super().get_asset_spec(data)
        return default.replace_attributes(
            key=dg.AssetKey(f"{data.resource.name}"), deps=[dg.AssetKey("ticket_api")]
        )


@dlt_assets(
    dlt_source=tickets("acme", "rockets"),
    dlt_pipeline=dlt.pipeline("rockets", destination="duckdb", dataset_name="rockets"),
    name="rockets",
    group_name="rockets",
    dagster_dlt_translator=ShortKeys(),
)
def rocket_assets(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)


@dlt_assets(
    dlt_source=tickets("acme", "anvils"),
    dlt_pipeline=dlt.pipeline("anvils", destination="duckdb", dataset_name="anvils"),
    name="anvils",
    group_name="anvils",
)
def anvil_assets(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)


upstream_assets = [
    dg.AssetSpec(key, group_name="upstream", metadata={"owner": "acme"})
    for keys in anvil_assets.asset_deps.values()
    for key in keys
]


@dg.asset(deps=[dg.AssetKey("issues")])
def rocket_report(): ...


@dg.asset(
    deps=[
        DagsterDltTranslator()
        .get_asset_spec(
            DltResourceTranslatorData(
                resource=tickets("acme", "anvils").resources["issues"],
                destination=dlt.destinations.duckdb(),
            )
        )
        .key
    ]
)
def anvil_report(): ...


defs = dg.Definitions(
    assets=[rocket_assets, anvil_assets, *upstream_assets, rocket_report, anvil_report],
    resources={"dlt_resource": DagsterDltResource()},
)
