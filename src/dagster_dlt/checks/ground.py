"""What a check is asked of: a table at the destination, by the names that it has there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlt.common.schema import Schema

from dagster_dlt import _dlt
from dagster_dlt._facts import LoadSigns


class NotEvaluatedError(Exception):
    """A check cannot be answered; the text says why. It never leaves this folder."""


@dataclass(frozen=True)
class Words:
    """How names are written in the SQL of a destination."""

    #: Qualifies and quotes the name of a table.
    table: Callable[[str], str]
    #: Quotes the name of a column.
    column: Callable[[str], str]
    #: Returns a query for its first rows.
    limited: Callable[[str, int], str]


@dataclass(frozen=True)
class Session:
    """A connection to a destination, and what is known of its tables."""

    schema: Schema
    #: The schema is that of the destination, so that what it lacks is not there.
    is_known: bool
    words: Words
    #: Returns what a query returns.
    rows: Callable[[str], Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Load:
    """What a load has brought for a resource."""

    #: Its packages; none where it has brought no rows.
    ids: tuple[str, ...]
    rows: int | None
    signs: LoadSigns = field(default_factory=LoadSigns)


@dataclass(frozen=True)
class Ground:
    """The tables of a resource, as they are after a load, or at any time."""

    session: Session
    #: The resource's tables, nested ones included.
    tables: tuple[str, ...] = ()
    #: What has just been loaded; None where the table as a whole is looked at.
    load: Load | None = None
    #: Rows that the last loads have brought, the newest one first.
    history: Callable[[], Sequence[int]] = list

    def table(self, name: str) -> "TableGround":
        """Return the ground that is one table, by its name in the hints."""
        schema = self.session.schema
        found = _dlt.normalized_table_name(schema, name)
        return TableGround(self, found, _dlt.table_columns(schema, found))


@dataclass(frozen=True)
class TableGround:
    """One table, and how its rows and columns are named in SQL."""

    ground: Ground
    name: str
    #: Its columns with their hints; None where it is not there yet, or nobody knows.
    columns: Mapping[str, Mapping[str, Any]] | None

    @property
    def schema(self) -> Schema:
        """The schema that the table is in."""
        return self.ground.session.schema

    @property
    def words(self) -> Words:
        """How names are written."""
        return self.ground.session.words

    @property
    def is_missing(self) -> bool:
        """Whether there is no such table yet, and so there are no rows."""
        return self.columns is None and self.ground.session.is_known

    @property
    def sql(self) -> str:
        """The table in SQL."""
        return self.words.table(self.name)

    def column(self, given: str) -> str:
        """Return the name that a column of the hints, or the path of a cursor, has in the table.

        Raises:
            NotEvaluatedError: the table has no such column.
        """
        naming = self.schema.naming
        path = naming.normalize_path(given.replace(".", naming.PATH_SEPARATOR))
        names = (given, naming.normalize_identifier(given), path)
        if self.columns is None:
            return path
        for name in names:
            if name in self.columns:
                return name
        message = f"table {self.name!r} has no column {given!r}"
        raise NotEvaluatedError(message)

    def quoted(self, given: str, alias: str = "") -> str:
        """Return a column in SQL, that of a table with an alias if there is one."""
        name = self.words.column(self.column(given))
        return f"{alias}.{name}" if alias else name

    @property
    def is_scoped(self) -> bool:
        """Whether the rows of the load can be told from others."""
        return self.ground.load is not None and (
            not self.ground.load.ids or self._load_id in (self.columns or {})
        )

    @property
    def _load_id(self) -> str:
        return _dlt.row_columns(self.schema)[1]

    def scope(self, alias: str = "") -> str:
        """Return the condition for the rows of the load; nothing where all rows count."""
        if not self.is_scoped or self.ground.load is None:
            return ""
        if not self.ground.load.ids:
            return "1 = 0"
        column = self.words.column(self._load_id)
        ids = ", ".join(literal(each) for each in self.ground.load.ids)
        return f"{f'{alias}.' if alias else ''}{column} IN ({ids})"

    @property
    def scope_name(self) -> str:
        """What is looked at, in words."""
        if not self.is_scoped or self.ground.load is None:
            return "table"
        return f"load {', '.join(self.ground.load.ids)}" if self.ground.load.ids else "load"

    @property
    def current(self) -> str:
        """The condition for rows that hold at present, where the table keeps earlier versions."""
        for name, hints in (self.columns or {}).items():
            if hints.get("x-valid-to"):
                column = self.words.column(name)
                active = self.schema.tables[self.name].get("x-active-record-timestamp")
                if active is None:
                    return f"{column} IS NULL"
                return f"({column} IS NULL OR {column} >= {literal(str(active))})"
        return ""

    def is_hidden(self, given: str, hidden: Sequence[str]) -> bool:
        """Tell whether the values of a column are not to be shown."""
        name = self.column(given)
        return given in hidden or _dlt.is_hidden(name, (self.columns or {}).get(name, {}))


def where(*conditions: str) -> str:
    """Return what stands behind a table for rows that meet all conditions."""
    said = " AND ".join(filter(None, conditions))
    return f" WHERE {said}" if said else ""


def literal(text: str) -> str:
    """Return a text in SQL."""
    return "'" + text.replace("'", "''") + "'"
