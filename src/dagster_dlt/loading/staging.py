"""Staging tables: the usual ones while a load is alone, private ones while it overlaps with others.

What is merged, or replaced in one go, is first written to tables of a second dataset, which dlt
empties at the begin of each package. Two loads that share them lose rows without a word. What is in
them then goes into the tables of the dataset, by one load after the other. So it is with Delta and
Iceberg tables, where dlt first collects files.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from hashlib import sha256

from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.loading.entry import Entry
from dagster_dlt.loading.leases import lease
from dagster_dlt.loading.ledger import Ledger
from dagster_dlt.loading.package import Package


@contextmanager
def staging(
    pipeline: Pipeline,
    entry: Entry,
    ledger: Ledger,
    note: Callable[[Entry], None],
    log: logging.Logger,
) -> Iterator[None]:
    """Give a load staging tables that no other load uses, and its turn when it merges them.

    The load is in the ledger already, and only then looks for others: of two that begin at once, at
    least one sees the other.
    """
    with _private(pipeline, entry, ledger, note), _turns(pipeline, entry, ledger, log):
        yield


@contextmanager
def _turns(pipeline: Pipeline, entry: Entry, ledger: Ledger, log: logging.Logger) -> Iterator[None]:
    """Let one load after the other merge into the same tables, see `Package.merged`."""
    merged = Package(pipeline, entry.load_id).merged
    if ledger.takes_turns or not merged:
        yield
        return
    with ExitStack() as stack:
        # Of all pipelines and partitions, unlike what is extracted.
        turn = lease(ledger, merged, "", replace(entry.loader, partition=None), log=log)
        waited = False

        def wait() -> None:
            nonlocal waited
            if not waited:
                stack.enter_context(turn)
                waited = True

        with _dlt.before_merges(pipeline, entry.load_id, wait):
            yield


@contextmanager
def _private(
    pipeline: Pipeline, entry: Entry, ledger: Ledger, note: Callable[[Entry], None]
) -> Iterator[None]:
    rows = ledger.rows
    staged = set(entry.staged)
    if not (rows and staged and any(staged & {*each.staged} for each in ledger.alive(entry))):
        yield
        return
    suffix = sha256(entry.load_id.encode()).hexdigest()[:8]
    usual, pipeline.destination = (
        pipeline.destination,
        _dlt.with_private_staging(pipeline, suffix),
    )
    _dlt.watch(pipeline)
    dataset = _dlt.staging_dataset(pipeline)
    # Noted first: should this process die, whoever takes the load back drops the dataset.
    note(replace(entry, staging=dataset))
    try:
        yield
    finally:
        rows.drop(dataset)
        pipeline.destination = usual
