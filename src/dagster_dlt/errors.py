"""Every error dagster-dlt raises on purpose.

    DagsterDltError
    ├── DefinitionError                   the code location cannot be right
    │   ├── NotADltSourceError            an object that is no dlt source
    │   ├── SourceNotCalledError          a source function that needs arguments
    │   ├── NotADltPipelineError          an object that is no dlt pipeline
    │   ├── FactoryParameterError         a function that asks for what it cannot get
    │   ├── UnknownSourceError            a function whose resources nobody knows
    │   ├── SnapshotError                 a snapshot that is missing, or cannot be used
    │   ├── UnannotatedParameterError     a body whose parameter has no annotation
    │   ├── GroupNameConflictError        group_name= against a spec's own group
    │   ├── DuplicateAssetKeyError        two resources under one asset key
    │   ├── InvalidAssetKeyError          a key that Dagster cannot use
    │   ├── InvalidKeyPatternError        an unusable `key` in the translator's settings
    │   ├── InvalidSettingError           an unknown value in the translator's settings
    │   ├── InvalidResourceAttributeError an attribute that is unknown or has a wrong value
    │   ├── InvalidChecksError            asset checks that cannot be as they are asked for
    │   ├── UnknownResourceError          settings that name a resource the source lacks
    │   ├── AmbiguousResourceError        a resource that several sources have
    │   ├── PipelineRequiredError         a key that depends on a pipeline, which is not given
    │   └── TableNotLoadedError           a table in a dataset of dlt's that no asset stands for
    ├── ComponentError                    a component's YAML cannot be right
    │   ├── ObjectNotFoundError           a path that leads to no object
    │   ├── ConflictingLoadsError         two loads that define one asset
    │   ├── LoadNameError                 a name of a load that cannot be that of its op
    │   ├── InvalidLoadError              a field of a load with a wrong value
    │   └── ScaffoldError                 a scaffold that cannot be written
    ├── RunError                          a run that cannot start, or did not load everything
    │   ├── NotARunContextError           a context of something that cannot load
    │   ├── UnboundRunError               no source and pipeline to load
    │   ├── VariableNotSetError           a template of a load asks for a variable that is not set
    │   ├── ResourceNotInSourceError      a run-time source without a selected resource
    │   ├── UnknownRunOptionError         an option that dlt's `Pipeline.run` does not have
    │   ├── SharedCursorError             a cursor that partitions would share
    │   ├── PartitionedReplaceError       a table that each partition would replace
    │   ├── CursorValueError              a value of a cursor that tells no time
    │   ├── RunConfigError                choices for a run that cannot be kept, or not together
    │   ├── BranchDatasetError            a branch without a dataset of its own
    │   ├── EnvironmentSettingError       a setting of the Dagster resource that cannot be used
    │   ├── ResourceNotSelectedError      a chosen resource that the run does not load
    │   ├── PendingPackagesError          packages of an earlier run, where they are not wanted
    │   ├── PackagesLeftBehindError       packages of dlt alone, whose cursors would move in
    │   ├── WorkspaceProtocolError        a workspace_dir whose filesystem is not installed
    │   ├── ParkingError                  parked packages that cannot be fetched or removed
    │   ├── DestinationFileBusyError      a DuckDB file that another program has open
    │   ├── LoadTakenBackError            a load that another run took for dead
    │   ├── LeaseLostError                the same, before it has sent anything
    │   └── ResourcesFailedError          resources that were not loaded, each with its cause
    ├── ReadError                         a loaded table that cannot be read back
    │   ├── ReadOnlyError                 an asset whose value was to be stored
    │   ├── NotADltAssetError             an upstream asset that is not one of dlt's
    │   ├── NotReadableError              a place that nothing can be read from, or nobody knows
    │   ├── UnknownKindError              an annotation of an input that is no kind of table
    │   ├── LibraryNotInstalledError      a kind of table whose library is not there
    │   ├── InputMetadataError            metadata of an input that say nothing useful
    │   ├── UnknownTableError             a table that the asset lacks, or one of several
    │   ├── UnknownColumnError            a column that the table lacks
    │   └── PartitionNotToldError         partitions whose rows nothing tells from others
    └── CommandError                      the command `dagster-dlt` cannot do what it is asked
        ├── PipelineNotFoundError         no pipeline, or several, where it was told to look
        ├── NothingMatchesError           no package, load or cursor of that name
        ├── RefusedError                  a change that would not be safe
        └── DestinationFailedError        a destination that does not answer

    SnapshotWarning                       a snapshot that is out of date, or was edited
    PartitionWarning                      definitions whose partitions will not be what they seem

Errors keep what they are about as attributes, build their text from it, and survive pickling,
since Dagster moves them between processes.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Final

from click import ClickException
from dagster import DagsterInvalidDefinitionError, DagsterInvariantViolationError

from dagster_dlt._facts import ResourceFailure


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the known word next to `word`, or nothing."""
    found = get_close_matches(word, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def listed(words: Iterable[str]) -> str:
    """Return the words quoted, sorted and separated by commas."""
    return ", ".join(repr(word) for word in sorted(words)) or "none"


class SnapshotWarning(UserWarning):
    """A snapshot of a source may not tell what the source has by now."""


class PartitionWarning(UserWarning):
    """Assets are partitioned, and what dlt knows of their resources says that it will not work."""


class DagsterDltError(Exception):
    """Base of every error that dagster-dlt raises on purpose."""


class DefinitionError(DagsterDltError):
    """A definition cannot be right, which is known before anything runs."""


class NotADltSourceError(DefinitionError):
    """An object was given as a dlt source that is none."""

    def __init__(self, type_name: str, function: str | None = None) -> None:
        self.type_name = type_name
        self.function = function
        super().__init__(type_name, function)

    def __str__(self) -> str:
        hint = (
            " A single resource becomes a source inside a function decorated with @dlt.source."
            if self.type_name in {"DltResource", "list", "tuple", "generator"}
            else ""
        )
        if self.function:
            return (
                f"{self.function!r}, given as dlt_source, returned a {self.type_name!r}, not a dlt "
                f"source. Return what a function decorated with @dlt.source returns.{hint}"
            )
        return (
            f"dlt_source is a {self.type_name!r}, not a dlt source. "
            f"Pass what a function decorated with @dlt.source returns.{hint}"
        )


class SourceNotCalledError(DefinitionError):
    """A function decorated with `@dlt.source` was given, and it needs arguments to be called."""

    def __init__(self, source_name: str, missing: Sequence[str]) -> None:
        self.source_name = source_name
        self.missing = tuple(missing)
        super().__init__(source_name, self.missing)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}=..." for name in self.missing)
        return (
            f"dlt_source is the source function {self.source_name!r} itself, and it cannot be "
            f"called without {listed(self.missing)}, which neither Dagster nor dlt knows. Call it: "
            f"{self.source_name}({arguments}), or give them to it with functools.partial."
        )


