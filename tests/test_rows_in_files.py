"""Rows in files, and in Delta tables, are taken back and replaced as they are in databases."""

import gzip
import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from unittest.mock import patch

import dlt
import fsspec
import pytest
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.common.schema import Schema
from dlt.destinations.impl.filesystem.filesystem import (
    DeltaLoadFilesystemJob,
    FilesystemClient,
    FilesystemLoadJob,
)
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from contents import Contents
from dagster_dlt import _dlt
from dagster_dlt._facts import Window
from dagster_dlt.errors import LoadTakenBackError, ResourcesFailedError
from dagster_dlt.loading import files_book, state
from dagster_dlt.loading.files_book import FilesBook
from dagster_dlt.loading.rows import Rows
from places import Died, Place, load, retry

on = pytest.mark.parametrize


@dlt.source(name="shop")
def shop(kind="files", until=3, **options):
    """Give documents up to a number, from where the last load has ended."""
    if kind == "delta":
        options["table_format"] = "delta"

    @dlt.resource(**options)
    def orders(at=dlt.sources.incremental("at", initial_value=0)):
        yield [document(number) for number in range(at.last_value + 1, until + 1)]

    return orders


@dlt.source(name="shop")
def parted(kind, partition, keys, **options):
    if kind in {"delta", "upsert"}:
        options["table_format"] = "delta"
    if kind == "upsert":
        options["primary_key"] = "id"
        options["write_disposition"] = {"disposition": "merge", "strategy": "upsert"}

    @dlt.resource(**options)
    def orders():
        yield [{**document(int(key)), "id": f"{partition}{key}"} for key in keys]

    return orders


def document(number):
    return {"at": number, "lines": [{"line": number, "marks": [{"mark": number}]}]}


@pytest.fixture
def place(tmp_path):
    return Place("files", str(tmp_path / "bucket"), tmp_path / "pipelines")


def found(place):
    return Contents.read(place.url, "raw")


def ats(place):
    return sorted(row["at"] for row in found(place).documents("orders"))


def ids(place):
    """Return the keys that are there, once it is sure that each row has what is nested in it."""
    there = found(place)
    for row in there.documents("orders"):
        number = row["at"]
        assert row["lines"] == [{"line": number, "marks": [{"mark": number}]}]
    assert len({len(there.tables[name]) for name in there.tables if name.startswith("orders")}) == 1
    return sorted(row["id"] for row in there.documents("orders"))


def statuses(place):
    return [entry.status for entry in place.entries()]


def rows_of(place):
    there = found(place)
    return Counter({name: len(there.tables[name]) for name in there.tables if name[0] != "_"})


# --- loads that died ----------------------------------------------------------------------------


@contextmanager
def dying_at(method):
    """End a process in a method of the destination."""

    def die(*_):
        raise Died

    with patch.object(FilesystemClient, method, die), pytest.raises(Died):
        yield


@on(("kind", "taken"), [("files", "4 files"), ("delta", "3 rows and 1 files")])
def test_a_load_that_died_with_its_disk_is_taken_back_before_the_next_one(
    place, kind, taken, caplog
):
    """Its cursors are there, and nothing says that it was committed."""
    load(place.pipeline(), shop(kind, 1))
    with dying_at("_store_load"):
        load(place.pipeline(), shop(kind, 2), run_id="the dead one")
    place.lose_disk()
    sent = ats(place)

    load(place.pipeline(), shop(kind, 3), run_id="another")

    assert sent == [1, 2]
    assert ats(place) == [1, 2, 3]
    assert rows_of(place) == {"orders": 3, "orders__lines": 3, "orders__lines__marks": 3}
    assert statuses(place) == ["committed", "undone", "committed"]
    assert f"of run the dead one was never committed: took back {taken} of orders." in caplog.text
    assert len(found(place).tables["_dlt_pipeline_state"]) == 2


def test_cursors_that_were_stored_and_never_committed_are_those_of_nobody(place, monkeypatch):
    """dlt stores them before it notes the load, and restores the newest that are stored."""
    monkeypatch.setattr(state, "SKEW", 0.0)  # as if there were minutes between these
    load(place.pipeline(), shop(until=1))
    with dying_at("_store_load"):
        load(place.pipeline(), shop(until=2), run_id="killed")
    place.lose_disk()

    load(place.pipeline(), others(), run_id="other")
    load(place.pipeline(), shop(until=3), run_id="last")

    assert ats(place) == [1, 2, 3]


@dlt.source(name="shop")
def others():
    @dlt.resource
    def others(id_=dlt.sources.incremental("id", initial_value=0)):
        yield {"id": id_.last_value + 1}

    return others


def test_nested_rows_of_delta_tables_whose_parents_never_came_are_taken_back(place):
    """dlt writes the tables of a chain in any order."""
    run = DeltaLoadFilesystemJob.run

    def write(job):
        if job.load_table_name != "orders":
            run(job)

    with patch.object(DeltaLoadFilesystemJob, "run", write), dying_at("complete_load"):
        load(place.pipeline(), shop("delta", 1))
    place.lose_disk()
    left = rows_of(place)

    load(place.pipeline(), shop("delta", 1))

    assert +left == Counter({"orders__lines": 1, "orders__lines__marks": 1})
    assert rows_of(place) == {"orders": 1, "orders__lines": 1, "orders__lines__marks": 1}


