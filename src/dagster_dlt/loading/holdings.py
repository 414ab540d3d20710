"""The parked rooms that a load owns: taken, shown to be owned, let go of, or removed."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from dagster_dlt.loading.archive import content
from dagster_dlt.loading.marker import Marker
from dagster_dlt.loading.owner import Owner
from dagster_dlt.loading.parked import Parked
from dagster_dlt.loading.parking import Parking


@dataclass(frozen=True)
class Held:
    """A parked room that this load owns."""

    parked: Parked
    #: The marker of the room as it was before.
    marker: Marker
    #: The files of the room when they were those of the archive; None if they no longer were.
    content: Mapping[str, tuple[int, int]] | None = None


@dataclass(frozen=True)
class Holdings:
    """What one load owns, by the room that it works in."""

    parking: Parking
    pipeline: str
    owner: Owner
    held: dict[Path, Held] = field(default_factory=dict)
    #: Held while objects are changed: what is removed must not be renewed.
    _changing: Lock = field(default_factory=Lock)

    def take(self, room: Path, marker: Marker, there: Parked) -> bool:
        """Become the owner of a parked room; tell whether no other load was faster."""
        taken = self.parking.take(self.pipeline, there, self.owner)
        if taken:
            with self._changing:
                self.held[room] = Held(taken, marker)
        return taken is not None

    def remember(self, room: Path) -> None:
        """Remember what is in a room that is as it is parked."""
        with self._changing:
            self.held[room] = replace(self.held[room], content=content(room))

    def beat(self) -> None:
        """Show those on other machines that this load lives."""
        # A connection belongs to the thread that has opened it.
        parking = Parking(self.parking.url)
        with self._changing:
            for each in self.held.values():
                parking.renew(self.pipeline, each.parked.objects[-1], self.owner)

    def has_still(self, room: Path) -> bool:
        """Tell whether nobody has taken a room from this load."""
        parked = self.held[room].parked
        objects = self.parking.objects(self.pipeline)
        return all(each.number <= parked.number for each in objects if each.ticket == parked.ticket)

    def let_go(self, room: Path) -> None:
        """Take back the owner, where nothing was done with the room."""
        with self._changing:
            held = self.held.pop(room)
            with suppress(Exception):  # what failed before may fail again; the owner ends by itself
                self.parking.remove(self.pipeline, held.parked.objects[-1:])
        if room.is_dir():
            held.marker.write(room)

    def remove(self, room: Path) -> None:
        """Remove what was parked of a room."""
        with self._changing:
            self.parking.remove(self.pipeline, self.held.pop(room).parked.objects)
