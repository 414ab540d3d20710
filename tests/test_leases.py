"""Loads of the same resource take turns; loads of different partitions do not."""

import json
import logging
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime, timezone
from pathlib import Path

import dlt
import fsspec
import pytest
from fsspec import AbstractFileSystem

from dagster_dlt import _dlt
from dagster_dlt._facts import Window
from dagster_dlt.errors import LeaseLostError
from dagster_dlt.loading import state
from dagster_dlt.loading.entry import Entry, Loader
from dagster_dlt.loading.leases import lease, overlap
from places import LOG, Place, load


@dlt.source(name="shop")
def counter(until, calls, reading=lambda: None):
    @dlt.resource
    def events(day=dlt.sources.incremental("day", initial_value=0)):
        calls.append(day.last_value)
        reading()
        yield [{"day": number} for number in range(day.last_value + 1, until + 1)]

    return events


@dlt.source(name="shop")
def notes(until, calls):
    return counter(until, calls).events.with_name("notes")


@dlt.source(name="shop")
def both(until, calls):
    return counter(until, calls).events, counter(until, calls).events.with_name("notes")


@pytest.fixture
def threads():
    with ThreadPoolExecutor(8) as pool:
        yield pool


EVERY = ("duckdb", "sqlite", "postgres", "files")
everywhere = pytest.mark.parametrize("place", EVERY, indirect=True)


def days(place):
    """Return the days of all events, also where only the library itself can ask for them."""
    if place.kind != "s3":
        return place.column("select day from raw.events")
    files = fsspec.open_files(f"{place.url}/raw/events/*", "rt", compression="infer")
    return sorted(json.loads(line)["day"] for file in files for line in file.open())


class Gate:
    """Where a load stops on its way, until it is let go on."""

    def __init__(self):
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self):
        self.reached.set()
        assert self.opened.wait(60)


@contextmanager
def running(threads, gate, *args, **kwargs):
    """Let a load run up to its gate; end it after the block."""
    first = threads.submit(load, *args, **kwargs)
    try:
        assert gate.reached.wait(60)
        yield first
    finally:
        gate.opened.set()
    first.result()


def wait_until(true):
    """Return when something is true; a test that waits in vain ends by its time limit."""
    while not true():
        threading.Event().wait(0.02)


@pytest.mark.parametrize("place", [*EVERY, "s3"], indirect=True)
def test_a_second_run_of_a_resource_waits_and_reads_the_cursor_of_the_first(place, threads, caplog):
    caplog.set_level(logging.INFO)
    gate, calls = Gate(), []
    load(place.pipeline(), counter(1, []))

    with running(
        threads, gate, place.pipeline(), counter(3, calls, gate), run_id="first", step="a"
    ):
        source = counter(5, calls)
        second = threads.submit(load, place.pipeline(), source, run_id="second", step="b")
        wait_until(lambda: "Waiting for run first, which loads" in caplog.text)
    second.result()

    assert calls == [1, 3]
    assert days(place) == [1, 2, 3, 4, 5]
    assert place.ledger().leases() == []


@everywhere
def test_a_load_of_another_partition_does_not_wait(place, threads):
    gate = Gate()

    with running(threads, gate, place.pipeline(), counter(3, [], gate), partition="a"):
        load(place.pipeline(), counter(4, []), partition="b")
        before = place.column("select day from raw.events")

    assert before == [1, 2, 3, 4]


def test_a_load_of_another_resource_does_not_wait(place, threads):
    gate = Gate()

    with running(threads, gate, place.pipeline(), counter(3, [], gate)):
        loaded = load(
            place.pipeline(), dlt.source(lambda: dlt.resource([1], name="x"), name="o")(), step="o"
        )

    assert loaded


@pytest.mark.parametrize("place", ["files", "s3"], indirect=True)
def test_a_load_that_ends_after_one_that_began_later_keeps_both_cursors(
    place, threads, monkeypatch
):
    # Of more states dlt would remove those of the loads that began first.
    monkeypatch.setenv("DESTINATION__FILESYSTEM__MAX_STATE_FILES", "1")
    gate, calls = Gate(), []

    with running(threads, gate, place.pipeline(), counter(3, [], gate), step="a"):
        load(place.pipeline(), notes(4, []), step="b")
    load(place.pipeline(), both(5, calls), step="c")

    assert calls == [3, 4]
    assert days(place) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("place", ["files"], indirect=True)
def test_a_state_that_is_half_written_is_not_read(place, threads, monkeypatch):
    write, gate, calls = AbstractFileSystem.write_text, Gate(), []

    def slowly(fs, path, value, *args, **options):
        if '"state"' in value and '"engine_version"' in value and not gate.reached.is_set():
            write(fs, path, value[:100], *args, **options)
            gate()
        write(fs, path, value, *args, **options)

    monkeypatch.setattr(AbstractFileSystem, "write_text", slowly)
    with running(threads, gate, place.pipeline(), counter(3, []), step="a"):
        load(place.pipeline(), notes(4, []), step="b")
    load(place.pipeline(), both(5, calls), step="c")

    assert calls == [3, 4]


