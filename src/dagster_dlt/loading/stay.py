"""One load with its workspace, and the rooms of it that are parked.

A room in which packages wait is *parked*: packed into an archive and uploaded. The next load of the
scope takes it, on any machine, and when nothing waits in it any more, all its objects are removed.

That two loads never work on the same packages is held by one object, the owner: it is written only
where nobody has written its number, before anything is fetched. The ledger could not tell as much:
not every destination has one, and few let two writers compete for a row, which most places behind a
URL do. An owner shows that it lives, and is known to be dead, as a load in the ledger: by a lock on
its machine, by its run, and by a sign of life each minute. Whoever takes a room from a dead one
cannot know what that one has sent, so all of it is cleaned at the destination and sent again.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from dagster_dlt import _dlt
from dagster_dlt.errors import ParkingError
from dagster_dlt.loading.archive import UNREADABLE, content, pack, unpack
from dagster_dlt.loading.entry import Loader
from dagster_dlt.loading.holdings import Held, Holdings
from dagster_dlt.loading.life import beating, cause_of_death
from dagster_dlt.loading.machine import sign_of_life
from dagster_dlt.loading.marker import Marker, behind
from dagster_dlt.loading.owner import Owner
from dagster_dlt.loading.parked import Parked, Piece, new_ticket, stamp
from dagster_dlt.loading.parking import Parking
from dagster_dlt.loading.workspace import RETENTION, Scope, Workspace, claim

# Expired objects that one load removes.
_REMOVED_AT_ONCE: Final = 100
# Of the folders in a workspace that are no rooms.
_HIDDEN: Final = ".parking-"


@contextmanager
def claim_parked(
    base: Path,
    scope: Scope,
    parking: Parking,
    loader: Loader,
    *,
    is_over: Callable[[str], bool],
    log: logging.Logger,
) -> Iterator[Workspace]:
    """Hold a workspace as `claim` does, with the rooms of `scope` that are parked.

    When the block is left, rooms in which packages wait are parked, and what was parked of the
    others is removed.

    Args:
        base: Directory of the workspaces.
        scope: What the load is about.
        parking: Where rooms are parked.
        loader: Who loads.
        is_over: Tells whether a Dagster run has ended, by its id.
        log: Where to say what is fetched and parked.

    Raises:
        ParkingError: the place cannot be read, or what was finished cannot be removed from it.
    """
    owner = Owner.new(loader)
    with (
        claim(base, scope, loader.run_id) as workspace,
        sign_of_life(owner.load_id).given() as sign,
    ):
        # It sends nothing from then on, and may take for ever to notice.
        _dlt.when_left(sign.release)
        holdings = Holdings(parking, scope.pipeline, owner)
        stay = _Stay(parking, scope, workspace, holdings, is_over, log)
        with beating(holdings.beat):
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
    holdings: Holdings
    is_over: Callable[[str], bool]
    log: logging.Logger

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
            for room in list(self.holdings.held):
                self.holdings.let_go(room)
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
        for room in self.holdings.held.keys() - waiting:
            # What waits is a failure too: it is raised once the workspace is left.
            self._remove(room, failing=failing or bool(waiting))

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
        """Become the owner of what is parked of `room`, if it is the same."""
        if there.owner:
            # One that has died in this room: nobody else is in it.
            owner = self.parking.owner(self.scope.pipeline, there.owner)
            if owner is None or owner.load_id != marker.owner:
                return False
        elif there.number != marker.number:
            return False
        # Written first, so that who is killed in between still knows itself as the owner.
        known = replace(marker, uploaded=True)
        replace(known, owner=self.holdings.owner.load_id).write(room)
        taken = self.holdings.take(room, known, there)
        if taken and not there.owner:
            self.holdings.remember(room)
        return taken

    def _fetch(self, there: Parked) -> None:
        """Fetch a parked room, unless another load has it."""
        pipeline, archive = self.scope.pipeline, there.archive
        if archive is None or not self._is_free(archive, there):
            return
        room = self.workspace.path / f"parked-{there.ticket[-8:]}"
        marker = Marker(self.parking.shown, there.ticket, archive.number)
        if not self.holdings.take(room, marker, there):
            return
        try:
            self._unpack(archive, marker, room, is_behind=there.owner is not None)
        except UNREADABLE as error:
            self.holdings.let_go(room)
            self.log.error(  # noqa: TRY400 - what is wrong is with the archive
                "Parked %s cannot be unpacked (%s) and is left where it is. "
                "Rows of it that were already loaded stay at the destination.",
                archive.name,
                error,
            )
        except FileNotFoundError:
            self.holdings.let_go(room)  # another load has finished it since it was listed
        else:
            self.holdings.remember(room)
            self.log.info("Fetched %s/%s/%s.", self.parking.shown, pipeline, archive.name)

    def _is_free(self, archive: Piece, there: Parked) -> bool:
        """Tell whether a parked room has no owner, or one that is known to be dead."""
        if there.owner is None:
            return True
        owner = self.parking.owner(self.scope.pipeline, there.owner)
        cause = owner and cause_of_death(
            owner, self.holdings.owner.loader, is_over=self.is_over, now=time.time()
        )
        if cause:
            self.log.info("Parked %s is taken from %s: %s.", archive.name, owner, cause)
        else:
            self.log.info("Parked %s is left to %s.", archive.name, owner or "another load")
        return cause is not None

    def _unpack(self, archive: Piece, marker: Marker, room: Path, *, is_behind: bool) -> None:
        """Make a room of an archive, all of it or nothing."""
        with TemporaryDirectory(prefix=_HIDDEN, dir=self.workspace.path) as folder:
            packed, unpacked = Path(folder) / "archive", Path(folder) / "room"
            self.parking.download(self.scope.pipeline, archive.name, packed)
            unpack(packed, unpacked)
            replace(marker, owner=self.holdings.owner.load_id).write(unpacked)
            if is_behind:
                behind(unpacked).touch(mode=0o600)
            unpacked.rename(room)

    def _park(self, room: Path) -> None:
        held = self.holdings.held.get(room)
        if held and held.content == content(room):
            self._leave(room, held)
            return
        ticket = held.parked.ticket if held else new_ticket(self.scope.folder)
        number = held.parked.number + 1 if held else 1
        marker = Marker(
            self.parking.shown, ticket, number, self.holdings.owner.load_id if held else ""
        )
        try:
            if held and not self.holdings.has_still(room):
                self.log.warning(
                    "Packages in %s are not parked: another load has taken this one for dead, "
                    "and them.",
                    room,
                )
                return
            # Who is killed during the upload cannot know whether it succeeded.
            replace(marker, uploaded=False).write(room)
            with TemporaryDirectory(prefix=_HIDDEN, dir=self.workspace.path) as folder:
                packed = Path(folder) / "archive"
                pack(room, packed)
                url = self.parking.upload(self.scope.pipeline, packed, f"{ticket}-{number}.tar.gz")
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
        if held:
            with suppress(Exception):  # the highest number counts
                self.holdings.remove(room)

    def _leave(self, room: Path, held: Held) -> None:
        """Let others take a room with which nothing was done, from where it is."""
        if held.parked.archive:
            url = self.parking.url_of(self.scope.pipeline, held.parked.archive.name)
            self.workspace.parked.append(url)
            self.log.info("What waits in %s stays parked as %s.", room, url)
        self.holdings.let_go(room)

    def _remove(self, room: Path, *, failing: bool) -> None:
        ticket = self.holdings.held[room].parked.ticket
        try:
            self.holdings.remove(room)
        except Exception as error:  # noqa: BLE001 - as above
            problem = f"have been dealt with, but cannot be removed ({self.parking.told(error)})"
            remedy = (
                f"Remove '{self.scope.pipeline}/{ticket}*' there by hand, or another "
                "machine may load it again"
            )
            failure = ParkingError(self.parking.shown, problem, remedy)
            if not failing:
                raise failure from None
            self.log.error("%s", failure)  # noqa: TRY400 - as above
