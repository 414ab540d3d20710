"""Run a load step by step: finish what is pending, then extract, normalize and load.

All resources are loaded as one package. Only when one of them fails before anything is at the
destination are the others loaded apart, so that they do not share its fate.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from dlt.common.destination.exceptions import DestinationException
from dlt.common.pipeline import LoadInfo
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.helpers import retry_schema_update
from dlt.pipeline.pipeline import Pipeline
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from dagster_dlt import _dlt
from dagster_dlt._facts import LoadFacts, ResourceFacts, ResourceFailure
from dagster_dlt.errors import PendingPackagesError, ResourcesFailedError
from dagster_dlt.loading.ledger import Entry, Ledger, ledger_of, overlapping
from dagster_dlt.loading.load_ids import add_load_ids
from dagster_dlt.loading.package import Package
from dagster_dlt.loading.parking import claim_parked
from dagster_dlt.loading.pipeline import fresh
from dagster_dlt.loading.plan import PIPELINE_OPTIONS, Plan, extract_options, parts
from dagster_dlt.loading.progress import Progress
from dagster_dlt.loading.staging import staging
from dagster_dlt.loading.state import merge, put_back
from dagster_dlt.loading.turns import Turn, turn_of
from dagster_dlt.loading.undo import clean, takes_back
from dagster_dlt.loading.workspace import (
    FOLDER,
    Scope,
    Workspace,
    adopt_state,
    claim,
    claim_permanent,
)


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
        LoadTakenBackError: another run took this load for dead.
        PipelineStepFailed: the destination could not be asked for the pipeline's state.
        ParkingError: the place where packages are parked cannot be used.
    """
    asked = _asked(plan)
    turn = turn_of(
        asked, lambda file: log.info("Waiting for %s, which another load has open.", file)
    )
    schema = _dlt.schema_for(asked, plan.source)
    ledger = ledger_of(asked, turn, schema=schema, is_over=plan.is_over)
    with _workspace(plan, asked, log) as workspace:
        load = _Load(plan, workspace, report, log, turn, ledger)
        done, failures = load.finish_pending()
        if plan.is_retry:
            done |= load.report_committed(done)
        if not failures:
            load.undo_dead()
        skipped = done if plan.is_retry else frozenset()
        left = [name for name in _dlt.selected_resources(plan.source) if name not in skipped]
        if left and not failures:
            failures = load.everything(plan.source.with_resources(*left))
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
    _, failures = _Load(plan, workspace, report, log, turn, ledger).finish_pending()
    return failures


def _asked(plan: Plan) -> Pipeline:
    """Return a pipeline with the destination that the run asks for, which is not to be run."""
    if not PIPELINE_OPTIONS & plan.options.keys():
        return plan.given
    with TemporaryDirectory() as elsewhere:
        return fresh(plan.given, plan.options, Path(elsewhere))


def _workspace(
    plan: Plan, asked: Pipeline, log: logging.Logger
) -> AbstractContextManager[Workspace]:
    """Return the directory for this load, by where the pipeline's state lives."""

    def tell() -> None:
        log.info("Waiting for another load of pipeline %r, which has its state.", name)

    name = plan.given.pipeline_name
    own = Path(plan.given.pipelines_dir)
    home = _dlt.home_of(asked)
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
    scope = Scope(
        name, home.destination, asked.dataset_name, plan.loader.step, plan.loader.partition
    )
    if home.restores_state:
        if plan.parking:
            return claim_parked(base, scope, plan.parking, log)
        return claim(base, scope, plan.loader.run_id)
    path = base / name / scope.state_folder
    adopt_state(Path(plan.given.working_dir), path / name)
    return claim_permanent(path, name, tell)


