"""Life of a process that others wait for: how it shows that it lives, and is known to be dead."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from dagster_dlt import _dlt
from dagster_dlt.loading.entry import Loader
from dagster_dlt.loading.machine import machine, sign_of_life

#: Seconds between two signs of life that can be seen from other machines.
BEAT: Final = 60.0
#: Seconds without a sign of life after which a load of another machine counts as dead.
LEASE: Final = 900.0


class Living(Protocol):
    """What is known of a load that may be alive."""

    @property
    def load_id(self) -> str:
        """What its sign of life on its machine is called by."""

    @property
    def machine(self) -> str:
        """Its machine."""

    @property
    def loader(self) -> Loader:
        """Who loads."""

    @property
    def beat_at(self) -> float:
        """When it gave its last sign of life, in seconds since 1970."""


def cause_of_death(
    one: Living, asks: Loader | None, *, is_over: Callable[[str], bool], now: float | None
) -> str | None:
    """Return how it is known that a load is dead, in words; None while it may be alive.

    On the same machine its lock says so. Elsewhere it is dead if a later attempt of the same step
    asks, if Dagster says that its run has ended, or when it gives no sign of life.

    Args:
        one: The load.
        asks: Who wants to know.
        is_over: Tells whether a Dagster run has ended, by its id.
        now: Seconds since 1970; None where no signs are given to other machines.
    """
    if one.machine == machine():
        return None if sign_of_life(one.load_id).is_given() else "its process is gone"
    if asks is not None:
        same_step = (one.loader.run_id, one.loader.step) == (asks.run_id, asks.step)
        if same_step and one.loader.attempt < asks.attempt:
            return "its step is tried again"
    if is_over(one.loader.run_id):
        return "its run has ended"
    if now is not None and now - one.beat_at > LEASE:
        return "it gives no sign of life"
    return None


@contextmanager
def beating(beat: Callable[[], object]) -> Iterator[None]:
    """Give signs of life until the block ends.

    One that is missed costs nothing: a lease is many beats long.
    """
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(BEAT):
            with suppress(Exception):
                beat()

    # A sign may need a client of its own, and that the credentials of this load.
    alike = _dlt.configured_alike(go_on)
    beats = threading.Thread(target=alike, daemon=True, name="dagster-dlt-beat")
    beats.start()
    try:
        yield
    finally:
        over.set()
        beats.join()
