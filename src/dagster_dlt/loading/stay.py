"""One load with its workspace, and the rooms of it that are parked.

A room in which packages wait is *parked*: packed into an archive and uploaded. The next load of the
scope takes it, on any machine. An owner is written only where nobody has written its number, so
that two loads do not take the same room. When nothing waits in it any more, all its objects are
removed.
"""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

from dagster_dlt import _dlt
from dagster_dlt.errors import ParkingError
from dagster_dlt.loading.archive import UNREADABLE, pack, unpack
from dagster_dlt.loading.marker import Marker
from dagster_dlt.loading.parked import Parked, Piece, new_ticket, stamp
from dagster_dlt.loading.parking import Parking
from dagster_dlt.loading.workspace import RETENTION, Scope, Workspace, claim

# Expired objects that one load removes.
_REMOVED_AT_ONCE: Final = 100
# Of the folders in a workspace that are no rooms.
_HIDDEN: Final = ".parking-"


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
    held: dict[Path, Parked] = field(default_factory=dict)

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
                marker = Marker.of(room)
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

    def _parked(self) -> dict[str, Parked]:
        """Return what is parked of the scope by ticket, without what is too old, which goes."""
        oldest = stamp(time.time() - RETENTION)
        objects = self.parking.objects(self.scope.pipeline)
        with suppress(Exception):  # the next load tries again
            old = [each for each in objects if each.since < oldest]
            self.parking.remove(self.scope.pipeline, old[:_REMOVED_AT_ONCE])
        found: dict[str, Parked] = {}
        for each in sorted(objects, key=lambda each: each.number):
            if each.scope == self.scope.folder and each.since >= oldest and each.kind != "part":
                before = found.get(each.ticket, Parked(each.ticket))
                found[each.ticket] = replace(before, objects=(*before.objects, each))
        return found

    def _settle(self, room: Path, marker: Marker, parked: dict[str, Parked]) -> None:
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

    def _hold(self, room: Path, marker: Marker, there: Parked) -> bool:
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

    def _fetch(self, there: Parked) -> None:
        """Fetch a parked room, unless another load has it."""
        pipeline, archive = self.scope.pipeline, there.archive
        if archive is None:
            return
        if there.owner:
            owner = self.parking.owner(pipeline, there.owner)
            if owner is None or not owner.is_dead:
                self.log.info("Parked %s is left to %s.", archive.name, owner or "another load")
                return
        marker = Marker(self.parking.shown, there.ticket, archive.number, uuid4().hex)
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

    def _let_go(self, taken: Parked) -> None:
        """Take back the owner, where nothing was done with the room yet."""
        with suppress(Exception):  # what failed before may fail again; the owner ends by itself
            self.parking.remove(self.scope.pipeline, taken.objects[-1:])

    def _unpack(self, archive: Piece, marker: Marker, room: Path) -> None:
        """Make a room of an archive, all of it or nothing."""
        with TemporaryDirectory(prefix=_HIDDEN, dir=self.workspace.path) as folder:
            packed, unpacked = Path(folder) / "archive", Path(folder) / "room"
            self.parking.download(self.scope.pipeline, archive.name, packed)
            unpack(packed, unpacked)
            marker.write(unpacked)
            unpacked.rename(room)

    def _park(self, room: Path) -> None:
        pipeline, before = self.scope.pipeline, self.held.get(room)
        ticket = before.ticket if before else new_ticket(self.scope.folder)
        number = before.number + 1 if before else 1
        known = Marker.of(room) if before else None
        marker = Marker(self.parking.shown, ticket, number, known.owner if known else "")
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

    def _remove(self, parked: Parked, *, failing: bool) -> None:
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
