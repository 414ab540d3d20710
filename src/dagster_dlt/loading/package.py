"""A load package on this disk: what its jobs are about, and how they are made to run again."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from dlt.common.destination.client import JobClientBase, WithStagingDataset
from dlt.common.schema import Schema
from dlt.common.storages.file_storage import FileStorage
from dlt.common.storages.load_package import PackageStorage, ParsedLoadJobFileName
from dlt.common.typing import TRefreshMode
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import Chain

#: Formats of the jobs that dlt makes of others, once those are completed.
_FOLLOWUPS: Final = frozenset({"sql", "reference"})
#: What the ids of rows are made of, whatever stands around them in a file.
_ID: Final = re.compile(r"[\w+/=-]+")


@dataclass(frozen=True)
class Label:
    """Who built a package, of what: of a resource without new rows nothing is to be seen in it."""

    run_id: str
    resources: tuple[str, ...]
    #: Ids of the runs that its run goes on with.
    goes_on_with: tuple[str, ...] = ()

    @property
    def runs(self) -> frozenset[str]:
        """Ids of the runs whose loads belong together with this package; none where unknown."""
        return frozenset(filter(None, (self.run_id, *self.goes_on_with)))

    def stick(self) -> None:
        """Write it down in the package that is being extracted."""
        _dlt.label_package(asdict(self))


@dataclass(frozen=True)
class Package:
    """One load package that is normalized and waits to be loaded."""

    pipeline: Pipeline
    load_id: str

    @cached_property
    def schema(self) -> Schema:
        """The schema as it was when the package was built."""
        return self._packages.load_schema(self.load_id)

    @cached_property
    def client(self) -> JobClientBase:
        """What tells how the destination loads its tables; to make it takes milliseconds."""
        return _dlt.client_of(self.pipeline, self.schema)

    @cached_property
    def label(self) -> Label:
        """What its builder has said; of packages that others have built, what can be seen."""
        known = _dlt.label_of(self.pipeline, self.load_id)
        if not known:
            return Label("", tuple(sorted(self.resources)))
        goes_on_with = tuple(known.get("goes_on_with", ()))
        return Label(known["run_id"], tuple(known["resources"]), goes_on_with)

    @property
    def path(self) -> Path:
        """Its directory."""
        root = self._packages.storage.storage_path
        return Path(root) / self._packages.get_package_path(self.load_id)

    @property
    def chains(self) -> list[Chain]:
        """The chains of tables that have a job, without those that were given up."""
        given_up = PackageStorage.FAILED_JOBS_FOLDER
        tables = {job.table_name for state, job in self._jobs() if state != given_up}
        return [chain for chain in self._all_chains if tables & {*chain.names}]

    @cached_property
    def _all_chains(self) -> list[Chain]:
        return _dlt.chains_of(self.schema)

    @property
    def resources(self) -> set[str]:
        """The resources that have a job, by the tables; dlt's own tables have none."""
        own = self.schema.state_table_name
        return {chain.resource for chain in self.chains if chain.root != own}

    def columns_of(self, resource: str) -> set[str]:
        """Return the columns of the tables that a resource writes to directly."""
        tables = self.schema.tables
        roots = [chain.root for chain in self.chains_of([resource])]
        return {name for root in roots for name in tables[root]["columns"]}

    def chains_of(self, resources: Iterable[str]) -> list[Chain]:
        """The chains of some resources."""
        wanted = set(resources)
        return [chain for chain in self.chains if chain.resource in wanted]

    def in_doubt(self) -> list[Chain]:
        """Return the chains that cannot simply be gone on with, and must be loaded again.

        Of some a job may have been committed or not: it was sent to the destination, and its
        process died before it wrote down what became of it. Of others a part is in tables that dlt
        empties when it begins a package, and that another load may have emptied by now.
        """
        unknown: set[str] = set()
        begun: set[str] = set()
        unfinished: set[str] = set()
        for state, job in self._jobs():
            table = job.table_name
            if state in {PackageStorage.NEW_JOBS_FOLDER, PackageStorage.STARTED_JOBS_FOLDER}:
                unfinished.add(table)
            if state != PackageStorage.NEW_JOBS_FOLDER or job.file_format in _FOLLOWUPS:
                begun.add(table)
            if state == PackageStorage.STARTED_JOBS_FOLDER and self._is_unknown(job):
                unknown.add(table)
        emptied = self._emptied()
        if begun and emptied and self._is_refreshed():
            return self.chains  # beginning again drops tables again
        return [
            chain
            for chain in self.chains
            if (tables := {*chain.names})
            and (
                unknown & tables
                or (chain.root in emptied and begun & tables and unfinished & tables)
            )
        ]

    @property
    def staged(self) -> tuple[str, ...]:
        """The outermost tables that are written to staging tables first."""
        client = self.client
        if not isinstance(client, WithStagingDataset):
            return ()
        roots = [chain.root for chain in self.chains]
        return tuple(root for root in roots if client.should_load_data_to_staging_dataset(root))

    @property
    def merged(self) -> tuple[str, ...]:
        """The outermost tables that no two loads may write to at once, whatever they write.

        Where staging tables are merged, each load deletes the rows that it is about to insert, and
        sees nothing of another one. Tables that are files with a log refuse one of two that write
        at once, and dlt merges what is nested apart from what it is nested in.
        """
        roots = [chain.root for chain in self.chains]
        return self.staged or tuple(each for each in roots if _dlt.table_format(self.client, each))

    def begin_again(self) -> None:
        """Let dlt prepare tables anew for what is left, as it does at the begin of a package."""
        done = self.path / PackageStorage.APPLIED_SCHEMA_UPDATES_FILE_NAME
        if done.exists() and self._emptied():
            done.rename(self.path / PackageStorage.SCHEMA_UPDATES_FILE_NAME)

    def _emptied(self) -> set[str]:
        roots = [chain.root for chain in self.chains]
        replaced = {root for root in roots if self.client.should_truncate_table_before_load(root)}
        # Only staging tables may have been lost; the others are emptied along with them.
        return replaced | set(self.staged) if self.staged else set()

    @property
    def refresh(self) -> TRefreshMode | None:
        """The refresh mode, if tables are dropped or emptied before it is loaded."""
        mode: TRefreshMode | None = self._packages.get_load_package_state(self.load_id).get(
            "refresh"
        )
        return mode

    def _is_refreshed(self) -> bool:
        state = self._packages.get_load_package_state(self.load_id)
        return bool(state.get("dropped_tables") or state.get("truncated_tables"))

    def _is_unknown(self, job: ParsedLoadJobFileName) -> bool:
        return self._packages.load_pending_transition(self.load_id, job.file_name()) is None

    def row_ids(self, table: str, among: Collection[str]) -> set[str]:
        """Return those of some rows' ids that are in the files of a table, in whatever format."""
        wanted, found = set(among), set[str]()
        odd = {each for each in wanted if not _ID.fullmatch(each)}
        for state, job in self._jobs():
            if job.table_name != table or job.file_format in _FOLLOWUPS:
                continue
            path = self.path / state / job.file_name()
            if job.file_format == "parquet":
                found |= wanted & self._ids_in_parquet(path)
                continue
            with FileStorage.open_zipsafe_ro(str(path), encoding="utf-8") as lines:
                for line in lines:
                    found |= wanted.intersection(_ID.findall(line))
                    found |= {each for each in odd if each in line}
        return found

    def _ids_in_parquet(self, path: Path) -> set[str]:
        from dlt.common.libs.pyarrow import pyarrow  # noqa: PLC0415 - is heavy

        row_id = _dlt.row_columns(self.schema)[0]
        return set(pyarrow.parquet.read_table(path, columns=[row_id])[row_id].to_pylist())

    def queue_again(self, chains: Sequence[Chain]) -> None:
        """Let all jobs of these chains run once more, as if they never had."""
        self._move(chains, PackageStorage.NEW_JOBS_FOLDER)

    def take_out(self, chains: Sequence[Chain]) -> None:
        """Let no job of these chains run, as if dlt had given them up."""
        self._move(chains, PackageStorage.FAILED_JOBS_FOLDER)

    def settle(self, table: str) -> None:
        """Let no job of one table run, because what it would do is done."""
        for state, job in self._jobs():
            if job.table_name == table and state != PackageStorage.COMPLETED_JOBS_FOLDER:
                name = job.file_name()
                self._packages.clear_pending_transition(self.load_id, name)
                (self.path / state / name).rename(
                    self.path / PackageStorage.COMPLETED_JOBS_FOLDER / name
                )

    def _move(self, chains: Sequence[Chain], folder: str) -> None:
        tables = {name for chain in chains for name in chain.names}
        # Those by which a process that comes after a crash sees what is left to do come last: jobs
        # that were started, and what dlt makes once all files of a chain are loaded, which must not
        # be there when they are to be loaded again. For the same reason a job's note is gone
        # before its file is.
        for state, job in sorted(self._jobs(), key=_tells_what_is_left):
            if job.table_name not in tables or state == PackageStorage.FAILED_JOBS_FOLDER:
                continue
            name = job.file_name()
            if job.file_format in _FOLLOWUPS:
                self._packages.clear_pending_transition(self.load_id, name)
                (self.path / state / name).unlink()
            elif state != folder:
                self._packages.clear_pending_transition(self.load_id, name)
                (self.path / state / name).rename(self.path / folder / name)

    def _jobs(self) -> Sequence[tuple[str, ParsedLoadJobFileName]]:
        return self._packages.list_all_jobs_with_states(self.load_id)

    @property
    def _packages(self) -> PackageStorage:
        return _dlt.normalized_packages(self.pipeline)


def _tells_what_is_left(item: tuple[str, ParsedLoadJobFileName]) -> bool:
    state, job = item
    return state == PackageStorage.STARTED_JOBS_FOLDER or job.file_format in _FOLLOWUPS
