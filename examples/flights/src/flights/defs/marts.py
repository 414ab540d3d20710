"""dbt's models as assets: each depends on the dlt assets whose tables it reads."""

from collections.abc import Iterator

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from flights.marts import dbt_project

project = dbt_project()


@dbt_assets(manifest=project.manifest_path, project=project)
def marts_assets(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[object]:
    """Build the models, and run their tests."""
    yield from dbt.cli(["build"], context=context).stream()
