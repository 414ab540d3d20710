"""Every private Dagster name we use, each with its reason; the only file that may."""

from typing import Final

import dagster as dg

# What a context answers with where it has no step, which `dagster` does not export.
from dagster._core.errors import DagsterInvalidPropertyError

# `dagster` offers the registry without exporting it by name, so type checkers do not see it there.
from dagster_shared.libraries import DagsterLibraryRegistry
from packaging.version import Version

#: Characters that an asset key cannot have; dots are taken from 1.13.5 on.
NOT_IN_KEYS: Final = (
    r"[^A-Za-z0-9_.-]" if Version(dg.__version__) >= Version("1.13.5") else r"[^A-Za-z0-9_-]"
)


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


def resumed_run(context: dg.OpExecutionContext) -> str | None:
    """Return the id of the run that this one goes on with, if it is a re-execution from failure.

    The UI and run retries tag such a run; Dagster's Python API only gives its plan what the parent
    run has known. A re-execution of all steps has neither, and is to load everything again.
    """
    try:
        step = context.get_step_execution_context()
    except DagsterInvalidPropertyError:
        return None
    known = step.plan_data.execution_plan.known_state
    resumes = context.run.is_resume_retry or (known and known.parent_state)
    return context.run.parent_run_id if resumes else None


def materialized_in(
    context: dg.OpExecutionContext, run_id: str
) -> dict[dg.AssetKey, dg.AssetMaterialization]:
    """Return what this step has materialized in a run, the last event of each asset."""
    key = step_key(context)
    entries = context.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = [entry.asset_materialization for entry in entries if entry.step_key == key]
    return {event.asset_key: event for event in found if event}
