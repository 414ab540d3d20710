"""Packages that a dead process left on the disk are finished, and nothing is there twice."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import dlt
import pyarrow as pa
import pytest
from dlt.common.storages import LoadStorage
from dlt.common.storages.load_package import PackageStorage
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt.loading.delivery import Delivery
from dagster_dlt.loading.package import Package
from places import Died, contents, expected, load, retry, shop
from sources import query

on = pytest.mark.parametrize
servers_and_files = on("place", ["duckdb", "postgres"], indirect=True)
duckdb_only = on("place", ["duckdb"], indirect=True)
postgres_only = on("place", ["postgres"], indirect=True)


def left_behind(place, source, moment="before commit", **options):
    """Let a load die with all its rows at the destination; return the folder of its package."""
    with place.dying(moment):
        load(place.pipeline(), source, **options)
    (folder,) = place.disk.glob(".dagster/shop/*/*/shop/load/normalized/*")
    return folder


def put_in_doubt(folder, *jobs):
    """Leave jobs as a process does that dies after a job is committed and before it is noted."""
    moved = 0
    for job in jobs:
        table, _, kind = job.partition(".")
        for file in (folder / "completed_jobs").iterdir():
            name, *_, ending = file.name.removesuffix(".gz").split(".")
            if name == table and (ending == "sql") == (kind == "sql"):
                file.rename(folder / "started_jobs" / file.name)
                moved += 1
    assert moved == len(jobs)


def loads(place):
    return place.column("select load_id from raw._dlt_loads")


# --- jobs of which nobody knows whether they were committed -------------------------------------

IN_DOUBT = [
    # append: any table of the chain, and all of them
    ["events"],
    ["events__items"],
    ["events__items__marks"],
    ["events", "events__items", "events__items__marks"],
    # merge without a key, which adds rows: what fills the staging tables, and what merges
    ["notes"],
    ["notes__items"],
    ["notes.sql"],
    # merge by key
    ["accounts"],
    ["accounts__lines"],
    ["accounts.sql"],
    # replace
    ["prices"],
    ["prices__tags"],
]


@servers_and_files
@on("jobs", IN_DOUBT, ids="+".join)
def test_a_job_of_unknown_outcome_is_done_once(place, jobs):
    source = shop(2).with_resources(jobs[0].partition("__")[0].partition(".")[0])
    (resource,) = source.selected_resources
    load(place.pipeline(), shop(1).with_resources(resource))
    put_in_doubt(left_behind(place, source), *jobs)

    assert retry(place.pipeline(), source).keys() == {resource}

    assert contents(place, resource) == expected(2, resource)
    assert len(loads(place)) == 2


@servers_and_files
@on("table", ["notes", "accounts"])
@on("workers", ["1", "20"])
def test_a_merge_that_was_not_begun_waits_for_what_is_sent_again(
    place, table, workers, monkeypatch
):
    monkeypatch.setenv("LOAD__WORKERS", workers)
    folder = left_behind(place, shop())
    put_in_doubt(folder, f"{table}.sql")
    (merge,) = (folder / "started_jobs").iterdir()
    merge.rename(folder / "new_jobs" / merge.name)

    retry(place.pipeline(), shop())

    assert contents(place) == expected(3)


@servers_and_files
@on("jobs", [["prices"], ["prices__tags"], ["prices.sql"]], ids="+".join)
def test_a_job_of_unknown_outcome_of_a_replace_from_staging_is_done_once(place, jobs, monkeypatch):
    monkeypatch.setenv("DESTINATION__REPLACE_STRATEGY", "insert-from-staging")
    load(place.pipeline(), shop(1).with_resources("prices"))
    put_in_doubt(left_behind(place, shop(2).with_resources("prices")), *jobs)

    retry(place.pipeline(), shop(2).with_resources("prices"))

    assert contents(place, "prices") == expected(2, "prices")


@servers_and_files
def test_cursors_of_unknown_outcome_are_there_once(place):
    load(place.pipeline(), shop(1))
    put_in_doubt(left_behind(place, shop(2)), "_dlt_pipeline_state")

    retry(place.pipeline(), shop(2))

    assert sorted(loads(place)) == place.column("select _dlt_load_id from raw._dlt_pipeline_state")
    load(place.pipeline(), shop(3))
    assert contents(place) == expected(3)


@servers_and_files
def test_nested_rows_of_unknown_outcome_are_found_without_their_parents(place):
    """By the files of the package; what else hangs from nothing is another load's."""
    source = shop(2).with_resources("events")
    load(place.pipeline(), shop(1).with_resources("events"))
    folder = left_behind(place, source)
    put_in_doubt(folder, "events")
    load_id = folder.name
    place.query(f"delete from raw.events where _dlt_load_id = '{load_id}'")
    place.query(
        "insert into raw.events__items (item, _dlt_parent_id, _dlt_list_idx, _dlt_id) "
        "values ('of another load', 'to come', 0, 'other')"
    )

    retry(place.pipeline(), source)

    found, wanted = contents(place, "events"), expected(2, "events")
    assert found.pop("events items") == [*wanted.pop("events items"), "of another load"]
    assert found == wanted