class NotADltPipelineError(DefinitionError):
    """An object was given as a dlt pipeline, or returned by a function for one, that is none."""

    def __init__(self, type_name: str, function: str | None = None) -> None:
        self.type_name = type_name
        self.function = function
        super().__init__(type_name, function)

    def __str__(self) -> str:
        if self.function:
            return (
                f"{self.function!r}, given as dlt_pipeline, returned a {self.type_name!r}, not a "
                "dlt pipeline. Return what dlt.pipeline(...) returns."
            )
        return (
            f"dlt_pipeline is a {self.type_name!r}, not a dlt pipeline. "
            "Pass what dlt.pipeline(...) returns, or a function that returns it."
        )


class FactoryParameterError(DefinitionError, DagsterInvalidDefinitionError):
    """A function that builds a source or a pipeline asks for what it cannot get."""

    def __init__(self, function: str, problem: str, remedy: str) -> None:
        self.function = function
        self.problem = problem
        self.remedy = remedy
        super().__init__(function, problem, remedy)

    def __str__(self) -> str:
        return f"Function {self.function!r} {self.problem}. {self.remedy}."


class UnknownSourceError(DefinitionError):
    """Which resources a function's source has is not known before it is called."""

    def __init__(self, function: str, problem: str) -> None:
        self.function = function
        self.problem = problem
        super().__init__(function, problem)

    def __str__(self) -> str:
        return (
            f"Which resources the source of {self.function!r} has is not known: {self.problem}. "
            "Say it in one of three ways: declare them with resources=['orders', ...]; give it a "
            "snapshot=DltSourceSnapshot(...), which `dagster-dlt snapshots refresh` writes; or "
            "call the function, and pass the source that it returns."
        )


