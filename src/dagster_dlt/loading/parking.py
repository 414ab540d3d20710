"""Packages that wait behind a URL, so that another machine can finish them.

A room in which packages wait is *parked*: packed into an archive and uploaded. What becomes of it
is written down by objects with one ticket and ascending numbers:

    <url>/<pipeline>/<scope>-<ticket>-1.tar.gz   parked
                     <scope>-<ticket>-2.owner    a load has taken it, and finishes its packages
                     <scope>-<ticket>-3.tar.gz   they failed again, and are parked as they are now

The last number counts. An owner is written only where nobody has written that number, so that two
loads do not take the same room. When nothing waits in it any more, all its objects are removed.
"""

import json
import logging
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

import fsspec  # type: ignore[import-untyped] # fsspec has no annotations
from fsspec.core import url_to_fs  # type: ignore[import-untyped] # as above
from fsspec.implementations.local import (  # type: ignore[import-untyped] # as above
    LocalFileSystem,
)
from fsspec.utils import get_protocol  # type: ignore[import-untyped] # as above

from dagster_dlt import _dlt
from dagster_dlt.errors import ParkingError, WorkspaceProtocolError
from dagster_dlt.loading.archive import MARKER, UNREADABLE, create, pack, unpack
from dagster_dlt.loading.workspace import RETENTION, Scope, Workspace, claim

#: Seconds after which a load that has taken a room is held for dead: longer than any load lasts.
LEASE: Final = 12 * 3600

# Expired objects that one load removes.
_REMOVED_AT_ONCE = 100
# Of the folders in a workspace that are no rooms.
_HIDDEN = ".parking-"
# Here an upload is seen whole or not at all. Folders need not be made, and making one may create
# a bucket.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "tos"})
_SINCE = "%Y%m%dT%H%M%SZ"
_OBJECT = re.compile(
    r"(?P<ticket>(?P<scope>[0-9a-f]+)-(?P<since>\d{8}T\d{6}Z)-[0-9a-f]{8})"
    r"-(?P<number>\d+)\.(?P<kind>tar\.gz|owner|part)"
)


@dataclass(frozen=True)
class _Object:
    name: str
    ticket: str
    scope: str
    #: When the room was parked first.
    since: str
    number: int
    kind: str

    @classmethod
    def of(cls, name: str) -> "_Object | None":
        found = _OBJECT.fullmatch(name)
        if found is None:
            return None
        number = int(found["number"])
        return cls(name, found["ticket"], found["scope"], found["since"], number, found["kind"])


@dataclass(frozen=True)
class _Parked:
    """A parked room: its objects, in the order of their numbers."""

    ticket: str
    objects: tuple[_Object, ...] = ()

    @property
    def number(self) -> int:
        return self.objects[-1].number if self.objects else 0

    @property
    def owner(self) -> _Object | None:
        """Who has taken it, if somebody has."""
        return self.objects[-1] if self.objects and self.objects[-1].kind == "owner" else None

    @property
    def archive(self) -> _Object | None:
        return next((each for each in reversed(self.objects) if each.kind == "tar.gz"), None)


@dataclass(frozen=True)
class _Owner:
    """What an owner writes about itself."""

    id: str
    host: str
    since: float

    @property
    def is_dead(self) -> bool:
        return time.time() - self.since > LEASE

    def __str__(self) -> str:
        return f"a load on {self.host}, since {datetime.fromtimestamp(self.since, timezone.utc)}"


@dataclass(frozen=True)
class _Marker:
    """What a room on the disk knows of itself as a parked one."""

    #: Where it is parked, without the secrets of the URL.
    url: str
    ticket: str
    #: Number of the archive that has the same content.
    number: int
    #: By which the load that works in the room knows itself as the owner.
    owner: str = ""
    #: False from before the upload until it is known to have succeeded.
    uploaded: bool = True

    @classmethod
    def of(cls, room: Path) -> "_Marker | None":
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((room / MARKER).read_text(encoding="utf-8")))
        return None

    def write(self, room: Path) -> None:
        (room / MARKER).unlink(missing_ok=True)
        with create(room / MARKER) as file:
            file.write(json.dumps(asdict(self)).encode())


