"""Runs a load in a thread, so that what it commits can be reported while it goes on."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from dagster_dlt import _dlt

T = TypeVar("T")

#: Seconds that dlt gets to stop by itself when the step is interrupted.
PATIENCE: Final = 20.0


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None


def stream(
    work: Callable[[Callable[[T], None]], None],
    *,
    idle: float,
    on_idle: Callable[[float], None],
) -> Iterator[T]:
    """Run `work` in a thread and yield what it hands over, as soon as it does.

    Closing the iterator, or an exception in the thread that reads it (Dagster interrupts a step
    so), asks dlt to stop and waits until it has.

    Args:
        work: Takes the function to hand things over with. What it raises is raised here.
        idle: Seconds without anything handed over after which `on_idle` is called, again and
            again.
        on_idle: Takes the seconds since something was handed over.
    """
    handed: SimpleQueue[T | _Ended] = SimpleQueue()

    def body() -> None:
        error: BaseException | None = None
        try:
            work(handed.put)
        except BaseException as raised:  # noqa: BLE001 - raised again in the thread that reads
            error = raised
        handed.put(_Ended(error))

    # With the context of the step: dlt knows by it that Dagster is its host.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(body,), name="dagster-dlt", daemon=True)
    thread.start()
    ended: _Ended | None = None
    waited = 0.0
    try:
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
            with _dlt.asked_to_stop():
                thread.join(PATIENCE)
    thread.join()
    if ended.error is not None:
        raise ended.error
