"""A lesson's project: resources in definitions of their own, assets named like the decorator."""

import dagster as dg
import dlt

from dagster_dlt import DagsterDltResource, dlt_assets


@dlt.source
def simple():
    """One resource, with its rows inside."""

    @dlt.resource
    def people():
        yield [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}]

    return people


@dlt_assets(
    dlt_source=simple(),
    dlt_pipeline=dlt.pipeline(
        pipeline_name="simple", dataset_name="simple_data", destination="duckdb", progress="log"
    ),
)
def dlt_assets(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
    yield from dlt.run(context=context)


defs = dg.Definitions.merge(
    dg.Definitions(resources={"dlt": DagsterDltResource()}), dg.Definitions(assets=[dlt_assets])
)