class SnapshotError(DefinitionError):
    """A snapshot of a source is missing, or cannot be used."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        self.path = path
        self.problem = problem
        self.remedy = remedy
        super().__init__(path, problem, remedy)

    def __str__(self) -> str:
        return f"Snapshot {self.path!r} {self.problem}. {self.remedy}."


class UnannotatedParameterError(DefinitionError, DagsterInvalidDefinitionError):
    """A function under `@dlt_assets` has a parameter that Dagster takes for an upstream asset."""

    def __init__(self, function: str, parameters: Sequence[str]) -> None:
        self.function = function
        self.parameters = tuple(parameters)
        super().__init__(function, self.parameters)

    def __str__(self) -> str:
        return (
            f"{listed(self.parameters)} of {self.function!r} has no annotation, so Dagster takes "
            f"it for an upstream asset. Annotate it: `{self.parameters[0]}: DagsterDltResource`."
        )


class GroupNameConflictError(DefinitionError, DagsterInvariantViolationError):
    """`group_name=` was given although the translator sets groups."""

    def __init__(self, source_name: str, pipeline_name: str, asset_keys: Sequence[str]) -> None:
        self.source_name = source_name
        self.pipeline_name = pipeline_name
        self.asset_keys = tuple(asset_keys)
        super().__init__(source_name, pipeline_name, self.asset_keys)

    def __str__(self) -> str:
        return (
            "Cannot set group_name parameter on dlt_assets with dlt_source "
            f"{self.source_name!r} and dlt_pipeline {self.pipeline_name!r}: "
            f"{listed(self.asset_keys)} already have a group of their own. "
            "Set the group in one place: the parameter, or the translator."
        )


class DuplicateAssetKeyError(DefinitionError):
    """Two resources of a source became the same asset key."""

    def __init__(self, asset_key: str, resources: Sequence[str]) -> None:
        self.asset_key = asset_key
        self.resources = tuple(resources)
        super().__init__(asset_key, self.resources)

    def __str__(self) -> str:
        return (
            f"Resources {listed(self.resources)} all became asset {self.asset_key!r}. "
            "Give them different keys in the translator, or rename one with with_name()."
        )


class InvalidAssetKeyError(DefinitionError):
    """A translator chose an asset key that Dagster cannot use for an output."""

    def __init__(self, resource: str, asset_key: str) -> None:
        self.resource = resource
        self.asset_key = asset_key
        super().__init__(resource, asset_key)

    def __str__(self) -> str:
        return (
            f"Resource {self.resource!r} was given asset key {self.asset_key!r}, in which Dagster "
            "allows letters, digits, '_', '-' and '.' only. Replace the other characters in the "
            "translator's get_asset_spec (the default key does so by itself)."
        )


class InvalidKeyPatternError(DefinitionError):
    """The translator settings hold an asset key pattern that cannot be filled in."""

    def __init__(self, pattern: Sequence[str], problem: str, known: Sequence[str]) -> None:
        self.pattern = tuple(pattern)
        self.problem = problem
        self.known = tuple(known)
        super().__init__(self.pattern, problem, self.known)

    def __str__(self) -> str:
        return (
            f"Key pattern {list(self.pattern)!r} {self.problem}. Write a list of strings with "
            f"the placeholders {', '.join('{' + name + '}' for name in self.known)}."
        )


class InvalidSettingError(DefinitionError):
    """The translator's settings have a value that is none of those to choose from."""

    def __init__(self, name: str, value: object, choices: Sequence[str]) -> None:
        self.name = name
        self.value = value
        self.choices = tuple(choices)
        super().__init__(name, value, choices)

    def __str__(self) -> str:
        return (
            f"The translator's settings have {self.name}={self.value!r}."
            f"{nearest(str(self.value), self.choices)} Choose {listed(self.choices)}."
        )


class InvalidResourceAttributeError(DefinitionError):
    """An attribute set for a resource is unknown, or its value cannot be used."""

    def __init__(self, resource: str, attribute: str, problem: str) -> None:
        self.resource = resource
        self.attribute = attribute
        self.problem = problem
        super().__init__(resource, attribute, problem)

    def __str__(self) -> str:
        return (
            f"Attribute {self.attribute!r} set for resource {self.resource!r} {self.problem}. "
            "Correct it in the translator's settings or in the resource's x-dagster hint."
        )


class InvalidChecksError(DefinitionError):
    """Asset checks are asked for that do not exist, or that the resource cannot have."""

    def __init__(self, resource: str | None, problem: str, remedy: str) -> None:
        self.resource = resource
        self.problem = problem
        self.remedy = remedy
        super().__init__(resource, problem, remedy)

    def __str__(self) -> str:
        subject = f"Checks of resource {self.resource!r}" if self.resource else "Checks"
        return f"{subject} {self.problem}. {self.remedy}."


class UnknownResourceError(DefinitionError):
    """Translator settings, or a selection, name a resource that the source does not have."""

    def __init__(
        self,
        source_name: str,
        resource: str,
        known: Sequence[str],
        named_in: str = "the translator's settings",
    ) -> None:
        self.source_name = source_name
        self.resource = resource
        self.known = tuple(known)
        self.named_in = named_in
        super().__init__(source_name, resource, self.known, named_in)

    def __str__(self) -> str:
        return (
            f"Resource {self.resource!r}, named in {self.named_in}, is none of source "
            f"{self.source_name!r}.{nearest(self.resource, self.known)} "
            f"It has {listed(self.known)}."
        )


