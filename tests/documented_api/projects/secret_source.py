"""A source with a secret and two merged resources, and a pipeline in a name of its own."""

import dagster as dg
import dlt

from dagster_dlt import DagsterDltResource, dlt_assets

PAGES = {"courses": [[{"id": 1}], [{"id": 2}]], "users": [[{"id": 7}]]}


@dlt.source
def school(api_key: str = dlt.secrets.value):
    """Courses and users, page by page."""
    if api_key != "chalk":
        raise PermissionError

    @dlt.resource(primary_key="id", write_disposition="merge")
    def courses():
        yield from PAGES["courses"]

    @dlt.resource(primary_key="id", write_disposition="merge")
    def users():
        yield from PAGES["users"]

    return courses, users


pipeline = dlt.pipeline(
    pipeline_name="school", destination="duckdb", dataset_name="school_data", progress="log"
)


@dlt_assets(dlt_source=school(), dlt_pipeline=pipeline)
def school_assets(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
    yield from dlt.run(context=context)


defs = dg.Definitions(assets=[school_assets], resources={"dlt": DagsterDltResource()})
