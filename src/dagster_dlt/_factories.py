"""Functions that build sources and pipelines when they run, and what they are called with."""

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Generic, TypeVar

import dagster as dg
from dlt.extract import DltSource
from dlt.extract.reference import SourceFactory
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dagster, _dlt
from dagster_dlt._redaction import shielded
from dagster_dlt.errors import (
    FactoryParameterError,
    NotADltPipelineError,
    NotADltSourceError,
    SourceNotCalledError,
)

T = TypeVar("T", DltSource, Pipeline)

#: A dlt source, or what builds one when it runs: a function decorated with `@dlt.source` that was
#: not called, or any other function.
AnySource = _dlt.AnySource | Callable[..., DltSource]
#: A dlt pipeline, or a function that builds one when it runs.
AnyPipeline = Pipeline | Callable[..., Pipeline]

RunContext = dg.AssetExecutionContext | dg.OpExecutionContext

#: What Dagster knows of a run, by the name of the parameter that asks for it.
_OF_PARTITION: Final = ("partition_key", "partition_time_window")
_BY_NAME: Final = ("context", *_OF_PARTITION)
#: What `dagster.ResourceParam[...]` adds to a type.
_RESOURCE_MARKS: Final = typing.get_args(dg.ResourceParam[str])[1:]
#: In a signature they stand for any number of arguments.
_OPEN_ENDED: Final = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


