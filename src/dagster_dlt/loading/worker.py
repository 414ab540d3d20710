"""Runs a load in a thread, so that what it commits can be reported while it goes on."""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from dagster_dlt import _dlt

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds after which statements are cancelled when the step is interrupted: most jobs end sooner.
GRACE: Final = 3.0
#: Seconds after which an interrupted load is left behind. Kubernetes kills a pod after 30.
PATIENCE: Final = 20.0
#: Seconds between two attempts: the job may have been between two statements.
_AGAIN: Final = 0.5


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None


def stream(
    work: Callable[[Callable[[T], None]], None],
    *,
    idle: float,
    on_idle: Callable[[float], None],
    is_over: Callable[[], bool] = bool,
) -> Iterator[T]:
    """Run `work` in a thread and yield what it hands over, as soon as it does.

    Closing the iterator, or an exception in the thread that reads it (Dagster interrupts a step
    so), stops the work and waits until it has. What does not stop (a generator that waits for a
    socket, a statement that its driver cannot cancel) is left behind: its thread is a daemon that
    ends at the next item or job, keeps its locks until then, and commits nothing.

    Args:
        work: Takes the function to hand things over with. What it raises is raised here.
        idle: Seconds without anything handed over after which `on_idle` is called, again and
            again.
        on_idle: Takes the seconds since something was handed over.
        is_over: Tells whether nobody will read any more, although the iterator is not closed: what
            an exception holds in a variable is not. Asked when something is handed over.
    """
    handed: SimpleQueue[T | _Ended] = SimpleQueue()

    def hand_over(item: T) -> None:
        if is_over():
            stop.ask()
        handed.put(item)

    def body() -> None:
        error: BaseException | None = None
        try:
            work(hand_over)
        except BaseException as raised:  # noqa: BLE001 - raised again in the thread that reads
            error = raised
        handed.put(_Ended(error))

    # With the context of the step: dlt knows by it that Dagster is its host.
    context = contextvars.copy_context()
    stop = _dlt.Stop()
    context.run(stop.enter)
    thread = threading.Thread(target=context.run, args=(body,), name="dagster-dlt", daemon=True)
    reader = threading.current_thread()
    ended: _Ended | None = None
    waited = 0.0
    try:
        thread.start()
        while ended is None:
            try:
                item = handed.get(timeout=idle)
            except Empty:
                waited += idle
                on_idle(waited)
                continue
            waited = 0.0
            if isinstance(item, _Ended):
                ended = item
            else:
                yield item
    finally:
        if ended is None:
            _end(thread, stop, wait=threading.current_thread() is reader)
    thread.join()
    stop.leave(thread)
    if ended.error is not None:
        raise ended.error


def _end(thread: threading.Thread, stop: _dlt.Stop, *, wait: bool) -> None:
    stop.ask()
    if not thread.is_alive():
        # Interrupted while it was started: if it still comes to life, it ends at once.
        return
    # In a thread of its own: a driver may have to wait for the network when it cancels.
    stopper = threading.Thread(
        target=_stop, args=(thread, stop), name="dagster-dlt-stop", daemon=True
    )
    stopper.start()
    if not wait:
        # The garbage collector closes an iterator in any thread, even in one of the load itself.
        return
    try:
        thread.join(PATIENCE)
        stopper.join(_AGAIN)
    finally:
        # A second interrupt gets here at once.
        if thread.is_alive():
            stop.leave(thread)
            logger.warning(
                "The interrupted load did not stop in time and is left behind. Its workspace is "
                "locked until the generator or the statement that blocks is done."
            )


def _stop(thread: threading.Thread, stop: _dlt.Stop) -> None:
    began = time.monotonic()
    while thread.is_alive() and (waited := time.monotonic() - began) < PATIENCE:
        # Again and again: dlt's flag may be reset by whoever runs dlt in the main thread.
        stop.ask()
        if waited >= GRACE:
            stop.cancel_statements()
        thread.join(_AGAIN)