@on(
    ("place", "file_format"),
    [("duckdb", "parquet"), ("duckdb", "jsonl"), ("duckdb", "insert_values"), ("postgres", "csv")],
    indirect=["place"],
)
def test_files_of_every_format_tell_which_rows_are_theirs(place, file_format):
    source, only = shop(2).with_resources("events"), {"loader_file_format": file_format}
    folder = left_behind(place, source, options=only)
    put_in_doubt(folder, "events")
    place.query("delete from raw.events")

    retry(place.pipeline(), source)

    assert contents(place, "events") == expected(2, "events")


@duckdb_only
def test_rows_without_a_load_id_are_sent_again_when_nobody_knows(place, caplog):
    """They cannot be told from others, of which the log has warned before the load."""

    @dlt.source(name="shop")
    def source():
        return dlt.resource(pa.table({"day": [1]}), name="arrows")

    place.pipeline(pipelines_dir=str(place.disk / "plain")).run(source())
    put_in_doubt(left_behind(place, source()), "arrows")

    retry(place.pipeline(), source())

    assert place.query("select count(*) from raw.arrows") == [(3,)]
    assert "cannot be told from others" in caplog.text


@duckdb_only
@on("files", range(7))
def test_a_process_that_dies_while_it_cleans_up_is_followed_by_one_that_ends_it(
    place, files, monkeypatch
):
    """After any number of files was moved: what is in doubt stays so until all are."""
    source = shop(2).with_resources("events", "notes")
    load(place.pipeline(), shop(1).with_resources("events", "notes"))
    put_in_doubt(left_behind(place, source), "events", "notes.sql")
    moved, rename, unlink = [], Path.rename, Path.unlink

    def counting(change):
        def changed(path, *args, **options):
            if path.parent.name.endswith("_jobs"):
                if len(moved) == files:
                    raise Died
                moved.append(path.name)
            return change(path, *args, **options)

        return changed

    monkeypatch.setattr(Path, "rename", counting(rename))
    monkeypatch.setattr(Path, "unlink", counting(unlink))
    with pytest.raises(Died):
        retry(place.pipeline(), source)
    monkeypatch.undo()

    retry(place.pipeline(), source)

    assert contents(place, "events", "notes") == expected(2, "events", "notes")


# --- packages that something has happened to meanwhile ------------------------------------------


@servers_and_files
def test_a_package_that_is_in_dlts_loads_is_not_loaded_again(place):
    folder = left_behind(place, shop(1), "after commit")
    assert place.entries()[0].status == "committed"

    reported = retry(place.pipeline(), shop(1))

    assert contents(place) == expected(1)
    assert loads(place) == [folder.name]
    assert reported.keys() == {"events", "notes", "accounts", "prices"}
    assert not folder.exists()