def test_a_job_of_unknown_outcome_is_done_once(place):
    """One that writes a file writes the same file again."""
    load(place.pipeline(), shop("delta", 1))
    with dying_at("complete_load"):
        load(place.pipeline(), shop("delta", 2))
    (folder,) = place.disk.glob(".dagster/shop/*/*/shop/load/normalized/*")
    (job,) = folder.glob("completed_jobs/orders.*.reference")
    job.rename(folder / "started_jobs" / job.name)

    retry(place.pipeline(), shop("delta", 2))

    assert ats(place) == [1, 2]
    assert rows_of(place) == {"orders": 2, "orders__lines": 2, "orders__lines__marks": 2}


def test_what_the_destination_refuses_is_taken_back_and_the_others_are_loaded(place):
    """The first of its tables may be there already."""
    run = FilesystemLoadJob.run

    def write(job):
        if job.load_table_name == "orders__lines":
            message = "never"
            raise DestinationTerminalException(message)
        run(job)

    both = [*shop(until=2).resources.values(), *others().resources.values()]
    with patch.object(FilesystemLoadJob, "run", write), pytest.raises(ResourcesFailedError):
        load(place.pipeline(), DltSource(shop().schema, "shop", both))

    assert rows_of(place).get("orders", 0) == 0
    assert rows_of(place)["others"] == 1
    load(place.pipeline(), shop(until=2), run_id="next")
    assert ats(place) == [1, 2]


# --- whose the files are ------------------------------------------------------------------------


@on(
    "layout",
    [
        "{schema_name}/{table_name}/{YYYY}/{file_id}{load_id}",
        "{table_name}_{load_id}.{file_id}.{ext}",
    ],
)
def test_files_of_other_loads_and_tables_stay_whatever_the_layout(place, layout, monkeypatch):
    monkeypatch.setenv("DESTINATION__FILESYSTEM__LAYOUT", layout)
    monkeypatch.setenv("DESTINATION__FILESYSTEM__WARN_UNSAFE_LAYOUT_SEPARATORS", "false")
    rows = [{"id": 1}]
    every = [dlt.resource(rows, name="a"), dlt.resource(rows, name="a_b")]
    load(place.pipeline(), DltSource(Schema("some"), "some", every), partition="x")
    before = data_files(place)

    load(place.pipeline(), DltSource(Schema("some"), "some", every[:1]), partition="x", run_id="b")

    gone = before - data_files(place)
    assert len(before) == 2
    assert ["a_b" not in each for each in gone] == [True]
    assert len(data_files(place)) == 2


@on("layout", ["{table_name}/{file_id}.{ext}", "{table_name}/{load_id}{file_id}.{ext}"])
def test_where_names_do_not_tell_loads_apart_a_warning_says_that_rows_stay(
    place, layout, monkeypatch, caplog
):
    monkeypatch.setenv("DESTINATION__FILESYSTEM__LAYOUT", layout)
    load(place.pipeline(), parted("files", "a", "1"), partition="a")
    assert "cannot be told from others" in caplog.text

    load(place.pipeline(), parted("files", "a", "1"), partition="a", run_id="again")

    assert ids(place) == ["a1", "a1"]
    assert "of orders for partition a stay, beside those that are loaded now" in caplog.text


def data_files(place):
    paths = (Path(place.url) / "raw").rglob("*")
    names = {str(each) for each in paths if each.is_file() and "_dlt" not in str(each)}
    return {name for name in names if not name.endswith("init")}


# --- partitions ---------------------------------------------------------------------------------


@on("kind", ["files", "upsert"])
def test_a_partition_that_is_loaded_again_has_the_rows_of_the_last_time(place, kind, caplog):
    load(place.pipeline(), parted(kind, "a", "123"), partition="a")
    load(place.pipeline(), parted(kind, "b", "123"), partition="b")

    load(place.pipeline(), parted(kind, "a", "34"), partition="a", run_id="again")

    assert ids(place) == ["a3", "a4", "b1", "b2", "b3"]
    assert statuses(place) == ["replaced", "committed", "committed"]
    assert "stay" not in caplog.text


@on(("kind", "disk"), [("files", "lost"), ("delta", "kept")])
def test_what_a_load_was_to_replace_when_it_died_is_removed_by_the_next_one(place, kind, disk):
    load(place.pipeline(), parted(kind, "a", "12"), partition="a")
    with patch.object(Rows, "remove_replaced", side_effect=Died), pytest.raises(Died):
        load(place.pipeline(), parted(kind, "a", "23"), partition="a", run_id="again")
    twice = ids(place)
    if disk == "lost":
        place.lose_disk()

    load(place.pipeline(), parted(kind, "b", "1"), partition="b")

    assert twice == ["a1", "a2", "a2", "a3"]
    assert ids(place) == ["a2", "a3", "b1"]


