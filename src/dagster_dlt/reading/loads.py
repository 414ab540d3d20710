"""Which loads brought the rows of partitions, where nothing in the rows says whose they are."""

from collections.abc import Callable, Sequence

from dlt.common.schema import Schema
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt.errors import PartitionNotToldError
from dagster_dlt.loading.entry import RANGE, Entry
from dagster_dlt.loading.ledger import ledger_of
from dagster_dlt.loading.turns import Turn
from dagster_dlt.reading.conditions import REMEDY


def loads_of(
    asset: str,
    resource: str,
    keys: Sequence[str],
    order: Callable[[], Sequence[str]],
    entries: Sequence[Entry],
) -> list[str]:
    """Return the ids of the loads that brought the rows of some partitions, and of no others.

    Args:
        asset: The asset, for errors.
        resource: Its resource.
        keys: Keys of the partitions.
        order: Returns the keys of all partitions, in their order.
        entries: What the ledger knows of the pipeline's loads.

    Raises:
        PartitionNotToldError: no load of them is known, or one that brought others as well.
    """
    wanted, found = set(keys), list[str]()
    for entry in entries:
        if resource not in entry.resources or resource in entry.failed:
            continue
        loaded = _keys_of(entry.loader.partition or "", order)
        if loaded <= wanted:
            found.append(entry.load_id)
        elif loaded & wanted:
            problem = f"load {entry.load_id} brought those of {entry.loader.partition} together"
            raise PartitionNotToldError(asset, problem, f"Load each by itself, or else: {REMEDY}")
    if not found:
        named = keys[0] if len(keys) == 1 else f"{keys[0]}{RANGE}{keys[-1]}"
        problem = f"nothing in the rows does, and no load of {named} is known"
        raise PartitionNotToldError(asset, problem, f"Materialize it, or else: {REMEDY}")
    return found


def _keys_of(partition: str, order: Callable[[], Sequence[str]]) -> set[str]:
    first, several, last = partition.partition(RANGE)
    if not several:
        return {partition}
    known = list(order())
    if first not in known or last not in known:
        return set()
    return set(known[known.index(first) : known.index(last) + 1])


def entries_at(
    asset: str, pipeline: Pipeline, schema: Schema, turn: Turn, keys: Sequence[str]
) -> list[Entry]:
    """Return the loads of these partitions, and of all that may overlap them, that still count.

    Raises:
        PartitionNotToldError: the destination keeps no book of all loads.
    """
    ledger = ledger_of(pipeline, turn, schema=schema)
    if ledger is None or ledger.rows is None:
        problem = (
            "nothing in the rows does, and its destination does not keep which loads there were"
        )
        raise PartitionNotToldError(asset, problem, REMEDY)
    # For a range everything comes into question.
    return ledger.rows.committed(keys[0] if len(keys) == 1 else f"{keys[0]}{RANGE}{keys[-1]}")
