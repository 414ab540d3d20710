"""The private working directory of one load: its place, its lock and its end.

dlt has no lock of its own: two processes in one working directory load every file twice.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, field, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final
from uuid import uuid4

from filelock import FileLock, Timeout

from dagster_dlt.errors import PackagesLeftBehindError
from dagster_dlt.loading.lock import acquire

#: Seconds after which the directory of a failed load is removed: a week.
RETENTION: Final = 7 * 24 * 3600
#: Folder of the workspaces, below dlt's own directory of pipelines.
FOLDER: Final = ".dagster"
#: File in a workspace that says what it is about.
_ABOUT: Final = "about.json"
#: How the names of directories begin that are being removed.
_GONE: Final = ".gone-"
#: How the names of directories begin that keep state between runs.
_STATE: Final = "state-"


@dataclass(frozen=True)
class Scope:
    """What a load is about. Loads of different scopes never see each other's packages.

    Destination and dataset are part of it: otherwise a package that was left pending for a
    development dataset would be loaded into production.
    """

    pipeline: str
    destination: str
    dataset: str | None
    step: str
    partition: str | None = None

    @property
    def folder(self) -> str:
        """A name that is the same for the same scope, in every process and on every machine."""
        return _digest("\0".join(map(repr, astuple(self))), length=12)

    @property
    def state_folder(self) -> str:
        """Name of the directory of the state, where only a disk keeps it."""
        return f"{_STATE}{replace(self, step='state', partition=None).folder}"

    @property
    def place(self) -> str:
        """What tells the destination and dataset from others, without a word of either."""
        return _digest(repr((self.destination, self.dataset)), length=12)


@dataclass(frozen=True)
class Origin:
    """What a workspace says of the load that it was left by."""

    place: str
    dataset: str | None
    step: str
    partition: str | None
    #: The last Dagster run that held it.
    run_id: str


@dataclass
class Workspace:
    """A directory that one load holds, with a room for each package that is built by itself.

    A room is what dlt calls a `pipelines_dir`.
    """

    path: Path
    #: Where the disk alone keeps the state there is one room, which is never removed.
    permanent: bool = False
    #: URLs of the archives that this load has parked.
    parked: list[str] = field(default_factory=list)
    _kept: set[Path] = field(default_factory=set)

    def room(self, name: str = "") -> Path:
        """Return the room of this name, whether it is there already or not."""
        if self.permanent:
            return self.path
        return self.path / (_digest(name, length=8) if name else "all")

    def rooms(self) -> list[Path]:
        """Return the rooms that are there."""
        return [self.path] if self.permanent else sorted(_folders(self.path))

    @property
    def apart(self) -> bool:
        """Whether the last load found out that its resources had better be loaded apart."""
        return self._apart.exists()

    @apart.setter
    def apart(self, value: bool) -> None:
        if value and not self.permanent:
            self._apart.touch(mode=0o600)
        else:
            self._apart.unlink(missing_ok=True)

    @property
    def _apart(self) -> Path:
        return self.path.with_name(f"{self.path.name.partition('.')[0]}.apart")

    def keep(self, room: Path) -> None:
        """Leave the room behind, because a package in it waits to be finished."""
        self._kept.add(room)

    def clear(self, room: Path) -> None:
        """Remove a room in which nothing waits, with the state that a dead load left in it."""
        if not self.permanent:
            _discard(room)

    def leave(self) -> None:
        """Remove what is not kept."""
        if self.permanent:
            return
        for room in self.rooms():
            if room not in self._kept:
                self.clear(room)
        if not _folders(self.path):
            (self.path / _ABOUT).unlink(missing_ok=True)
        with suppress(OSError):  # something is left in it
            self.path.rmdir()


@contextmanager
def claim(base: Path, scope: Scope, run_id: str = "") -> Iterator[Workspace]:
    """Hold the workspace of `scope`, or a numbered sibling of it while that one is busy.

    What dead processes left in siblings is moved over, so that this load finishes it. When an
    error leaves the block nothing is removed: what was built is there for the next attempt.

    Args:
        base: Directory of the workspaces.
        scope: What the load is about.
        run_id: The Dagster run, for whoever finds the workspace afterwards.
    """
    parent = base / scope.pipeline
    _make(parent)
    _remove_old(parent)
    for number in count():
        path = parent / (f"{scope.folder}.{number}" if number else scope.folder)
        with _if_free(path) as free:
            if not free:
                continue
            _make(path)
            _sweep(path)
            about = Origin(scope.place, scope.dataset, scope.step, scope.partition, run_id)
            (path / _ABOUT).touch(mode=0o600)
            (path / _ABOUT).write_text(json.dumps(asdict(about)), encoding="utf-8")
            _adopt_siblings(parent, scope, path)
            workspace = Workspace(path)
            yield workspace
            workspace.leave()
        return


@contextmanager
def claim_permanent(path: Path, pipeline: str, on_wait: Callable[[], None]) -> Iterator[Workspace]:
    """Hold a directory that keeps state between runs; wait while another load holds it.

    Args:
        path: The directory.
        pipeline: Name of the pipeline whose state is in it.
        on_wait: Called once, before waiting.
    """
    if not path.is_dir():  # dlt's own directory stays as it is
        _make(path)
    lock = FileLock(path / f"{pipeline}.lock", mode=0o600)
    acquire(lock, on_wait)
    try:
        yield Workspace(path, permanent=True)
    finally:
        lock.release()


@contextmanager
def take(path: Path, permanent_of: str | None = None) -> Iterator[bool]:
    """Hold a workspace that is there, if no load does; tell whether it is held now.

    Args:
        path: The directory.
        permanent_of: Name of the pipeline whose state is kept in it, if one's is.
    """
    with _if_free(path, path / f"{permanent_of}.lock" if permanent_of else None) as free:
        yield free


def origin_of(path: Path) -> Origin | None:
    """Return what a workspace says of the load that left it, if it does."""
    try:
        return Origin(**json.loads((path / _ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def workspaces(base: Path, pipeline: str) -> list[Path]:
    """Return the private workspaces of a pipeline that are there."""
    parent = base / pipeline
    if not parent.is_dir():
        return []
    return sorted(path for path in _folders(parent) if not path.name.startswith(_STATE))


def adopt_state(old: Path, new: Path) -> None:
    """Take over, once, the cursors and schemas that dlt keeps in its own working directory.

    Raises:
        PackagesLeftBehindError: packages are pending there, whose rows the cursors have passed.
    """
    if new.exists() or not (old / "state.json").is_file():
        return
    pending = sorted(
        package.name
        for folder in (old / "normalize" / "extracted", old / "load" / "normalized")
        if folder.is_dir()
        for package in _folders(folder)
    )
    if pending:
        raise PackagesLeftBehindError(old.name, pending, str(old.parent))
    _make(new)
    shutil.copy2(old / "state.json", new / "state.json")
    if (old / "schemas").is_dir():
        shutil.copytree(old / "schemas", new / "schemas")


def _adopt_siblings(parent: Path, scope: Scope, path: Path) -> None:
    for sibling in _folders(parent):
        if sibling == path or sibling.name.partition(".")[0] != scope.folder:
            continue
        with _if_free(sibling) as free:
            if free:
                origin = sibling.suffix.lstrip(".") or "0"
                for room in _folders(sibling):
                    room.rename(path / f"{room.name}-{origin}")
                shutil.rmtree(sibling, ignore_errors=True)


def _remove_old(parent: Path) -> None:
    oldest = time.time() - RETENTION
    _sweep(parent)
    for path in _folders(parent):
        if path.name.startswith(_STATE):
            continue
        with suppress(OSError), _if_free(path) as free:
            if free and path.stat().st_mtime < oldest:
                _discard(path)


@contextmanager
def _if_free(path: Path, file: Path | None = None) -> Iterator[bool]:
    """Hold the lock of a directory if nobody else does; remove the lock with the directory."""
    lock = FileLock(file or f"{path}.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        if not path.exists():
            # Removed while it is held: whoever opened it meanwhile sees that it is gone.
            with suppress(OSError):
                Path(lock.lock_file).unlink()
        lock.release()


def _discard(folder: Path) -> None:
    """Remove a folder such that no half of it is found when this process dies meanwhile."""
    gone = folder.with_name(f"{_GONE}{uuid4().hex}")
    with suppress(OSError):  # it is not there
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove what is left of folders whose removal was begun."""
    for gone in path.glob(f"{_GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)


def _folders(path: Path) -> list[Path]:
    """Return the folders in `path` but for hidden ones, in which rooms are packed and unpacked."""
    return [entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."]


def _make(path: Path) -> None:
    """Create a directory, and what is missing above it, that only its owner can look into."""
    if not path.parent.is_dir():
        _make(path.parent)
    path.mkdir(exist_ok=True, mode=0o700)
    if path.stat().st_mode & 0o077:
        # It was there before, or takes the rights of the directory it is in.
        path.chmod(0o700)


def _digest(text: str, *, length: int) -> str:
    return sha256(text.encode()).hexdigest()[:length]
