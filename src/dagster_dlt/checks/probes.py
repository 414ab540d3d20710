"""How each kind of check is asked, and what is made of the answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from statistics import median
from typing import Any, Final

from typing_extensions import override

from dagster_dlt.checks.check import Check
from dagster_dlt.checks.ground import Ground, NotEvaluatedError, TableGround, where
from dagster_dlt.checks.measures import Answer, Measure
from dagster_dlt.checks.settings import Kind, Severity
from dagster_dlt.constants import (
    META_KEY_AGE_HOURS,
    META_KEY_CHECKED_ROWS,
    META_KEY_DRIFT,
    META_KEY_FAILED_ROWS,
    META_KEY_FAILED_VALUES,
    META_KEY_NEWEST,
    META_KEY_ROWS_WITHOUT,
    META_KEY_SCOPE,
    META_KEY_USUAL_ROWS,
)
from dagster_dlt.errors import CursorValueError
from dagster_dlt.loading.windows import moment

#: Materializations without which nothing is usual.
ENOUGH: Final = 3


@dataclass(frozen=True)
class Sample:
    """A query for failing rows, with the names of what it returns."""

    sql: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What has come of a check."""

    passed: bool
    text: str
    #: How bad it is, where that depends on what was found.
    severity: Severity | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sample: Sample | None = None


class Probe(ABC):
    """A check of a resource on its ground."""

    def __init__(self, check: Check, ground: Ground) -> None:
        self.check = check
        self.ground = ground

    @property
    def table(self) -> TableGround:
        """The table that is asked about."""
        assert self.check.table is not None, "asked of tables with a name alone"  # noqa: S101
        return self.ground.table(self.check.table)

    @abstractmethod
    def measures(self) -> Sequence[Measure]:
        """Return what is to be asked.

        Raises:
            NotEvaluatedError: it cannot be asked.
        """

    @abstractmethod
    def verdict(self, found: Sequence[Answer]) -> Verdict:
        """Return what has come of the check, by the answers to its measures.

        Raises:
            NotEvaluatedError: the answers say nothing.
        """

    def _shown(self, columns: Sequence[str]) -> list[str]:
        return [each for each in columns if not self.table.is_hidden(each, self.check.hidden)]


class UniqueProbe(Probe):
    """Values that the whole table has once: those of a key together, of columns one by one."""

    @property
    def _keys(self) -> list[tuple[str, ...]]:
        columns = self.check.columns
        return [columns] if self.check.kind == "primary_key" else [(each,) for each in columns]

    @override
    def measures(self) -> Sequence[Measure]:
        table = self.table
        if table.is_missing:
            return []
        found = [Measure(f"{table.sql}{where(table.current)}", "COUNT(*)")]
        for key in self._keys:
            names = [table.quoted(each) for each in key]
            nulls = " OR ".join(f"{name} IS NULL" for name in names)
            twice = f"(SELECT COUNT(*) AS n {self._twice(key)}) d"
            found += [
                Measure(
                    f"{table.sql}{where(table.current)}", f"COUNT(CASE WHEN {nulls} THEN 1 END)"
                ),
                Measure(twice, "COUNT(*)"),
                Measure(twice, "SUM(d.n)"),
            ]
        return found

    def _twice(self, key: Sequence[str]) -> str:
        table = self.table
        names = [table.quoted(each) for each in key]
        there = where(*(f"{name} IS NOT NULL" for name in names), table.current)
        return f"FROM {table.sql}{there} GROUP BY {', '.join(names)} HAVING COUNT(*) > 1"

    @override
    def verdict(self, found: Sequence[Answer]) -> Verdict:
        if not found:
            return _no_rows()
        rows, *others = map(_number, found)
        said: list[str] = []
        failed, values, sample = 0, 0, None
        for key, nulls, twice, in_rows in zip(
            self._keys, others[::3], others[1::3], others[2::3], strict=True
        ):
            named = ", ".join(key)
            if twice:
                said.append(
                    f"{_many(twice, 'value')} of {named} more than once, in {in_rows:,} rows"
                )
                sample = sample or self._sample(key)
            if nulls and self.check.kind == "primary_key":
                said.append(f"{_many(nulls, 'row')} without {named}")
                failed += nulls
            failed, values = failed + in_rows, values + twice
        metadata = {
            META_KEY_CHECKED_ROWS: rows,
            META_KEY_FAILED_ROWS: failed,
            META_KEY_FAILED_VALUES: values,
            META_KEY_SCOPE: "table",
        }
        text = f"{'; '.join(said)}." if said else f"{_many(rows, 'row')}, each value once."
        return Verdict(not said, text, metadata=metadata, sample=sample)

    def _sample(self, key: Sequence[str]) -> Sample | None:
        if not (shown := self._shown(key)):
            return None
        names = ", ".join(self.table.quoted(each) for each in shown)
        order = "ORDER BY COUNT(*) DESC"
        return Sample(
            f"SELECT {names}, COUNT(*) AS n {self._twice(key)} {order}",
            (*shown, "rows"),
        )


