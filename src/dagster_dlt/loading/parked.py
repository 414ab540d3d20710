"""What stands behind a URL for a parked room: objects with one ticket and ascending numbers.

    <pipeline>/<scope>-<ticket>-1.tar.gz   parked
               <scope>-<ticket>-2.owner    a load has taken it, and finishes its packages
               <scope>-<ticket>-3.tar.gz   they failed again, and are parked as they are now

The last number counts.
"""

import re
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from uuid import uuid4

_SINCE = "%Y%m%dT%H%M%SZ"
_OBJECT = re.compile(
    r"(?P<ticket>(?P<scope>[0-9a-f]+)-(?P<since>\d{8}T\d{6}Z)-[0-9a-f]{8})"
    r"-(?P<number>\d+)\.(?P<kind>tar\.gz|owner|part)"
)


@dataclass(frozen=True)
class Piece:
    """One object, by what its name says."""

    name: str
    ticket: str
    scope: str
    #: When the room was parked first.
    since: str
    number: int
    kind: str

    @classmethod
    def of(cls, name: str) -> "Piece | None":
        """Read a name; return None if no load has made it."""
        found = _OBJECT.fullmatch(name)
        if found is None:
            return None
        number = int(found["number"])
        return cls(name, found["ticket"], found["scope"], found["since"], number, found["kind"])


@dataclass(frozen=True)
class Parked:
    """A parked room: its objects, in the order of their numbers."""

    ticket: str
    objects: tuple[Piece, ...] = ()

    @property
    def number(self) -> int:
        """The highest number."""
        return self.objects[-1].number if self.objects else 0

    @property
    def owner(self) -> Piece | None:
        """Who has taken it, if somebody has."""
        return self.objects[-1] if self.objects and self.objects[-1].kind == "owner" else None

    @property
    def archive(self) -> Piece | None:
        """The room as it was parked last."""
        return next((each for each in reversed(self.objects) if each.kind == "tar.gz"), None)


def new_ticket(scope: str) -> str:
    """Return a ticket for a room that is parked now, of the scope with this folder."""
    return f"{scope}-{stamp(time.time())}-{uuid4().hex[:8]}"


def stamp(seconds: float) -> str:
    """Return a time, in seconds since 1970, as it is in the name of an object."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime(_SINCE)
