"""Numbers that tables are asked for: many in one statement."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Subqueries in one statement, at most: databases plan them together.
AT_ONCE: Final = 32

#: What a measure has come to, or why it has not.
Answer = Any


@dataclass(frozen=True)
class Measure:
    """A value that is asked of rows."""

    #: What stands behind FROM.
    rows: str
    #: An expression over them with one value.
    value: str


@dataclass(frozen=True)
class Statement:
    """One statement, and the measures that its only row has, in this order."""

    sql: str
    measures: tuple[Measure, ...]


def statements(measures: Iterable[Measure], at_once: int = AT_ONCE) -> list[Statement]:
    """Return the statements that answer measures: each set of rows is read once."""
    values: dict[str, dict[Measure, None]] = {}
    for each in measures:
        values.setdefault(each.rows, {})[each] = None
    groups = list(values.items())
    return [_statement(groups[i : i + at_once]) for i in range(0, len(groups), at_once)]


def _statement(groups: Sequence[tuple[str, Iterable[Measure]]]) -> Statement:
    columns: list[str] = []
    queries: list[str] = []
    asked: list[Measure] = []
    for number, (rows, measures) in enumerate(groups):
        named = [f"{each.value} AS c{i}" for i, each in enumerate(measures)]
        queries.append(f"(SELECT {', '.join(named)} FROM {rows}) q{number}")  # noqa: S608 - quoted
        columns.extend(f"q{number}.c{i}" for i in range(len(named)))
        asked.extend(measures)
    sql = f"SELECT {', '.join(columns)} FROM {' CROSS JOIN '.join(queries)}"  # noqa: S608 - quoted
    return Statement(sql, tuple(asked))


def answers(
    measures: Iterable[Measure], execute: Callable[[str], Sequence[Any]]
) -> Mapping[Measure, Answer]:
    """Return what each measure has come to; the exception where it could not be had.

    Args:
        measures: The measures.
        execute: Returns the only row of a statement.
    """
    found: dict[Measure, Answer] = {}
    for statement in statements(measures):
        found.update(_answers(statement, execute))
    return found


def _answers(
    statement: Statement, execute: Callable[[str], Sequence[Any]]
) -> Mapping[Measure, Answer]:
    try:
        return dict(zip(statement.measures, execute(statement.sql), strict=True))
    except Exception as error:  # noqa: BLE001 - drivers raise what they like
        apart = statements(statement.measures, at_once=1)
        if len(apart) == 1:
            return dict.fromkeys(statement.measures, error)
    # One that cannot be answered does not hold back the others.
    found: dict[Measure, Answer] = {}
    for each in apart:
        found.update(_answers(each, execute))
    return found