@dataclass(frozen=True)
class _Load:
    plan: Plan
    workspace: Workspace
    report: Callable[[Report], None]
    log: logging.Logger
    #: The right to open the destination.
    turn: Turn
    ledger: Ledger | None
    #: What the ledger was told of the packages that are being loaded.
    _noted: dict[str, Entry] = field(default_factory=dict)
    #: Packages that were thrown away, whose rows are to be taken back.
    _aborted: set[str] = field(default_factory=set)

    # --- what earlier runs left ----------------------------------------------------------------

    @cached_property
    def _entries(self) -> Mapping[str, Entry]:
        """What the ledger knows of earlier loads, by load id."""
        return {entry.load_id: entry for entry in self.ledger.entries()} if self.ledger else {}

    def finish_pending(self) -> tuple[frozenset[str], list[ResourceFailure]]:
        """Deal with packages of earlier runs; return what was loaded by it, and what failed."""
        finished: set[str] = set()
        failures: list[ResourceFailure] = []
        for room in self.workspace.rooms():
            pipeline = self._pipeline(room)
            with _dlt.active(pipeline):
                try:
                    if pipeline.has_pending_data:
                        done, failed = self._finish(pipeline, room)
                        finished |= done
                        failures += failed
                except PipelineStepFailed as error:
                    failures.append(self._failed(error, pipeline, self.plan.source, room))
                else:
                    self.workspace.clear(room)
        return frozenset(finished), failures

    def _finish(self, pipeline: Pipeline, room: Path) -> tuple[set[str], list[ResourceFailure]]:
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
            self._aborted.update(pending)
            pipeline.abort_packages()
            return set(), []
        self.log.info("Finishing load packages of an earlier run: %s.", named)
        failures: list[ResourceFailure] = []
        try:
            _dlt.remember_schemas(pipeline)
            pipeline.normalize()
            with self._held(pipeline):
                with self.turn:
                    self._take_up(pipeline)
                info = self._to_destination(pipeline, self.plan.source, failures)
        except PipelineStepFailed as error:
            if _dlt.is_stopped() or _dlt.can_be_resumed(error):
                raise
            # It was reported when it failed first. Kept, it would fail every run from now on.
            self.log.error(  # noqa: TRY400 - reported with its traceback when it failed first
                "Pending load packages %s can never be loaded and are aborted (%s in %s).",
                named,
                type(error.exception).__name__,
                error.step,
            )
            self._aborted.update(pending)
            pipeline.abort_packages()
            return set(), []
        if info is None:
            return set(), failures
        names = _dlt.resources_in(info, pipeline) & _dlt.selected_resources(self.plan.source).keys()
        # Failed now, or taken out of the package by the attempt that died.
        names -= {name for id_ in pending if id_ in self._noted for name in self._noted[id_].failed}
        if self.plan.is_retry and names:
            source = self.plan.source.with_resources(*names)
            # What the attempt that built a package has counted, it has noted in the ledger.
            rows = {
                table: count
                for load_id in pending
                if load_id in self._noted
                for table, count in self._noted[load_id].rows.items()
            }
            self.report(_outcome(pipeline, source, info, rows or None))
        return names, failures

    @contextmanager
    def _held(self, pipeline: Pipeline) -> Iterator[None]:
        """Keep others from taking back the rows of pending packages while they are finished."""
        with ExitStack() as stack:
            if self.ledger:
                for load_id in pipeline.list_normalized_load_packages():
                    stack.enter_context(self.ledger.holding(load_id))
                # To be read again: until now they may have been taken back.
                vars(self).pop("_entries", None)
            yield

    def _take_up(self, pipeline: Pipeline) -> None:
        """Make the packages that an earlier process left such that loading them is safe."""
        for load_id in pipeline.list_normalized_load_packages():
            package, entry = Package(pipeline, load_id), self._entries.get(load_id)
            if entry and entry.status == "committed":
                # Its process died after dlt's note at the destination, before the one on the disk.
                _dlt.finish_package(pipeline, load_id)
                continue
            resources = package.resources
            newer = [
                each
                for each in overlapping(self._entries.values(), resources, self._partition)
                # Load ids are seconds: committed after this package was begun.
                if each.status == "committed" and each.beat_at > float(load_id)
            ]
            if newer:
                self.log.warning(
                    "Load package %s is aborted: %s were loaded since, by %s.",
                    load_id,
                    ", ".join(sorted(resources.intersection(*[each.resources for each in newer]))),
                    newer[-1].load_id,
                )
                # dlt aborts what waits behind it too.
                self._aborted.update(pipeline.list_normalized_load_packages())
                pipeline.abort_packages(load_id)
                return
            # What was undone when this disk was out of sight is loaded from the beginning.
            undone = entry is not None and entry.is_taken_back
            again = package.chains if undone else package.in_doubt()
            if entry and entry.staging and self.ledger:
                self.ledger.drop(entry.staging)
            if again:
                self.log.info(
                    "Cleaning what load package %s may have sent of %s, which is sent again.",
                    load_id,
                    ", ".join(each.root for each in again),
                )
                clean(package, again)
                package.queue_again(again)
            if entry and entry.failed:
                # Last: what is queued again has the cursors that were put back in it once more.
                self._give_up(package, entry.failed)
            package.begin_again()

    def report_committed(self, done: Collection[str]) -> frozenset[str]:
        """Report what an earlier attempt committed and did not come to report; return its names."""
        wanted = _dlt.selected_resources(self.plan.source).keys() - set(done)
        reported: set[str] = set()
        for entry in self._entries.values():
            own = entry.loader.run_id in self.plan.earlier_runs and (
                (entry.loader.step, entry.loader.partition)
                == (self.plan.loader.step, self._partition)
            )
            names = (set(entry.resources) - set(entry.failed)) & wanted - reported
            if entry.status != "committed" or not own or not names:
                continue
            self.log.info("%s was committed by an earlier attempt.", ", ".join(sorted(names)))
            pipeline = self._pipeline(self.workspace.room())
            with _dlt.active(pipeline):
                with self.turn:
                    pipeline.sync_destination()
                source = self.plan.source.with_resources(*names)
                self.report(_outcome(pipeline, source, None, entry.rows))
            reported |= names
        return frozenset(reported)

    def undo_dead(self) -> None:
        """Take back the rows of loads that died with their disks, before they are loaded again."""
        if self.ledger is None:
            return
        names = _dlt.selected_resources(self.plan.source)
        dead = [
            entry
            for entry in overlapping(self.ledger.entries(), names, self._partition)
            if entry.status == "undoing"
            or (
                entry.status == "loading"
                and (entry.load_id in self._aborted or self.ledger.is_dead(entry, self.plan.loader))
            )
        ]
        for entry in dead:
            rows = self.ledger.undo(entry)
            if rows is not None:
                self.log.warning(
                    "Load %s of run %s was never committed: took back %d rows of %s.",
                    entry.load_id,
                    entry.loader.run_id,
                    rows,
                    ", ".join(entry.resources),
                )
        if len(dead) > 1:
            # While one is not taken back, nested rows of the others stay.
            for entry in dead:
                self.ledger.undo(entry)

    # --- this run's own ------------------------------------------------------------------------

    def everything(self, source: DltSource) -> list[ResourceFailure]:
        """Load all as one package, or in parts where that is asked for; return failures.

        All in one package is much faster than a package for each. When a resource fails before
        anything is at the destination, the others are loaded apart from it, and so they are by the
        next run, which need not extract them twice to find out.
        """
        if self.plan.decompose != "none" or self.workspace.apart:
            failures = self._parts(parts(source))
        else:
            failures = self._load(source, self.workspace.room())
            if failures and failures[0].stage != "load" and failures[0].resource is not None:
                failures = self._others(source, failures[0])
        self.workspace.apart = any(failure.stage == "extract" for failure in failures)
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
            self.log.warning(
                "Resource %r failed in %s. The others are loaded apart from it.",
                failure.resource,
                failure.stage,
            )
        return [replace(failure, held_back=held_back), *self._parts(others)]

    def _parts(self, sources: Sequence[DltSource]) -> list[ResourceFailure]:
        """Load parts one after the other, or side by side where that is asked for."""
        rooms = [self.workspace.room("+".join(each.selected_resources)) for each in sources]
        if self.plan.decompose != "parallel" or not self._side_by_side:
            return list(chain.from_iterable(map(self._load, sources, rooms)))
        with ThreadPoolExecutor(self.plan.max_workers, "dagster-dlt") as threads:
            # With the context of the step: dlt knows by it that Dagster is its host.
            loads = [
                threads.submit(copy_context().run, self._load, each, room)
                for each, room in zip(sources, rooms, strict=True)
            ]
            return [failure for load in loads for failure in load.result()]

    @property
    def _side_by_side(self) -> bool:
        """Whether loads of this pipeline can overlap, and the cursors of all be kept."""
        can = self.ledger is not None and not self.workspace.permanent
        if not can:
            self.log.warning(
                "The destination cannot keep the cursors of loads that overlap, so that the "
                "resources are loaded one after the other."
            )
        return can

    def _load(self, source: DltSource, room: Path) -> list[ResourceFailure]:
        # What is added to the resources below is for this load only.
        source, pipeline = source.clone(), self._pipeline(room)
        with _dlt.active(pipeline):
            if pipeline.config.restore_from_destination and pipeline.destination:
                with self.turn:
                    pipeline.sync_destination()
                    if self.ledger:
                        merge(pipeline, self.ledger.entries(), self.log)
            if self.ledger:
                add_load_ids(source, pipeline)
            own_rows = _count_rows_of_shared_tables(source)
            failures: list[ResourceFailure] = []
            try:
                pipeline.extract(source, **extract_options(self.plan.options))
                pipeline.normalize()
                info = self._to_destination(pipeline, source, failures)
            except PipelineStepFailed as error:
                failed = _not_loaded(failures)
                last = self._failed(error, pipeline, source, room)
                held_back = tuple(name for name in last.held_back if name not in failed)
                return [*failures, replace(last, held_back=held_back)]
            failed = _not_loaded(failures)
            left = [name for name in _dlt.selected_resources(source) if name not in failed]
            if info is not None and left:
                rows = _dlt.row_counts(pipeline)
                self.report(_outcome(pipeline, source.with_resources(*left), info, rows, own_rows))
        return failures

    def _to_destination(
        self, pipeline: Pipeline, source: DltSource, failures: list[ResourceFailure]
    ) -> LoadInfo | None:
        """Load the packages that are there, and note it in the ledger; return dlt's word of it.

        A resource that the destination refuses for good is taken out of its package, so that the
        others are loaded, and added to `failures`.
        """
        with self.turn, ExitStack() as stack:
            for load_id in pipeline.list_normalized_load_packages():
                entry = self._entry(Package(pipeline, load_id), source)
                self._noted[load_id] = entry
                try:
                    self._noting(pipeline, entry, stack)
                except DestinationException as error:
                    raise PipelineStepFailed(pipeline, "load", load_id, error) from error
            while isinstance(info := self._try(pipeline, source), ResourceFailure):
                failures.append(info)
            if pending := pipeline.list_normalized_load_packages():
                # dlt was asked to stop, and did so without an error.
                raise PendingPackagesError(
                    pipeline.pipeline_name, list(pending), pipeline.pipelines_dir
                )
        return info

    def _noting(self, pipeline: Pipeline, entry: Entry, stack: ExitStack) -> None:
        if self.ledger:
            stack.enter_context(self.ledger.loading(entry, self.log))
            stack.enter_context(staging(pipeline, entry, self.ledger, self._note))

    def _try(self, pipeline: Pipeline, source: DltSource) -> LoadInfo | ResourceFailure | None:
        try:
            return _again_on_races(pipeline.load, raise_on_failed_jobs=True)
        except PipelineStepFailed as error:
            failure = self._without(error, pipeline, source)
            if failure is None:
                raise
            return failure

    def _entry(self, package: Package, source: DltSource) -> Entry:
        """Return what is to be noted of a package before it is loaded."""
        known = self._entries.get(package.load_id)
        client = _dlt.client_of(package.pipeline, package.schema)
        added = [each for each in package.chains if takes_back(package, client, each)]
        known_rows = [each for each in added if _dlt.knows_its_load(package.schema, each)]
        lost = [
            each.root
            for each in added
            if (each not in known_rows or self.ledger is None)
            and each.root != package.schema.state_table_name
        ]
        if lost:
            self.log.warning(
                "If this process dies while it loads, and its disk with it, the rows it has added "
                "to %s until then cannot be told from others and stay there.",
                ", ".join(lost),
            )
        return Entry(
            load_id=package.load_id,
            pipeline=self.plan.given.pipeline_name,
            loader=self.plan.loader,
            resources=known.resources if known else self._resources_of(package, source),
            chains=tuple(known_rows),
            staged=package.staged,
            # What an earlier process built was counted by it.
            rows=(known and known.rows) or _dlt.row_counts(package.pipeline),
            failed=known.failed if known else (),
        )

    def _resources_of(self, package: Package, source: DltSource) -> tuple[str, ...]:
        if package.schema.name == source.schema.name:
            # Those that feed others have cursors too, selected or not.
            return tuple(sorted({each.name for each in source.resources.extracted}))
        return tuple(sorted(package.resources))

    def _without(
        self, error: PipelineStepFailed, pipeline: Pipeline, source: DltSource
    ) -> ResourceFailure | None:
        """Take the resource that failed out of its package, if the rest can go on without it."""
        failure = _dlt.failure_of(error, pipeline, source)
        if self.ledger is None or _dlt.can_be_resumed(error) or not failure.load_id:
            return None
        package = Package(pipeline, failure.load_id)
        names = _dlt.resources_of_table(package.schema, failure.table, source)
        if not names or not package.resources - names:
            return None
        # Noted before anything is changed: whoever finds the package goes on from here.
        noted = self._noted[package.load_id]
        self._note(replace(noted, failed=(*noted.failed, *sorted(names))))
        self._give_up(package, names)
        others = tuple(sorted(names - {failure.resource}))
        return replace(failure, held_back=others, pipelines_dir=None)

    def _note(self, entry: Entry) -> None:
        self._noted[entry.load_id] = entry
        if self.ledger:
            self.ledger.note(entry)

    def _give_up(self, package: Package, resources: Collection[str]) -> None:
        chains = package.chains_of(resources)
        clean(package, chains)
        put_back(package, resources)
        package.take_out(chains)

    def _failed(
        self, error: PipelineStepFailed, pipeline: Pipeline, source: DltSource, room: Path
    ) -> ResourceFailure:
        if _dlt.is_stopped():
            # An interrupt is nobody's failure: what was built stays as it is.
            raise error
        failure = _dlt.failure_of(error, pipeline, source)
        if error.step == "normalize":
            # It would fail again, and nothing of it is at the destination.
            pipeline.abort_packages()
            return replace(failure, pipelines_dir=None)
        if pipeline.has_pending_data:
            self.workspace.keep(room)
        return failure

    def _pipeline(self, room: Path) -> Pipeline:
        _dlt.raise_if_stopped()
        pipeline = fresh(self.plan.given, self.plan.options, room)
        pipeline.collector = Progress(self.plan.given.collector, self.report)
        _dlt.watch(pipeline)
        return pipeline

    @property
    def _partition(self) -> str | None:
        return self.plan.loader.partition


#: Several loads that create the same dataset, table or column at once get in each other's way.
_again_on_races: Final = Retrying(
    retry=retry_if_exception(retry_schema_update()),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.1, max=5),
    reraise=True,
)


def _not_loaded(failures: Sequence[ResourceFailure]) -> set[str | None]:
    """Return the resources that failed, and those that share a table with them."""
    return {name for each in failures for name in (each.resource, *each.held_back)}


def _outcome(
    pipeline: Pipeline,
    source: DltSource,
    info: LoadInfo | None,
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