class NotNullProbe(Probe):
    """Columns without nulls, in the rows of the load."""

    @property
    def _rows(self) -> str:
        return f"{self.table.sql}{where(self.table.scope())}"

    @property
    def _nulls(self) -> list[str]:
        return [f"{self.table.quoted(each)} IS NULL" for each in self.check.columns]

    @override
    def measures(self) -> Sequence[Measure]:
        if self.table.is_missing:
            return []
        conditions = [" OR ".join(self._nulls), *self._nulls]
        return [
            Measure(self._rows, "COUNT(*)"),
            *(Measure(self._rows, f"COUNT(CASE WHEN {each} THEN 1 END)") for each in conditions),
        ]

    @override
    def verdict(self, found: Sequence[Answer]) -> Verdict:
        if not found:
            return _no_rows()
        rows, failed, *by_column = map(_number, found)
        said = [
            f"{nulls:,} without {column}"
            for column, nulls in zip(self.check.columns, by_column, strict=True)
            if nulls
        ]
        metadata = {
            META_KEY_CHECKED_ROWS: rows,
            META_KEY_FAILED_ROWS: failed,
            META_KEY_SCOPE: self.table.scope_name,
        }
        text = (
            f"Of {_many(rows, 'row')}: {', '.join(said)}."
            if failed
            else f"{rows:,} rows, no nulls."
        )
        return Verdict(
            not failed, text, metadata=metadata, sample=self._sample() if failed else None
        )

    def _sample(self) -> Sample | None:
        shown = self._shown(dict.fromkeys([*self.check.key, *self.check.columns]))  # type: ignore[arg-type]  # in order
        if not shown:
            return None
        names = ", ".join(self.table.quoted(each) for each in shown)
        nulls = f"({' OR '.join(self._nulls)})"
        rows = f"{self.table.sql}{where(self.table.scope(), nulls)}"
        return Sample(f"SELECT {names} FROM {rows}", tuple(shown))  # noqa: S608 - quoted


class ReferenceProbe(Probe):
    """Values that another table has, in the rows of the load."""

    @property
    def _lost(self) -> str:
        table, check = self.table, self.check
        other = self.ground.table(check.other_table or "")
        if other.name in self.ground.session.schema.tables and other.is_missing:
            message = f"table {check.other_table!r} is not there yet"
            raise NotEvaluatedError(message)
        same = " AND ".join(
            f"o.{other.quoted(theirs)} = {table.quoted(ours, 'r')}"
            for ours, theirs in zip(check.columns, check.other_columns, strict=True)
        )
        there = [f"{table.quoted(each, 'r')} IS NOT NULL" for each in check.columns]
        missing = f"NOT EXISTS (SELECT 1 FROM {other.sql} o WHERE {same})"  # noqa: S608 - quoted
        return f"{table.sql} r{where(table.scope('r'), *there, missing)}"

    @override
    def measures(self) -> Sequence[Measure]:
        table = self.table
        if table.is_missing:
            return []
        rows = f"{table.sql}{where(table.scope())}"
        nulls = " OR ".join(f"{table.quoted(each)} IS NULL" for each in self.check.columns)
        found = [
            Measure(rows, "COUNT(*)"),
            Measure(rows, f"COUNT(CASE WHEN {nulls} THEN 1 END)"),
            Measure(self._lost, "COUNT(*)"),
        ]
        if len(self.check.columns) == 1:
            [column] = self.check.columns
            found.append(Measure(self._lost, f"COUNT(DISTINCT {table.quoted(column, 'r')})"))
        return found

    @override
    def verdict(self, found: Sequence[Answer]) -> Verdict:
        if not found:
            return _no_rows()
        rows, without, failed, *values = map(_number, found)
        named = ", ".join(self.check.columns)
        metadata = {
            META_KEY_CHECKED_ROWS: rows,
            META_KEY_FAILED_ROWS: failed,
            META_KEY_ROWS_WITHOUT: without,
            META_KEY_SCOPE: self.table.scope_name,
        }
        if values:
            metadata[META_KEY_FAILED_VALUES] = values[0]
        different = f", {_many(values[0], 'different value')}" if values else ""
        text = (
            f"{_many(failed, 'row')} of {rows:,} with a {named} that {self.check.other_table} "
            f"lacks{different}; {without:,} more without one."
            if failed
            else f"{_many(rows - without, 'row')}, all found in {self.check.other_table}."
        )
        return Verdict(
            not failed, text, metadata=metadata, sample=self._sample() if failed else None
        )

    def _sample(self) -> Sample | None:
        shown = self._shown(self.check.columns)
        if len(shown) < len(self.check.columns):
            return None
        names = ", ".join(self.table.quoted(each, "r") for each in shown)
        return Sample(
            f"SELECT {names}, COUNT(*) AS n FROM {self._lost} "  # noqa: S608 - quoted
            f"GROUP BY {names} ORDER BY COUNT(*) DESC",
            (*shown, "rows"),
        )


