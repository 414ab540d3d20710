"""What a room on the disk knows of itself as a parked one."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dagster_dlt.loading.archive import MARKER, create


def behind(room: Path) -> Path:
    """Return the file that says that more was done with the packages in a room than they know.

    A load that has died had fetched the same archive, and may have sent some of it. The file is
    part of the next archive.
    """
    return room / ".behind"


@dataclass(frozen=True)
class Marker:
    """Which parked room it is, and who works in it."""

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
    def of(cls, room: Path) -> "Marker | None":
        """Read the marker of a room, if it has one."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((room / MARKER).read_text(encoding="utf-8")))
        return None

    def write(self, room: Path) -> None:
        """Put it into a room, in place of what there was."""
        (room / MARKER).unlink(missing_ok=True)
        with create(room / MARKER) as file:
            file.write(json.dumps(asdict(self)).encode())