@pytest.mark.parametrize("place", ["files"], indirect=True)
def test_of_states_that_nobody_needs_any_more_as_many_are_kept_as_dlt_keeps(place, monkeypatch):
    monkeypatch.setenv("DESTINATION__FILESYSTEM__MAX_STATE_FILES", "2")
    # The clocks of machines do not differ here.
    monkeypatch.setattr(state, "SKEW", 0)

    for until in range(1, 5):
        load(place.pipeline(), counter(until, []))

    assert len(list(Path(place.url).rglob("_dlt_pipeline_state/*"))) == 2
    assert days(place) == [1, 2, 3, 4]


@everywhere
def test_one_that_died_is_not_waited_for(place):
    load(place.pipeline(), counter(1, []))
    gone = Entry("lease gone", "shop", Loader("gone", "load"), ("events",), status="lease")
    with place.ledger().living(gone):
        pass

    load(place.pipeline(), counter(2, []))

    assert place.column("select day from raw.events") == [1, 2]
    assert place.ledger().leases() == []


def test_a_load_that_waits_ends_when_it_is_asked_to_stop(place, threads, caplog):
    caplog.set_level(logging.INFO)
    load(place.pipeline(), counter(1, []))
    gate, stop = Gate(), _dlt.Stop()

    def stoppable():
        stop.enter()
        load(place.pipeline(), counter(5, []), run_id="second", step="b")

    with running(threads, gate, place.pipeline(), counter(3, [], gate), step="a"):
        second = threads.submit(copy_context().run, stoppable)
        wait_until(lambda: "Waiting for run" in caplog.text)
        stop.ask()
        with pytest.raises(CancelledError):
            second.result()

    assert place.column("select day from raw.events") == [1, 2, 3]
    assert place.ledger().leases() == []


def test_a_load_that_was_taken_for_dead_sends_nothing(postgres, tmp_path, threads):
    place = Place("postgres", postgres(), tmp_path / "disk")
    load(place.pipeline(), counter(1, []))

    def taken():
        for each in place.ledger().leases():
            place.ledger().remove(each)

    with pytest.raises(LeaseLostError, match=r"events.* Run it again"):
        # In a thread of its own, since dlt's extraction has this one's context.
        load(place.pipeline(), counter(2, [], lambda: threads.submit(taken).result()))

    assert place.column("select day from raw.events") == [1]


@everywhere
def test_never_do_two_have_the_same(place, threads):
    inside, most, done = set(), [], []
    load(place.pipeline(), counter(1, []))
    together = threading.Barrier(6, timeout=60)

    def work(number, ledger):
        wanted = {"a", "b"} if number % 2 else {"b", "c"}
        together.wait()
        for turn in range(3):
            with lease(ledger, wanted, "shop", Loader(f"{number}", f"{turn}"), log=LOG):
                inside.add(number)
                most.append(len(inside))
                inside.discard(number)
                done.append(number)

    ledgers = [place.ledger() for _ in range(6)]
    for each in [threads.submit(work, *each) for each in enumerate(ledgers)]:
        each.result()

    assert max(most) == 1
    assert len(done) == 18


@dlt.source(name="shop")
def accounts(partition, extracted=lambda: None):
    @dlt.resource(primary_key="id", write_disposition="merge")
    def rows():
        yield [{"id": key, "seen": partition, "tags": ["x"]} for key in range(100)]
        extracted()

    return rows


def test_partitions_with_the_same_keys_leave_one_row_for_each(postgres, tmp_path, threads):
    place = Place("postgres", postgres(), tmp_path / "disk")
    load(place.pipeline(), accounts("first"))
    together = threading.Barrier(5, timeout=60)

    loads = [
        threads.submit(
            load, place.pipeline(), accounts(f"{each}", together.wait), partition=f"{each}"
        )
        for each in range(5)
    ]
    for each in loads:
        each.result()

    assert place.column("select id from raw.rows") == list(range(100))
    assert len({*place.column("select seen from raw.rows")}) == 1
    assert len(place.column("select value from raw.rows__tags")) == 100
    assert place.ledger().leases() == []


def entry(partition, window=None, names=("events",)):
    time = window and Window(*map(day, window))
    return Entry("id", "shop", Loader("run", "step", 0, partition, time), names)


def day(number):
    return datetime(2024, 1, number, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("one", "other", "wait"),
    [
        (entry(None), entry(None), True),
        (entry("a"), entry("a"), True),
        (entry("a"), entry("b"), False),
        (entry("a"), entry(None), True),
        (entry("a"), entry("a", names=("other",)), False),
        (entry("a...c"), entry("b"), True),
        (entry("1...3", (1, 4)), entry("2", (2, 3)), True),
        (entry("1...3", (1, 4)), entry("4", (4, 5)), False),
        (entry("1...3", (1, 4)), entry("3...5", (3, 6)), True),
    ],
)
def test_what_waits_for_what(one, other, wait):
    assert overlap(one, other) is wait
    assert overlap(other, one) is wait