class TableNotLoadedError(DefinitionError):
    """An asset reads a table in a dataset that dlt loads, and no asset stands for that table."""

    def __init__(self, table: str, read_by: str, known: Sequence[str]) -> None:
        super().__init__(table, read_by, known)
        self.table = table
        self.read_by = read_by
        self.known = known

    def __str__(self) -> str:
        subject = f"Asset {self.read_by!r} depends on table {self.table!r},"
        problem = "which no asset stands for, although dlt loads into that dataset"
        return f"{subject} {problem}.{nearest(self.table, self.known)} {self._remedy()}."

    def _remedy(self) -> str:
        for table in self.known:
            if table.lower() == self.table.lower():
                letters = "lower" if self.table.islower() else "upper"
                return (
                    f"They differ in letters: set table_names={letters!r} in the settings, or "
                    "spell it so"
                )
            if self.table.startswith(f"{table}__"):
                return (
                    f"If it is nested in {table!r}, set nested_tables='assets' in the settings, "
                    "and name it there where dlt does not know it before the load"
                )
        return (
            "Read a table that dlt loads, in dbt by the name of the source's table rather than by "
            "its identifier, or give this one an asset of the dependency's key"
        )


class AmbiguousResourceError(DefinitionError):
    """The key of a resource was asked for, and several sources have one of that name."""

    def __init__(self, resource: str, sources: Sequence[str]) -> None:
        self.resource = resource
        self.sources = tuple(sources)
        super().__init__(resource, self.sources)

    def __str__(self) -> str:
        return (
            f"Resource {self.resource!r} is one of several sources: {listed(self.sources)}. Say "
            f"which one: asset_key_for(..., {self.resource!r}, source=...)."
        )


class PipelineRequiredError(DefinitionError):
    """The key of a resource was asked for without the pipeline that it depends on."""

    def __init__(self, resource: str, pattern: Sequence[str]) -> None:
        self.resource = resource
        self.pattern = tuple(pattern)
        super().__init__(resource, self.pattern)

    def __str__(self) -> str:
        return (
            f"The asset key of resource {self.resource!r} depends on its pipeline: the pattern is "
            f"{list(self.pattern)!r}. Pass the pipeline as well."
        )


class ComponentError(DagsterDltError):
    """The YAML of a component cannot be right."""


class ObjectNotFoundError(ComponentError):
    """A `source:` or `pipeline:` path in a component leads to no object."""

    def __init__(self, attribute: str, path: str, looked_in: str, problem: str) -> None:
        self.attribute = attribute
        self.path = path
        self.looked_in = looked_in
        self.problem = problem
        super().__init__(attribute, path, looked_in, problem)

    def __str__(self) -> str:
        return (
            f"{self.attribute} {self.path!r} leads to no object: {self.problem} "
            f"(looked in {self.looked_in}). Write `.module.name` for a name in a module beside "
            "the component's YAML file, or `package.module.name` for an installed one."
        )


class ConflictingLoadsError(ComponentError):
    """Two loads of a component define one asset."""

    def __init__(self, asset_key: str, loads: Sequence[str]) -> None:
        self.asset_key = asset_key
        self.loads = tuple(loads)
        super().__init__(asset_key, self.loads)

    def __str__(self) -> str:
        return (
            f"Asset {self.asset_key!r} is defined by {' and by '.join(self.loads)}. Give one of "
            "them other keys in its translation, for example with `key_prefix`."
        )


class LoadNameError(ComponentError):
    """The name that a load was given cannot be the name of its op."""

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        self.name = name
        self.problem = problem
        self.remedy = remedy
        super().__init__(name, problem, remedy)

    def __str__(self) -> str:
        return f"Load name {self.name!r} {self.problem}. {self.remedy}."


class InvalidLoadError(ComponentError):
    """A field of a load has a value that it cannot have."""

    def __init__(self, load: str, field: str, problem: str) -> None:
        self.load = load
        self.field = field
        self.problem = problem
        super().__init__(load, field, problem)

    def __str__(self) -> str:
        return f"{self.load[:1].upper()}{self.load[1:]}: {self.field} {_sentence(self.problem)}"


class ScaffoldError(ComponentError, ClickException):
    """A component cannot be scaffolded as asked; `dg` shows the text without a traceback."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        ClickException.__init__(self, str(self))
        # Set again: pickling calls the class with these.
        self.args = (problem, remedy)

    def __str__(self) -> str:
        return f"Cannot scaffold the component: {self.problem}. {self.remedy}."


class RunError(DagsterDltError):
    """A run cannot start, or did not load everything that was selected."""


class NotARunContextError(RunError):
    """`DagsterDltResource.run` was given something else than the context of an asset or an op."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        super().__init__(type_name)

    def __str__(self) -> str:
        return (
            f"run() is given a {self.type_name!r} as its context, and loads for an asset or an op "
            "only. Pass the `context` of the function under @dlt_assets, @dg.multi_asset, "
            "@dg.asset or @dg.op."
        )


