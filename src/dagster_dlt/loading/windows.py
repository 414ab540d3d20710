"""Windows: the rows of a stretch of time, for every way in which a cursor tells time.

Wall-clock times, dates among them, are read in the time zone of the window. A time that the clock
shows twice is the first one; one that it skips counts as the moment after the gap. So of windows
that follow one another, each value is in exactly one.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import cached_property
from typing import Final, cast

from dagster_dlt._facts import CursorKind, Window
from dagster_dlt.errors import CursorValueError

#: Units of numbers that count from 1970 on, in a second.
UNITS: Final = {
    "seconds": 1,
    "milliseconds": 10**3,
    "microseconds": 10**6,
    "nanoseconds": 10**9,
}

UTC: Final = timezone.utc
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
#: A date, or a date and a time, with or without an offset.
_ISO: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"((?P<sep>[T ])(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)([.,](?P<fraction>\d+))?)?"
    r"(?P<offset>Z|[+-]\d\d(:?\d\d)?)?)?"
)


@dataclass(frozen=True)
class Span:
    """A window as a cursor sees it."""

    window: Window
    kind: CursorKind
    #: A value that shows how the source writes its own.
    example: object = None

    @cached_property
    def _moments(self) -> tuple[datetime, datetime]:
        return self.window.start.astimezone(UTC), self.window.end.astimezone(UTC)

    @cached_property
    def _walls(self) -> tuple[datetime, datetime]:
        return wall_clock(self.window.start), wall_clock(self.window.end)

    def side(self, value: object) -> int:
        """Tell where a value of the cursor is: before the window (-1), inside (0) or after (1).

        Raises:
            CursorValueError: the value tells no time, or in a unit that nobody has declared.
        """
        found = moment(value, self.kind)
        if found.tzinfo is None:
            low, high = self._walls
        else:
            found, (low, high) = found.astimezone(UTC), self._moments
        return -1 if found < low else int(found >= high)

    def exactly(self, kind: CursorKind) -> tuple[object, object]:
        """Return the bounds for values of one kind."""
        match kind:
            case "datetime":
                return self.window.start, self.window.end
            case "local_datetime":
                return self._walls
            case "date":
                low, high = self._walls
                return _up(low, _DAY).date(), _up(high, _DAY).date()
        low, high = self._moments
        return _number(low, UNITS[kind]), _number(high, UNITS[kind])

    @cached_property
    def for_source(self) -> tuple[object, object]:
        """The bounds as the source writes its values, for it to select by.

        Where it writes them with less precision than the window has, they are around the window.
        """
        match self.kind:
            case "text":
                return self._texts()
            case "date":
                low, high = self._walls
                return low.date(), _up(high, _DAY).date()
        bounds = self.exactly(self.kind)
        if isinstance(self.example, float):
            return cast("tuple[float, float]", tuple(map(float, cast("tuple[int, int]", bounds))))
        return bounds

    def _texts(self) -> tuple[str, str]:
        known = _ISO.fullmatch(self.example) if isinstance(self.example, str) else None
        if known is None:
            low, high = self._moments
            form = "%Y-%m-%dT%H:%M:%SZ"
            return low.strftime(form), _up(high, timedelta(seconds=1)).strftime(form)
        if known["hour"] is None:
            low, high = self._walls
            return low.date().isoformat(), _up(high, _DAY).date().isoformat()
        zone = _zone(known["offset"])
        low, high = (
            self._walls if zone is None else [each.astimezone(zone) for each in self._moments]
        )
        low, high = low.replace(tzinfo=None), high.replace(tzinfo=None)
        return _like(known, _down(low, _step(known))), _like(known, _up(high, _step(known)))


def stored_inside(window: Window, kind: CursorKind, value: object) -> bool:
    """Tell whether a value is within the window, as a destination gives it back.

    Destinations keep times in UTC, or as if they were: whether one had a zone at the source says
    `kind`, and not the value.
    """
    found = moment(value, kind)
    if kind == "local_datetime":
        found = found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    elif kind == "datetime" and found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return Span(window, kind).side(found) == 0


def stored_kind(kind: CursorKind, example: object) -> CursorKind:
    """Return how values tell time once they are stored, where dlt makes times of ISO texts."""
    if kind != "text":
        return kind
    known = _ISO.fullmatch(example) if isinstance(example, str) else None
    if known is None or known["offset"]:
        return "datetime"
    return "local_datetime" if known["hour"] else "date"


def wall_clock(at: datetime) -> datetime:
    """Return the time on the wall from which on what the clock shows is not before `at`."""
    last = (at.astimezone(UTC) - _TICK).astimezone(at.tzinfo)
    while last.fold:
        # The second pass through an hour: the clock showed all of this in the first.
        minute = last.astimezone(UTC).replace(second=0, microsecond=0)
        last = (minute - _TICK).astimezone(at.tzinfo)
    return last.replace(tzinfo=None) + _TICK


def tells_time(text: str) -> bool:
    """Tell whether a text is a date, or a date and a time, in ISO 8601."""
    return _ISO.fullmatch(text) is not None


def moment(value: object, kind: str) -> datetime:
    """Return the time that a value of a cursor tells; without a zone where it has none.

    Raises:
        CursorValueError: the value tells no time, or in a unit that nobody has declared.
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if isinstance(value, str) and (found := _ISO.fullmatch(value)):
        return _parsed(found)
    if kind in UNITS and isinstance(value, int | float):
        return _EPOCH + timedelta(microseconds=value * 10**6 // UNITS[kind])
    raise CursorValueError(value)


def _parsed(found: re.Match[str]) -> datetime:
    moment = datetime.combine(
        date.fromisoformat(found["day"]),
        time(
            int(found["hour"] or 0),
            int(found["minute"] or 0),
            int(found["second"] or 0),
            int((found["fraction"] or "")[:6].ljust(6, "0")),
        ),
    )
    return moment.replace(tzinfo=_zone(found["offset"]))


def _zone(offset: str | None) -> tzinfo | None:
    if offset is None or offset == "Z":
        return None if offset is None else UTC
    digits = offset[1:].replace(":", "").ljust(4, "0")
    distance = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-distance if offset[0] == "-" else distance)


def _step(known: re.Match[str]) -> timedelta:
    """Return the precision in which an example is written."""
    if known["second"] is None:
        return timedelta(minutes=1)
    return timedelta(microseconds=10 ** (6 - min(6, len(known["fraction"] or ""))))


def _like(known: re.Match[str], wall: datetime) -> str:
    """Write a time as an example is written."""
    if known["second"] is None:
        clock = f"{wall:%H:%M}"
    else:
        digits = len(known["fraction"] or "")
        clock = f"{wall:%H:%M:%S}" + (
            f".{wall.microsecond:06}"[: digits + 1].ljust(digits + 1, "0") if digits else ""
        )
    return f"{wall:%Y-%m-%d}{known['sep']}{clock}{known['offset'] or ''}"


def _down(wall: datetime, step: timedelta) -> datetime:
    return wall - (wall - _EPOCH.replace(tzinfo=wall.tzinfo)) % step


def _up(wall: datetime, step: timedelta) -> datetime:
    return wall + (_EPOCH.replace(tzinfo=wall.tzinfo) - wall) % step


def _number(at: datetime, unit: int) -> int:
    return -(-((at - _EPOCH) // _TICK) * unit // 10**6)
