"""Waiting for a lock that another load holds, for as long as nobody asks to stop."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from filelock import FileLock, Timeout

from dagster_dlt import _dlt

#: Seconds after which a load that waits looks whether it is to stop.
_LOOK: Final = 1.0


def acquire(lock: FileLock, on_wait: Callable[[], object] = bool) -> None:
    """Take a lock, as soon as nobody else holds it.

    Args:
        lock: The lock.
        on_wait: Called once, before waiting.

    Raises:
        CancelledError: the load was asked to stop.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait()
    else:
        return
    while True:
        _dlt.raise_if_stopped()
        with suppress(Timeout):
            lock.acquire(timeout=_LOOK)
            return
