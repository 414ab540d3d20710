"""What there is to load. It grows and changes from tick to tick, always in the same way.

Each table is there for one way of loading, and all have two levels of nested tables. From the
second tick on each has a column more, and some a nested table more. A row is a function of its key
and its version alone, so that whoever reads it twice reads the same.
"""

from typing import Any, Final

Row = dict[str, Any]

#: A history has three: one before, one in which processes are killed, one after.
TICKS: Final = (1, 2, 3)

#: Tables of which each extraction is new rows, whatever was loaded before: nothing but the loads
#: themselves tells whether a row belongs there twice. Their rows are stamped, see `history`.
STAMPED: Final = ("log", "notes")


def world(tick: int) -> dict[str, list[Row]]:
    """Return the rows of each resource, in the order in which a source gives them."""
    return {
        # append: the rows of the tick
        "log": [_row(100 * tick + key, tick) for key in range(7)],
        # append with a cursor: a row for each moment. One comes late, at the last tick's cursor.
        "events": [
            {**_tagged(key, 1 + key // 6), "at": key if key % 6 else max(key - 1, 0)}
            for key in range(6 * tick)
        ],
        # merge by key: rows change, some lose what was nested in them
        "accounts": [_row(key, _version(key, tick)) for key in range(5 + tick)],
        # the same, as upsert
        "profiles": [_tagged(key, _version(key, tick)) for key in range(5 + tick)],
        # merge by key with a cursor: old rows come again when they change
        "tickets": [
            {**_row(key, version), "changed": 100 * version + key}
            for key in range(4 + tick)
            for version in [_version(key, tick)]
        ],
        # merge without a key, which appends by way of the staging dataset
        "notes": [_row(100 * tick + key, tick) for key in range(4)],
        # replace: other rows each time, one of them always
        "prices": [_tagged(key, tick) for key in range(tick - 1, tick + 4)],
    }


def _version(key: int, tick: int) -> int:
    """Return the last tick up to this one in which the row changed: every second row does."""
    return tick if (key + tick) % 2 else tick - 1 or 1


def _row(key: int, version: int) -> Row:
    row: Row = {
        "id": key,
        "text": f"{key}, version {version}",
        "lines": [
            {"line": line, "marks": [{"mark": mark} for mark in range((key + version + line) % 3)]}
            for line in range((key + version) % 3)
        ],
    }
    if version > 1:
        row["mood"] = f"calm {version}"
    return row


def _tagged(key: int, version: int) -> Row:
    tags = {"tags": [{"tag": f"{key}/{version}"}]} if version > 1 else {}
    return {**_row(key, version), **tags}
