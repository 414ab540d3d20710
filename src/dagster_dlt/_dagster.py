"""Every private Dagster name we use, each with its reason; the only file that may."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg

# What a context answers with where it has no step, which `dagster` does not export.
from dagster._core.errors import DagsterInvalidPropertyError

# `dagster` offers the registry without exporting it by name, so type checkers do not see it there.
from dagster_shared.libraries import DagsterLibraryRegistry
from packaging.version import Version

from dagster_dlt._facts import Window

#: Characters that an asset key cannot have; dots are taken from 1.13.5 on.
NOT_IN_KEYS: Final = (
    r"[^A-Za-z0-9_.-]" if Version(dg.__version__) >= Version("1.13.5") else r"[^A-Za-z0-9_-]"
)

#: Tags of an event in which Dagster repeats the parts of a multi-partition key.
_PARTITION_TAGS: Final = "dagster/partition"


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


def attempt(context: dg.OpExecutionContext) -> object | None:
    """Return what lives exactly as long as this attempt of the step; a direct call has none."""
    try:
        return context.get_step_execution_context()
    except DagsterInvalidPropertyError:
        return None


def is_in_graph_asset(context: dg.OpExecutionContext) -> bool:
    """Tell whether the op is one of those that a graph asset is made of."""
    return context.has_assets_def and isinstance(context.assets_def.node_def, dg.GraphDefinition)


@dataclass(frozen=True)
class AssetOutput:
    """An output of an op that is an asset."""

    name: str
    #: Every attempt has to yield it; a Nothing Dagster yields by itself, without metadata.
    is_required: bool
    is_nothing: bool


def asset_outputs(context: dg.OpExecutionContext) -> dict[dg.AssetKey, AssetOutput]:
    """Return the outputs of the op that are assets, selected or not; for a direct call none.

    Inside a graph asset that is the output of the last op, which the graph returns.
    """
    try:
        layer, handle = context.job_def.asset_layer, context.op_handle
    except DagsterInvalidPropertyError:
        return {}
    found: dict[dg.AssetKey, AssetOutput] = {}
    for output in context.op_def.output_defs:
        key = layer.get_asset_key_for_node_output(handle, output.name)
        if key is not None:
            found[key] = AssetOutput(
                output.name, output.is_required, output.dagster_type.is_nothing
            )
    return found


def has_taken(context: dg.OpExecutionContext, output: AssetOutput) -> bool:
    """Tell whether Dagster has this output of this attempt already; it refuses a second one."""
    return context.get_step_execution_context().has_seen_output(output.name)


def event_tags(context: dg.OpExecutionContext, key: dg.AssetKey) -> Mapping[str, str]:
    """Return the data version and provenance that Dagster gave to an asset in this run.

    An event that follows the one that Dagster has made has to repeat them: without, Dagster takes
    the asset for one that never changes.
    """
    entry = context.instance.get_latest_materialization_event(key)
    event = entry.asset_materialization if entry and entry.run_id == context.run_id else None
    tags = event.tags if event and event.tags else {}
    if context.has_partitions and not context.has_partition_key:
        # The parts of one multi-partition key are not those of the others in a range.
        return {name: tag for name, tag in tags.items() if not name.startswith(_PARTITION_TAGS)}
    return tags


def partitions(context: dg.OpExecutionContext, output: AssetOutput) -> Sequence[str | None]:
    """Return the partitions of the asset that is this output; one None where it has none."""
    step = context.get_step_execution_context()
    if not step.has_asset_partitions_for_output(output.name):
        return [None]
    return context.partition_keys


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


def window_of(context: dg.OpExecutionContext) -> Window | None:
    """Return the time of the run's partition, or of its range; None where it has no such side."""
    if not (context.has_partition_key or loads_several_partitions(context)):
        return None
    if context.has_assets_def:
        partitions = context.assets_def.partitions_def
        if partitions is None or not is_by_time(partitions):
            return None
        found = context.partition_time_window
    else:
        try:
            found = context.partition_time_window
        except dg.DagsterError:  # an op's partitions are known to its job alone
            return None
    return Window(found.start, found.end)


def covers_all_partitions(context: dg.OpExecutionContext) -> bool:
    """Tell whether the run is for the range of all partitions that the assets have."""
    if not (loads_several_partitions(context) and context.has_assets_def):
        return False
    partitions = context.assets_def.partitions_def
    if partitions is None:
        return False
    known = partitions.get_partition_keys(dynamic_partitions_store=context.instance)
    return set(known) <= set(context.partition_keys)


def is_by_time(partitions: dg.PartitionsDefinition[str]) -> bool:
    """Tell whether each partition is a window of time, or has one as its one dimension."""
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        sides = [each.partitions_def for each in partitions.partitions_defs]
        return sum(isinstance(each, dg.TimeWindowPartitionsDefinition) for each in sides) == 1
    return isinstance(partitions, dg.TimeWindowPartitionsDefinition)


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


def is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Tell whether a run has ended; one that the instance does not know may go on elsewhere.

    A run whose process was killed goes on for Dagster, unless run monitoring is on.
    """
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished
