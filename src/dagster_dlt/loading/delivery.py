"""Send packages to the destination, each noted in the ledger before its first row."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from dlt.common.destination.exceptions import DestinationException
from dlt.common.pipeline import LoadInfo
from dlt.extract import DltSource
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.helpers import retry_schema_update
from dlt.pipeline.pipeline import Pipeline
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from dagster_dlt import _dlt
from dagster_dlt._facts import ResourceFailure
from dagster_dlt.errors import PendingPackagesError
from dagster_dlt.loading.entry import Entry
from dagster_dlt.loading.leases import Lease
from dagster_dlt.loading.ledger import Ledger
from dagster_dlt.loading.outcome import Report
from dagster_dlt.loading.package import Label, Package
from dagster_dlt.loading.partitions import read_as_a_whole, told_by
from dagster_dlt.loading.pipeline import fresh
from dagster_dlt.loading.plan import Plan
from dagster_dlt.loading.progress import Progress
from dagster_dlt.loading.rows import Rows
from dagster_dlt.loading.staging import staging
from dagster_dlt.loading.state import put_back
from dagster_dlt.loading.superseded import superseding
from dagster_dlt.loading.turns import Turn
from dagster_dlt.loading.undo import clean, takes_back, tells
from dagster_dlt.loading.workspace import (
    Workspace,
)


@dataclass(frozen=True)
class Delivery:
    """The way from a working directory to the destination, which all loads of one run share."""

    plan: Plan
    workspace: Workspace
    report: Callable[[Report], None]
    log: logging.Logger
    #: The right to open the destination.
    turn: Turn
    #: What loads know of each other, where they can.
    ledger: Ledger | None
    #: What nobody else loads meanwhile.
    held: Lease | None = None
    #: What the ledger was told of the packages that are being loaded.
    noted: dict[str, Entry] = field(default_factory=dict)

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """What the ledger knows of earlier loads, by load id."""
        return {entry.load_id: entry for entry in self.ledger.entries()} if self.ledger else {}

    @contextmanager
    def at_destination(self) -> Iterator[None]:
        """Have the turn. A file stays open meanwhile: each time it is opened, it is read anew."""
        with ExitStack() as stack:
            stack.enter_context(self.turn)
            if self.ledger and self.turn.is_needed:
                stack.enter_context(self.ledger.connected())
            yield

    @property
    def rows(self) -> Rows | None:
        """What can be taken back of rows that were sent, where they can be told apart."""
        return self.ledger.rows if self.ledger else None

    def read_again(self) -> None:
        """Ask the ledger anew when its entries are wanted next."""
        vars(self).pop("entries", None)

    def pipeline(self, room: Path, label: Label | None = None) -> Pipeline:
        """Return a fresh pipeline that works in `room`, and can be stopped.

        Args:
            room: The directory.
            label: What is written down in a package that it extracts.
        """
        _dlt.raise_if_stopped()
        pipeline = fresh(self.plan.given, room)
        pipeline.collector = Progress(
            self.plan.given.collector, self.report, on_extract=label.stick if label else None
        )
        _dlt.watch(pipeline)
        return pipeline

    def failed(
        self, error: PipelineStepFailed, pipeline: Pipeline, source: DltSource, room: Path
    ) -> ResourceFailure:
        """Say whose failure an error of dlt is; keep what can go on, and throw away what cannot."""
        if _dlt.is_stopped():
            # An interrupt is nobody's failure: what was built stays as it is.
            raise error
        failure = _dlt.failure_of(error, pipeline, source)
        if error.step == "normalize" and not _dlt.can_be_resumed(error):
            # It would fail again, and nothing of it is at the destination.
            pipeline.abort_packages()
            return replace(failure, pipelines_dir=None)
        if pipeline.has_pending_data:
            self.workspace.keep(room)
        return failure

    def send(
        self, pipeline: Pipeline, source: DltSource, failures: list[ResourceFailure]
    ) -> LoadInfo | None:
        """Load the packages that are there, and note it in the ledger; return dlt's word of it.

        A resource that the destination refuses for good is taken out of its package, so that the
        others are loaded, and added to `failures`.
        """
        with self.at_destination():
            if self.held and not self.turn.is_needed:
                self.held.check()
            packages = [
                Package(pipeline, each) for each in pipeline.list_normalized_load_packages()
            ]
            # Asked for now: the jobs of a committed package are elsewhere.
            staged = [(each, each.chains) for each in packages if pipeline.staging]
            info = self._committed(pipeline, source, failures)
            self.remove_replaced(
                replace(self.noted[each.load_id], status="committed") for each in packages
            )
        for package, chains in staged:
            self._remove_staged_files(package, [name for each in chains for name in each.names])
        return info

    def _remove_staged_files(self, package: Package, tables: Iterable[str]) -> None:
        try:
            _dlt.remove_staged_files(package.pipeline, package.schema, package.load_id, tables)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            self.log.warning(
                "Files of load %s stay in the staging destination: %s", package.load_id, error
            )

    def _committed(
        self, pipeline: Pipeline, source: DltSource, failures: list[ResourceFailure]
    ) -> LoadInfo | None:
        with ExitStack() as stack:
            for load_id in pipeline.list_normalized_load_packages():
                entry = self._entry(Package(pipeline, load_id), source)
                self.noted[load_id] = entry
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

    def remove_replaced(self, entries: Iterable[Entry]) -> None:
        """Remove what partitions had loaded before, for committed loads that replace it.

        Should this process die, the next run does it that finds the load in the ledger.
        """
        for entry in entries:
            if self.rows and entry.status == "committed" and entry.renewed:
                taken = self.rows.remove_replaced(entry)
                partition = entry.loader.partition
                self.log.info("Removed %s that partition %s had loaded before.", taken, partition)

    def _noting(self, pipeline: Pipeline, entry: Entry, stack: ExitStack) -> None:
        if self.ledger:
            stack.enter_context(self.ledger.loading(entry, self.log))
            stack.enter_context(staging(pipeline, entry, self.ledger, self.note, self.log))

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
        known = self.entries.get(package.load_id)
        added = [each for each in package.chains if takes_back(package, each)]
        known_rows = [each for each in added if tells(package, each)]
        lost = [
            each.root
            for each in added
            if (each not in known_rows or self.rows is None)
            and each.root != package.schema.state_table_name
        ]
        if lost:
            self.log.warning(
                "If this process dies while it loads, and its disk with it, the rows it has added "
                "to %s until then cannot be told from others and stay there.",
                ", ".join(lost),
            )
        entry = Entry(
            load_id=package.load_id,
            pipeline=self.plan.given.pipeline_name,
            loader=self.plan.loader,
            builder=package.label.run_id,
            resources=known.resources if known else package.label.resources,
            schema=package.schema.name,
            chains=tuple(known_rows),
            staged=package.staged,
            # What an earlier process built was counted by it.
            rows=(known and known.rows) or _dlt.row_counts(package.pipeline),
            failed=known.failed if known else (),
            refresh=package.refresh,
        )
        if self.rows is None:
            if self.partition and added:
                self.log.warning(
                    "Rows that partition %s has loaded before stay, beside those that are loaded "
                    "now: the destination cannot delete rows.",
                    self.partition,
                )
            return entry
        return superseding(
            entry,
            package,
            self.rows,
            whole=read_as_a_whole(source, self.plan),
            told_by=told_by(source, self.plan.declared, package.columns_of),
            same_runs=self._runs_of(package),
            log=self.log,
        )

    def _runs_of(self, package: Package) -> frozenset[str]:
        """Return the runs whose loads belong together with a package, whoever has built it."""
        own, its = self.plan.earlier_runs | {self.plan.loader.run_id}, package.label.runs
        # What another run has left does not become part of what this one, or its parent, loads.
        return own | its if not its or own & its else its

    def _without(
        self, error: PipelineStepFailed, pipeline: Pipeline, source: DltSource
    ) -> ResourceFailure | None:
        """Take the resource that failed out of its package, if the rest can go on without it."""
        failure = _dlt.failure_of(error, pipeline, source)
        if self.rows is None or _dlt.can_be_resumed(error) or not failure.load_id:
            return None
        package = Package(pipeline, failure.load_id)
        names = _dlt.resources_of_table(package.schema, failure.table, source)
        if not names or not package.resources - names:
            return None
        # Noted before anything is changed: whoever finds the package goes on from here.
        noted = self.noted[package.load_id]
        self.note(replace(noted, failed=(*noted.failed, *sorted(names))))
        self.give_up(package, names)
        others = tuple(sorted(names - {failure.resource}))
        return replace(failure, held_back=others, pipelines_dir=None)

    def note(self, entry: Entry) -> None:
        """Note more of a package that is being loaded."""
        self.noted[entry.load_id] = entry
        if self.ledger:
            self.ledger.note(entry)

    def give_up(self, package: Package, resources: Collection[str]) -> None:
        """Take resources out of a package with what was sent of them, and put cursors back."""
        chains = package.chains_of(resources)
        clean(package, chains)
        put_back(package, resources)
        package.take_out(chains)

    @property
    def partition(self) -> str | None:
        """Key of the run's partition."""
        return self.plan.loader.partition


#: Several loads that create the same dataset, table or column at once get in each other's way.
_again_on_races: Final = Retrying(
    retry=retry_if_exception(retry_schema_update()),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.1, max=5),
    reraise=True,
)