class UnboundRunError(RunError):
    """`DagsterDltResource.run` has no source, no pipeline or no asset to load into."""

    def __init__(self, op_name: str, problem: str, remedy: str) -> None:
        self.op_name = op_name
        self.problem = problem
        self.remedy = remedy
        super().__init__(op_name, problem, remedy)

    def __str__(self) -> str:
        return f"run() in {self.op_name!r} {self.problem}. {self.remedy}."


class VariableNotSetError(RunError):
    """A template of a load asks for an environment variable that this process does not have."""

    def __init__(self, variable: str, load: str, field: str) -> None:
        self.variable = variable
        self.load = load
        self.field = field
        super().__init__(variable, load, field)

    def __str__(self) -> str:
        return (
            f"Environment variable {self.variable!r} is not set, and {self.field} of {self.load} "
            "asks for it. Set it where runs are executed, or give it a default: "
            f"env('{self.variable}', '...')."
        )


class ResourceNotInSourceError(RunError):
    """The source given at run time lacks a resource whose asset was selected."""

    def __init__(
        self,
        source_name: str,
        missing: Sequence[str],
        known: Sequence[str],
        remedy: str | None = None,
    ) -> None:
        self.source_name = source_name
        self.missing = tuple(missing)
        self.known = tuple(known)
        self.remedy = remedy
        super().__init__(source_name, self.missing, self.known, remedy)

    def __str__(self) -> str:
        remedy = self.remedy or (
            "Return these resources from the source, or take their assets out of the selection"
        )
        return (
            f"Source {self.source_name!r}, as the run has it, lacks {listed(self.missing)}, whose "
            f"assets are selected; it has {listed(self.known)}. {remedy}."
        )


class UnknownRunOptionError(RunError, TypeError):
    """`run()` was given an option that dlt's `Pipeline.run` does not have."""

    def __init__(self, option: str, known: Sequence[str]) -> None:
        self.option = option
        self.known = tuple(known)
        super().__init__(option, self.known)

    def __str__(self) -> str:
        return (
            f"run() got the unknown option {self.option!r}.{nearest(self.option, self.known)} "
            f"The options are those of dlt's Pipeline.run: {listed(self.known)}."
        )


class RunConfigError(RunError):
    """Something was chosen for a run that cannot be done, or would lose rows."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        self.field = field
        self.problem = problem
        self.remedy = remedy
        super().__init__(field, problem, remedy)

    def __str__(self) -> str:
        return f"Run config: {self.field} {self.problem}. {self.remedy}."


class BranchDatasetError(RunError):
    """A branch would load into a dataset that is not certainly apart from production's."""

    def __init__(self, branch: str, problem: str, remedy: str) -> None:
        self.branch = branch
        self.problem = problem
        self.remedy = remedy
        super().__init__(branch, problem, remedy)

    def __str__(self) -> str:
        return (
            f"Branch {self.branch!r} cannot have a dataset of its own: {self.problem}. "
            f"{self.remedy}. Nothing was read or written."
        )


