"""What a load that is written in YAML is when definitions are loaded, and what when it runs."""

from typing import Any, cast

from dagster_dlt.components.dlt_load_collection.inline.pipeline import InlinePipeline
from dagster_dlt.components.dlt_load_collection.inline.source import InlineSource
from dagster_dlt.dlt_event_iterator import DltEventIterator
from dagster_dlt.errors import InvalidLoadError
from dagster_dlt.resource import DagsterDltResource


def described_source(given: object) -> object:
    """Return what definitions are made of: an inline source by its description.

    Raises:
        InvalidLoadError: only a connection could tell its resources.
    """
    if not isinstance(given, InlineSource):
        return given
    source = given.described()
    if source is None:
        problem = (
            "does not say what it has, and only a connection could tell. List tables under "
            "sql_database, or resources under type"
        )
        raise InvalidLoadError(given.load, "source", problem)
    return source


def described_pipeline(given: object) -> object:
    """Return what definitions are made of: an inline pipeline by its names."""
    return given.described() if isinstance(given, InlinePipeline) else given


def at_run_time(own: DagsterDltResource, source: object, pipeline: object) -> DagsterDltResource:
    """Return `own`, or one that runs with inline sources and pipelines as they really are."""
    late = {
        name: given
        for name, given in (("dlt_source", source), ("dlt_pipeline", pipeline))
        if isinstance(given, InlineSource | InlinePipeline)
    }
    return cast("DagsterDltResource", _Late(own, late)) if late else own


class _Late:
    """A `DagsterDltResource` whose `run` builds what it is not given."""

    def __init__(
        self, own: DagsterDltResource, late: dict[str, InlineSource | InlinePipeline]
    ) -> None:
        self._own = own
        self._late = late

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)

    def run(self, context: Any, *args: Any, **options: Any) -> DltEventIterator:  # noqa: ANN401 - as `run` of the resource
        """Run, with what was described built now: before anything is touched."""
        passed = {*options, *("dlt_source", "dlt_pipeline")[: len(args)]}
        late = {name: given for name, given in self._late.items() if name not in passed}
        for given in late.values():
            given.check_variables()
        options.update({name: build() for name, build in late.items()})
        return self._own.run(context, *args, **options)
