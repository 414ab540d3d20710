"""Staging tables: the usual ones while a load is alone, private ones while it overlaps with others.

What is merged, or replaced in one go, is first written to tables of a second dataset, which dlt
empties at the begin of each package. Two loads that share them lose rows without a word.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256

from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt.loading.ledger import Entry, Ledger


@contextmanager
def staging(
    pipeline: Pipeline, entry: Entry, ledger: Ledger, note: Callable[[Entry], None]
) -> Iterator[None]:
    """Give a load staging tables that no other load uses.

    The load is in the ledger already, and only then looks for others: of two that begin at once, at
    least one sees the other.
    """
    others = [each for each in ledger.alive(entry) if set(each.staged) & set(entry.staged)]
    if not others:
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
        ledger.drop(dataset)
        pipeline.destination = usual