class EnvironmentSettingError(RunError):
    """What the Dagster resource says of the environment cannot be used."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        self.field = field
        self.problem = problem
        self.remedy = remedy
        super().__init__(field, problem, remedy)

    def __str__(self) -> str:
        return f"DagsterDltResource: {self.field} {self.problem}. {self.remedy}."


class ResourceNotSelectedError(RunError):
    """The run config names a resource that is not among those that the run loads."""

    def __init__(self, source_name: str, resource: str, known: Sequence[str]) -> None:
        self.source_name = source_name
        self.resource = resource
        self.known = tuple(known)
        super().__init__(source_name, resource, self.known)

    def __str__(self) -> str:
        return (
            f"Run config: resources names {self.resource!r}, which this run does not load from "
            f"source {self.source_name!r}.{nearest(self.resource, self.known)} "
            f"It loads {listed(self.known)}: those whose assets are selected."
        )


class PendingPackagesError(RunError):
    """An earlier run left load packages, and the resource is told to fail on them."""

    def __init__(self, pipeline_name: str, packages: Sequence[str], pipelines_dir: str) -> None:
        self.pipeline_name = pipeline_name
        self.packages = tuple(packages)
        self.pipelines_dir = pipelines_dir
        super().__init__(pipeline_name, self.packages, pipelines_dir)

    def __str__(self) -> str:
        return (
            f"Pipeline {self.pipeline_name!r} has pending load packages {listed(self.packages)} "
            f"of an earlier run. Look at them with `dlt pipeline {self.pipeline_name} "
            f"--pipelines-dir {self.pipelines_dir} info`, or set on_pending to 'resume' or "
            "'abort'."
        )


class WorkspaceProtocolError(RunError):
    """`workspace_dir` is a URL that no installed filesystem opens."""

    def __init__(self, protocol: str, problem: str, known: Sequence[str]) -> None:
        self.protocol = protocol
        self.problem = problem
        self.known = tuple(known)
        super().__init__(protocol, problem, self.known)

    def __str__(self) -> str:
        hint = "" if self.protocol in self.known else nearest(self.protocol, self.known)
        return (
            f"workspace_dir is a URL that begins with '{self.protocol}://', which fsspec cannot "
            f"open: {self.problem}.{hint} Without a URL, give a directory."
        )


class SharedCursorError(RunError):
    """A partition would move a cursor from which all other partitions go on."""

    def __init__(self, partition: str, cursors: Mapping[str, str], *, by_time: bool) -> None:
        self.partition = partition
        self.cursors = dict(cursors)
        self.by_time = by_time
        super().__init__(partition, self.cursors, by_time)

    def __reduce__(self) -> tuple[object, ...]:
        make = partial(type(self), by_time=self.by_time)
        return make, (self.partition, self.cursors)

    def __str__(self) -> str:
        named = ", ".join(f"{path!r} of {name!r}" for name, path in sorted(self.cursors.items()))
        why = (
            "do not say how they tell time, so the partition cannot bound them"
            if self.by_time
            else "cannot be bounded by a partition that is no window of time"
        )
        return (
            f"Partition {self.partition!r} is not loaded: cursors {named} {why}, and they would "
            f"be moved on for all other partitions, which would then leave rows out. {REMEDY}"
        )


#: What can be done about a cursor that partitions would share.
REMEDY: Final = (
    'Say how the cursor tells time with the hint x-dagster, such as {"window": "milliseconds"}; '
    "or load each partition with a pipeline or into a dataset that has the key in its name; or "
    'give the hint {"window": "own"}, if the resource selects the rows of its partition itself.'
)


class PartitionedReplaceError(RunError):
    """A partition would replace a table that holds the rows of all others."""

    def __init__(self, partition: str, resources: Sequence[str]) -> None:
        self.partition = partition
        self.resources = tuple(resources)
        super().__init__(partition, self.resources)

    def __str__(self) -> str:
        return (
            f"Partition {self.partition!r} is not loaded: the write disposition of "
            f"{listed(self.resources)} is 'replace', so the table would lose the rows of all other "
            'partitions. Use "merge" or "append"; or load all partitions in one run; or load each '
            "with a pipeline or into a dataset that has the key in its name; or give the hint "
            'x-dagster {"window": "own"}, if only the last one is to be kept.'
        )


class CursorValueError(RunError):
    """A row has a value for its cursor that tells no time, so it is in no partition."""

    def __init__(self, value: object, resource: str | None = None, path: str | None = None) -> None:
        self.value = value
        self.resource = resource
        self.path = path
        super().__init__(value, resource, path)

    def __str__(self) -> str:
        subject = f"Cursor {self.path!r} of resource {self.resource!r}" if self.path else "A cursor"
        return (
            f"{subject} has the {type(self.value).__name__} {self.value!r}, which tells no time. "
            "Convert it with add_map(), or say what numbers count with the hint x-dagster, such as "
            '{"window": "milliseconds"}.'
        )


class ParkingError(RunError):
    """The place where packages are parked cannot be used as it must be."""

    def __init__(self, url: str, problem: str, remedy: str) -> None:
        self.url = url
        self.problem = problem
        self.remedy = remedy
        super().__init__(url, problem, remedy)

    def __str__(self) -> str:
        return f"Packages parked at {self.url!r} {self.problem}. {self.remedy}."


class DestinationFileBusyError(RunError):
    """A program that is no load has the file of the destination open, and does not close it."""

    def __init__(self, file: str, holder: str, seconds: float) -> None:
        self.file = file
        self.holder = holder
        self.seconds = seconds
        super().__init__(file, holder, seconds)

    def __str__(self) -> str:
        return (
            f"{self.file!r} was open in {self.holder} for {self.seconds:.0f} seconds, and takes "
            "one process at a time. Close it there, and run the load again."
        )


class LoadTakenBackError(RunError):
    """Another run took a load for dead while it went on, and took its rows back."""

    def __init__(self, load_id: str, resources: Sequence[str]) -> None:
        self.load_id = load_id
        self.resources = tuple(resources)
        super().__init__(load_id, self.resources)

    def __str__(self) -> str:
        return (
            f"Load {self.load_id} of {listed(self.resources)} gave no sign of life for so long "
            "that another run took its rows back. Nothing of it counts as loaded. Run it again."
        )


class LeaseLostError(RunError):
    """Another run took this one for dead before it sent anything, and loads in its place."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(self.names)

    def __str__(self) -> str:
        return (
            f"The load of {listed(self.names)} gave no sign of life for so long that another run "
            "loads it instead. Nothing of it was sent. Run it again."
        )


