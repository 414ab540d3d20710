"""Every private Dagster name we use, each with its reason; the only file that may."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg

# What `dg.EnvVar.int` makes, whose variable nothing else tells.
from dagster._config.field_utils import IntEnvVar

# The function behind an op, which says what its argument `config` is; a context has only values.
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction

# What a context answers with where it has no step, which `dagster` does not export.
from dagster._core.errors import DagsterInvalidPropertyError

# What a re-execution is told of the run before, by which alone some of them are known.
from dagster._core.execution.plan.state import KnownExecutionState

# `dagster` offers the registry without exporting it by name, so type checkers do not see it there.
from dagster_shared.libraries import DagsterLibraryRegistry
from packaging.version import Version

from dagster_dlt._facts import Window
from dagster_dlt.errors import EnvironmentSettingError
from dagster_dlt.loading.entry import RANGE
from dagster_dlt.reading.part import Cell, together

#: Characters that an asset key cannot have; dots are taken from 1.13.5 on.
NOT_IN_KEYS: Final = (
    r"[^A-Za-z0-9_.-]" if Version(dg.__version__) >= Version("1.13.5") else r"[^A-Za-z0-9_-]"
)

#: Tags of an event in which Dagster repeats the parts of a multi-partition key.
_PARTITION_TAGS: Final = "dagster/partition"
#: Tags of a run that goes on with its parent run: at the steps, or at the assets, that failed.
_RESUMES: Final = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")


def register_library(name: str, version: str) -> None:
    """Tell Dagster that the library is there, as its own libraries do.

    Without the flag Dagster would warn at every import that our version is not its own.
    """
    DagsterLibraryRegistry.register(name, version, is_dagster_package=False)


def op_context(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
) -> dg.OpExecutionContext:
    """Return the op's side of `context`, which knows whether there are assets at all."""
    if isinstance(context, dg.AssetExecutionContext):
        return context.op_execution_context
    return context


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


def has_failed(context: dg.OpExecutionContext) -> bool:
    """Tell whether this attempt of the step has ended with an exception."""
    try:
        return context.get_step_execution_context().step_exception is not None
    except DagsterInvalidPropertyError:
        return False


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


def selected_checks(context: dg.OpExecutionContext) -> list[dg.AssetCheckSpec]:
    """Return the specs of the asset checks that the step is to answer; for a direct call none."""
    if not context.has_assets_def or is_in_graph_asset(context) or attempt(context) is None:
        return []
    selected = context.selected_asset_check_keys
    return [spec for spec in context.assets_def.check_specs if spec.key in selected]


def has_answered(context: dg.OpExecutionContext, key: dg.AssetCheckKey) -> bool:
    """Tell whether Dagster has a result of this check in this attempt; it refuses a second one."""
    name = context.job_def.asset_layer.get_op_output_name(key)
    return name is not None and context.get_step_execution_context().has_seen_output(name)


def evaluation_of(
    context: dg.OpExecutionContext, result: dg.AssetCheckResult
) -> dg.AssetCheckEvaluation:
    """Return a result as the event that Dagster makes of it, which it takes any number of."""
    return result.to_asset_check_evaluation(context.get_step_execution_context())


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


def op_config(context: dg.OpExecutionContext, kind: type[dg.Config]) -> Mapping[str, Any] | None:
    """Return the config of the op, with defaults, where its function takes it as a `kind`."""
    function = context.op_def.compute_fn
    if not isinstance(function, DecoratedOpFunction) or not function.has_config_arg():
        return None
    taken = function.get_config_arg().annotation
    if not (isinstance(taken, type) and issubclass(taken, kind)):
        return None
    values: Mapping[str, Any] = context.op_config or {}
    return values


