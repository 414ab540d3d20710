"""Stopping one load of a process, where dlt's own signals stop all of them."""

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import thread as futures_of_threads
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, TypeVar
from weakref import WeakSet

from dlt.common.destination.client import JobClientBase
from dlt.common.runtime import signals
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.sql_client import SqlClientBase
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt._dlt.destinations import see_clients

T = TypeVar("T")

#: What stops the load that the code at hand belongs to, if it belongs to one.
_STOP: ContextVar["Stop | None"] = ContextVar("dagster_dlt_stop", default=None)


class _SignalOfThisLoad(int):
    """A signal that is there for the code of a load that was asked to stop, and for no other.

    dlt keeps the signal that it received in one variable of the process, and asks for its truth
    wherever it can stop: at each item, before normalized files are committed, before new jobs.
    """

    def __bool__(self) -> bool:
        return is_stopped()


_SIGNAL: Final = _SignalOfThisLoad(signal.SIGTERM)


class Stop:
    """Stops one load of this process; the others do not notice.

    What code belongs to the load is told by its context, so a stop that was asked for holds as long
    as that code runs, even when nobody waits for it any more.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._left = threading.Event()
        # Reentrant: the garbage collector may close an iterator, which asks, while it is held.
        self._lock = threading.RLock()
        self._pipelines: WeakSet[Pipeline] = WeakSet()
        self._clients: WeakSet[SqlClientBase[Any]] = WeakSet()
        self._when_left: list[Callable[[], object]] = []

    def enter(self) -> None:
        """Let the code that runs in this context from now on belong to the load."""
        _STOP.set(self)

    def ask(self) -> None:
        """Ask the load to stop where dlt can, with a package that can be finished."""
        self._asked.set()
        # Where dlt's own handler has received a signal, all loads stop anyway.
        if not signals.was_signal_received():
            signals.set_received_signal(_SIGNAL)
        signals.wake_all()
        for pipeline in self._watched(self._pipelines):
            _cancel_normalize(pipeline)

    @property
    def asked(self) -> bool:
        """The load was asked to stop."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> None:
        """Wait until the load is asked to stop, for so long at most."""
        self._asked.wait(seconds)

    @property
    def left(self) -> bool:
        """Nobody waits for the load any more."""
        return self._left.is_set()

    def watch(self, pipeline: Pipeline) -> None:
        """Remember what the load runs."""
        with self._lock:
            self._pipelines.add(pipeline)

    def watch_client(self, client: JobClientBase) -> None:
        """Remember the connection of `client`, whose statements can be cancelled."""
        if isinstance(client, SqlJobClientBase):
            with self._lock:
                self._clients.add(client.sql_client)

    def when_left(self, do: Callable[[], object]) -> None:
        """Remember what to do once nobody waits for the load any more; it must not fail."""
        self._when_left.append(do)

    def cancel_statements(self) -> None:
        """Cancel what the destination does for the load right now, where the driver offers that.

        dlt takes the errors that drivers raise then for outages: it rolls the transaction back and
        puts the job back among those to be done. Connections are not closed instead where a driver
        cannot cancel: whether the statement was committed would be unknown, and dlt would run the
        job again.
        """
        for client in self._watched(self._clients):
            with suppress(Exception):  # drivers raise what they like; the statement may be over
                _cancel(client.native_connection)

    def leave(self, thread: threading.Thread) -> None:
        """Wait no longer for the load, which runs in `thread`, and for what it started.

        dlt does not wait long for a resource in a thread of its pool that blocks when another one
        fails. Such threads are daemons, as `thread` is, but a process that ends waits for the
        threads of every pool all the same; not for these.
        """
        self._left.set()
        for do in self._when_left:
            do()
        prefix = f"dlt-pool-{thread.ident}-"
        for each in threading.enumerate():
            if each.name.startswith(prefix):
                # Typed as a mapping that cannot be changed; it is a dictionary.
                futures_of_threads._threads_queues.pop(each, None)  # type: ignore[attr-defined]

    def _watched(self, watched: WeakSet[T]) -> list[T]:
        with self._lock:
            return list(watched)


def _cancel_normalize(pipeline: Pipeline) -> None:
    """Let dlt's normalizers stop at their next row; in whatever process, they look for a file."""
    with suppress(Exception):  # the package may be there not yet, or no more
        packages = pipeline._get_load_storage().new_packages
        for load_id in packages.list_packages():
            packages.cancel(load_id)


def _cancel(connection: object) -> None:
    # The connection of SQLAlchemy stands before the driver's own.
    pooled = getattr(connection, "connection", None)
    driver = getattr(pooled, "driver_connection", connection)
    # psycopg2 and others say `cancel`, DuckDB and SQLite say `interrupt`.
    for name in ("cancel", "interrupt"):
        method = getattr(driver, name, None)
        if callable(method):
            method()
            return


def is_stopped() -> bool:
    """Tell whether the load that this code belongs to was asked to stop."""
    stop = _STOP.get()
    return stop is not None and stop.asked


def raise_if_stopped(*, waits: bool = False) -> None:
    """End the load that this code belongs to if it was asked to stop.

    Args:
        waits: dlt stops by itself here, and waits for what it has under way: jobs, processes that
            normalize. Only what was left behind is ended, so that it does not commit later what a
            run since then has loaded again.

    Raises:
        CancelledError: it was. An `Exception`, on which dlt closes the files it writes, which it
            does not for its own, a `BaseException`.
    """
    stop = _STOP.get()
    if stop is not None and (stop.left if waits else stop.asked):
        raise CancelledError


def when_left(do: Callable[[], object]) -> None:
    """Do something once nobody waits any more for the load that this code belongs to."""
    stop = _STOP.get()
    if stop is not None:
        stop.when_left(do)


def pause(seconds: float) -> None:
    """Do nothing for so long; end the load that this code belongs to if it is asked to stop."""
    stop = _STOP.get()
    if stop is None:
        time.sleep(seconds)
    else:
        stop.wait(seconds)
    raise_if_stopped()


def watch(pipeline: Pipeline) -> None:
    """Let the load that this code belongs to know `pipeline` and the connections it will open."""
    stop = _STOP.get()
    if stop is None or pipeline.destination is None:
        return
    stop.watch(pipeline)
    see_clients(pipeline, stop.watch_client)
