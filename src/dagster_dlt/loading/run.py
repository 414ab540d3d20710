"""Run a load step by step: finish what is pending, then extract, normalize and load.

All resources are loaded as one package. Only when one of them fails before anything is at the
destination are the others loaded apart, so that they do not share its fate.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from dlt.common.typing import TRefreshMode
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import ResourceFailure
from dagster_dlt.errors import ResourcesFailedError
from dagster_dlt.loading.delivery import Delivery
from dagster_dlt.loading.earlier import Earlier
from dagster_dlt.loading.extraction import extract
from dagster_dlt.loading.leases import Lease, lease
from dagster_dlt.loading.ledger import Ledger, ledger_of
from dagster_dlt.loading.load_ids import add_load_ids
from dagster_dlt.loading.outcome import Report, count_rows_of_shared_tables, outcome_of
from dagster_dlt.loading.package import Label
from dagster_dlt.loading.partitions import bound_cursors
from dagster_dlt.loading.pipeline import kept_by_dlt
from dagster_dlt.loading.plan import Plan, parts
from dagster_dlt.loading.state import keep_schema, merge, tidy
from dagster_dlt.loading.stay import claim_parked
from dagster_dlt.loading.turns import Turn, turn_of
from dagster_dlt.loading.workspace import (
    FOLDER,
    Scope,
    Workspace,
    adopt_state,
    claim,
    claim_permanent,
)


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
        LoadTakenBackError: another run took this load for dead.
        DestinationFileBusyError: another program has the destination's file open.
        PipelineStepFailed: the destination could not be asked for the pipeline's state.
        ParkingError: the place where packages are parked cannot be used.
    """
    with _dlt.described_once():
        _run(plan, report, log)


def _run(plan: Plan, report: Callable[[Report], None], log: logging.Logger) -> None:
    given = plan.given
    turn = turn_of(
        given, lambda file, holder: log.info("Waiting for %s, which %s has open.", file, holder)
    )
    schema = _dlt.schema_for(given, plan.source)
    ledger = ledger_of(given, turn, schema=schema, is_over=plan.is_over)
    with (
        _lease(plan, ledger, log) as held,
        _workspace(plan, log) as workspace,
        _dlt.with_workers(plan.workers),
    ):
        delivery = Delivery(plan, workspace, report, log, turn, ledger, held)
        earlier = Earlier(delivery)
        done, failures = earlier.finish_pending()
        if plan.is_retry:
            done |= earlier.report_committed(done)
        owed = earlier.undo_dead() if not failures else {}
        skipped = done if plan.is_retry else frozenset()
        left = [name for name in _dlt.selected_resources(plan.source) if name not in skipped]
        if left and not failures:
            failures = _Load(delivery, owed).everything(plan.source.with_resources(*left))
        if ledger:
            with suppress(Exception):  # the next run tries again
                tidy(given, schema, ledger)
    if failures:
        raise ResourcesFailedError(
            plan.given.pipeline_name, failures, workspace.parked
        ) from failures[0].error


def finish(
    plan: Plan,
    workspace: Workspace,
    *,
    report: Callable[[Report], None],
    log: logging.Logger,
    turn: Turn,
    ledger: Ledger | None,
) -> list[ResourceFailure]:
    """Deal with what waits in a workspace that the caller holds, as a run does, and no more.

    Returns what was not loaded, and why.

    Raises:
        PendingPackagesError: dlt was asked to stop before all was loaded.
    """
    _, failures = Earlier(Delivery(plan, workspace, report, log, turn, ledger)).finish_pending()
    return failures


def _lease(
    plan: Plan, ledger: Ledger | None, log: logging.Logger
) -> AbstractContextManager[Lease | None]:
    """Wait for other loads of the same resources, so that they cannot disturb one another."""
    if ledger is None:
        return nullcontext()
    name = plan.given.pipeline_name
    # Those that feed others have cursors too, selected or not.
    wanted = _dlt.extracted_names(plan.source)
    return lease(ledger, wanted, name, plan.loader, log=log)


def _workspace(plan: Plan, log: logging.Logger) -> AbstractContextManager[Workspace]:
    """Return the directory for this load, by where the pipeline's state lives."""

    def tell() -> None:
        log.info("Waiting for another load of pipeline %r, which has its state.", name)

    name = plan.given.pipeline_name
    own = Path(plan.given.pipelines_dir)
    home = _dlt.home_of(plan.given)
    if plan.parking and (home.in_working_dir or not home.restores_state):
        log.info(
            "The state of pipeline %r is on this disk only, so nothing is parked at %s.",
            name,
            plan.parking.shown,
        )
    if home.in_working_dir:
        # The data are in dlt's own directory, so the load is there too.
        return claim_permanent(own, name, tell)
    base = plan.base or own / FOLDER
    dataset = plan.given.dataset_name
    scope = Scope(name, home.destination, dataset, plan.loader.step, plan.loader.partition)
    if home.restores_state:
        if plan.parking:
            return claim_parked(
                base, scope, plan.parking, plan.loader, is_over=plan.is_over, log=log
            )
        return claim(base, scope, plan.loader.run_id)
    path = base / name / scope.state_folder
    if kept := kept_by_dlt(plan.given):
        adopt_state(kept, path / name)
    return claim_permanent(path, name, tell)


