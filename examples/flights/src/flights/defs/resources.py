"""The resources of this project, by the name under which an asset asks for them."""

import dagster as dg

from dagster_dlt import DagsterDltResource


@dg.definitions
def resources() -> dg.Definitions:
    """Provide what runs dlt."""
    return dg.Definitions(resources={"dlt_resource": DagsterDltResource()})
