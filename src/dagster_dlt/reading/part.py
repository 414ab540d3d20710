"""Which partitions of an asset are read, in plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from dagster_dlt._facts import Window


@dataclass(frozen=True)
class Cell:
    """Partitions that are told alike: by a stretch of time, by keys of dimensions, or by both."""

    window: Window | None = None
    #: Name of the dimension of time, where there are several.
    of_time: str = ""
    #: Keys by the name of the dimension, which is empty where there is only one.
    keys: Mapping[str, str] = field(default_factory=dict)


def together(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return the cells with those as one that follow one another in time."""
    found: list[Cell] = []
    for cell in sorted(cells, key=_order):
        last = found[-1] if found else None
        longer = _joined(last, cell) if last else None
        found[-1:] = [longer] if longer else [*found[-1:], cell]
    return tuple(found)


def _joined(first: Cell, second: Cell) -> Cell | None:
    """Return two cells as one, if the second begins before the first has ended, or just then."""
    one, other = first.window, second.window
    if one is None or other is None or first.keys != second.keys or one.end < other.start:
        return None
    return replace(first, window=Window(one.start, max(one.end, other.end)))


def _order(cell: Cell) -> tuple[list[tuple[str, str]], float]:
    start = cell.window.start.timestamp() if cell.window else 0.0
    return sorted(cell.keys.items()), start
