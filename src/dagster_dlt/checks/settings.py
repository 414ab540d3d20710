"""`DltChecks`: which checks a resource's asset has, and how they answer."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Final, Literal, NoReturn, get_args

from dagster_dlt.errors import InvalidChecksError, listed, nearest

Severity = Literal["warn", "error"]
#: Whether there is a check, or how bad it is when it fails.
Switch = bool | Severity
#: What a check is about.
Kind = Literal[
    "primary_key",
    "not_null",
    "unique",
    "references",
    "contract",
    "drift",
    "freshness",
    "row_count",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SEVERITIES: Final = get_args(Severity)
_SWITCHES: Final = KINDS[:6]
#: Rows in a sample, at most: it is part of an event.
MOST: Final = 50


@dataclass(frozen=True)
class DltFreshness:
    """How old the newest row may be.

    Attributes:
        hours: Hours between the greatest value and the check.
        column: Column that has the time; by default that of the resource's cursor.

    Raises:
        InvalidChecksError: the hours are not more than zero.

    Example:
        >>> from dagster_dlt import DltChecks, DltFreshness
        >>> checks = DltChecks(freshness=DltFreshness(hours=26, column="updated_at"))
    """

    hours: float
    column: str | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.hours) or self.hours <= 0:
            _refuse("freshness.hours", self.hours, "hours, more than zero")
        if self.column is not None and not (isinstance(self.column, str) and self.column):
            _refuse("freshness.column", self.column, "the name of a column")


@dataclass(frozen=True)
class DltRowCount:
    """How many rows there may be.

    Attributes:
        min: Rows that the table has at least.
        max: Rows that the table has at most.
        factor: How many times more, or fewer, rows than usual a load may bring. What is usual
            is the median of the ten materializations before; without three of them the check
            passes.

    Raises:
        InvalidChecksError: a bound is negative, above the other one, or no factor is above one.

    Example:
        >>> from dagster_dlt import DltChecks, DltRowCount
        >>> checks = DltChecks(row_count=DltRowCount(min=1, factor=3))
    """

    min: int | None = None
    max: int | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("min", self.min), ("max", self.max)):
            if value is not None and (type(value) is not int or value < 0):
                _refuse(f"row_count.{name}", value, "a number of rows")
        if self.min is not None and self.max is not None and self.min > self.max:
            _refuse("row_count.min", self.min, f"at most row_count.max, which is {self.max}")
        if self.factor is not None and (not _is_number(self.factor) or self.factor <= 1):
            _refuse("row_count.factor", self.factor, "a number above 1")
        if self.min is None and self.max is None and self.factor is None:
            raise InvalidChecksError(
                None, "have a row_count without bounds", "Give it min, max or factor"
            )


@dataclass(frozen=True)
class DltChecks:
    """Which asset checks are derived from a resource, and how they answer.

    Each of the first six is `True`, `False`, `"warn"` or `"error"`. A check exists where the
    resource gives a reason for it: a key, a column that is not nullable, a contract.

    Attributes:
        primary_key: The key is unique, and never null.
        not_null: Columns with `nullable: False` have no nulls.
        unique: Columns with `unique: True` have each value once.
        references: Each reference to another table finds a row there; null refers to nothing.
            One check for each. By default a warning.
        contract: The schema contract has discarded no rows, and refused no load.
        drift: The load has brought no new columns, which is a warning, and none whose values
            are not of their type, which is an error where the type was declared.
        freshness: How old the newest value of the cursor may be: hours, a `timedelta`, a
            `DltFreshness` or a mapping of its fields.
        row_count: Bounds for the number of rows: a `DltRowCount` or a mapping of its fields.
        blocking: Whether a failed check with severity `"error"` holds back what is downstream;
            or the names of those fields whose checks do.
        severity: Severity of all checks in place of their own.
        sample: How many failing rows are shown, at most; 0 for none.

    Raises:
        InvalidChecksError: a value cannot be used.

    Example:
        >>> from dagster_dlt import DagsterDltTranslator, DagsterDltTranslatorSettings, DltChecks
        >>> translator = DagsterDltTranslator(
        ...     DagsterDltTranslatorSettings(
        ...         checks=DltChecks(blocking=["primary_key"]),
        ...         resources={"orders": {"checks": {"freshness": 26, "references": "error"}}},
        ...     )
        ... )
    """

    primary_key: Switch = True
    not_null: Switch = True
    unique: Switch = True
    references: Switch = True
    contract: Switch = True
    drift: Switch = True
    freshness: DltFreshness | timedelta | float | Mapping[str, Any] | None = None
    row_count: DltRowCount | Mapping[str, Any] | None = None
    blocking: bool | Sequence[str] = False
    severity: Severity | None = None
    sample: int = 5

    def __post_init__(self) -> None:
        for name in _SWITCHES:
            value = getattr(self, name)
            if not isinstance(value, bool) and value not in SEVERITIES:
                _refuse(name, value, "True, False, 'warn' or 'error'")
        if self.severity is not None and self.severity not in SEVERITIES:
            _refuse("severity", self.severity, "'warn' or 'error'")
        if type(self.sample) is not int or not 0 <= self.sample <= MOST:
            _refuse("sample", self.sample, f"a number of rows up to {MOST}")
        object.__setattr__(self, "freshness", _freshness(self.freshness))
        object.__setattr__(self, "row_count", _row_count(self.row_count))
        object.__setattr__(self, "blocking", _blocking(self.blocking))

    @classmethod
    def of(
        cls, given: object, before: "DltChecks | None" = None, resource: str | None = None
    ) -> "DltChecks | None":
        """Return the checks that a setting asks for; None where it asks for none.

        Args:
            given: `True`, `False`, a `DltChecks`, or a mapping of its fields.
            before: What a mapping changes, and what counts where nothing is given.
            resource: Name of the resource that it is set for.

        Raises:
            InvalidChecksError: a field is not known, or has a value that cannot be used.
        """
        if given is None:
            return before
        if isinstance(given, bool):
            return (before or cls()) if given else None
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            problem = f"are a {type(given).__name__}"
            remedy = "Give True, False, a DltChecks, or a mapping of its fields"
            raise InvalidChecksError(resource, problem, remedy)
        try:
            known = {field.name for field in fields(cls)}
            return replace(before or cls(), **_known(given, known, "field"))
        except InvalidChecksError as error:
            raise InvalidChecksError(resource, error.problem, error.remedy) from None

    def asks_for(self, kind: Kind) -> bool:
        """Tell whether there is to be a check of a kind."""
        return getattr(self, kind) not in (False, None)

    def severity_of(self, kind: Kind) -> Severity | None:
        """Return the severity of a kind; None where it has its own."""
        value = getattr(self, kind)
        return value if isinstance(value, str) else self.severity  # type: ignore[return-value]  # checked above

    def blocks(self, kind: Kind) -> bool:
        """Tell whether a failed check of a kind holds back what is downstream."""
        return self.blocking if isinstance(self.blocking, bool) else kind in self.blocking


def _freshness(given: object) -> DltFreshness | None:
    if given is None or given is False:
        return None
    if isinstance(given, DltFreshness):
        return given
    if isinstance(given, timedelta):
        return DltFreshness(given.total_seconds() / 3600)
    if isinstance(given, Mapping):
        values = _known(given, {"hours", "column"}, "field of freshness")
        if "hours" not in values:
            _refuse("freshness", given, "a mapping with hours")
        return DltFreshness(**values)
    if not _is_number(given):
        _refuse("freshness", given, "hours, a timedelta, or a mapping with hours and column")
    return DltFreshness(given)  # type: ignore[arg-type]  # a number, as was just found


def _row_count(given: object) -> DltRowCount | None:
    if given is None or given is False:
        return None
    if isinstance(given, DltRowCount):
        return given
    if not isinstance(given, Mapping):
        _refuse("row_count", given, "a mapping with min, max or factor")
    return DltRowCount(**_known(given, {"min", "max", "factor"}, "field of row_count"))


def _blocking(given: object) -> bool | tuple[str, ...]:
    if isinstance(given, bool):
        return given
    names = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for name in names:
        if name not in KINDS:
            problem = f"have {name!r} in blocking.{nearest(str(name), KINDS)}"
            remedy = f"Give True, False, or names out of {listed(KINDS)}"
            raise InvalidChecksError(None, problem, remedy)
    return tuple(str(name) for name in names)


def _known(given: Mapping[Any, Any], known: Iterable[str], what: str) -> dict[str, Any]:
    for name in given:
        if name not in known:
            problem = f"have the unknown {what} {name!r}.{nearest(str(name), known)}"
            raise InvalidChecksError(None, problem.rstrip("."), f"Known are {listed(known)}")
    return dict(given)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(name: str, value: object, wanted: str) -> NoReturn:
    raise InvalidChecksError(None, f"have {name}={value!r}", f"Give {wanted}")
