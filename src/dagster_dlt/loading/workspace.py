"""The private working directory of one load: its place, its lock and its end.

dlt has no lock of its own: two processes in one working directory load every file twice.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

#: Seconds after which the directory of a failed load is removed: a week.
RETENTION: Final = 7 * 24 * 3600


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


@dataclass
class Workspace:
    """A directory that one load holds, with a room for each package that is built by itself.

    A room is what dlt calls a `pipelines_dir`.
    """

    path: Path
    #: Where the disk alone keeps the state there is one room, which is never removed.
    permanent: bool = False
    _kept: set[Path] = field(default_factory=set)

    def room(self, name: str = "") -> Path:
        """Return the room of this name, whether it is there already or not."""
        if self.permanent:
            return self.path
        return self.path / (_digest(name, length=8) if name else "all")

    def rooms(self) -> list[Path]:
        """Return the rooms that are there."""
        return [self.path] if self.permanent else sorted(_folders(self.path))

    def keep(self, room: Path) -> None:
        """Leave the room behind, because a package in it waits to be finished."""
        self._kept.add(room)

    def clear(self, room: Path) -> None:
        """Remove a room in which nothing waits, with the state that a dead load left in it."""
        if not self.permanent:
            shutil.rmtree(room, ignore_errors=True)

    def leave(self) -> None:
        """Remove what is not kept."""
        if self.permanent:
            return
        for room in self.rooms():
            if room not in self._kept:
                self.clear(room)
        with suppress(OSError):  # something is left in it
            self.path.rmdir()


@contextmanager
def claim(base: Path, scope: Scope) -> Iterator[Workspace]:
    """Hold the workspace of `scope`, or a numbered sibling of it while that one is busy.

    What dead processes left in siblings is moved over, so that this load finishes it. When an
    error leaves the block nothing is removed: what was built is there for the next attempt.
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
    _make(path)
    lock = FileLock(path / f"{pipeline}.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield Workspace(path, permanent=True)
    finally:
        lock.release()


def adopt_state(old: Path, new: Path) -> None:
    """Take over, once, the cursors and schemas that dlt keeps in its own working directory."""
    if new.exists() or not (old / "state.json").is_file():
        return
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
    for path in _folders(parent):
        if path.name.startswith("state-"):
            continue
        with suppress(OSError), _if_free(path) as free:
            if free and path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _if_free(path: Path) -> Iterator[bool]:
    """Hold the lock of a directory if nobody else does; remove the lock with the directory."""
    lock = FileLock(f"{path}.lock", mode=0o600)
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


def _folders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()]


def _make(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


def _digest(text: str, *, length: int) -> str:
    return sha256(text.encode()).hexdigest()[:length]
