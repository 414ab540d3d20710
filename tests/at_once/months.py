"""The flights, with a run for each month of a backfill rather than one for all of them."""

import dagster as dg
from flights.defs.assets import months
from flights.pipeline import flights_pipeline
from flights.sources import operations

from dagster_dlt import DagsterDltResource, dlt_assets


@dlt_assets(
    dlt_source=operations(),
    dlt_pipeline=flights_pipeline(),
    partitions_def=months,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
)
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)


defs = dg.Definitions(assets=[load], resources={"dlt_resource": DagsterDltResource()})
