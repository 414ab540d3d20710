"""Runs that load into the same table at the same time lose nothing of each other."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dlt
import pytest

from places import load

PARTITIONS = [f"2026-01-0{day}" for day in range(1, 6)]


def orders_of(partition: str, extracted: threading.Barrier) -> Any:
    """Return the orders of a day, and one that every day has; days have columns of their own."""
    day = int(partition[-1])

    @dlt.resource(primary_key="id", write_disposition="merge")
    def orders() -> Iterator[Any]:
        yield {"id": 0, "lines": [{"sku": "tea"}]}
        for number in range(10):
            yield {
                "id": 100 * day + number,
                f"of_{day}": True,
                "lines": [{"sku": "a"}, {"sku": "b"}],
            }
        extracted.wait()

    return dlt.source(lambda: orders, name="shop")()


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_five_partitions_that_merge_into_one_table_at_once_lose_nothing(place):
    # All are extracted before one of them is loaded.
    extracted = threading.Barrier(len(PARTITIONS), timeout=30)

    # dlt makes its own directory when a pipeline is described, which threads are not to do at once.
    pipelines = {partition: place.pipeline() for partition in PARTITIONS}

    def run(partition: str) -> None:
        source = orders_of(partition, extracted)
        load(pipelines[partition], source, run_id=partition, partition=partition)

    with ThreadPoolExecutor(len(PARTITIONS)) as threads:
        for done in [threads.submit(run, partition) for partition in PARTITIONS]:
            done.result()

    days = range(1, 6)
    ids = [0, *(100 * day + number for day in days for number in range(10))]
    assert place.column("select id from raw.orders") == ids
    lines = (
        "select o.id, count(l.sku) from raw.orders o "
        "left join raw.orders__lines l on l._dlt_parent_id = o._dlt_id group by 1"
    )
    assert dict(place.query(lines)) == {id_: 2 if id_ else 1 for id_ in ids}
    assert place.query("select count(*) from raw.orders__lines") == [(1 + 20 * len(days),)]
    for day in days:
        assert place.query(f"select count(*) from raw.orders where of_{day}") == [(10,)]
