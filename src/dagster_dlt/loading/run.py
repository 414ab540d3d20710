"""Run a load step by step: finish what is pending, then extract, normalize and load."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dlt.common.pipeline import LoadInfo
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import LoadFacts, ResourceFacts
from dagster_dlt.loading.plan import RunOptions, extract_options


@dataclass(frozen=True)
class Outcome:
    """What a load committed: the load as a whole, and each resource by name."""

    load: LoadFacts
    resources: Mapping[str, ResourceFacts]


def run(
    pipeline: Pipeline,
    source: DltSource,
    options: RunOptions,
    *,
    is_retry: bool,
    log: logging.Logger,
) -> Outcome:
    """Load the selected resources of `source` with `pipeline` and say what was committed.

    The steps are called one by one rather than through `Pipeline.run`, which loads pending
    packages and then leaves out the caller's data without a word.

    Args:
        pipeline: A pipeline of this execution's own.
        source: A source of this execution's own.
        options: Options of `Pipeline.run`.
        is_retry: The step was tried before in this run. What an earlier attempt left pending is
            then finished and not extracted again.
        log: Where to say what happened to pending packages.

    Raises:
        PipelineStepFailed: dlt could not extract, normalize or load.
    """
    with _dlt.active(pipeline):
        finished = _finish_pending(pipeline, log)
        resumed = _dlt.resources_in(finished, pipeline) if finished and is_retry else set()
        left = [name for name in _dlt.selected_resources(source) if name not in resumed]
        if finished and not left:
            return _outcome(pipeline, source, finished)
        if pipeline.config.restore_from_destination and pipeline.destination:
            pipeline.sync_destination()
        extracted = source.with_resources(*left)
        own_rows = _count_rows_of_shared_tables(extracted)
        info = _load(pipeline, extracted, options)
        new = _outcome(pipeline, extracted, info, _dlt.row_counts(pipeline), own_rows)
        if not (finished and resumed):
            return new
        old = _outcome(pipeline, source.with_resources(*resumed), finished)
        return Outcome(load=new.load, resources={**old.resources, **new.resources})


def _load(pipeline: Pipeline, source: DltSource, options: RunOptions) -> LoadInfo:
    pipeline.extract(source, **extract_options(options))
    return _normalize_and_load(pipeline)


def _normalize_and_load(pipeline: Pipeline) -> LoadInfo:
    pipeline.normalize()
    info = pipeline.load()
    # dlt raises by itself unless its configuration says otherwise.
    info.raise_on_failed_jobs()
    return info


def _outcome(
    pipeline: Pipeline,
    source: DltSource,
    info: LoadInfo,
    rows: Mapping[str, int] | None = None,
    own_rows: Mapping[str, int] | None = None,
) -> Outcome:
    schema = pipeline.schemas[source.schema.name]
    return Outcome(
        load=_dlt.load_facts(pipeline, info),
        resources={
            name: _dlt.resource_facts(
                resource, schema, info, rows=rows, own_rows=(own_rows or {}).get(name)
            )
            for name, resource in _dlt.selected_resources(source).items()
        },
    )


def _count_rows_of_shared_tables(source: DltSource) -> Mapping[str, int]:
    """Count, while `source` is extracted, the rows of resources that share a table.

    dlt counts rows by table, and gives all rows of a shared one to a single resource.
    """
    resources = _dlt.selected_resources(source)
    users = Counter(_dlt.table_name(resource) for resource in resources.values())
    counts: dict[str, int] = {}
    for name, resource in resources.items():
        table = _dlt.table_name(resource)
        if table is not None and users[table] > 1:
            counts[name] = 0
            resource.add_metrics(_row_counter(name, counts))
    return counts


def _row_counter(name: str, counts: dict[str, int]) -> Callable[[Any, Any, Any], None]:
    def count(items: Any, _meta: Any, _metrics: Any) -> None:  # noqa: ANN401 - any data at all
        counts[name] += _dlt.count_rows(items)

    return count


def _finish_pending(pipeline: Pipeline, log: logging.Logger) -> LoadInfo | None:
    """Load what an earlier run left pending; abort what can never be loaded."""
    if not pipeline.has_pending_data:
        return None
    packages = [*pipeline.list_extracted_load_packages(), *pipeline.list_normalized_load_packages()]
    log.info("Finishing pending load packages of an earlier run: %s.", ", ".join(packages))
    try:
        return _normalize_and_load(pipeline)
    except PipelineStepFailed as error:
        if _dlt.can_be_resumed(error):
            raise
        # It was reported when it failed first. Kept, it would fail every run from now on.
        log.error(  # noqa: TRY400 - the reason was reported with its traceback when it failed
            "Pending load packages %s can never be loaded and are aborted (%s in %s). "
            "Rows that they had already loaded stay at the destination.",
            ", ".join(packages),
            type(error.exception).__name__,
            error.step,
        )
        pipeline.abort_packages()
        return None
