"""Leases: what a load has for itself while others that want the same wait.

Loads of the same resource take turns, from reading its cursor to the commit: a second one would
read the same rows, or delete and write the same ones at once. Loads of different partitions do not,
except for the moment in which they merge into the same table.

The only place where all runs meet is the destination, and few destinations let two writers compete
for a row. So the queue is that of Lamport's bakery, which needs no more than that what was written
can be read: whoever wants something says so, takes the number after the highest one that is there,
and waits for those with a lower number, and for those that are about to take one.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from tenacity import Retrying, retry_if_result, wait_exponential

from dagster_dlt import _dlt
from dagster_dlt.errors import LeaseLostError
from dagster_dlt.loading.entry import RANGE, Entry, Loader
from dagster_dlt.loading.ledger import Ledger

#: Seconds between two looks at the queue, at most.
LOOK: Final = 2.0


@dataclass(frozen=True)
class Lease:
    """What a load has for itself."""

    entry: Entry
    ledger: Ledger

    def check(self) -> None:
        """Make sure that nobody has taken this process for dead, and the lease.

        Raises:
            LeaseLostError: somebody has.
        """
        if all(each.load_id != self.entry.load_id for each in self.ledger.leases()):
            raise LeaseLostError(self.entry.resources)


@contextmanager
def lease(
    ledger: Ledger,
    wanted: Collection[str],
    pipeline: str,
    loader: Loader,
    *,
    log: logging.Logger,
) -> Iterator[Lease]:
    """Wait until no other load has any of what is wanted, and have it until the block ends.

    All is asked for at once, so that no two loads wait for each other.

    Args:
        ledger: Where the queue is.
        wanted: What the load wants for itself.
        pipeline: Name of the pipeline whose resources they are; empty for tables, which all
            pipelines of the dataset share.
        loader: Who loads, and which partition.
        log: Where to say for whom it waits.

    Raises:
        CancelledError: the load was asked to stop while it waited.
    """
    entry = Entry(
        load_id=f"lease {uuid4().hex}",
        pipeline=pipeline,
        loader=loader,
        resources=tuple(sorted(wanted)),
        status="lease",
    )
    with ExitStack() as stack:
        with ledger.connected():
            noted = stack.enter_context(ledger.living(entry))
            stack.callback(ledger.remove, noted)
            # It sends nothing from then on, and may take for ever to notice.
            _dlt.when_left(lambda: ledger.let_go(noted))
            queue = _Queue(ledger, noted, log)
            others = queue.before_me()
        if others:
            queue.take_ticket()
            queue.wait()
        yield Lease(noted, ledger)


def overlap(one: Entry, other: Entry) -> bool:
    """Tell whether two leases are for the same thing, and not for different partitions of it."""
    if one.pipeline != other.pipeline or not {*one.resources} & {*other.resources}:
        return False
    parts = one.loader.partition, other.loader.partition
    if None in parts or parts[0] == parts[1]:
        return True
    if not any(RANGE in str(part) for part in parts):
        return False
    # Nothing tells which keys are in a range but the time that it is about.
    ours, theirs = one.loader.window, other.loader.window
    return ours is None or theirs is None or ours.overlaps(theirs)


class _Queue:
    def __init__(self, ledger: Ledger, mine: Entry, log: logging.Logger) -> None:
        self._ledger = ledger
        self._mine = mine
        self._log = log

    def before_me(self) -> list[Entry]:
        """Return those that have what is wanted, or get it first; who is dead is sent away.

        Whoever has no number yet comes first: it may have looked before this one was there.
        """
        first = []
        for other in self._ledger.leases():
            if not overlap(other, self._mine) or not self._is_before(other):
                continue
            cause = self._ledger.cause_of_death(other, self._mine.loader)
            if cause is None:
                first.append(other)
                continue
            self._log.warning(
                "Run %s no longer has %s: %s.",
                other.loader.run_id,
                ", ".join(other.resources),
                cause,
            )
            self._ledger.remove(other)
        return first

    def _is_before(self, other: Entry) -> bool:
        if other.load_id == self._mine.load_id:
            return False
        if other.ticket is None or self._mine.ticket is None:
            return True
        return (other.ticket, other.load_id) < (self._mine.ticket, self._mine.load_id)

    def take_ticket(self) -> None:
        """Take the number after the highest one."""
        highest = max((each.ticket or 0 for each in self._ledger.leases()), default=0)
        self._mine = replace(self._mine, ticket=highest + 1)
        self._ledger.note(self._mine)

    def wait(self) -> None:
        """Wait until nobody is before this one."""
        told: set[str] = set()

        def others_are_first() -> bool:
            first = self.before_me()
            for other in first:
                if other.loader.run_id not in told:
                    told.add(other.loader.run_id)
                    self._tell(other)
            return bool(first)

        Retrying(
            retry=retry_if_result(bool),
            wait=wait_exponential(multiplier=0.1, max=LOOK),
            sleep=_dlt.pause,
        )(others_are_first)

    def _tell(self, other: Entry) -> None:
        shared = sorted({*other.resources} & {*self._mine.resources})
        partition = f", partition {other.loader.partition}" if other.loader.partition else ""
        self._log.info(
            "Waiting for run %s%s, which loads %s.",
            other.loader.run_id,
            partition,
            ", ".join(shared),
        )
