"""Load packages that wait on this disk, for an operator who wants them loaded, or gone."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import time
from typing import Final, Literal

from dlt.common.storages.load_package import PackageStorage
from dlt.extract import DltSource
from typing_extensions import override

from dagster_dlt import _dlt
from dagster_dlt._facts import ResourceFailure
from dagster_dlt.errors import RefusedError, ResourcesFailedError
from dagster_dlt.loading.entry import Entry, Loader
from dagster_dlt.loading.plan import Plan
from dagster_dlt.loading.run import finish
from dagster_dlt.loading.site import Site
from dagster_dlt.loading.workspace import Origin, Workspace, origin_of, take, workspaces

#: What stands in the ledger for a run where it is not known.
UNKNOWN_RUN: Final = "unknown"

#: How far a package has come.
Stage = Literal["extracted", "normalized", "partly loaded"]
#: What became of a package that was resumed or aborted.
Fate = Literal["loaded", "aborted", "pending"]


@dataclass(frozen=True)
class Waiting:
    """A load package that waits to be loaded."""

    load_id: str
    stage: Stage
    tables: tuple[str, ...]
    resources: frozenset[str]
    #: dlt's `pipelines_dir`, which the package is in.
    room: Path

    @property
    def extracted_at(self) -> float:
        """When it was begun, in seconds since 1970."""
        return float(self.load_id)


@dataclass(frozen=True)
class Left:
    """A workspace in which packages wait."""

    path: Path
    pipeline: str
    waiting: tuple[Waiting, ...]
    #: What it says of the load that left it.
    origin: Origin | None
    #: Whether its packages are for the destination and dataset that the pipeline has.
    fits: bool
    #: It keeps the pipeline's state too, between runs.
    permanent: bool = False

    @property
    def name(self) -> str:
        """What the workspace is called by."""
        return self.path.name

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Hold it, if no load does; tell whether it is held now."""
        with take(self.path, self.pipeline if self.permanent else None) as free:
            yield free

    @property
    def is_busy(self) -> bool:
        """Whether a load holds it at this moment, so that its packages are in work."""
        with self.taken() as free:
            return not free


def left_behind(site: Site) -> list[Left]:
    """Return the workspaces of the pipeline on this disk in which packages wait."""
    found: list[Left] = []
    for path in workspaces(site.base, site.name):
        origin = origin_of(path)
        fits = origin is not None and origin.place == site.scope.place
        waiting = [each for room in Workspace(path).rooms() for each in _waiting(room, site.name)]
        found.append(Left(path, site.name, tuple(waiting), origin, fits))
    permanent = site.own_dir if site.home.in_working_dir else site.state_dir
    if permanent is not None:
        waiting = _waiting(permanent, site.name)
        found.append(Left(permanent, site.name, tuple(waiting), None, fits=True, permanent=True))
    return [left for left in found if left.waiting]


def _waiting(room: Path, pipeline: str) -> list[Waiting]:
    extracted, normalized, _ = _dlt.stores_below(room / pipeline)
    found: dict[str, Waiting] = {}
    for store in (extracted, normalized):
        with suppress(FileNotFoundError):  # nothing is there, or a load has moved on meanwhile
            for load_id in store.list_packages():
                found[load_id] = _package(store, load_id, room)
    return [found[load_id] for load_id in sorted(found)]


def _package(store: PackageStorage, load_id: str, room: Path) -> Waiting:
    jobs, schema = store.list_all_jobs_with_states(load_id), store.load_schema(load_id)
    tables = {job.table_name for _, job in jobs} - {schema.state_table_name}
    sent = {PackageStorage.STARTED_JOBS_FOLDER, PackageStorage.COMPLETED_JOBS_FOLDER}
    stage: Stage = "extracted" if store.initial_state == "extracted" else "normalized"
    return Waiting(
        load_id=load_id,
        stage="partly loaded" if any(state in sent for state, _ in jobs) else stage,
        tables=tuple(sorted(tables)),
        resources=frozenset(filter(None, (_dlt.resource_of(schema, name) for name in tables))),
        room=room,
    )


@dataclass
class _OneRoom(Workspace):
    """One room of a workspace, with what became of the packages in it."""

    pipeline: str = ""
    only: Path = Path()
    completed: dict[str, Fate] = field(default_factory=dict)

    @override
    def rooms(self) -> list[Path]:
        return [self.only] if self.only.is_dir() else []

    @override
    def clear(self, room: Path) -> None:
        _, _, store = _dlt.stores_below(room / self.pipeline)
        with suppress(FileNotFoundError):  # dlt has completed none
            for load_id in store.list_packages():
                state = store.get_load_package_info(load_id).state
                self.completed[load_id] = "loaded" if state == "loaded" else "aborted"
        super().clear(room)


