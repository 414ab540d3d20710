"""Run a load step by step: finish what is pending, then extract, normalize and load.

All resources are loaded as one package. Only when one of them fails before anything is at the
destination are the others loaded apart, so that they do not share its fate.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from dlt.common.pipeline import LoadInfo
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import LoadFacts, ResourceFacts, ResourceFailure
from dagster_dlt.errors import PendingPackagesError, ResourcesFailedError
from dagster_dlt.loading.pipeline import fresh
from dagster_dlt.loading.plan import PIPELINE_OPTIONS, Plan, extract_options
from dagster_dlt.loading.progress import Progress
from dagster_dlt.loading.workspace import (
    Scope,
    Workspace,
    adopt_state,
    claim,
    claim_permanent,
)

#: Folder of the workspaces, below dlt's own directory of pipelines.
FOLDER: Final = ".dagster"


@dataclass(frozen=True)
class Outcome:
    """What one package committed: the load as a whole, and each of its resources by name."""

    load: LoadFacts
    resources: Mapping[str, ResourceFacts]
    #: The pipeline that was executed.
    pipeline: Pipeline


#: A package that was committed, or a line that says how far dlt is.
Report = Outcome | str


def run(plan: Plan, report: Callable[[Report], None], log: logging.Logger) -> None:
    """Load what `plan` says, and hand over each package once it is committed.

    The steps are called one by one rather than through `Pipeline.run`, which loads pending
    packages and then leaves out the caller's data without a word.

    Args:
        plan: What to load, from where and into what.
        report: Takes what was committed, and lines about the progress.
        log: Where to say what happened to pending packages.

    Raises:
        ResourcesFailedError: some resources were not loaded; the others were.
        PendingPackagesError: packages are pending, and the plan is to fail on them.
        PipelineStepFailed: the destination could not be asked for the pipeline's state.
    """
    with _workspace(plan, log) as workspace:
        load = _Load(plan, workspace, report, log)
        finished, failures = load.finish_pending()
        skipped = finished if plan.is_retry else frozenset()
        left = [name for name in _dlt.selected_resources(plan.source) if name not in skipped]
        if left and not failures:
            failures = load.everything(plan.source.with_resources(*left))
    if failures:
        raise ResourcesFailedError(plan.given.pipeline_name, failures) from failures[0].error


def _workspace(plan: Plan, log: logging.Logger) -> AbstractContextManager[Workspace]:
    """Return the directory for this load, by where the pipeline's state lives."""

    def tell() -> None:
        log.info("Waiting for another load of pipeline %r, which has its state.", name)

    name = plan.given.pipeline_name
    own = Path(plan.given.pipelines_dir)
    asked = plan.given
    if PIPELINE_OPTIONS & plan.options.keys():
        with TemporaryDirectory() as elsewhere:
            asked = fresh(plan.given, plan.options, Path(elsewhere))
    home = _dlt.home_of(asked)
    if home.in_working_dir:
        # The data are in dlt's own directory, so the load is there too.
        return claim_permanent(own, name, tell)
    base = plan.base or own / FOLDER
    scope = Scope(name, home.destination, asked.dataset_name, plan.step, plan.partition)
    if home.restores_state:
        return claim(base, scope)
    state = replace(scope, step="state", partition=None)
    path = base / name / f"state-{state.folder}"
    adopt_state(Path(plan.given.working_dir), path / name)
    return claim_permanent(path, name, tell)


