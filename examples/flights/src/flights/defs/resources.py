"""The resources of this project, by the name under which an asset asks for them."""

import dagster as dg
from dagster_dbt import DbtCliResource

from dagster_dlt import DagsterDltResource
from flights.marts import dbt_project


@dg.definitions
def resources() -> dg.Definitions:
    """Provide what runs dlt, and what runs dbt."""
    # Its lines are kept with the run, where colours are nothing but strange characters.
    dbt = DbtCliResource(dbt_project(), global_config_flags=["--no-use-colors"])
    return dg.Definitions(resources={"dlt_resource": DagsterDltResource(), "dbt": dbt})