class PackagesLeftBehindError(RunError):
    """Cursors would move in from dlt's directory, and leave rows of pending packages there."""

    def __init__(self, pipeline_name: str, packages: Sequence[str], pipelines_dir: str) -> None:
        self.pipeline_name = pipeline_name
        self.packages = tuple(packages)
        self.pipelines_dir = pipelines_dir
        super().__init__(pipeline_name, self.packages, pipelines_dir)

    def __str__(self) -> str:
        command = f"dlt pipeline --pipelines-dir {self.pipelines_dir} {self.pipeline_name}"
        return (
            f"Pipeline {self.pipeline_name!r} has its cursors on this disk, in "
            f"{self.pipelines_dir}, and they are ahead of load packages {listed(self.packages)}, "
            "which are pending there. Load those with `pipeline.load()`, or abort them with "
            f"`{command} abort-packages`, and run again."
        )


class ResourcesFailedError(RunError):
    """Some resources were not loaded; those that were are reported before it is raised."""

    def __init__(
        self,
        pipeline_name: str,
        failures: Sequence[ResourceFailure],
        parked: Sequence[str] = (),
    ) -> None:
        self.pipeline_name = pipeline_name
        self.failures = tuple(failures)
        self.parked = tuple(parked)
        super().__init__(pipeline_name, self.failures, self.parked)

    def __str__(self) -> str:
        lines = "\n".join(f"- {_told(failure)}" for failure in self.failures)
        return f"Pipeline {self.pipeline_name!r} did not load everything:\n{lines}"


class ReadError(DagsterDltError):
    """A table that was loaded cannot be read back."""


class ReadOnlyError(ReadError):
    """`DltIOManager` was to store the value of an asset."""

    def __init__(self, asset: str) -> None:
        self.asset = asset
        super().__init__(asset)

    def __str__(self) -> str:
        return (
            f"Asset {self.asset!r} returns a value, and its io manager DltIOManager only reads "
            "what dlt has loaded. Give the asset another io_manager_key; for its inputs, name "
            "DltIOManager with AssetIn(input_manager_key=...)."
        )


class NotADltAssetError(ReadError):
    """`DltIOManager` was to read an asset that is not one of dlt's."""

    def __init__(self, asset: str) -> None:
        self.asset = asset
        super().__init__(asset)

    def __str__(self) -> str:
        return (
            f"Asset {self.asset!r} is not known as a resource of dlt here, so DltIOManager cannot "
            "read it. Define it with @dlt_assets; if another code location does, add "
            "build_dlt_asset_specs(...) to these definitions."
        )


class NotReadableError(ReadError):
    """Nothing can be read where an asset is loaded, or nobody knows where that is."""

    def __init__(self, asset: str, problem: str, remedy: str) -> None:
        self.asset = asset
        self.problem = problem
        self.remedy = remedy
        super().__init__(asset, problem, remedy)

    def __str__(self) -> str:
        return f"Asset {self.asset!r} cannot be read: {self.problem}. {self.remedy}."


class UnknownKindError(ReadError):
    """An input is annotated with something that tables cannot be read as."""

    def __init__(self, asset: str, annotation: str, known: Sequence[str]) -> None:
        self.asset = asset
        self.annotation = annotation
        self.known = tuple(known)
        super().__init__(asset, annotation, self.known)

    def __str__(self) -> str:
        return (
            f"Asset {self.asset!r} cannot be read as {self.annotation!r}."
            f"{nearest(self.annotation, self.known)} Annotate the parameter with one of "
            f"{', '.join(self.known)}."
        )


class LibraryNotInstalledError(ReadError):
    """A table is to be read as something whose library cannot be imported."""

    def __init__(self, library: str, cause: str) -> None:
        self.library = library
        self.cause = cause
        super().__init__(library, cause)

    def __str__(self) -> str:
        return (
            f"A table cannot be read as wanted without the library {self.library!r}, which cannot "
            f"be imported ({self.cause}). Install it, for example with `pip install "
            f"{self.library}`, or annotate the parameter with another kind of table."
        )


class InputMetadataError(ReadError):
    """What the metadata of an input, or of the asset behind it, say of reading cannot be used."""

    def __init__(self, asset: str, key: str, problem: str) -> None:
        self.asset = asset
        self.key = key
        self.problem = problem
        super().__init__(asset, key, problem)

    def __str__(self) -> str:
        return f"Metadata {self.key!r} for reading asset {self.asset!r} {self.problem}."