@servers_and_files
@on("moment", ["before", "after"])
def test_a_committed_package_that_is_marked_or_not_and_was_not_moved_is_moved(
    place, moment, monkeypatch
):
    def die(storage, load_id, aborted):
        if moment == "after":
            storage.normalized_packages.complete_loading_package(load_id, "loaded")
        raise Died

    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(LoadStorage, "complete_load_package", die)
        load(place.pipeline(), shop(3))

    assert len(retry(place.pipeline(), shop(3))) == 4
    assert contents(place) == expected(3)
    assert not list(place.disk.glob(".dagster/shop/*"))


@duckdb_only
@on("moment", ["it is requested", "it is marked"])
def test_an_abort_that_was_begun_is_ended_with_cursors_put_back(place, moment, monkeypatch):
    # Where the data are in dlt's own directory, and so no private one can be removed.
    pipeline = place.pipeline(destination=dlt.destinations.duckdb(":pipeline:"))
    with place.dying("before commit"):
        load(pipeline, shop(3))

    def die(packages, load_id, *state):
        if state:
            mark(packages, load_id, *state)
        raise Died

    method = {"it is requested": "abort_package", "it is marked": "complete_loading_package"}
    mark = PackageStorage.complete_loading_package
    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(PackageStorage, method[moment], die)
        load(pipeline, shop(3), run_id="second", on_pending="abort")

    assert len(load(pipeline, shop(3), run_id="third")) == 4
    assert query(pipeline, "select count(*) from raw.events") == [(3,)]


@duckdb_only
@on("left", ["all", "half"])
def test_a_package_that_is_normalized_and_still_among_the_extracted_is_loaded(
    place, left, monkeypatch
):
    remove = PackageStorage.delete_package

    def die(packages, load_id, **options):
        if options:  # before it begins to normalize
            remove(packages, load_id, **options)
            return
        if left == "half":
            folder = Path(packages.storage.storage_path) / packages.get_package_path(load_id)
            (folder / packages.SCHEMA_FILE_NAME).unlink()
        raise Died

    with place.dying("before commit"):
        load(place.pipeline(), shop(3))
    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(PackageStorage, "delete_package", die)
        load(place.pipeline(), shop(4), run_id="second")

    with patch.object(Pipeline, "extract", side_effect=AssertionError):
        retry(place.pipeline(), shop(4), run_id="second")
    assert contents(place) == expected(4)
    assert len(loads(place)) == 2
    assert not list(place.disk.glob(".dagster/shop/*"))


# --- whose they are, and what of ----------------------------------------------------------------


@contextmanager
def dies_before(step):
    """Let a load in this block die before a step of dlt."""

    def die(*_args, **_options):
        raise Died

    with patch.object(Pipeline, step, die), pytest.raises(Died):
        yield


@servers_and_files
def test_a_resource_that_had_nothing_new_is_not_asked_again(place):
    load(place.pipeline(), shop(3), run_id="first")
    with dies_before("normalize"):
        load(place.pipeline(), shop(3), run_id="second")

    with patch.object(Pipeline, "extract", side_effect=AssertionError):
        reported = retry(place.pipeline(), shop(3), run_id="second")

    assert reported.keys() == {"events", "notes", "accounts", "prices"}
    assert contents(place) == expected(3)


@servers_and_files
@on("step", ["normalize", "load"])
def test_what_another_run_has_built_is_not_taken_for_what_a_run_was_to_load(place, step):
    with dies_before(step):
        load(place.pipeline(), shop(3).with_resources("events"), run_id="first")
    with dies_before("extract"):
        load(place.pipeline(), shop(4), run_id="second")

    reported = retry(place.pipeline(), shop(4), run_id="second")

    rows = {name: facts.rows[name] for name, facts in reported.items()}
    assert rows == {"events": 1, "notes": 4, "accounts": 2, "prices": 2}
    assert contents(place) == expected(4)


