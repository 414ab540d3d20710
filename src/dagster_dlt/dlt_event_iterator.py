"""`DltEventIterator`: the events of a load, with further facts added on request."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, cast

import dagster as dg
from dlt.pipeline.pipeline import Pipeline
from typing_extensions import Self, TypeVar

from dagster_dlt import _dagster
from dagster_dlt._binding import RunContext, op_context
from dagster_dlt._facts import ResourceFacts
from dagster_dlt.constants import DAGSTER_PARTITION_ROW_COUNT, DAGSTER_ROW_COUNT

DltEventType = dg.AssetMaterialization | dg.MaterializeResult[Any]

T = TypeVar("T", bound=DltEventType, default=DltEventType)


class DltEventIterator(Iterator[T], Generic[T]):
    """The events of one load, in the order in which they are known.

    Example:
        >>> def body(context, dlt_resource):
        ...     yield from dlt_resource.run(context=context).fetch_row_count()
    """

    def __init__(
        self,
        events: Iterator[T],
        context: RunContext,
        dlt_pipeline: Pipeline,
        loaded: Mapping[dg.AssetKey, ResourceFacts] | None = None,
        executed: Sequence[Pipeline] = (),
    ) -> None:
        """Wrap events.

        Args:
            events: The events.
            context: Context of the run.
            dlt_pipeline: The pipeline that was given.
            loaded: What was loaded for each asset; filled while `events` is consumed.
            executed: The pipelines that were executed, likewise.
        """
        self._events = events
        self._context = context
        self._pipeline = dlt_pipeline
        self._loaded = loaded if loaded is not None else {}
        self._executed = executed

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that was executed: its `last_trace` and `default_schema` are this run's.

        Where resources were loaded apart, the last one; before anything is loaded, the pipeline
        that was given.
        """
        return self._executed[-1] if self._executed else self._pipeline

    def __next__(self) -> T:
        """Return the next event."""
        return next(self._events)

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def fetch_row_count(self) -> "DltEventIterator[T]":
        """Add row counts to the events.

        Returns:
            An iterator whose events carry `dagster/row_count`, the rows that the resource's
            tables have at the destination, or in a run of one partition
            `dagster/partition_row_count`, the rows that were loaded for it. A count that cannot
            be had is a warning in the log, never a failure.
        """
        return DltEventIterator(
            self._with_row_counts(), self._context, self._pipeline, self._loaded, self._executed
        )

    def _with_row_counts(self) -> Iterator[T]:
        for event in self._events:
            facts = self._loaded.get(event.asset_key) if event.asset_key else None
            # The kind of an event stays what it was.
            yield cast("T", _with_metadata(event, self._row_count(facts))) if facts else event

    def _row_count(self, facts: ResourceFacts) -> dict[str, int]:
        context = op_context(self._context)
        if _dagster.loads_several_partitions(context):
            # One count would stand on each partition of the range.
            return {}
        if context.has_partition_key:
            rows = facts.rows_loaded
            return {} if rows is None else {DAGSTER_PARTITION_ROW_COUNT: rows}
        try:
            counts = [_fetch_row_count(self.pipeline, table.name) for table in facts.tables]
        except Exception as error:  # noqa: BLE001 - a count is descriptive: it never fails a load
            self._context.log.warning(
                "Rows of dlt resource %r were not counted: %s", facts.resource, error
            )
            return {}
        known = [count for count in counts if count is not None]
        return {DAGSTER_ROW_COUNT: sum(known)} if len(known) == len(counts) else {}


def _fetch_row_count(dlt_pipeline: Pipeline, table_name: str) -> int | None:
    """Return how many rows `table_name` has at the destination of `dlt_pipeline`."""
    with dlt_pipeline.sql_client() as client:
        table = client.make_qualified_table_name(table_name)
        rows = client.execute_sql(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - quoted by dlt
    return int(rows[0][0]) if rows else None


def _with_metadata(event: DltEventType, metadata: Mapping[str, Any]) -> DltEventType:
    if isinstance(event, dg.AssetMaterialization):
        return event.with_metadata({**event.metadata, **metadata})
    return dg.MaterializeResult(
        asset_key=event.asset_key,
        metadata={**(event.metadata or {}), **metadata},
        check_results=event.check_results,
        data_version=event.data_version,
        tags=event.tags,
        value=event.value,
    )