@dataclass(frozen=True)
class _Load:
    """Loads what a run has to load itself."""

    delivery: Delivery
    #: Resources whose refresh has begun and was never committed, with its mode.
    owed: Mapping[str, TRefreshMode]

    def everything(self, source: DltSource) -> list[ResourceFailure]:
        """Load all as one package, or in parts where that is asked for; return failures.

        All in one package is much faster than a package for each. When a resource fails before
        anything is at the destination, the others are loaded apart from it, and so they are by the
        next run, which need not extract them twice to find out.
        """
        plan = self.delivery.plan
        # A refresh is for all resources of a package.
        apart = self.delivery.workspace.apart or (self.owed and not plan.refresh)
        if plan.decompose != "none" or apart:
            failures = self._parts(parts(source))
        else:
            failures = self._load(source, self.delivery.workspace.room())
            if failures and failures[0].resource is not None and not _waits(failures[0]):
                failures = self._others(source, failures[0])
        self.delivery.workspace.apart = any(failure.stage == "extract" for failure in failures)
        return failures

    def _others(self, source: DltSource, failure: ResourceFailure) -> list[ResourceFailure]:
        others = [
            part
            for part in parts(source)
            if failure.resource not in part.selected_resources
            and all(_dlt.can_be_repeated(resource) for resource in part.resources.extracted)
        ]
        apart = {name for part in others for name in part.selected_resources}
        held_back = tuple(name for name in failure.held_back if name not in apart)
        if others:
            self.delivery.log.warning(
                "Resource %r failed in %s. The others are loaded apart from it.",
                failure.resource,
                failure.stage,
            )
        return [replace(failure, held_back=held_back), *self._parts(others)]

    def _parts(self, sources: Sequence[DltSource]) -> list[ResourceFailure]:
        """Load parts one after the other, or side by side where that is asked for."""
        rooms = [
            self.delivery.workspace.room("+".join(each.selected_resources)) for each in sources
        ]
        if self.delivery.plan.decompose != "parallel" or not self._side_by_side:
            return list(chain.from_iterable(map(self._load, sources, rooms)))
        with ThreadPoolExecutor(self.delivery.plan.max_workers, "dagster-dlt") as threads:
            # With the context of the step: dlt knows by it that Dagster is its host.
            loads = [
                threads.submit(copy_context().run, self._load, each, room)
                for each, room in zip(sources, rooms, strict=True)
            ]
            return [failure for load in loads for failure in load.result()]

    @property
    def _side_by_side(self) -> bool:
        """Whether loads of this pipeline can overlap, and the cursors of all be kept."""
        if self.delivery.plan.refresh or self.owed:
            # Each would bring back the tables and cursors that another one has dropped.
            self.delivery.log.info("With a refresh, resources are loaded one after the other.")
            return False
        can = self.delivery.ledger is not None and not self.delivery.workspace.permanent
        if not can:
            self.delivery.log.warning(
                "The destination cannot keep the cursors of loads that overlap, so that the "
                "resources are loaded one after the other."
            )
        return can

    def _restore(self, pipeline: Pipeline) -> bool:
        """Restore what the destination keeps; tell whether loads that overlapped were merged."""
        if not (pipeline.config.restore_from_destination and pipeline.destination):
            return False
        with self.delivery.at_destination():
            pipeline.sync_destination()
            if self.delivery.ledger is None:
                return False
            return merge(pipeline, self.delivery.ledger.entries(), self.delivery.log)

    def _load(self, source: DltSource, room: Path) -> list[ResourceFailure]:
        # What is added to the resources below is for this load only.
        source, plan = source.clone(), self.delivery.plan
        # Those that feed others have cursors too, selected or not.
        names = tuple(sorted(_dlt.extracted_names(source)))
        label = Label(plan.loader.run_id, names, tuple(sorted(plan.earlier_runs)))
        pipeline = self.delivery.pipeline(room, label)
        with _dlt.active(pipeline):
            merged = self._restore(pipeline)
            if self.delivery.rows:
                add_load_ids(source, pipeline)
            bound_cursors(source, plan)
            own_rows = count_rows_of_shared_tables(source)
            before = _dlt.cursors_of(pipeline.state, source.schema.name)
            failures: list[ResourceFailure] = []
            try:
                with _dlt.interval(plan.window):
                    extract(plan, pipeline, source, owed=self.owed, log=self.delivery.log)
                pipeline.normalize()
                info = self.delivery.send(pipeline, source, failures)
                if merged:
                    with self.delivery.at_destination():
                        keep_schema(pipeline, source.schema.name, self.delivery.log)
            except PipelineStepFailed as error:
                failed = _not_loaded(failures)
                last = self.delivery.failed(error, pipeline, source, room)
                held_back = tuple(name for name in last.held_back if name not in failed)
                return [*failures, replace(last, held_back=held_back)]
            failed = _not_loaded(failures)
            left = [name for name in _dlt.selected_resources(source) if name not in failed]
            if info is not None and left:
                rows = _dlt.row_counts(pipeline)
                after = _dlt.cursors_of(pipeline.state, source.schema.name)
                counts = _dlt.Counts(_dlt.rows_extracted(pipeline), own_rows, before, after)
                self.delivery.report(
                    outcome_of(pipeline, source.with_resources(*left), info, rows, counts)
                )
        return failures


def _waits(failure: ResourceFailure) -> bool:
    """Tell whether a package that can be finished has all that was extracted."""
    return failure.stage == "load" or failure.pipelines_dir is not None


def _not_loaded(failures: Sequence[ResourceFailure]) -> set[str | None]:
    """Return the resources that failed, and those that share a table with them."""
    return {name for each in failures for name in (each.resource, *each.held_back)}