@dataclass(frozen=True, eq=False)
class Factory(Generic[T]):
    """A function that builds a source or a pipeline when it runs.

    Attributes:
        function: The function, as the user gave it.
        kind: What it is to return.
    """

    function: Callable[..., Any]
    kind: type[T]

    @cached_property
    def name(self) -> str:
        """Name of the function; of one decorated with `@dlt.source`, that of its source."""
        inner = self.inner
        own = inner.name if isinstance(inner, SourceFactory) else None
        return str(own or getattr(inner, "__name__", type(inner).__name__))

    @cached_property
    def inner(self) -> Any:  # noqa: ANN401 - a function, or what dlt makes of one
        function: Any = self.function
        while isinstance(function, partial):
            function = function.func
        return function

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters that have no argument yet, by name."""
        found = inspect.signature(self.function).parameters
        return {name: each for name, each in found.items() if each.kind not in _OPEN_ENDED}

    @cached_property
    def _annotations(self) -> Mapping[str, Any]:
        target = self.inner
        if not inspect.isroutine(inspect.unwrap(target)) and not isinstance(target, type):
            target = type(target).__call__
        try:
            return typing.get_type_hints(inspect.unwrap(target), include_extras=True)
        except (NameError, TypeError, AttributeError):
            return {name: each.annotation for name, each in self._parameters.items()}

    def _annotated(self, fits: Callable[[Any], bool]) -> Iterator[str]:
        for name in self._parameters:
            if name not in _BY_NAME and fits(self._annotations.get(name)):
                yield name

    @cached_property
    def by_name(self) -> tuple[str, ...]:
        """Parameters that get what Dagster knows of the run."""
        return tuple(name for name in _BY_NAME if name in self._parameters)

    @cached_property
    def dagster_resources(self) -> Mapping[str, Any]:
        """Parameters that get Dagster resources, by their annotations, with these."""
        return {name: self._annotations[name] for name in self._annotated(_is_dagster_resource)}

    @cached_property
    def configs(self) -> Mapping[str, type[dg.Config]]:
        """Parameters that get the config of the op, by their annotations, with its class."""
        return {name: self._annotations[name] for name in self._annotated(_is_config)}

    @property
    def _filled(self) -> set[str]:
        return {*self.by_name, *self.dagster_resources, *self.configs}

    def _required(self, names: Iterable[str]) -> list[str]:
        empty = inspect.Parameter.empty
        return [name for name in names if self._parameters[name].default is empty]

    @property
    def needs_a_run(self) -> list[str]:
        """Parameters that have no value before something runs."""
        return self._required(sorted(self._filled))

    @property
    def needs_a_partition(self) -> list[str]:
        """Parameters that have a value only where something is partitioned."""
        return self._required(name for name in _OF_PARTITION if name in self._parameters)

    def check(self) -> None:
        """Refuse a function that can never be called.

        Raises:
            SourceNotCalledError: a source's has parameters for which there is no value.
            FactoryParameterError: a pipeline's has.
        """
        missing = self._required(name for name in self._parameters if name not in self._filled)
        if missing and self.kind is DltSource:
            raise SourceNotCalledError(self.name, missing)
        if missing:
            problem = f"has parameters for which there is no value: {', '.join(missing)}"
            remedy = "Give them defaults, or values with functools.partial"
            raise FactoryParameterError(self.name, problem, remedy)

    def __call__(
        self, context: dg.AssetExecutionContext | dg.OpExecutionContext | None = None
    ) -> T:
        """Build what it is to return.

        Args:
            context: The run's; None where nothing runs: parameters keep their defaults.

        Raises:
            NotADltSourceError: what it returned is no source.
            NotADltPipelineError: what it returned is no pipeline.
            FactoryParameterError: it asks for a partition, and the run has none, or several.
        """
        return self._built(self._arguments(context) if context else {})

    def of_partition(self, key: str | None, window: dg.TimeWindow | None) -> T:
        """Build what it returns in a run of one partition, as far as that is all it asks for.

        Args:
            key: Key of the partition; None where there is none, or several.
            window: The time of the partition, if it has one.

        Raises:
            NotADltSourceError: what it returned is no source.
            NotADltPipelineError: what it returned is no pipeline.
            FactoryParameterError: it asks for more.
        """
        known: dict[str, object] = {"partition_key": key, "partition_time_window": window}
        arguments = {k: v for k, v in known.items() if k in self._parameters and v is not None}
        unknown: list[str] = [name for name in self.needs_a_run if name not in arguments]
        if unknown:
            problem = f"asks for {', '.join(unknown)}, which is not known where a table is read"
            remedy = "Give the parameters defaults"
            if {*unknown} <= {*_OF_PARTITION}:
                remedy += ", or read a single partition"
            raise FactoryParameterError(self.name, problem, remedy)
        return self._built(arguments)

    def _built(self, arguments: Mapping[str, Any]) -> T:
        self.check()
        made = shielded(lambda: self._made(arguments))
        if isinstance(made, self.kind):
            if isinstance(made, DltSource):
                _dlt.remember_secrets(made)
            return made
        wrong = NotADltSourceError if self.kind is DltSource else NotADltPipelineError
        raise wrong(type(made).__name__, self.name)

    def _made(self, arguments: Mapping[str, Any]) -> object:
        if _dlt.names_its_pipeline(self.function):
            # One like it is made for each load: this one needs no directory.
            return _dlt.stand_in_pipeline(self.function)
        try:
            with _dlt.leaving_active_pipeline():
                return self.function(**arguments)
        finally:
            # Now: an error in the function may tell what was resolved for it.
            _dlt.remember_secrets(self.inner if isinstance(self.inner, SourceFactory) else None)

    def _arguments(self, context: RunContext) -> dict[str, Any]:
        op = _dagster.op_context(context)
        found: dict[str, Any] = {}
        for name in self.by_name:
            if name == "context":
                found[name] = context
            elif (known := _dagster.known_of_partition(op, name)) is not None:
                found[name] = known
            elif self._required([name]):
                problem = f"asks for {name!r}, and this run has none, or several"
                remedy = "Run a single partition, or give the parameter a default"
                raise FactoryParameterError(self.name, problem, remedy)
        for name in self.dagster_resources:
            found[name] = getattr(op.resources, name)
        for name, kind in self.configs.items():
            values = op.op_config or {}
            found[name] = kind(**{key: values[key] for key in kind.model_fields if key in values})
        return found


def config_of(factories: Iterable[Factory[Any]]) -> type[dg.Config] | None:
    """Return the class of the config that functions ask for, if they do.

    Raises:
        FactoryParameterError: they ask for different ones, and an op has one.
    """
    found: dict[type[dg.Config], str] = {}
    for factory in factories:
        found |= dict.fromkeys(factory.configs.values(), factory.name)
    for kind in found:
        if all(issubclass(kind, other) for other in found):
            return kind
    if not found:
        return None
    names = " and ".join(sorted(kind.__name__ for kind in found))
    raise two_configs(next(iter(found.values())), names)


def two_configs(function: str, names: str) -> FactoryParameterError:
    """Return the error for an op that would have several configs."""
    problem = f"asks for a config, so that the op would have two: {names}"
    remedy = "An op has one config: let one class have the fields of both, or derive from the other"
    return FactoryParameterError(function, problem, remedy)


def _is_config(annotation: object) -> bool:
    return (
        isinstance(annotation, type)
        and issubclass(annotation, dg.Config)
        and not _is_dagster_resource(annotation)
    )


def _is_dagster_resource(annotation: object) -> bool:
    """Tell whether Dagster takes what is annotated so for a resource."""
    if isinstance(annotation, type):
        kinds = (dg.ResourceDefinition, dg.ConfigurableResource, dg.ConfigurableIOManagerFactory)
        return issubclass(annotation, kinds)
    return typing.get_args(annotation)[1:] == _RESOURCE_MARKS