class UnknownTableError(ReadError):
    """An asset has no table of that name, or several of which one has to be named."""

    def __init__(self, asset: str, table: str | None, known: Sequence[str]) -> None:
        self.asset = asset
        self.table = table
        self.known = tuple(known)
        super().__init__(asset, table, self.known)

    def __str__(self) -> str:
        if self.table is not None:
            return (
                f"Asset {self.asset!r} has no table {self.table!r}."
                f"{nearest(self.table, self.known)} It has {listed(self.known)}."
            )
        if self.known:
            return (
                f"Asset {self.asset!r} has several tables: {listed(self.known)}. Name one with "
                'AssetIn(metadata={"table": ...}).'
            )
        return (
            f"Asset {self.asset!r} has no table: it has never had a row. Materialize it when its "
            "source has some."
        )


class UnknownColumnError(ReadError):
    """A table has no column of that name."""

    def __init__(self, asset: str, table: str, column: str, known: Sequence[str]) -> None:
        self.asset = asset
        self.table = table
        self.column = column
        self.known = tuple(known)
        super().__init__(asset, table, column, self.known)

    def __str__(self) -> str:
        return (
            f"Table {self.table!r} of asset {self.asset!r} has no column {self.column!r}."
            f"{nearest(self.column, self.known)} It has {listed(self.known)}."
        )


class PartitionNotToldError(ReadError):
    """Some partitions of an asset are to be read, and nothing tells whose its rows are."""

    def __init__(self, asset: str, problem: str, remedy: str) -> None:
        self.asset = asset
        self.problem = problem
        self.remedy = remedy
        super().__init__(asset, problem, remedy)

    def __str__(self) -> str:
        return (
            f"The rows of single partitions of asset {self.asset!r} cannot be told from others: "
            f"{self.problem}. {self.remedy}."
        )


class CommandError(DagsterDltError, ClickException):
    """The command `dagster-dlt` cannot do what it is asked; shown without a traceback."""

    def __init__(self, *about: object) -> None:
        ClickException.__init__(self, str(self))
        # Set again: pickling calls the class with these.
        self.args = about


class PipelineNotFoundError(CommandError):
    """Where the command was told to look there is no dlt pipeline, or more than one."""

    exit_code = 2

    def __init__(self, looked_in: str, problem: str, known: Sequence[str] = ()) -> None:
        self.looked_in = looked_in
        self.problem = problem
        self.known = tuple(known)
        super().__init__(looked_in, problem, self.known)

    def __str__(self) -> str:
        remedy = (
            f"Choose one with --pipeline: {listed(self.known)}."
            if self.known
            else "Name a module with -m, or a file with -f, that has Dagster definitions of dlt "
            "assets, or dlt pipelines, at its top level."
        )
        return f"{self.looked_in} {self.problem}. {remedy}"


class NothingMatchesError(CommandError):
    """There is no package, load or cursor by the name that the command was given."""

    def __init__(self, pipeline_name: str, kind: str, name: str, known: Sequence[str]) -> None:
        self.pipeline_name = pipeline_name
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        super().__init__(pipeline_name, kind, name, self.known)

    def __str__(self) -> str:
        return (
            f"Pipeline {self.pipeline_name!r} has no {self.kind} {self.name!r}."
            f"{nearest(self.name, self.known)} It has {listed(self.known)}."
        )


class RefusedError(CommandError):
    """A change that the command was asked for would not be safe, or has no meaning."""

    def __init__(self, subject: str, problem: str, remedy: str) -> None:
        self.subject = subject
        self.problem = problem
        self.remedy = remedy
        super().__init__(subject, problem, remedy)

    def __str__(self) -> str:
        return f"{self.subject} {self.problem}. {self.remedy}."


class DestinationFailedError(CommandError):
    """The destination, or dlt on its behalf, failed while the command was at work."""

    def __init__(self, pipeline_name: str, cause: str) -> None:
        self.pipeline_name = pipeline_name
        self.cause = cause
        super().__init__(pipeline_name, cause)

    def __str__(self) -> str:
        cause = " ".join(self.cause.split()).rstrip(".")
        return (
            f"The destination of pipeline {self.pipeline_name!r} cannot be used: {cause}. Run the "
            "command where the pipeline's credentials are, and nothing else has its file open."
        )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _told(failure: ResourceFailure) -> str:
    subject = f"resource {failure.resource!r}" if failure.resource else "the load"
    table = f", table {failure.table!r}" if failure.table else ""
    package = f", load id {failure.load_id}" if failure.load_id else ""
    held = f" Held back with it: {listed(failure.held_back)}." if failure.held_back else ""
    return f"{subject} failed in {failure.stage}{table}{package}: {failure.cause}.{held}"
