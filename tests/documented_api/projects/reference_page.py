"""A reference page: `import dlt` beside a parameter `dlt`, a cursor, and superseded getters."""

import dlt
from dagster import AssetExecutionContext, AssetKey, Definitions, asset

from dagster_dlt import DagsterDltResource, DagsterDltTranslator, dlt_assets


@dlt.source
def repository(access_token: str = dlt.secrets.value):
    """Issues since the last run, and all pull requests."""

    @dlt.resource(write_disposition="merge", primary_key="id")
    def issues(
        updated_at=dlt.sources.incremental("updated_at", initial_value="2024-01-01T00:00:00Z"),
    ):
        newest = "2024-03-01T00:00:00Z"
        if updated_at.last_value < newest:
            yield [{"id": 1, "updated_at": newest, "token": bool(access_token)}]

    @dlt.resource(write_disposition="merge", primary_key="id")
    def pull_requests():
        yield [{"id": 5}]

    return issues, pull_requests


pipeline = dlt.pipeline(
    pipeline_name="repository", destination="duckdb", dataset_name="raw_repository"
)


class RawTranslator(DagsterDltTranslator):
    """Keys below `raw/code`, and nothing upstream."""

    def get_asset_key(self, resource) -> AssetKey:
        """Return the key in three parts."""
        return AssetKey(["raw", "code", resource.name])

    def get_deps_asset_keys(self, _resource):
        """Return nothing."""
        return []


@dlt_assets(
    dlt_source=repository(), dlt_pipeline=pipeline, name="repository", group_name="ingestion"
)
def repository_assets(context: AssetExecutionContext, dlt: DagsterDltResource):
    yield from dlt.run(context=context)


@dlt_assets(
    dlt_source=repository(),
    dlt_pipeline=pipeline,
    dagster_dlt_translator=RawTranslator(),
)
def raw_assets(context, dlt: DagsterDltResource):
    yield from dlt.run(context=context)


@asset(deps=[AssetKey(["raw", "code", "issues"])])
def report():
    return "done"


defs = Definitions(
    assets=[repository_assets, raw_assets, report], resources={"dlt": DagsterDltResource()}
)