@servers_and_files
def test_a_package_that_another_run_has_loaded_is_reported_by_a_retry_of_its_own(place):
    with dies_before("load"):
        load(place.pipeline(), shop(3), run_id="first")
    with dies_before("extract"):
        load(place.pipeline(), shop(4), run_id="second")

    with patch.object(Pipeline, "extract", side_effect=AssertionError):
        reported = retry(place.pipeline(), shop(4), run_id="first")

    assert reported.keys() == {"events", "notes", "accounts", "prices"}


@servers_and_files
def test_a_package_that_was_undone_elsewhere_is_loaded_from_the_beginning(place):
    folder = left_behind(place, shop(1))
    hidden = place.disk.rename(place.disk.with_name("hidden"))
    ledger = place.ledger()
    ledger.rows.take_back(ledger.entries()[0])
    assert contents(place, "events", "notes") == expected(0, "events", "notes")
    hidden.rename(place.disk)

    retry(place.pipeline(), shop(1))

    assert contents(place) == expected(1)
    assert loads(place) == [folder.name]
    load(place.pipeline(), shop(2))
    assert contents(place) == expected(2)


@servers_and_files
@on("machine_of_it", ["this", "another"])
def test_a_package_whose_resources_were_loaded_since_is_aborted(place, caplog, machine_of_it):
    """By a run elsewhere, which could not know that this disk would come back."""
    folder = left_behind(place, shop(1), run_id="old")
    if machine_of_it == "another":
        ledger = place.ledger()
        ledger.write(replace(ledger.entries()[0], machine="another"))
    hidden = place.disk.rename(place.disk.with_name("hidden"))
    only = shop(1).with_resources("events")
    # It is alive as far as that run knows.
    load(place.pipeline(), only, run_id="elsewhere", step="another")
    place.lose_disk()
    hidden.rename(place.disk)

    load(place.pipeline(), shop(2), run_id="new")

    assert contents(place) == expected(2)
    newer = place.entries()[1].load_id
    assert f"Load package {folder.name} is aborted: events were loaded since, by {newer}." in (
        caplog.messages
    )
    assert folder.name not in loads(place)
    assert [entry.status for entry in place.entries()] == ["undone", "committed", "committed"]


@duckdb_only
def test_a_package_that_is_begun_before_and_committed_after_another_counts_as_newer(place):
    """Load ids are made when a load begins, so they do not tell which was committed first."""
    folder = left_behind(place, shop(1).with_resources("events"))
    ledger = place.ledger()
    (entry,) = ledger.entries()
    # It began before, was longer about it, and has read the same cursor.
    earlier = str(float(folder.name) - 5)
    ledger.write(
        replace(
            entry,
            load_id=earlier,
            status="committed",
            started_at=float(earlier),
            beat_at=float(folder.name) + 1,
        )
    )

    load(place.pipeline(), shop(2).with_resources("events"))

    assert folder.name not in loads(place)


@duckdb_only
def test_packages_that_are_thrown_away_leave_no_rows(place):
    """Whose they are is known here, whatever the ledger knows of the process."""
    left_behind(place, shop(1))
    ledger = place.ledger()
    ledger.write(replace(ledger.entries()[0], machine="another"))

    load(place.pipeline(), shop(2), run_id="new", on_pending="abort")

    assert contents(place) == expected(2)
    assert [entry.status for entry in place.entries()] == ["undone", "committed"]


@duckdb_only
def test_nobody_takes_back_a_package_while_it_is_being_finished(place, monkeypatch):
    left_behind(place, shop(1))
    ledger = place.ledger()
    (entry,) = ledger.entries()
    taken = []

    def during(owner, name):
        whole = getattr(owner, name)

        def wrapped(*args, **options):
            assert not ledger.is_dead(entry, entry.loader)
            taken.append(ledger.rows.take_back(entry))
            return whole(*args, **options)

        monkeypatch.setattr(owner, name, wrapped)

    during(Package, "in_doubt")
    during(Package, "begin_again")
    during(Delivery, "_try")  # the moment before dlt goes on

    retry(place.pipeline(), shop(1))

    assert taken == [None, None, None]
    assert contents(place) == expected(1)
