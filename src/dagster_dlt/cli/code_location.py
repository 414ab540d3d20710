"""Finds dlt pipelines in a code location, for the command: in its definitions, or as they are."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
from dagster.components.definitions import LazyDefinitions
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._binding import LiveText
from dagster_dlt._origins import Origin
from dagster_dlt.cli.secrets import without_secrets
from dagster_dlt.constants import META_KEY_PIPELINE, META_KEY_SOURCE
from dagster_dlt.environment import Environment
from dagster_dlt.errors import PipelineNotFoundError
from dagster_dlt.resource import DagsterDltResource


@dataclass(frozen=True)
class Bound:
    """A pipeline, with the step that loads a source with it where the definitions say so."""

    #: The pipeline that its loads have here: with the dataset of the branch, if it is one.
    pipeline: Pipeline
    step: str | None = None
    source: DltSource | None = None
    environment: Environment = field(default_factory=Environment)
    #: The pipeline in the code.
    original: Pipeline | None = None


@dataclass(frozen=True)
class CodeLocation:
    """What a module or a file has for the command."""

    #: How the user named it.
    name: str
    bound: tuple[Bound, ...]
    #: Directory of the workspaces, where the definitions have set one.
    workspace_dir: str | None = None

    def pipelines(self, chosen: str | None = None) -> list[Pipeline]:
        """Return the pipelines, or those of a name, `<pipeline>` or `<pipeline>/<dataset>`.

        Raises:
            PipelineNotFoundError: there is none.
        """
        found = {_identity(each): each.pipeline for each in self.bound}
        if not found:
            raise PipelineNotFoundError(self.name, "has no dlt pipeline")
        matching = {
            name: pipeline
            for name, pipeline in found.items()
            if chosen in {None, pipeline.pipeline_name, _label(pipeline)}
        }
        if not matching:
            labels = sorted(map(_label, found.values()))
            problem = f"has no dlt pipeline {chosen!r}"
            raise PipelineNotFoundError(self.name, problem, labels)
        return list(matching.values())

    def pipeline(self, chosen: str | None = None) -> Pipeline:
        """Return the one pipeline, or the one of a name.

        Raises:
            PipelineNotFoundError: there is none, or there are several.
        """
        found = self.pipelines(chosen)
        if len(found) > 1:
            labels = sorted(map(_label, found))
            problem = "has several dlt pipelines"
            if len(set(labels)) < len(labels):
                problem += ", some of which differ in their destination or directory only"
            raise PipelineNotFoundError(self.name, problem, labels)
        return found[0]

    def source_of(self, pipeline: Pipeline, step: str) -> DltSource | None:
        """Return the source that a step loads with a pipeline, if the definitions say so."""
        name = _identity(Bound(pipeline, environment=self.environment_of(pipeline)))
        for each in self.bound:
            if each.step == step and _identity(each) == name:
                return each.source
        return None

    def environment_of(self, pipeline: Pipeline) -> Environment:
        """Return the environment that a pipeline is loaded with."""
        return next(
            (each.environment for each in self.bound if each.pipeline is pipeline), Environment()
        )


def _label(pipeline: Pipeline) -> str:
    dataset = pipeline.dataset_name
    return f"{pipeline.pipeline_name}/{dataset}" if dataset else pipeline.pipeline_name


def _identity(bound: Bound) -> tuple[str | None, ...]:
    """Return what tells a pipeline from others: two objects may be one, two of a name not."""
    pipeline = bound.pipeline
    try:
        with bound.environment.configured():
            destination = _dlt.home_of(pipeline).destination
    except Exception:  # noqa: BLE001 - without credentials or driver; the command will say so
        destination = str(_dlt.destination_name(pipeline))
    name, dataset = pipeline.pipeline_name, pipeline.dataset_name
    return name, dataset, destination, str(Path(pipeline.pipelines_dir).resolve())


def load_module(name: str) -> CodeLocation:
    """Return what a module has, as `dagster -m` finds it: beside the working directory too.

    Raises:
        PipelineNotFoundError: it cannot be imported.
    """
    label = f"Module {name!r}"
    _look_here()
    try:
        module = import_module(name)
    except Exception as error:
        problem = f"cannot be imported ({_why(error)})"
        raise PipelineNotFoundError(label, problem) from error
    return _in(module, label)


def load_file(path: Path) -> CodeLocation:
    """Return what a Python file has, as `dagster -f` finds it.

    Raises:
        PipelineNotFoundError: it cannot be imported.
    """
    label = f"File {str(path)!r}"
    _look_here()
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PipelineNotFoundError(label, "is no Python file")
    module = module_from_spec(spec)
    # dlt looks for a source's configuration by the name of its module.
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        problem = f"cannot be imported ({_why(error)})"
        raise PipelineNotFoundError(label, problem) from error
    return _in(module, label)


def _why(error: Exception) -> str:
    return without_secrets(f"{type(error).__name__}: {error}")


def _look_here() -> None:
    """Let modules in the working directory be found, as they are by `dagster`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _in(module: ModuleType, label: str) -> CodeLocation:
    loose: list[Bound] = []
    bound: list[Bound] = []
    workspace_dir: str | None = None
    for value in list(vars(module).values()):
        if isinstance(value, Pipeline):
            loose.append(Bound(value))
        elif isinstance(value, dg.AssetsDefinition):
            loose += _in_assets(value)
        elif isinstance(value, dg.AssetSpec):
            loose += _in_spec(value, None)
        elif isinstance(value, dg.Definitions | LazyDefinitions):
            definitions = _definitions(value, label)
            bound += _in_definitions(definitions)
            workspace_dir = workspace_dir or _workspace_dir(definitions)
    # What definitions load into other places here is not to be found at the old ones.
    known = [each.original for each in bound]
    default = Environment.of({})
    bound += [
        _here(each, default) for each in loose if not any(each.pipeline is one for one in known)
    ]
    return CodeLocation(label, tuple(bound), workspace_dir)