class FreshnessProbe(Probe):
    """The greatest value of a column that tells time."""

    @override
    def measures(self) -> Sequence[Measure]:
        table = self.table
        if table.is_missing:
            return []
        return [Measure(table.sql, f"MAX({table.quoted(self.check.columns[0])})")]

    @override
    def verdict(self, found: Sequence[Answer]) -> Verdict:
        [column], hours = self.check.columns, self.check.hours or 0
        newest = found[0] if found else None
        if newest is None:
            return Verdict(passed=False, text=f"There is no value of {column}.")
        try:
            at = moment(newest, self.check.tells or "")
        except CursorValueError as error:
            message = f"{column!r} tells no time, or in a unit that nobody has declared"
            raise NotEvaluatedError(message) from error
        # A time without a zone is taken for one of UTC.
        at = at.astimezone(timezone.utc) if at.tzinfo else at.replace(tzinfo=timezone.utc)
        age = datetime.now(timezone.utc) - at
        text = (
            f"The newest {column} is of {at:%Y-%m-%d %H:%M} UTC, "
            f"{age / timedelta(hours=1):,.1f} hours ago."
        )
        metadata = {
            META_KEY_NEWEST: at.isoformat(),
            META_KEY_AGE_HOURS: age / timedelta(hours=1),
        }
        return Verdict(age <= timedelta(hours=hours), text, metadata=metadata)


class RowCountProbe(Probe):
    """How many rows there are, and how many more have come than usual."""

    @property
    def _is_counted(self) -> bool:
        return self.check.at_least is not None or self.check.at_most is not None

    @override
    def measures(self) -> Sequence[Measure]:
        counted = self._is_counted and not self.table.is_missing
        return [Measure(self.table.sql, "COUNT(*)")] if counted else []

    @override
    def verdict(self, found: Sequence[Answer]) -> Verdict:
        said: list[str] = []
        metadata: dict[str, Any] = {}
        passed = True
        if self._is_counted:
            rows = _number(found[0]) if found else 0
            low, high = self.check.at_least or 0, self.check.at_most
            passed = low <= rows and (high is None or rows <= high)
            said.append(f"{_many(rows, 'row')} in the table")
            metadata[META_KEY_CHECKED_ROWS] = rows
        if self.check.factor is not None:
            usual, is_usual, text = self._compared(self.check.factor)
            passed = passed and is_usual
            said.append(text)
            if usual is not None:
                metadata[META_KEY_USUAL_ROWS] = usual
        return Verdict(passed, f"{'; '.join(said)}.", metadata=metadata)

    def _compared(self, factor: float) -> tuple[float | None, bool, str]:
        before = list(self.ground.history())
        if self.ground.load is None:
            # The last load is the one in question.
            rows, before = (before[0], before[1:]) if before else (None, [])
        else:
            rows = self.ground.load.rows
        if rows is None:
            message = "nobody has counted the rows of the load"
            raise NotEvaluatedError(message)
        if len(before) < ENOUGH:
            return None, True, f"{_many(rows, 'row')} loaded; too few loads before to compare with"
        usual = median(before)
        is_usual = usual / factor <= rows <= usual * factor
        return usual, is_usual, f"{_many(rows, 'row')} loaded, usually {usual:,.0f}"