@dataclass(frozen=True)
class _Load:
    plan: Plan
    workspace: Workspace
    report: Callable[[Report], None]
    log: logging.Logger

    def finish_pending(self) -> tuple[frozenset[str], list[ResourceFailure]]:
        """Deal with packages of earlier runs; return what was loaded by it, and what failed."""
        finished: set[str] = set()
        failures: list[ResourceFailure] = []
        for room in self.workspace.rooms():
            pipeline = self._pipeline(room)
            with _dlt.active(pipeline):
                try:
                    if pipeline.has_pending_data:
                        finished |= self._finish(pipeline, room)
                except PipelineStepFailed as error:
                    failures.append(self._failed(error, pipeline, self.plan.source, room))
                else:
                    self.workspace.clear(room)
        return frozenset(finished), failures

    def _finish(self, pipeline: Pipeline, room: Path) -> set[str]:
        pending = [
            *pipeline.list_extracted_load_packages(),
            *pipeline.list_normalized_load_packages(),
        ]
        named = ", ".join(pending)
        if self.plan.on_pending == "fail":
            self.workspace.keep(room)
            raise PendingPackagesError(pipeline.pipeline_name, pending, str(room))
        if self.plan.on_pending == "abort":
            self.log.warning("Aborting load packages of an earlier run: %s.", named)
            pipeline.abort_packages()
            return set()
        self.log.info("Finishing load packages of an earlier run: %s.", named)
        try:
            info = _normalize_and_load(pipeline)
        except PipelineStepFailed as error:
            if _dlt.can_be_resumed(error):
                raise
            # It was reported when it failed first. Kept, it would fail every run from now on.
            self.log.error(  # noqa: TRY400 - reported with its traceback when it failed first
                "Pending load packages %s can never be loaded and are aborted (%s in %s). "
                "Rows that they had already loaded stay at the destination.",
                named,
                type(error.exception).__name__,
                error.step,
            )
            pipeline.abort_packages()
            return set()
        names = _dlt.resources_in(info, pipeline) & _dlt.selected_resources(self.plan.source).keys()
        if self.plan.is_retry and names:
            source = self.plan.source.with_resources(*names)
            # The earlier attempt left its trace beside the package.
            self.report(_outcome(pipeline, source, info, _dlt.row_counts(pipeline) or None))
        return names

    def everything(self, source: DltSource) -> list[ResourceFailure]:
        """Load all as one package, or the others apart from one that fails; return failures."""
        failure = self._load(source, self.workspace.room())
        if failure is None:
            return []
        if failure.stage == "load" or failure.resource is None:
            return [failure]
        others = [
            part
            for part in source.decompose("scc")
            if failure.resource not in part.selected_resources
            and all(_dlt.can_be_repeated(resource) for resource in part.resources.extracted)
        ]
        apart = {name for part in others for name in part.selected_resources}
        held_back = tuple(name for name in failure.held_back if name not in apart)
        if others:
            self.log.warning(
                "Resource %r failed in %s. The others are loaded apart from it.",
                failure.resource,
                failure.stage,
            )
        later = [
            self._load(part, self.workspace.room("+".join(part.selected_resources)))
            for part in others
        ]
        return [replace(failure, held_back=held_back), *filter(None, later)]

    def _load(self, source: DltSource, room: Path) -> ResourceFailure | None:
        pipeline = self._pipeline(room)
        with _dlt.active(pipeline):
            if pipeline.config.restore_from_destination and pipeline.destination:
                pipeline.sync_destination()
            own_rows = _count_rows_of_shared_tables(source)
            try:
                pipeline.extract(source, **extract_options(self.plan.options))
                info = _normalize_and_load(pipeline)
            except PipelineStepFailed as error:
                return self._failed(error, pipeline, source, room)
            self.report(_outcome(pipeline, source, info, _dlt.row_counts(pipeline), own_rows))
        return None

    def _failed(
        self, error: PipelineStepFailed, pipeline: Pipeline, source: DltSource, room: Path
    ) -> ResourceFailure:
        failure = _dlt.failure_of(error, pipeline, source)
        if error.step == "normalize":
            # It would fail again, and nothing of it is at the destination.
            pipeline.abort_packages()
            return replace(failure, pipelines_dir=None)
        if pipeline.has_pending_data:
            self.workspace.keep(room)
        return failure

    def _pipeline(self, room: Path) -> Pipeline:
        pipeline = fresh(self.plan.given, self.plan.options, room)
        pipeline.collector = Progress(self.plan.given.collector, self.report)
        return pipeline


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
    rows: Mapping[str, int] | None,
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
        pipeline=pipeline,
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