def _definitions(
    value: dg.Definitions | LazyDefinitions[dg.Definitions], label: str
) -> dg.Definitions:
    if isinstance(value, dg.Definitions):
        return value
    try:
        return value()
    except Exception as error:
        problem = f"has definitions that cannot be loaded ({_why(error)})"
        raise PipelineNotFoundError(label, problem) from error


def _in_definitions(definitions: dg.Definitions) -> Iterator[Bound]:
    for asset in definitions.assets or ():
        if isinstance(asset, dg.AssetsDefinition):
            environment = _environment_of(asset, definitions)
            yield from (_here(each, environment) for each in _in_assets(asset))
        elif isinstance(asset, dg.AssetSpec):
            default = Environment.of({})
            yield from (_here(each, default) for each in _in_spec(asset, None))


def _environment_of(assets: dg.AssetsDefinition, definitions: dg.Definitions) -> Environment:
    """Return the environment of the dlt resource that the function of some assets takes."""
    given = definitions.resources or {}
    for name in sorted(assets.required_resource_keys & given.keys()):
        if isinstance(given[name], DagsterDltResource):
            return Environment.of(dict(given[name]))
    return Environment.of({})


def _here(bound: Bound, environment: Environment) -> Bound:
    pipeline = environment.pipeline(environment.plain(bound.pipeline, {}))
    return replace(bound, pipeline=pipeline, environment=environment, original=bound.pipeline)


def _in_assets(assets: dg.AssetsDefinition) -> Iterator[Bound]:
    step = assets.node_def.name if assets.is_executable else None
    for spec in assets.specs:
        yield from _in_spec(spec, step)


def _in_spec(spec: dg.AssetSpec, step: str | None) -> Iterator[Bound]:
    pipeline, source = (
        _built(spec.metadata.get(key)) for key in (META_KEY_PIPELINE, META_KEY_SOURCE)
    )
    if isinstance(pipeline, Pipeline):
        yield Bound(pipeline, step, source if isinstance(source, DltSource) else None)


def _built(text: object) -> object:
    """Return what stands behind a text of a definition, if it can be built without a run."""
    origin = text.live if isinstance(text, LiveText) else None
    return _built_once(origin) if isinstance(origin, Origin) else None


@cache
def _built_once(origin: Origin[Any]) -> object:
    # Once: many assets have the same, and two objects would be taken for two pipelines.
    if origin.factory and origin.factory.needs_a_run:
        return origin.known
    try:
        return origin.built()
    except Exception:  # noqa: BLE001 - a function of the user's, which a command may do without
        return origin.known


def _workspace_dir(definitions: dg.Definitions) -> str | None:
    for resource in (definitions.resources or {}).values():
        if isinstance(resource, DagsterDltResource) and resource.workspace_dir:
            given = resource.workspace_dir
            return given.get_value() if isinstance(given, dg.EnvVar) else given
    return None
