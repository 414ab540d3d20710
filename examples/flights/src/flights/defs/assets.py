"""The assets of this project: one for each resource of the dlt sources."""

from collections.abc import Iterator

import dagster as dg

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltEventType,
    dlt_assets,
)
from flights.pipeline import flights_pipeline
from flights.sources import operations, reference_data

pipeline = flights_pipeline()

# Keys, references and new columns are checked; those of the data set are what they are.
translator = DagsterDltTranslator(DagsterDltTranslatorSettings(checks=True))

# A month begins and ends at midnight in New York, where the flights leave.
months = dg.MonthlyPartitionsDefinition(
    start_date="2013-01-01", end_date="2014-01-01", timezone="America/New_York"
)


@dlt_assets(
    name="reference_data",
    dlt_source=reference_data(),
    dlt_pipeline=pipeline,
    dagster_dlt_translator=translator,
    group_name="reference_data",
)
def reference_data_assets(
    context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource
) -> Iterator[DltEventType]:
    """Bring the small tables up to date, row by row on their keys."""
    yield from dlt_resource.run(context=context).fetch_row_count()


@dlt_assets(
    name="operations",
    dlt_source=operations(),
    dlt_pipeline=pipeline,
    dagster_dlt_translator=translator,
    group_name="operations",
    partitions_def=months,
)
def operations_assets(
    context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource
) -> Iterator[DltEventType]:
    """Append one month, or a range of months in a single run."""
    yield from dlt_resource.run(context=context).fetch_row_count()
