"""`DltEventIterator`: the events of a load, with further facts added on request."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from types import GeneratorType
from typing import Any, Final, Generic, cast

import dagster as dg
from dlt.destinations.sql_client import SqlClientBase
from dlt.pipeline.pipeline import Pipeline
from typing_extensions import Self, TypeVar

from dagster_dlt import _dagster, metadata
from dagster_dlt._factories import RunContext
from dagster_dlt._facts import ResourceFacts, Window
from dagster_dlt._redaction import redacted
from dagster_dlt.constants import DAGSTER_PARTITION_ROW_COUNT, DAGSTER_ROW_COUNT
from dagster_dlt.loading.turns import turn_of
from dagster_dlt.loading.windows import Span

DltEventType = dg.AssetMaterialization | dg.MaterializeResult[Any] | dg.AssetCheckResult

#: What closes the sessions of a block, and those that it has opened, by pipeline.
_SESSIONS: Final[ContextVar[tuple[ExitStack, dict[int, SqlClientBase[Any]]] | None]] = ContextVar(
    "sessions", default=None
)

#: Partitions that are counted by one statement.
_AT_ONCE: Final = 100

T = TypeVar("T", bound=DltEventType, default=DltEventType)


class DltEventIterator(Iterator[T], Generic[T]):
    """The events of one load, in the order in which they are known.

    A function may yield them one by one or return the iterator. What is yielded is as Dagster takes
    it where `run` was called: of several calls for one asset, `MaterializeResult` for the first
    and `AssetMaterialization` for the others, whose metadata cover those before.

    Example:
        >>> def body(context, dlt_resource):
        ...     yield from dlt_resource.run(context=context).fetch_row_count()
    """

    def __init__(
        self,
        events: Iterator[T],
        context: RunContext,
        dlt_pipeline: Pipeline,
        loaded: Mapping[dg.AssetKey, Sequence[ResourceFacts]] | None = None,
        executed: Sequence[Pipeline] = (),
        *,
        configured: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Wrap events.

        Args:
            events: The events.
            context: Context of the run.
            dlt_pipeline: The pipeline that was given.
            loaded: What was loaded for each asset; filled while `events` is consumed.
            executed: The pipelines that were executed, likewise.
            configured: Configures dlt for questions to the destination.
        """
        self._events = events
        self._context = context
        self._pipeline = dlt_pipeline
        self._loaded = loaded if loaded is not None else {}
        self._executed = executed
        self._configured = configured
        #: Rows by table, and how much of what was loaded for each asset they were counted after.
        self._counts: dict[str, int | None] = {}
        self._asked: dict[dg.AssetKey, int] = {}
        #: Rows by partition, of tables by the column that tells their time.
        self._in_windows: dict[tuple[str | None, tuple[str, str] | None], dict[str, int]] = {}
        self._delivered = _deliver(events, _dagster.op_context(context))

    @property  # type: ignore[misc]  # that of `object` can be set
    def __class__(self) -> type:
        """What `isinstance` looks at besides the type: Dagster iterates a generator only.

        Anything else that a function returns it stores as the value of the asset, and nothing
        would be loaded.
        """
        return GeneratorType

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that was executed: its `last_trace` and `default_schema` are this run's.

        Where resources were loaded apart, the last one; before anything is loaded, the pipeline
        that was given.
        """
        return self._executed[-1] if self._executed else self._pipeline

    def __next__(self) -> T:
        """Return the next event."""
        return next(self._delivered)

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def fetch_row_count(self) -> "DltEventIterator[T]":
        """Add row counts to the events.

        Returns:
            An iterator whose events carry `dagster/row_count`, the rows that the resource's
            tables have at the destination, or in a run of one partition
            `dagster/partition_row_count`, the rows that were loaded for it. In a run of several
            each has its own, the rows within its time, where a cursor tells a time with a zone, a
            date or an epoch. A count that cannot be had is a warning in the log, never a failure.
        """
        return DltEventIterator(
            self._with_row_counts(),
            self._context,
            self._pipeline,
            self._loaded,
            self._executed,
            configured=self._configured,
        )

    def close(self) -> None:
        """End the load, if it is going on, as closing a generator would."""
        for events in (self._delivered, self._events):
            if isinstance(events, Generator):
                events.close()

    def _with_row_counts(self) -> Generator[T, None, None]:
        try:
            for event in self._events:
                # The kind of an event stays what it was.
                yield cast("T", _with_metadata(event, self._row_count(event)))
        finally:
            self.close()

    def _row_count(self, event: DltEventType) -> dict[str, int]:
        key = event.asset_key
        resources = self._loaded.get(key) if key else None
        if isinstance(event, dg.AssetCheckResult) or not key or not resources:
            return {}
        context = _dagster.op_context(self._context)
        if context.has_partition_key:
            rows = metadata.plain((event.metadata or {}).get("rows_loaded"))
            return {} if rows is None else {DAGSTER_PARTITION_ROW_COUNT: rows}
        tables = sorted({table.name for facts in resources for table in facts.tables})
        # One count would stand on each partition of a range.
        in_range = _dagster.loads_several_partitions(context)
        try:
            if len(resources) > self._asked.get(key, 0):
                self._count_what_is_new(in_range=in_range)
            if in_range:
                self._add_to_partitions(event, resources)
                return {}
        except Exception as error:  # noqa: BLE001 - a count is descriptive: it never fails a load
            self._context.log.warning(
                "Rows of %s were not counted: %s", ", ".join(tables), redacted(error)
            )
            return {}
        counts = [self._counts.get(table) for table in tables]
        known = [count for count in counts if count is not None]
        return {DAGSTER_ROW_COUNT: sum(known)} if len(known) == len(counts) else {}

    def _count_what_is_new(self, *, in_range: bool) -> None:
        """Count the tables of all assets of a package in one session, when the first one asks."""
        new = {key: len(facts) for key, facts in self._loaded.items() if facts}
        fresh = [key for key, number in new.items() if number > self._asked.get(key, 0)]
        self._asked.update(new)
        facts = [each for key in fresh for each in self._loaded[key]]
        with self._configured(), turn_of(self.pipeline), _one_session():
            if in_range:
                windows = _dagster.windows_by_partition(_dagster.op_context(self._context))
                for each in facts:
                    found = _fetch_window_counts(self.pipeline, each, windows)
                    self._in_windows[each.table, each.told_by] = found
                return
            for table in sorted({table.name for each in facts for table in each.tables}):
                self._counts.pop(table, None)
                self._counts[table] = _fetch_row_count(self.pipeline, table)

    def _add_to_partitions(self, event: DltEventType, resources: Sequence[ResourceFacts]) -> None:
        """Have Dagster put a count on the event that it makes for each partition of a range."""
        told = {(each.table, each.told_by) for each in resources}
        # A table that is told by two columns has no one count.
        if len({table for table, _ in told}) < len(told):
            return
        if not isinstance(self._context, dg.AssetExecutionContext):
            return
        counts = [self._in_windows.get(each, {}) for each in told]
        for partition in set.intersection(*map(set, counts)):
            self._context.add_asset_metadata(
                {DAGSTER_PARTITION_ROW_COUNT: sum(count[partition] for count in counts)},
                event.asset_key,
                partition,
            )


def _deliver(events: Iterator[T], context: dg.OpExecutionContext) -> Generator[T, None, None]:
    """Yield the events as Dagster takes them from this op.

    It is asked when an event is about to be yielded, not before: a body may have kept the events
    of its first call to itself.
    """
    outputs = _dagster.asset_outputs(context)
    in_graph_asset = _dagster.is_in_graph_asset(context)
    selected = context.selected_asset_keys if outputs else ()
    for event in events:
        if isinstance(event, dg.AssetCheckResult):
            yield cast("T", _answer(event, context))
            continue
        output = outputs.get(event.asset_key) if event.asset_key else None
        if isinstance(event, dg.AssetMaterialization):
            observed = in_graph_asset and event.asset_key in context.assets_def.keys
            # The last op of the graph materializes it: here it would be a second time.
            yield cast("T", _observation(event)) if observed else event
        elif output is None:  # the function is called directly
            yield event
        elif event.asset_key not in selected or _dagster.has_taken(context, output):
            # Loaded along with what is selected, or reported once already.
            yield from cast("Iterator[T]", _further(event, output, context))
        elif not in_graph_asset:
            yield event
        elif output.is_nothing:
            # What Dagster makes of such an output by itself has no metadata.
            given = event.metadata
            yield cast("T", dg.Output(None, output_name=output.name, metadata=given))
        else:
            # The output has a value, which is for the body to yield or return.
            context.add_output_metadata(event.metadata or {}, output_name=output.name)


def _further(
    event: dg.MaterializeResult[Any], output: _dagster.AssetOutput, context: dg.OpExecutionContext
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult | dg.AssetCheckEvaluation]:
    """Return an event of an asset of which Dagster has taken one in this attempt."""
    key = event.asset_key or context.assets_def.key
    tags = _dagster.event_tags(context, key)
    for partition in _dagster.partitions(context, output):
        yield dg.AssetMaterialization(
            asset_key=key, metadata=event.metadata, partition=partition, tags=tags
        )
    for result in event.check_results or ():
        yield _answer(result, context)


def _answer(
    result: dg.AssetCheckResult, context: dg.OpExecutionContext
) -> dg.AssetCheckResult | dg.AssetCheckEvaluation:
    """Return the result of a check as Dagster takes it: as an event, where it has one already."""
    if result.asset_key is None or result.check_name is None:
        return result
    key = dg.AssetCheckKey(result.asset_key, result.check_name)
    answered = _dagster.has_answered(context, key)
    return _dagster.evaluation_of(context, result) if answered else result


def _observation(event: dg.AssetMaterialization) -> dg.AssetObservation:
    return dg.AssetObservation(asset_key=event.asset_key, metadata=event.metadata)


@contextmanager
def _one_session() -> Iterator[None]:
    """Let all counts of a block share a session, which is opened when the first one needs it."""
    with ExitStack() as stack:
        token = _SESSIONS.set((stack, {}))
        try:
            yield
        finally:
            _SESSIONS.reset(token)


@contextmanager
def _session(dlt_pipeline: Pipeline) -> Iterator[SqlClientBase[Any]]:
    shared = _SESSIONS.get()
    if shared is None:
        with dlt_pipeline.sql_client() as client:
            yield client
        return
    stack, clients = shared
    if id(dlt_pipeline) not in clients:
        client = clients[id(dlt_pipeline)] = dlt_pipeline.sql_client()
        client.open_connection()
        stack.callback(client.close_connection)
    yield clients[id(dlt_pipeline)]


def _fetch_row_count(dlt_pipeline: Pipeline, table_name: str) -> int | None:
    """Return how many rows `table_name` has at the destination of `dlt_pipeline`."""
    with _session(dlt_pipeline) as client:
        table = client.make_qualified_table_name(table_name)
        rows = client.execute_sql(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - quoted by dlt
    return int(rows[0][0]) if rows else None


def _fetch_window_counts(
    dlt_pipeline: Pipeline, facts: ResourceFacts, windows: Mapping[str, Window]
) -> dict[str, int]:
    """Return how many rows the table of a resource has in each window, by its cursor's column.

    None where the cursor tells a time on the wall, or in a text: what a destination makes of these
    depends on its session.
    """
    if (
        not windows
        or facts.table is None
        or facts.told_by is None
        or facts.told_by[1] in {"local_datetime", "text"}
    ):
        return {}
    column, kind = facts.told_by
    keys, counts = list(windows), dict[str, int]()
    with _session(dlt_pipeline) as client:
        table = client.make_qualified_table_name(facts.table)
        cursor = client.escape_column_name(column)
        inside = f"COUNT(CASE WHEN {cursor} >= %s AND {cursor} < %s THEN 1 END)"
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            bounds = [each for key in some for each in Span(windows[key], kind).exactly(kind)]
            query = f"SELECT {', '.join([inside] * len(some))} FROM {table}"  # noqa: S608 - quoted
            [found] = client.execute_sql(query, *bounds) or [()]
            counts.update(zip(some, found, strict=True))
    return counts


def _with_metadata(event: DltEventType, added: Mapping[str, Any]) -> DltEventType:
    if not added or isinstance(event, dg.AssetCheckResult):
        return event
    if isinstance(event, dg.AssetMaterialization):
        return event.with_metadata({**added, **event.metadata})
    return dg.MaterializeResult(
        asset_key=event.asset_key,
        metadata={**added, **(event.metadata or {})},
        check_results=event.check_results,
        data_version=event.data_version,
        tags=event.tags,
        value=event.value,
    )
