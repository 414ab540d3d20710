"""Takes turns at a destination that is one file: DuckDB, SQLite.

Such a file has one writer at a time. Loads extract and normalize side by side, and only open the
file one after the other, across threads and processes. Programs that take no turns, such as dbt or
a shell, are waited for as well, though not for ever.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dlt.destinations.exceptions import DestinationConnectionError
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.pipeline import Pipeline
from filelock import FileLock
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from dagster_dlt import _dlt
from dagster_dlt.errors import DestinationFileBusyError
from dagster_dlt.loading.lock import acquire

#: Seconds for which a program that takes no turns is waited for.
PATIENCE: Final = 300.0
#: Seconds between two attempts to open the file, at most.
_LOOK: Final = 5.0


class Turn:
    """The right to open a destination, as a context manager that a thread may enter again.

    Args:
        file: The file that is the destination; None for one that takes many writers.
        on_wait: Called once before waiting, with the file and what has it open.
    """

    def __init__(
        self, file: Path | None, on_wait: Callable[[Path, str], None] | None = None
    ) -> None:
        self._file = file
        self._on_wait = on_wait
        self._lock = FileLock(f"{file}.dagster-dlt.lock") if file else None

    def __enter__(self) -> None:
        """Wait until nobody else has the file open."""
        if self._lock is None:
            return
        acquire(self._lock, lambda: self._tell("another load"))

    def __exit__(self, *_error: object) -> None:
        """Let the next one have it."""
        if self._lock is not None:
            self._lock.release()

    @contextmanager
    def open(self, client: SqlJobClientBase) -> Iterator[None]:
        """Have the turn, and a connection to the destination in it.

        Raises:
            DestinationFileBusyError: a program that takes no turns has the file open all the time.
            CancelledError: the load was asked to stop while it waited.
        """
        with self:
            self._patiently(client.sql_client.open_connection)
            try:
                yield
            finally:
                client.sql_client.close_connection()

    def _patiently(self, connect: Callable[[], object]) -> None:
        told: set[str] = set()

        def is_open_elsewhere(error: BaseException) -> bool:
            holder = _dlt.holder_of_file(error)
            if holder and holder not in told:
                told.add(holder)
                self._tell(holder)
            return holder is not None

        try:
            Retrying(
                retry=retry_if_exception(is_open_elsewhere),
                wait=wait_exponential(multiplier=0.1, max=_LOOK),
                stop=stop_after_delay(PATIENCE),
                sleep=_dlt.pause,
                reraise=True,
            )(connect)
        except DestinationConnectionError as error:
            holder = _dlt.holder_of_file(error)
            if holder is None:
                raise
            raise DestinationFileBusyError(str(self._file), holder, PATIENCE) from error

    def _tell(self, holder: str) -> None:
        if self._on_wait and self._file:
            self._on_wait(self._file, holder)

    @property
    def is_needed(self) -> bool:
        """Whether the destination takes one writer at a time."""
        return self._lock is not None


def turn_of(pipeline: Pipeline, on_wait: Callable[[Path, str], None] | None = None) -> Turn:
    """Return the turn at the destination of `pipeline`."""
    return Turn(_dlt.file_of(pipeline), on_wait)