@dataclass(frozen=True)
class Parking:
    """A place behind an fsspec URL, with the objects of all pipelines in it.

    Credentials and options come from the environment and from fsspec's own configuration.
    """

    url: str

    @classmethod
    def at(cls, url: str) -> "Parking":
        """Return the place behind `url`; opens no connection.

        Raises:
            WorkspaceProtocolError: the filesystem of the URL is unknown, or not installed.
        """
        protocol = get_protocol(url)
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            known = fsspec.available_protocols()
            raise WorkspaceProtocolError(protocol, str(error), known) from error
        return cls(url)

    @property
    def shown(self) -> str:
        """The URL without user, password and query."""
        without_user = re.sub(r"://.*@", "://", self.url)
        return re.split(r"[?#]", without_user, maxsplit=1)[0].rstrip("/")

    def told(self, error: BaseException) -> str:
        """Return the text of `error` without what the URL must not tell."""
        text = f"{type(error).__name__}: {error}"
        user = re.search(r"://(.*)@", self.url)
        query = re.search(r"[?#](.*)", self.url)
        password = user[1].partition(":")[2] if user else ""
        for secret in (self.url, user and user[1], password, unquote(password), query and query[1]):
            text = text.replace(secret, "***") if secret else text
        return text.rstrip(".")

    def objects(self, pipeline: str) -> list[_Object]:
        """Return the objects of a pipeline."""
        self._fs.invalidate_cache()
        try:
            paths = self._fs.ls(self._path(pipeline), detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in paths)
        return [found for name in names if (found := _Object.of(name))]

    def archives(self, scope: Scope) -> list[str]:
        """Return the names of the archives of a scope; takes none.

        Raises:
            ParkingError: the place cannot be read.
        """
        try:
            found = self.objects(scope.pipeline)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            problem = f"cannot be read ({self.told(error)})"
            remedy = "Check the URL, and the credentials in the environment"
            raise ParkingError(self.shown, problem, remedy) from None
        return [each.name for each in found if (each.scope, each.kind) == (scope.folder, "tar.gz")]

    def take(self, pipeline: str, parked: _Parked, owner: str) -> _Parked | None:
        """Become the owner of a parked room; return None if another load was faster.

        What was written is read again: the answer to a request that succeeded may be lost, and
        not every filesystem can refuse to write over what is there.
        """
        name = f"{parked.ticket}-{parked.number + 1}.owner"
        path = self._path(pipeline, name)
        written = _Owner(owner, socket.gethostname(), time.time())
        try:
            self._create(path, json.dumps(asdict(written)).encode())
        except OSError:
            if self._read(path) is None:
                raise
        mark = _Object(name, parked.ticket, "", "", parked.number + 1, "owner")
        found = self.owner(pipeline, mark)
        if found is None or found.id != owner:
            return None
        return replace(parked, objects=(*parked.objects, mark))

    def owner(self, pipeline: str, mark: _Object) -> _Owner | None:
        """Return what the owner wrote, or None if it is just writing it."""
        with suppress(ValueError, TypeError):
            return _Owner(**json.loads(self._read(self._path(pipeline, mark.name)) or b""))
        return None

    def upload(self, pipeline: str, archive: Path, name: str) -> str:
        """Put an archive where nobody sees half of it; return its URL."""
        path = self._path(pipeline, name)
        if _OBJECT_STORES.intersection(_protocols(self._fs)):
            self._fs.put_file(str(archive), path)
        else:
            self._make_folder(pipeline)
            part = f"{path.removesuffix('.tar.gz')}.part"
            if isinstance(self._fs, LocalFileSystem):
                Path(part).touch(mode=0o600)
            self._fs.put_file(str(archive), part)
            self._fs.mv(part, path)
        return f"{self.shown}/{pipeline}/{name}"

    def download(self, pipeline: str, name: str, archive: Path) -> None:
        """Fetch an archive into a new file."""
        archive.touch(mode=0o600, exist_ok=False)
        self._fs.get_file(self._path(pipeline, name), str(archive))

    def remove(self, pipeline: str, objects: Iterable[_Object]) -> None:
        """Remove objects: owners last, since an archive without one is free to be taken."""
        for each in sorted(objects, key=lambda each: each.kind == "owner"):
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._path(pipeline, each.name))

    def _read(self, path: str) -> bytes | None:
        # Reading too asks the listing that a filesystem remembers whether there is a file.
        self._fs.invalidate_cache()
        with suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(path))
        return None

    def _create(self, path: str, content: bytes) -> None:
        if isinstance(self._fs, LocalFileSystem):
            with create(Path(path)) as file:
                file.write(content)
        else:
            self._fs.pipe_file(path, content, mode="create")

    def _make_folder(self, pipeline: str) -> None:
        path = self._path(pipeline)
        if isinstance(self._fs, LocalFileSystem):
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            self._fs.makedirs(path, exist_ok=True)

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *names))

    @cached_property
    def _fs(self) -> Any:  # noqa: ANN401 - fsspec has no annotations
        return url_to_fs(self.url)[0]

    @cached_property
    def _root(self) -> str:
        return str(url_to_fs(self.url)[1]).rstrip("/")


