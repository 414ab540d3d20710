"""What one package has committed, as it is reported."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dlt.common.pipeline import LoadInfo
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import LoadFacts, ResourceFacts


@dataclass(frozen=True)
class Outcome:
    """What one package committed: the load as a whole, and each of its resources by name."""

    load: LoadFacts
    resources: Mapping[str, ResourceFacts]
    #: The pipeline that was executed.
    pipeline: Pipeline

    def columns_of(self, resource: str) -> set[str]:
        """Return the columns of the tables that a resource writes to directly."""
        tables = self.resources[resource].tables if resource in self.resources else ()
        return {column.name for table in tables for column in table.columns}


#: A package that was committed, or a line that says how far dlt is.
Report = Outcome | str


def outcome_of(
    pipeline: Pipeline,
    source: DltSource,
    info: LoadInfo | None,
    rows: Mapping[str, int] | None,
    counts: _dlt.Counts | None = None,
) -> Outcome:
    """Return what was loaded of `source`.

    Args:
        pipeline: The pipeline that has loaded it.
        source: The source, narrowed to the resources that were loaded.
        info: What dlt says of the load, or None where its process died.
        rows: Rows written by table; None where nobody has counted them.
        counts: What this process has noted while it loaded them.
    """
    schema = pipeline.schemas[source.schema.name]
    return Outcome(
        load=_dlt.load_facts(pipeline, info, schema),
        resources=_dlt.facts_by_resource(
            _dlt.selected_resources(source), schema, info, rows=rows, counts=counts
        ),
        pipeline=pipeline,
    )


def count_rows_of_shared_tables(source: DltSource) -> Mapping[str, int]:
    """Count, while `source` is extracted, the rows of resources that share a table.

    dlt counts rows by table, and gives all rows of a shared one to a single resource.
    """
    resources = _dlt.selected_resources(source)
    users = Counter(_dlt.table_name(resource) for resource in resources.values())
    counts: dict[str, int] = {}
    for name, resource in resources.items():
        table = _dlt.table_name(resource)
        if table is not None and users[table] > 1:
            counts[name] = 0
            resource.add_metrics(_row_counter(name, counts))
    return counts


def _row_counter(name: str, counts: dict[str, int]) -> Callable[[Any, Any, Any], None]:
    def count(items: Any, _meta: Any, _metrics: Any) -> None:  # noqa: ANN401 - any data at all
        counts[name] += _dlt.count_rows(items)

    return count
