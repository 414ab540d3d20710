"""Runs that load into the same table at the same time lose nothing of each other."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import dlt
import pytest
from dlt.destinations.impl.filesystem.filesystem import DeltaLoadFilesystemJob

from contents import Contents
from dagster_dlt.loading.entry import Entry, Loader
from places import load, retry, shop

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


@dlt.source(name="shop")
def some_of(names: str, reading: Callable[[], object] = bool) -> Any:
    def rows(name: str) -> Iterator[Any]:
        yield {f"of_{name}": 1}
        reading()

    return [dlt.resource(rows, name=name)(name) for name in names]


@pytest.mark.parametrize("place", ["duckdb", "postgres", "files"], indirect=True)
def test_the_newest_schema_has_what_an_early_load_that_ended_late_never_saw(place):
    reading, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        reading.set()
        assert go_on.wait(60)

    early, late, last = place.pipeline(), place.pipeline(), place.pipeline()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(load, early, some_of("a", wait), run_id="early", partition="1")
        assert reading.wait(60)
        load(late, some_of("ab"), run_id="late", partition="2")
        go_on.set()
        first.result()

    load(last, some_of("ab"), run_id="last", partition="3")

    plain = place.pipeline(pipelines_dir=str(place.disk.with_name("plain")))
    plain.sync_destination()
    assert {"a", "b"} <= set(plain.default_schema.tables)


@dlt.source(name="shop")
def labelled(partition: str) -> Any:
    @dlt.resource(
        primary_key="id",
        table_format="delta",
        write_disposition={"disposition": "merge", "strategy": "upsert"},
    )
    def orders() -> Iterator[Any]:
        yield {"id": 0, "of": partition, "lines": [{"of": partition}]}

    return orders


@pytest.mark.parametrize("place", ["files"], indirect=True)
def test_partitions_that_merge_the_same_row_of_a_delta_table_leave_one_with_its_own_nested_ones(
    place, monkeypatch, caplog
):
    """dlt merges what is nested by itself, and the second run would come in between."""
    caplog.set_level(logging.INFO)
    merge, merged = DeltaLoadFilesystemJob.run, threading.Event()
    halfway, go_on = threading.Event(), threading.Event()

    def slow(job: DeltaLoadFilesystemJob) -> None:
        nested = job.load_table_name.endswith("__lines")
        if nested and not halfway.is_set():
            assert merged.wait(60)
            halfway.set()
            assert go_on.wait(60)
        merge(job)
        if not nested:
            merged.set()

    monkeypatch.setattr(DeltaLoadFilesystemJob, "run", slow)
    with ThreadPoolExecutor(2) as threads:

        def begin(run: str) -> Future[Any]:
            pipeline, source = place.pipeline(), labelled(run)
            return threads.submit(load, pipeline, source, run_id=run, partition=run)

        first = begin("a")
        assert halfway.wait(60)
        second = begin("b")
        while "Waiting for run a" not in caplog.text and not second.done():
            threading.Event().wait(0.02)
        go_on.set()
        first.result()
        second.result()

    orders = Contents.read(place.url, "raw").documents("orders")
    assert orders == [{"id": 0, "of": "b", "lines": [{"of": "b"}]}]


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_load_that_is_finished_leaves_the_staging_tables_of_others_alone(place):
    with place.dying("before commit"):
        load(place.pipeline(), shop(), run_id="killed")
    # So that all of it is sent once more.
    place.ledger().rows.take_back(*place.entries())
    staged = "select id from raw_staging.accounts"
    before = place.column(staged)
    other = Entry("1.0", "shop", Loader("other", "load"), ("accounts",), staged=("accounts",))

    with place.ledger().living(other):
        retry(place.pipeline(), shop(), run_id="killed")

        assert before
        assert place.column(staged) == before
