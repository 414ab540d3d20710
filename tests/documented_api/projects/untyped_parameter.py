"""Dagster refuses this: without an annotation the parameter is an asset's, not a resource's."""

import dlt
from ticket_source import tickets

from dagster_dlt import dlt_assets


@dlt_assets(
    dlt_source=tickets("acme", "rockets"),
    dlt_pipeline=dlt.pipeline("rockets", destination="duckdb", dataset_name="rockets"),
)
def rocket_assets(context, dlt_resource):
    yield from dlt_resource.run(context=context)
