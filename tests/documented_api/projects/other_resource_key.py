"""Dagster refuses this: the parameter asks for a resource that the definitions do not have."""

import dagster as dg
import dlt
from ticket_source import tickets

from dagster_dlt import DagsterDltResource, dlt_assets


@dlt_assets(
    dlt_source=tickets("acme", "rockets"),
    dlt_pipeline=dlt.pipeline("rockets", destination="duckdb", dataset_name="rockets"),
)
def rocket_assets(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)


defs = dg.Definitions(assets=[rocket_assets], resources={"dlt": DagsterDltResource()})