@contextmanager
def claim_parked(
    base: Path, scope: Scope, parking: Parking, log: logging.Logger
) -> Iterator[Workspace]:
    """Hold a workspace as `claim` does, with the rooms of `scope` that are parked.

    When the block is left, rooms in which packages wait are parked, and what was parked of the
    others is removed.

    Args:
        base: Directory of the workspaces.
        scope: What the load is about.
        parking: Where rooms are parked.
        log: Where to say what is fetched and parked.

    Raises:
        ParkingError: the place cannot be read, or what was finished cannot be removed from it.
    """
    with claim(base, scope) as workspace:
        stay = _Stay(parking, scope, workspace, log)
        stay.arrive()
        try:
            yield workspace
        except BaseException:
            stay.depart(failing=True)
            raise
        stay.depart(failing=False)


@dataclass
class _Stay:
    """One load with its workspace, and what of it is parked."""

    parking: Parking
    scope: Scope
    workspace: Workspace
    log: logging.Logger
    #: What this load owns, by the room it works in.
    held: dict[Path, _Parked] = field(default_factory=dict)

    def arrive(self) -> None:
        """Take what is parked: the room on this disk if it is the same, or else the archive.

        Raises:
            ParkingError: the place cannot be read. Nothing is taken then.
        """
        for left in self.workspace.path.glob(f"{_HIDDEN}*"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            parked = self._parked()
            for room in self.workspace.rooms():
                marker = _Marker.of(room)
                if marker and marker.url == self.parking.shown:
                    self._settle(room, marker, parked)
            for each in parked.values():
                self._fetch(each)
        except BaseException as error:
            for taken in self.held.values():
                self._let_go(taken)
            if not isinstance(error, Exception):
                raise
            problem = f"cannot be read ({self.parking.told(error)})"
            remedy = "Check the URL, and the credentials in the environment"
            # Without the chain: what a driver says may hold the URL with its password.
            raise ParkingError(self.parking.shown, problem, remedy) from None

    def depart(self, *, failing: bool) -> None:
        """Park the rooms in which packages wait; remove what was parked of the others.

        Args:
            failing: An error is under way, which no other one shall hide.
        """
        name = self.scope.pipeline
        waiting = {room for room in self.workspace.rooms() if _dlt.has_packages(room, name)}
        for room in sorted(waiting):
            self._park(room)
        for room, parked in self.held.items():
            if room not in waiting:
                # What waits is a failure too: it is raised once the workspace is left.
                self._remove(parked, failing=failing or bool(waiting))

    def _parked(self) -> dict[str, _Parked]:
        """Return what is parked of the scope by ticket, without what is too old, which goes."""
        oldest = _stamp(time.time() - RETENTION)
        objects = self.parking.objects(self.scope.pipeline)
        with suppress(Exception):  # the next load tries again
            old = [each for each in objects if each.since < oldest]
            self.parking.remove(self.scope.pipeline, old[:_REMOVED_AT_ONCE])
        found: dict[str, _Parked] = {}
        for each in sorted(objects, key=lambda each: each.number):
            if each.scope == self.scope.folder and each.since >= oldest and each.kind != "part":
                before = found.get(each.ticket, _Parked(each.ticket))
                found[each.ticket] = replace(before, objects=(*before.objects, each))
        return found

    def _settle(self, room: Path, marker: _Marker, parked: dict[str, _Parked]) -> None:
        """Decide between a room on the disk and what is parked of it; leave one of them."""
        there = parked.get(marker.ticket)
        if there is None and not marker.uploaded and not marker.owner:
            return  # it never arrived there
        if there and self._hold(room, marker, there):
            del parked[marker.ticket]
            return
        self.log.info(
            "Packages in %s were parked, and have been taken by another machine. "
            "The copy on this one is removed.",
            room,
        )
        self.workspace.clear(room)

    def _hold(self, room: Path, marker: _Marker, there: _Parked) -> bool:
        """Become, or still be, the owner of what is parked of `room`, if it is the same."""
        if there.owner:
            owner = self.parking.owner(self.scope.pipeline, there.owner)
            if owner is None or owner.id != marker.owner:
                return False
            self.held[room] = there
            return True
        if there.number != marker.number:
            return False
        # Written first, so that who is killed in between still knows itself as the owner.
        mine = replace(marker, owner=uuid4().hex, uploaded=True)
        mine.write(room)
        taken = self.parking.take(self.scope.pipeline, there, mine.owner)
        if taken:
            self.held[room] = taken
        return taken is not None

    def _fetch(self, there: _Parked) -> None:
        """Fetch a parked room, unless another load has it."""
        pipeline, archive = self.scope.pipeline, there.archive
        if archive is None:
            return
        if there.owner:
            owner = self.parking.owner(pipeline, there.owner)
            if owner is None or not owner.is_dead:
                self.log.info("Parked %s is left to %s.", archive.name, owner or "another load")
                return
        marker = _Marker(self.parking.shown, there.ticket, archive.number, uuid4().hex)
        taken = self.parking.take(pipeline, there, marker.owner)
        if taken is None:
            return
        room = self.workspace.path / f"parked-{there.ticket[-8:]}"
        try:
            self._unpack(archive, marker, room)
        except UNREADABLE as error:
            # It stays taken: the next load would not fare better.
            self.log.error(  # noqa: TRY400 - what is wrong is with the archive
                "Parked %s cannot be unpacked (%s) and is left where it is. "
                "Rows of it that were already loaded stay at the destination.",
                archive.name,
                error,
            )
            return
        except BaseException as error:
            self._let_go(taken)
            if isinstance(error, FileNotFoundError):
                return  # another load has finished it since it was listed
            raise
        self.held[room] = taken
        self.log.info("Fetched %s/%s/%s.", self.parking.shown, pipeline, archive.name)

    def _let_go(self, taken: _Parked) -> None:
        """Take back the owner, where nothing was done with the room yet."""
        with suppress(Exception):  # what failed before may fail again; the owner ends by itself
            self.parking.remove(self.scope.pipeline, taken.objects[-1:])

    def _unpack(self, archive: _Object, marker: _Marker, room: Path) -> None:
        """Make a room of an archive, all of it or nothing."""
        with TemporaryDirectory(prefix=_HIDDEN, dir=self.workspace.path) as folder:
            packed, unpacked = Path(folder) / "archive", Path(folder) / "room"
            self.parking.download(self.scope.pipeline, archive.name, packed)
            unpack(packed, unpacked)
            marker.write(unpacked)
            unpacked.rename(room)

    def _park(self, room: Path) -> None:
        pipeline, before = self.scope.pipeline, self.held.get(room)
        ticket = before.ticket if before else self._new_ticket()
        number = before.number + 1 if before else 1
        known = _Marker.of(room) if before else None
        marker = _Marker(self.parking.shown, ticket, number, known.owner if known else "")
        try:
            # Who is killed during the upload cannot know whether it succeeded.
            replace(marker, uploaded=False).write(room)
            with TemporaryDirectory(prefix=_HIDDEN, dir=self.workspace.path) as folder:
                packed = Path(folder) / "archive"
                pack(room, packed)
                url = self.parking.upload(pipeline, packed, f"{ticket}-{number}.tar.gz")
            marker.write(room)
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            self.log.error(  # noqa: TRY400 - the trace may hold the URL with its password
                "Packages in %s cannot be parked at %s (%s). Only this disk has them.",
                room,
                self.parking.shown,
                self.parking.told(error),
            )
            return
        self.workspace.parked.append(url)
        self.log.info("Parked what waits in %s as %s.", room, url)
        if before:
            with suppress(Exception):  # the highest number counts
                self.parking.remove(pipeline, before.objects)

    def _remove(self, parked: _Parked, *, failing: bool) -> None:
        try:
            self.parking.remove(self.scope.pipeline, parked.objects)
        except Exception as error:  # noqa: BLE001 - as above
            problem = f"have been dealt with, but cannot be removed ({self.parking.told(error)})"
            remedy = (
                f"Remove '{self.scope.pipeline}/{parked.ticket}*' there by hand, or another "
                "machine may load it again"
            )
            failure = ParkingError(self.parking.shown, problem, remedy)
            if not failing:
                raise failure from None
            self.log.error("%s", failure)  # noqa: TRY400 - as above

    def _new_ticket(self) -> str:
        return f"{self.scope.folder}-{_stamp(time.time())}-{uuid4().hex[:8]}"


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime(_SINCE)


def _protocols(fs: Any) -> tuple[str, ...]:  # noqa: ANN401 - fsspec has no annotations
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
