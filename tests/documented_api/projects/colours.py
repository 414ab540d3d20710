"""The guide's partitions: a source for one colour, built where the partition is known."""

import dagster as dg
import dlt

from dagster_dlt import DagsterDltResource, dlt_assets

colour_partitions = dg.StaticPartitionsDefinition(["red", "green"])


@dlt.source
def palette(colour: str | None = None):
    """Shades of one colour, or of all."""
    colours = [colour] if colour else ["red", "green"]

    @dlt.resource(primary_key="shade", write_disposition="merge")
    def shades():
        for name in colours:
            yield [{"shade": f"light {name}"}, {"shade": f"dark {name}"}]

    return shades


@dlt_assets(
    dlt_source=palette(),
    name="palette",
    dlt_pipeline=dlt.pipeline("palette", dataset_name="palette_data", destination="duckdb"),
    partitions_def=colour_partitions,
)
def shade_assets(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
    colour = context.partition_key
    yield from dlt.run(context=context, dlt_source=palette(colour=colour))


defs = dg.Definitions(assets=[shade_assets], resources={"dlt": DagsterDltResource()})
