"""How the rows of partitions are told from others in SQL."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns

from dagster_dlt import _dlt
from dagster_dlt._facts import CursorKind, Window
from dagster_dlt.errors import PartitionNotToldError
from dagster_dlt.loading.windows import UTC, Span, wall_clock
from dagster_dlt.reading.part import Cell

#: What a user can do where nothing tells rows of partitions apart.
REMEDY: Final = (
    'Say it with metadata={"partition_expr": ...} on the AssetIn or the asset: a column, or an '
    "expression in SQL"
)


@dataclass(frozen=True)
class Condition:
    """A condition of SQL, with `%s` for each of its values."""

    sql: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Tellers:
    """What tells which partition a row of a table is of.

    Attributes:
        asset: The asset that is read, for errors.
        client: Client of the destination.
        columns: Columns of the outermost table of the chain, as dlt describes them.
        expressions: What the user says, by dimension.
        cursor: Column of the resource's cursor, and how it tells time, if it has one.
    """

    asset: str
    client: Any
    columns: TTableSchemaColumns
    expressions: Mapping[str, str]
    cursor: tuple[str, CursorKind] | None

    def tell(self, cells: Iterable[Cell]) -> bool:
        """Tell whether anything in the rows says which of these partitions they are of."""
        return all(
            cell.keys.keys() <= self.expressions.keys()
            and (cell.window is None or bool(self.cursor) or cell.of_time in self.expressions)
            for cell in cells
        )

    def condition(self, cells: Iterable[Cell]) -> Condition:
        """Return the condition for rows of these partitions.

        Raises:
            PartitionNotToldError: nothing tells them from others.
        """
        found = [_all_of(list(self._of_cell(cell))) for cell in cells]
        if not found:
            return Condition("1 = 0")
        sql = " OR ".join(f"({each.sql})" for each in found)
        return Condition(f"({sql})", tuple(value for each in found for value in each.values))

    def _of_cell(self, cell: Cell) -> Iterable[Condition]:
        if cell.window:
            yield self._within(cell.window, cell.of_time)
        for dimension, key in cell.keys.items():
            yield self._equal(dimension, key)

    def _equal(self, dimension: str, key: str) -> Condition:
        given = self.expressions[dimension]
        is_number = given in self.columns and self.columns[given].get("data_type") == "bigint"
        return Condition(f"{self._sql_of(given)} = %s", (int(key) if is_number else key,))

    def _within(self, window: Window, dimension: str) -> Condition:
        given = self.expressions.get(dimension)
        if given is not None and given not in self.columns:
            walls = [wall_clock(each) for each in (window.start, window.end)]
            low, high = (f"'{each:%Y-%m-%d %H:%M:%S}'" for each in walls)
            return Condition(f"({given}) >= {low} AND ({given}) < {high}")
        name, kind = self._teller(given)
        bounds = self._bounds(window, kind, self.columns[name])
        column = self._sql_of(name)
        return Condition(f"{column} >= %s AND {column} < %s", tuple(bounds))

    def _teller(self, given: str | None) -> tuple[str, CursorKind]:
        """Return the column that tells the time of rows, and how."""
        name = given or (self.cursor or ("",))[0]
        kind = self.cursor[1] if self.cursor and not given else kind_of(self.columns[name])
        if kind is None:
            problem = f"column {name!r} does not say how it tells time"
            raise PartitionNotToldError(self.asset, problem, REMEDY)
        # Texts of days compare as days do. Those of times may be written in several ways.
        if self.columns[name].get("data_type") == "text" and kind != "date":
            problem = f"column {name!r}, which tells their time, is text"
            raise PartitionNotToldError(self.asset, problem, REMEDY)
        return name, kind

    def _bounds(self, window: Window, kind: CursorKind, column: TColumnSchema) -> Sequence[Any]:
        """Return the bounds as the destination compares them, whatever zone its session has."""
        has_zone = _dlt.keeps_zone(self.client, column)
        bounds = Span(window, kind).exactly(kind)
        found = [_stored(each, kind, has_zone=has_zone) for each in bounds]
        if self.client.capabilities.sqlglot_dialect == "sqlite":
            return [_text(each) for each in found]
        if column.get("data_type") == "text":
            return [str(each) for each in found]
        return found

    def _sql_of(self, given: str) -> str:
        if given in self.columns:
            return str(self.client.sql_client.escape_column_name(given))
        return f"({given})"


def _all_of(conditions: Sequence[Condition]) -> Condition:
    sql = " AND ".join(each.sql for each in conditions)
    return Condition(sql or "1 = 1", tuple(value for each in conditions for value in each.values))


def kind_of(column: TColumnSchema) -> CursorKind | None:
    """Return how the values of a column tell time, if their type says so."""
    match column.get("data_type"):
        case "timestamp":
            return "datetime" if column.get("timezone", True) else "local_datetime"
        case "date":
            return "date"
    return None


def _stored(bound: object, kind: CursorKind, *, has_zone: bool) -> object:
    """Return a bound as dlt stores such a value: in UTC, or as if it were."""
    if not isinstance(bound, datetime):
        return bound
    moment = bound.astimezone(UTC) if kind == "datetime" else bound
    return moment.replace(tzinfo=UTC if has_zone else None)


def _text(bound: object) -> object:
    """Return a bound as SQLite keeps it, which has no type for times."""
    if isinstance(bound, datetime):
        return f"{bound:%Y-%m-%d %H:%M:%S.%f}"
    return bound.isoformat() if isinstance(bound, date) else bound