def resume(
    site: Site, left: Left, packages: Collection[Waiting], source: DltSource | None
) -> dict[str, Fate]:
    """Load packages of a workspace, as the next run of their step would.

    Args:
        site: The pipeline.
        left: The workspace.
        packages: Those to be loaded; what waits in the same room with them is loaded too.
        source: The source they were extracted from, where it is known.

    Returns:
        What became of each.

    Raises:
        RefusedError: a load holds the workspace, or it is for another destination.
        ResourcesFailedError: not everything was loaded.
    """
    return _deal_with(site, left, packages, source, "resume")


def abort(site: Site, left: Left, packages: Collection[Waiting]) -> dict[str, Fate]:
    """Throw packages of a workspace away, and take back what they have loaded in part.

    Args:
        site: The pipeline.
        left: The workspace.
        packages: Those to be aborted; what waits in the same room with them is aborted too.

    Returns:
        What became of each.

    Raises:
        RefusedError: a load holds the workspace, or it is for another destination.
    """
    # Read first, so that nothing is thrown away when the destination does not answer.
    known = {entry.load_id: entry for entry in site.entries}
    fates = _deal_with(site, left, packages, None, "abort")
    for package in packages:
        if site.ledger is None or fates[package.load_id] != "aborted":
            continue
        entry = known.get(package.load_id)
        if entry is None:
            noted = replace(_entry(site, left, package), status="undone")
            site.ledger.write(noted)
        elif entry.status == "loading" and site.ledger.rows:
            site.ledger.rows.take_back(entry)
        elif entry.status == "loading":
            site.ledger.remove(entry)
    return fates


def _entry(site: Site, left: Left, package: Waiting) -> Entry:
    now = time()
    return Entry(
        load_id=package.load_id,
        pipeline=site.name,
        loader=_loader(left),
        resources=tuple(sorted(package.resources)),
        started_at=now,
        beat_at=now,
    )


def _loader(left: Left, entry: Entry | None = None) -> Loader:
    """Return who is to be noted: whom the package belongs to, so that a retry finds it loaded."""
    if entry is not None:
        return entry.loader
    if left.origin is None:
        return Loader(UNKNOWN_RUN, UNKNOWN_RUN)
    run_id = left.origin.run_id or UNKNOWN_RUN
    return Loader(run_id, left.origin.step, partition=left.origin.partition)


def _deal_with(
    site: Site,
    left: Left,
    packages: Collection[Waiting],
    source: DltSource | None,
    how: Literal["resume", "abort"],
) -> dict[str, Fate]:
    if not left.fits:
        raise _elsewhere(left)
    fates: dict[str, Fate] = {}
    failures: list[ResourceFailure] = []
    with left.taken() as free, site.quiet() as pipeline:
        if not free:
            raise _held(left)
        known = {entry.load_id: entry for entry in site.entries}
        for room in sorted({package.room for package in packages}):
            ids = [package.load_id for package in packages if package.room == room]
            plan = Plan(
                given=pipeline,
                source=source or _dlt.no_source(),
                options={},
                loader=_loader(left, known.get(min(ids))),
                on_pending=how,
            )
            workspace = _OneRoom(left.path, left.permanent, pipeline=site.name, only=room)
            failures += finish(
                plan,
                workspace,
                report=partial(site.log.info, "%s"),
                log=site.log,
                turn=site.turn,
                ledger=site.ledger,
            )
            workspace.leave()
            still = {package.load_id for package in _waiting(room, site.name)}
            # dlt deletes without a note what it never began to load.
            gone = workspace.completed
            fates |= {
                each: "pending" if each in still else gone.get(each, "aborted") for each in ids
            }
    if failures:
        raise ResourcesFailedError(site.name, failures) from failures[0].error
    return fates


def refuse(left: Left) -> None:
    """Refuse to touch what is in a workspace, where that would not be safe.

    Raises:
        RefusedError: a load holds the workspace, or it is for another destination.
    """
    if not left.fits:
        raise _elsewhere(left)
    if left.is_busy:
        raise _held(left)


def _elsewhere(left: Left) -> RefusedError:
    return RefusedError(
        f"Workspace {left.name!r} of pipeline {left.pipeline!r}",
        "has packages for another destination or dataset than the pipeline's",
        "Choose, or define, a pipeline that has theirs",
    )


def _held(left: Left) -> RefusedError:
    subject = f"Workspace {left.name!r} of pipeline {left.pipeline!r}"
    return RefusedError(subject, "is held by a load", "Wait until it is over")


def of_resources(lefts: Sequence[Left], resources: Collection[str]) -> list[Waiting]:
    """Return the packages that fit the pipeline and hold rows of some resources."""
    wanted = set(resources)
    return [each for left in lefts if left.fits for each in left.waiting if wanted & each.resources]