def with_variables(
    value: object,
    field: str,
    seen: Callable[[str], object] | None = None,
) -> Any:  # noqa: ANN401 - what a field holds may be anything
    """Return a value with those of the environment variables in it, at any depth.

    Dagster puts them in only where a field is declared as text or a number. In a mapping of
    anything it leaves what a variable is written as in the launchpad: `{"env": "NAME"}`.

    Args:
        value: What a field of a resource holds.
        field: Where it stands, for errors.
        seen: Takes the value of each variable.

    Raises:
        EnvironmentSettingError: a variable is not set.
    """
    if isinstance(value, Mapping) and value.keys() != {"env"}:
        return {key: with_variables(each, f"{field}: {key}", seen) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [with_variables(each, field, seen) for each in value]
    name = value["env"] if isinstance(value, Mapping) else _variable(value)
    if not isinstance(name, str):
        return value
    found = os.environ.get(name)
    if found is None:
        problem = f"is to be taken from the environment variable {name!r}, which is not set"
        raise EnvironmentSettingError(field, problem, "Set it where the run works")
    if seen:
        seen(found)
    return found


def _variable(value: object) -> str | None:
    if isinstance(value, dg.EnvVar):
        return value.env_var_name
    return value.name if isinstance(value, IntEnvVar) else None


def chosen_at_launch(context: dg.InitResourceContext) -> frozenset[str]:
    """Return the fields of a resource that the run's config has a value for."""
    if context.run is None:
        return frozenset()
    run_config: Mapping[str, Any] = context.run.run_config
    given, definition = run_config.get("resources") or {}, context.resource_def
    chosen = [given.get(k) for k, v in context.all_resource_defs.items() if v is definition]
    return frozenset(name for each in chosen for name in (each or {}).get("config") or {})


def set_in_code(
    context: dg.InitResourceContext, kind: type[dg.ConfigurableResource[Any]]
) -> dict[str, Any]:
    """Return the fields of a resource that the run's config says nothing of, as the code set them.

    Where a run has config for a resource, Dagster gives the fields that are left out the values
    that the class has, and forgets those that its object in the definitions has.
    """
    definition = context.resource_def
    # The function is a method of that object, which nothing else leads to.
    original = getattr(definition and definition.resource_fn, "__self__", None)
    if context.run is None or not isinstance(original, kind):
        return {}
    names = chosen_at_launch(context)
    fields = type(original).model_fields.keys() - original.nested_resources.keys()
    values = {name: getattr(original, name) for name in fields if name not in names}
    # Variables within a mapping are put in when they are needed: their values are secrets.
    return {
        name: value if isinstance(value, Mapping) else with_variables(value, name)
        for name, value in values.items()
    }


def known_of_partition(context: dg.OpExecutionContext, name: str) -> object | None:
    """Return `partition_key` or `partition_time_window` of the run; None where it has none."""
    if name == "partition_key":
        return single_partition_of(context)
    window = window_of(context)
    return dg.TimeWindow(window.start, window.end) if window else None


def is_in_development() -> bool:
    """Tell whether `dagster dev` or `dg dev` is loading the definitions, as Dagster's own do."""
    return bool(os.environ.get("DAGSTER_IS_DEV_CLI"))


def step_key(context: dg.OpExecutionContext) -> str:
    """Return the key of the step; for a direct call the name of the op."""
    try:
        return context.get_step_execution_context().step.key
    except DagsterInvalidPropertyError:
        return context.op_def.name


def partition_of(context: dg.OpExecutionContext) -> str | None:
    """Return the key of the run's partition, or its range of keys."""
    if key := single_partition_of(context):
        return key
    if loads_several_partitions(context):
        keys = context.partition_key_range
        return f"{keys.start}{RANGE}{keys.end}"
    return None


def single_partition_of(context: dg.OpExecutionContext) -> str | None:
    """Return the key of the run's partition, if it has exactly one."""
    return context.partition_key if context.has_partition_key else None


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


def windows_by_partition(context: dg.OpExecutionContext) -> dict[str, Window]:
    """Return the times of the partitions of a run, by key, where each is nothing but time."""
    partitions = context.assets_def.partitions_def if context.has_assets_def else None
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return {}
    found = {key: partitions.time_window_for_partition_key(key) for key in context.partition_keys}
    return {key: Window(window.start, window.end) for key, window in found.items()}


def is_nothing_but_time(context: dg.OpExecutionContext) -> bool:
    """Tell whether the time of the run's partitions says all that there is to say of them."""
    if not context.has_assets_def:
        return False
    return isinstance(context.assets_def.partitions_def, dg.TimeWindowPartitionsDefinition)


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


def resumed_runs(context: dg.OpExecutionContext) -> list[str]:
    """Return the ids of the runs that this one goes on with, the last one first.

    A re-execution from failure goes on with its parent run, and if that is one as well, with the
    parent's parent. A re-execution of all steps is to load everything again, and goes on with none.
    """
    try:
        plan = context.get_step_execution_context().plan_data.execution_plan
    except DagsterInvalidPropertyError:
        return []
    run: dg.DagsterRun | None = context.run
    known: KnownExecutionState | None = plan.known_state
    found: list[str] = []
    while run and run.parent_run_id and _resumes(run, known):
        found.append(run.parent_run_id)
        run = context.instance.get_run_by_id(run.parent_run_id)
        known = _known_state(context.instance, run) if run else None
    return found


def _resumes(run: dg.DagsterRun, known: KnownExecutionState | None) -> bool:
    """Tell whether a run is a re-execution from failure.

    The UI and run retries tag such a run; Dagster's Python API only gives its plan what the parent
    run has known.
    """
    tagged = any(run.tags.get(tag) == "true" for tag in _RESUMES)
    return tagged or bool(known and known.parent_state)


def _known_state(instance: dg.DagsterInstance, run: dg.DagsterRun) -> KnownExecutionState | None:
    """Return what the plan of a run was given, where that has to be known."""
    plan = run.execution_plan_snapshot_id
    if plan is None or not run.parent_run_id or any(tag in run.tags for tag in _RESUMES):
        return None
    return instance.get_execution_plan_snapshot(plan).initial_known_state


def materialized_in(
    context: dg.OpExecutionContext, *run_ids: str
) -> dict[dg.AssetKey, dg.AssetMaterialization]:
    """Return what this step has materialized in some runs, oldest first: the last of each asset."""
    key, kind = step_key(context), dg.DagsterEventType.ASSET_MATERIALIZATION
    entries = [entry for run in run_ids for entry in context.instance.all_logs(run, of_type=kind)]
    found = [entry.asset_materialization for entry in entries if entry.step_key == key]
    return {event.asset_key: event for event in found if event}


def is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Tell whether a run has ended; one that the instance does not know may go on elsewhere.

    A run whose process was killed goes on for Dagster, unless run monitoring is on.
    """
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished


# --- what is read back ---------------------------------------------------------------------------


def fields_of_resources(
    context: dg.InputContext, kind: type[dg.ConfigurableResource[Any]]
) -> list[Mapping[str, object] | None]:
    """Return the fields that the Dagster resources of one kind have in the job of a step.

    A step gets those alone that it asks for, and an asset that is only read asks for none. None
    stands for a resource whose fields are not known before it is launched.
    """
    try:
        step = context.step_context
    except dg.DagsterInvariantViolationError:  # the value is loaded without a run
        return []
    run_config: Mapping[str, Any] = step.run_config
    chosen = run_config.get("resources") or {}
    found: list[Mapping[str, object] | None] = []
    for key, definition in step.job_def.resource_defs.items():
        # The function is a method of the object that the definitions have.
        made = getattr(definition.resource_fn, "__self__", None)
        if isinstance(made, kind):
            found.append({**dict(made), **((chosen.get(key) or {}).get("config") or {})})
        elif issubclass(getattr(definition, "configurable_resource_cls", type(None)), kind):
            found.append(None)
    return found


def cells_of(context: dg.InputContext) -> tuple[Cell, ...] | None:
    """Return the partitions of an asset that an input is about; None for the asset as a whole."""
    if not context.has_asset_partitions or _reads_all(context):
        return None
    partitions = context.asset_partitions_def
    return together(_cell(partitions, key) for key in context.asset_partition_keys)


def partition_keys(context: dg.InputContext) -> Sequence[str]:
    """Return the keys of all partitions of the asset that an input is about, in their order."""
    partitions = context.asset_partitions_def
    return partitions.get_partition_keys(dynamic_partitions_store=context.instance)


def _reads_all(context: dg.InputContext) -> bool:
    """Tell whether an input depends on all partitions, whichever there are."""
    try:
        step = context.step_context
    except dg.DagsterInvariantViolationError:  # as above
        return False
    reader = step.job_def.asset_layer.get_assets_def_for_node(step.node_handle)
    if reader is None:
        return True
    mapping = reader.get_partition_mapping_for_dep(context.asset_key)
    if mapping is None:
        return reader.partitions_def is None
    return isinstance(mapping, dg.AllPartitionMapping)


def _cell(partitions: dg.PartitionsDefinition[str], key: str) -> Cell:
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return Cell(_window(partitions, key))
    if not isinstance(partitions, dg.MultiPartitionsDefinition):
        return Cell(keys={"": key})
    sides = partitions.get_partition_key_from_str(key).keys_by_dimension
    cell = Cell(keys=sides)
    for side in partitions.partitions_defs:
        if isinstance(side.partitions_def, dg.TimeWindowPartitionsDefinition) and not cell.of_time:
            others = {name: each for name, each in sides.items() if name != side.name}
            cell = Cell(_window(side.partitions_def, sides[side.name]), side.name, others)
    return cell


def _window(partitions: dg.TimeWindowPartitionsDefinition, key: str) -> Window:
    found = partitions.time_window_for_partition_key(key)
    return Window(found.start, found.end)