@on(("kind", "left"), [("files", [1, 2, 2, 3, 4]), ("delta", [1, 2, 3, 4])])
def test_a_day_replaces_its_part_of_a_range_where_rows_can_be_told_apart(place, kind, left, caplog):
    """A file goes as a whole or not at all."""
    load(place.pipeline(), daily(kind), window=days(1, 5), partition="1...4")

    load(place.pipeline(), daily(kind), window=days(2, 3), partition="2", run_id="again")

    assert sorted(row["day"] for row in found(place).documents("visits")) == left
    assert ("for partition 1...4 stay" in caplog.text) == (kind == "files")


def days(first, end):
    return Window(*(datetime(2024, 1, day, tzinfo=timezone.utc) for day in (first, end)))


@dlt.source(name="shop")
def daily(kind):
    first = datetime(2024, 1, 1, tzinfo=timezone.utc)

    @dlt.resource(table_format="delta" if kind == "delta" else None)
    def visits(at=dlt.sources.incremental("at", initial_value=first)):
        yield [{"day": day, "at": first + timedelta(days=day - 1)} for day in range(1, 6)]

    return visits


def test_what_a_partition_has_loaded_is_known_when_other_loads_are_forgotten(place, monkeypatch):
    load(place.pipeline(), parted("files", "a", "12"), partition="a")
    load(place.pipeline(), parted("files", "b", "12"), partition="b")
    with monkeypatch.context() as patched:
        patched.setattr(files_book, "KEPT", 0.0)
        load(place.pipeline(), others())
    known = statuses(place)

    for run in ("again", "and again"):
        load(place.pipeline(), parted("files", "a", "23"), partition="a", run_id=run)

    assert known == []
    assert ids(place) == ["a2", "a3", "b1", "b2"]
    assert len([*Path(place.url).rglob("*.kept")]) == 1


# --- others at the same time --------------------------------------------------------------------


def test_a_load_that_was_taken_for_dead_counts_as_nothing_and_says_so(place, monkeypatch):
    """Its machine stood still, and another run has taken its rows back meanwhile."""
    load_package, change = Pipeline.load, FilesBook.change

    def interrupted(pipeline, *args, **keywords):
        monkeypatch.undo()
        info = load_package(pipeline, *args, **keywords)
        # In the instant after it has looked whether the load was committed.
        with patch.object(_dlt.Files, "committed", return_value={}):
            (entry,) = place.entries()
            book = FilesBook(_dlt.files_of(place.pipeline(), shop().schema))
            assert change(book, entry, "loading", "undoing", 0) == "undoing"
            book.write(entry)  # as a note that was begun before, and comes after
        return info

    monkeypatch.setattr(Pipeline, "load", interrupted)
    with pytest.raises(LoadTakenBackError, match=r"rows back.* Run it again"):
        load(place.pipeline(), shop(until=1))
    place.lose_disk()
    assert rows_of(place).total() == 0

    load(place.pipeline(), shop(until=1))

    assert ats(place) == [1]


def test_a_load_that_was_committed_first_is_not_taken_back(place):
    load(place.pipeline(), shop(until=1))
    (entry,) = place.entries()
    place.ledger().note(replace(entry, status="loading"))

    assert place.ledger().rows.take_back(replace(entry, status="loading")) is None
    assert ats(place) == [1]


def test_rows_of_a_delta_table_go_although_others_write_to_it_meanwhile(place):
    load(place.pipeline(), parted("delta", "a", "12"), partition="a")
    load(place.pipeline(), parted("delta", "b", "1"), partition="b")
    opened, orders = _dlt.DeltaTables.open, []

    def open_and_wait(tables, name):
        table = opened(tables, name)
        if name == "orders":
            orders.append(table)
            if len(orders) == 2:  # the one from which rows are about to be deleted
                opened(tables, name).update(predicate="id = 'a2'", updates={"at": "9"})
        return table

    with patch.object(_dlt.DeltaTables, "open", open_and_wait):
        load(place.pipeline(), parted("delta", "a", "3"), partition="a", run_id="again")

    assert len(orders) == 3
    assert ids(place) == ["a3", "b1"]


def test_rows_in_an_object_store_are_taken_back_and_replaced_too(s3, tmp_path):
    place = Place("s3", f"{s3}/{tmp_path.name}", tmp_path / "pipelines")
    load(place.pipeline(), parted("files", "a", "12"), partition="a")
    with dying_at("_store_load"):
        load(place.pipeline(), parted("files", "a", "2"), partition="a", run_id="killed")
    place.lose_disk()

    load(place.pipeline(), parted("files", "a", "3"), partition="a", run_id="again")

    fs = fsspec.filesystem("s3")
    files = fs.glob(f"{place.url}/raw/orders/*.gz")
    lines = [line for file in files for line in gzip.decompress(fs.cat(file)).splitlines()]
    assert sorted(json.loads(line)["id"] for line in lines) == ["a3"]
    assert statuses(place) == ["replaced", "undone", "committed"]
