"""Every private Dagster name we use, each with its reason; the only file that may."""

import dagster as dg

# What a context answers with where it has no step, which `dagster` does not export.
from dagster._core.errors import DagsterInvalidPropertyError

# `dagster` offers the registry without exporting it by name, so type checkers do not see it there.
from dagster_shared.libraries import DagsterLibraryRegistry


def register_library(name: str, version: str) -> None:
    """Tell Dagster that the library is there, as its own libraries do.

    Without the flag Dagster would warn at every import that our version is not its own.
    """
    DagsterLibraryRegistry.register(name, version, is_dagster_package=False)


def retry_number(context: dg.OpExecutionContext) -> int:
    """Return how often the step was tried before; 0 where a test calls the function directly."""
    try:
        return context.retry_number
    except AttributeError:  # the context of a direct call has no step to ask
        return 0


def loads_several_partitions(context: dg.OpExecutionContext) -> bool:
    """Tell whether the run is for a range of partitions; a direct call never is."""
    try:
        return context.has_partitions and not context.has_partition_key
    except AttributeError:  # as above
        return False


def step_key(context: dg.OpExecutionContext) -> str:
    """Return the key of the step; for a direct call the name of the op."""
    try:
        return context.get_step_execution_context().step.key
    except DagsterInvalidPropertyError:
        return context.op_def.name


def partition_of(context: dg.OpExecutionContext) -> str | None:
    """Return the key of the run's partition, or its range of keys."""
    if context.has_partition_key:
        return context.partition_key
    if loads_several_partitions(context):
        keys = context.partition_key_range
        return f"{keys.start}...{keys.end}"
    return None


def materialized_before(context: dg.OpExecutionContext) -> frozenset[dg.AssetKey]:
    """Return the assets that earlier attempts of this step have materialized in this run."""
    if retry_number(context) == 0:
        return frozenset()
    key = step_key(context)
    entries = context.instance.all_logs(
        context.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    events = [entry.dagster_event for entry in entries if entry.step_key == key]
    return frozenset(event.asset_key for event in events if event and event.asset_key)
