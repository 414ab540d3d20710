"""What only building the sources of loads tells, as Dagster keeps it for components."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dagster_dlt._contents import Place
from dagster_dlt.errors import SnapshotError

#: How Dagster writes it anew. In development it does so by itself.
COMMAND: Final = "dg utils refresh-defs-state"


def place_of(load: str) -> Place:
    """Return where what a load has is kept, in the words of errors."""
    return Place(f"state of {load}", f"Refresh it with `{COMMAND}`")


def write_state(path: Path, said: Mapping[str, Any]) -> None:
    """Write what is to be said of loads.

    Args:
        path: The file, whose folder Dagster may not have made.
        said: Contents, ready for JSON, by load.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_state(path: Path | None) -> dict[str, Any]:
    """Return what was written of each load; nothing, where nothing was.

    Raises:
        SnapshotError: the file is none of ours.
    """
    if path is None or not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problem, remedy = f"cannot be read ({error})", f"Refresh it with `{COMMAND}`"
        raise SnapshotError(str(path), problem, remedy) from error
    return said if isinstance(said, dict) else {}
