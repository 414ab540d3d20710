"""Where sources and pipelines come from: built already, or by a function when they run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import dagster as dg
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._factories import Factory, T
from dagster_dlt.errors import (
    FactoryParameterError,
    NotADltPipelineError,
    NotADltSourceError,
    UnknownResourceError,
    UnknownSourceError,
)
from dagster_dlt.resource_spec import DltResourceSpec
from dagster_dlt.snapshot import DltSourceSnapshot

#: Resources of a source, by their names or with what is known of them.
Declared = Sequence[str | DltResourceSpec]


@dataclass(frozen=True, eq=False)
class Origin(Generic[T]):
    """A source or a pipeline as a definition has it: built already, or with what will build it.

    Attributes:
        known: What was given, or a stand-in that is like it; None where nothing is known.
        factory: What builds it when it runs.
        remedy: What to do when it turns out to be different from what was known.
        is_complete: All that definitions ask of what is known is known, cursors included.
    """

    known: T | None
    factory: Factory[T] | None = None
    remedy: str | None = None
    is_complete: bool = True

    @property
    def name(self) -> str:
        """Name of the source or pipeline; where it is not known, that of the function."""
        if isinstance(self.known, DltSource):
            return self.known.name
        if self.known is not None:
            return self.known.pipeline_name
        return self.factory.name if self.factory else "?"

    def built(self, context: dg.AssetExecutionContext | dg.OpExecutionContext | None = None) -> T:
        """Return it; build it where that has to be done when it runs."""
        if self.factory is not None:
            return self.factory(context)
        assert self.known is not None, "what is not built has a factory"  # noqa: S101 - above
        return self.known


def pipeline_origin(given: object) -> Origin[Pipeline]:
    """Return where a pipeline comes from.

    Raises:
        NotADltPipelineError: it is neither a pipeline nor a function.
        FactoryParameterError: it is a function that can never be called.
    """
    if isinstance(given, Origin):
        return given
    if isinstance(given, Pipeline):
        return Origin(given)
    if not callable(given):
        raise NotADltPipelineError(type(given).__name__)
    factory = Factory(given, Pipeline)
    factory.check()
    return Origin(factory() if _dlt.names_its_pipeline(given) else None, factory)


def source_origin(
    given: object,
    resources: Declared | None = None,
    snapshot: DltSourceSnapshot | str | Path | None = None,
) -> Origin[DltSource]:
    """Return where a source comes from, with what is known of it before it is built.

    Args:
        given: A source, or a function that builds one.
        resources: Its resources, where they are declared. Of a source that is built, a selection.
        snapshot: What it had when it was last built.

    Raises:
        NotADltSourceError: it is neither a source nor a function.
        SourceNotCalledError: it is a function that can never be called.
        FactoryParameterError: it is a function without a name.
        UnknownSourceError: it is a function, and nothing tells which resources its source has.
        UnknownResourceError: a declared resource is none of a source that is built.
        SnapshotError: the snapshot cannot be used.
    """
    if isinstance(given, Origin):
        return given
    if isinstance(given, DltSource):
        # Soon after it was built: dlt forgets what it has resolved for it.
        _dlt.remember_secrets(given)
        return Origin(_selected(given, resources))
    factory = source_factory(given)
    if resources is not None:
        if not factory.name.isidentifier():
            problem = "has no name that its source could have"
            raise FactoryParameterError(factory.name, problem, "Define it with `def`")
        known = [DltResourceSpec.of(each).known() for each in resources]
        remedy = "Return these resources from the source, or take them out of resources=[...]"
        stand_in = _dlt.stand_in_source(factory.name, known)
        return Origin(stand_in, factory, remedy, is_complete=False)
    if snapshot is not None:
        taken = snapshot if isinstance(snapshot, DltSourceSnapshot) else DltSourceSnapshot(snapshot)
        return Origin(taken.source(factory), factory, taken.remedy)
    return Origin(_called(factory), factory)


def _selected(source: DltSource, resources: Declared | None) -> DltSource:
    if resources is None:
        return source
    names = [DltResourceSpec.of(each).name for each in resources]
    for name in names:
        if name not in source.resources:
            raise UnknownResourceError(source.name, name, list(source.resources), "resources=[...]")
    return source.with_resources(*names)


def _called(factory: Factory[DltSource]) -> DltSource:
    """Call a function as its user would have, since nothing else tells what its source has."""
    if factory.needs_a_run:
        problem = f"it cannot be called before something runs, for {', '.join(factory.needs_a_run)}"
        raise UnknownSourceError(factory.name, problem)
    try:
        return factory()
    except NotADltSourceError:
        raise
    except Exception as error:
        # dlt goes on with all places that it has looked in.
        said = next(iter(str(error).splitlines()), "").rstrip(".")
        problem = f"{type(error).__name__}: {said}"
        raise UnknownSourceError(factory.name, problem) from error


def built_source(given: object) -> Origin[DltSource]:
    """Return where a source comes from that is wanted for a run alone.

    Raises:
        NotADltSourceError: it is neither a source nor a function.
    """
    if isinstance(given, DltSource):
        _dlt.remember_secrets(given)
        return Origin(given)
    return Origin(None, source_factory(given))


def source_factory(given: object) -> Factory[DltSource]:
    """Return a function that builds a source as one that can be called.

    Raises:
        NotADltSourceError: it is no function.
        SourceNotCalledError: it can never be called.
    """
    # A resource can be called with arguments; what it returns is no source either.
    if not callable(given) or isinstance(given, DltResource):
        raise NotADltSourceError(type(given).__name__)
    factory = Factory(given, DltSource)
    factory.check()
    return factory
