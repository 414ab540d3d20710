"""What earlier runs have left: packages to finish, commits to report, rows to take back."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dlt.common.pipeline import LoadInfo
from dlt.common.typing import TRefreshMode
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import ResourceFailure
from dagster_dlt.errors import PendingPackagesError
from dagster_dlt.loading.delivery import Delivery
from dagster_dlt.loading.entry import Entry, overlapping, owed_refresh
from dagster_dlt.loading.marker import behind
from dagster_dlt.loading.outcome import outcome_of
from dagster_dlt.loading.package import Package
from dagster_dlt.loading.rows import Rows
from dagster_dlt.loading.undo import clean


@dataclass(frozen=True)
class Earlier:
    """Deals with what earlier runs have left, before a run loads anything of its own."""

    delivery: Delivery
    #: Packages that were thrown away, whose rows are to be taken back.
    _aborted: set[str] = field(default_factory=set)

    def finish_pending(self) -> tuple[frozenset[str], list[ResourceFailure]]:
        """Deal with packages of earlier runs; return what was loaded by it, and what failed."""
        finished: set[str] = set()
        failures: list[ResourceFailure] = []
        for room in self.delivery.workspace.rooms():
            pipeline = self.delivery.pipeline(room)
            with _dlt.active(pipeline):
                try:
                    _dlt.finish_endings(pipeline)
                    if pipeline.has_pending_data:
                        done, failed = self._finish(pipeline, room)
                        finished |= done
                        failures += failed
                except PipelineStepFailed as error:
                    failures.append(
                        self.delivery.failed(error, pipeline, self.delivery.plan.source, room)
                    )
                else:
                    self.delivery.workspace.clear(room)
        return frozenset(finished), failures

    def _finish(self, pipeline: Pipeline, room: Path) -> tuple[set[str], list[ResourceFailure]]:
        """Do with pending packages what the plan says; return what was loaded, and what failed."""
        policy, log = self.delivery.plan.on_pending, self.delivery.log
        pending = [
            *pipeline.list_extracted_load_packages(),
            *pipeline.list_normalized_load_packages(),
        ]
        named = ", ".join(pending)
        if policy == "fail":
            self.delivery.workspace.keep(room)
            raise PendingPackagesError(pipeline.pipeline_name, pending, str(room))
        if policy == "abort":
            log.warning("Aborting load packages of an earlier run: %s.", named)
            self._abort(pipeline, pending)
            return set(), []
        log.info("Finishing load packages of an earlier run: %s.", named)
        failures: list[ResourceFailure] = []
        try:
            info = self._go_on(pipeline, failures)
        except PipelineStepFailed as error:
            if _dlt.is_stopped() or _dlt.can_be_resumed(error):
                raise
            # It was reported when it failed first. Kept, it would fail every run from now on.
            log.error(  # noqa: TRY400 - reported with its traceback when it failed first
                "Pending load packages %s can never be loaded and are aborted (%s in %s).",
                named,
                type(error.exception).__name__,
                error.step,
            )
            self._abort(pipeline, pending)
            return set(), []
        loaded = self._report(pipeline, info, pending) if info is not None else set()
        return loaded, failures

    def _abort(self, pipeline: Pipeline, pending: Collection[str]) -> None:
        self._aborted.update(pending)
        pipeline.abort_packages()

    def _go_on(self, pipeline: Pipeline, failures: list[ResourceFailure]) -> LoadInfo | None:
        _dlt.remember_schemas(pipeline)
        pipeline.normalize()
        with self._held(pipeline):
            with self.delivery.at_destination():
                self._take_up(pipeline)
            return self.delivery.send(pipeline, self.delivery.plan.source, failures)

    def _report(self, pipeline: Pipeline, info: LoadInfo, pending: Collection[str]) -> set[str]:
        """Tell of what earlier attempts have built, and was loaded now; return its names.

        What another run has built nobody waits for here, and what is new since is to be extracted.
        """
        plan, noted = self.delivery.plan, self.delivery.noted
        entries = [
            noted[each]
            for each in pending
            if plan.is_retry and each in noted and noted[each].is_built_by(plan.earlier_runs)
        ]
        names = {name for entry in entries for name in entry.resources}
        # Failed now, or taken out of the package by the attempt that died.
        names -= {name for entry in entries for name in entry.failed}
        names &= _dlt.selected_resources(plan.source).keys()
        if names:
            # What the attempt that built a package has counted, it has noted in the ledger.
            rows = {table: count for entry in entries for table, count in entry.rows.items()}
            source = plan.source.with_resources(*names)
            self.delivery.report(outcome_of(pipeline, source, info, rows or None))
        return names

    @contextmanager
    def _held(self, pipeline: Pipeline) -> Iterator[None]:
        """Keep others from taking back the rows of pending packages while they are finished."""
        with ExitStack() as stack:
            if self.delivery.ledger:
                for load_id in pipeline.list_normalized_load_packages():
                    stack.enter_context(self.delivery.ledger.holding(load_id))
                # To be read again: until now they may have been taken back.
                self.delivery.read_again()
            yield

    def _take_up(self, pipeline: Pipeline) -> None:
        """Make the packages that an earlier process left such that loading them is safe."""
        is_behind = behind(Path(pipeline.pipelines_dir))
        for load_id in pipeline.list_normalized_load_packages():
            package, entry = Package(pipeline, load_id), self.delivery.entries.get(load_id)
            if entry and entry.status == "committed":
                # Its process died after dlt's note at the destination, before the one on the disk.
                _dlt.finish_package(pipeline, load_id)
                continue
            resources = package.resources
            newer = [
                each
                for each in overlapping(
                    self.delivery.entries.values(), resources, self.delivery.partition
                )
                # Load ids are seconds: committed after this package was begun.
                if each.status == "committed" and each.beat_at > float(load_id)
            ]
            if newer:
                self.delivery.log.warning(
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
            again = package.chains if undone or is_behind.exists() else package.in_doubt()
            if entry and entry.staging and self.delivery.rows:
                self.delivery.rows.drop(entry.staging)
            if again:
                self.delivery.log.info(
                    "Cleaning what load package %s may have sent of %s, which is sent again.",
                    load_id,
                    ", ".join(each.root for each in again),
                )
                clean(package, again)
                package.queue_again(again)
            if entry and entry.failed:
                # Last: what is queued again has the cursors that were put back in it once more.
                self.delivery.give_up(package, entry.failed)
            package.begin_again()
        is_behind.unlink(missing_ok=True)

    def report_committed(self, done: Collection[str]) -> frozenset[str]:
        """Report what an earlier attempt committed and did not come to report; return its names."""
        wanted = _dlt.selected_resources(self.delivery.plan.source).keys() - set(done)
        reported: set[str] = set()
        for entry in self.delivery.entries.values():
            own = entry.is_built_by(self.delivery.plan.earlier_runs) and (
                (entry.loader.step, entry.loader.partition)
                == (self.delivery.plan.loader.step, self.delivery.partition)
            )
            names = (set(entry.resources) - set(entry.failed)) & wanted - reported
            if entry.status != "committed" or not own or not names:
                continue
            self.delivery.log.info(
                "%s was committed by an earlier attempt.", ", ".join(sorted(names))
            )
            pipeline = self.delivery.pipeline(self.delivery.workspace.room())
            with _dlt.active(pipeline):
                with self.delivery.at_destination():
                    pipeline.sync_destination()
                source = self.delivery.plan.source.with_resources(*names)
                self.delivery.report(outcome_of(pipeline, source, None, entry.rows))
            reported |= names
        return frozenset(reported)

    def undo_dead(self) -> Mapping[str, TRefreshMode]:
        """Take back the rows of loads that died with their disks, before they are loaded again.

        Returns the resources of which such a load may have dropped the tables, while their cursors
        at the destination are the old ones: whoever loads them next has to refresh them too.
        """
        if self.delivery.ledger is None:
            return {}
        names = _dlt.selected_resources(self.delivery.plan.source)
        self.delivery.read_again()
        every = self.delivery.entries.values()
        self.delivery.remove_replaced(every)
        self._conclude(each for each in every if each.unsaid)
        entries = overlapping(every, names, self.delivery.partition)
        dead = [
            entry
            for entry in entries
            if entry.status == "undoing"
            or (
                entry.status == "loading"
                and (
                    entry.load_id in self._aborted
                    or self.delivery.ledger.is_dead(entry, self.delivery.plan.loader)
                )
            )
        ]
        # What is left of those is nested rows that hang from nothing, which any load may remove.
        left = [each for each in every if each.status == "undoing" and each not in dead]
        if self.delivery.rows:
            self._take_back([*dead, *left], self.delivery.rows)
        return owed_refresh(entries, {entry.load_id for entry in dead})

    def _conclude(self, committed: Iterable[Entry]) -> None:
        """Do what is left to do of loads whose process died when they were committed."""
        ledger, rows = self.delivery.ledger, self.delivery.rows
        for entry in committed:
            if ledger and rows and ledger.is_dead(entry, self.delivery.plan.loader):
                if entry.staging:
                    rows.drop(entry.staging)
                ledger.conclude(entry)

    def _take_back(self, dead: Collection[Entry], rows: Rows) -> None:
        for entry in dead:
            taken = rows.take_back(entry)
            if taken is not None:
                self.delivery.log.warning(
                    "Load %s of run %s was never committed: took back %s of %s.",
                    entry.load_id,
                    entry.loader.run_id,
                    taken,
                    ", ".join(entry.resources),
                )
        if len(dead) > 1:
            # While one is not taken back, nested rows of the others stay.
            for entry in dead:
                rows.take_back(entry)
