"""The guide's first definition: `from dlt import pipeline`, and a parameter called `dlt`."""

from dagster import AssetExecutionContext, Definitions
from dlt import pipeline
from ticket_source import tickets

from dagster_dlt import DagsterDltResource, dlt_assets

dlt_resource = DagsterDltResource()


@dlt_assets(
    dlt_source=tickets("acme", "rockets", max_items=3),
    dlt_pipeline=pipeline(
        pipeline_name="tickets", dataset_name="acme", destination="duckdb", progress="log"
    ),
    name="tickets",
    group_name="support",
)
def ticket_assets(context: AssetExecutionContext, dlt: DagsterDltResource):
    yield from dlt.run(context=context)


defs = Definitions(assets=[ticket_assets], resources={"dlt": dlt_resource})