class ContractProbe(Probe):
    """Rows that a schema contract has discarded."""

    @override
    def measures(self) -> Sequence[Measure]:
        return []

    @override
    def verdict(self, found: Sequence[Answer]) -> Verdict:
        load = self.ground.load
        if load is None:
            message = "only a load tells"
            raise NotEvaluatedError(message)
        rows = {
            table: each for table, each in load.signs.rows.items() if table in self.ground.tables
        }
        if not rows and load.rows != 0:
            message = "nobody has counted the rows that the load was given"
            raise NotEvaluatedError(message)
        lost = {table: given - kept for table, (given, kept) in rows.items() if given > kept}
        given = sum(each for each, _ in rows.values())
        said = [f"{_many(n, 'row')} of {rows[t][0]:,} for {t} discarded" for t, n in lost.items()]
        metadata = {META_KEY_CHECKED_ROWS: given, META_KEY_FAILED_ROWS: sum(lost.values())}
        text = f"{'; '.join(said)}." if said else f"{_many(given, 'row')}, none discarded."
        return Verdict(not lost, text, metadata=metadata)


class DriftProbe(Probe):
    """Columns that nobody has declared, and values that are not of the type that was."""

    @override
    def measures(self) -> Sequence[Measure]:
        return []

    @override
    def verdict(self, found: Sequence[Answer]) -> Verdict:
        if not self.ground.session.is_known:
            message = "the destination does not have the schema"
            raise NotEvaluatedError(message)
        broken = [*self._other_types(), *self._variants_of_declared()]
        new = self._new()
        said = [*broken, *new]
        if not said:
            return Verdict(passed=True, text="No new columns, and all values of their types.")
        metadata = {META_KEY_DRIFT: said}
        severity: Severity = "error" if broken else "warn"
        return Verdict(False, f"{'; '.join(said)}.", severity, metadata)  # noqa: FBT003 - as above

    def _other_types(self) -> list[str]:
        if self.check.table is None or self.table.columns is None:
            return []
        found = []
        for given, declared in self.check.types.items():
            try:
                column = self.table.column(given)
            except NotEvaluatedError:
                continue  # it has had no values
            actual = self.table.columns[column].get("data_type")
            if actual and actual != declared:
                found.append(f"{column} is {actual}, declared as {declared}")
        return found

    @property
    def _declared(self) -> set[str]:
        naming = self.ground.session.schema.naming
        return {naming.normalize_path(each) for each in self.check.columns} | {*self.check.columns}

    def _columns(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Return table, name and hints of the columns in question: new ones, or all."""
        found = []
        load = self.ground.load
        for table in self.ground.tables:
            hints = self.ground.table(table).columns or {}
            names = load.signs.new_columns.get(table, ()) if load else hints
            found += [(table, name, hints.get(name, {})) for name in names]
        return found

    def _variants_of_declared(self) -> list[str]:
        found = []
        for table, name, hints in self._columns():
            base = name.rpartition("__v_")[0]
            typed = {
                self.ground.session.schema.naming.normalize_path(each) for each in self.check.types
            }
            if hints.get("variant") and base in typed:
                found.append(f"{table}.{base} has values of type {hints.get('data_type')}")
        return found

    def _new(self) -> list[str]:
        load = self.ground.load
        if load is None:
            return []  # since when?
        own = "_dlt_"
        found = []
        typed = {
            self.ground.session.schema.naming.normalize_path(each) for each in self.check.types
        }
        for table, name, hints in self._columns():
            base = name.rpartition("__v_")[0]
            if hints.get("variant"):
                if base not in typed:
                    found.append(f"{table}.{base} has values of type {hints.get('data_type')}")
            elif name not in self._declared and not name.startswith(own):
                found.append(f"new column {table}.{name}")
        return found + [
            f"new table {table}"
            for table in self.ground.tables
            if load.signs.new_columns.get(table) == ()
        ]


PROBES: Final[Mapping[Kind, type[Probe]]] = {
    "primary_key": UniqueProbe,
    "not_null": NotNullProbe,
    "unique": UniqueProbe,
    "references": ReferenceProbe,
    "contract": ContractProbe,
    "drift": DriftProbe,
    "freshness": FreshnessProbe,
    "row_count": RowCountProbe,
}


def _no_rows() -> Verdict:
    return Verdict(
        passed=True, text="The table is not there yet.", metadata={META_KEY_CHECKED_ROWS: 0}
    )


def _number(value: Answer) -> int:
    return int(value or 0)


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
