"""Takes turns at a destination that is one file: DuckDB, SQLite.

Such a file has one writer at a time. Loads extract and normalize side by side, and only open the
file one after the other, across threads and processes.
"""

from collections.abc import Callable
from pathlib import Path

from dlt.pipeline.pipeline import Pipeline
from filelock import FileLock

from dagster_dlt import _dlt
from dagster_dlt.loading.lock import acquire


class Turn:
    """The right to open a destination, as a context manager that a thread may enter again.

    Args:
        file: The file that is the destination; None for one that takes many writers.
        on_wait: Called once before waiting, with the file.
    """

    def __init__(self, file: Path | None, on_wait: Callable[[Path], None] | None = None) -> None:
        self._file = file
        self._on_wait = on_wait
        self._lock = FileLock(f"{file}.dagster-dlt.lock") if file else None

    def __enter__(self) -> None:
        """Wait until nobody else has the file open."""
        if self._lock is None:
            return
        acquire(self._lock, self._tell)

    def _tell(self) -> None:
        if self._on_wait and self._file:
            self._on_wait(self._file)

    def __exit__(self, *_error: object) -> None:
        """Let the next one have it."""
        if self._lock is not None:
            self._lock.release()

    @property
    def is_needed(self) -> bool:
        """Whether the destination takes one writer at a time."""
        return self._lock is not None


def turn_of(pipeline: Pipeline, on_wait: Callable[[Path], None] | None = None) -> Turn:
    """Return the turn at the destination of `pipeline`."""
    return Turn(_dlt.file_of(pipeline), on_wait)
