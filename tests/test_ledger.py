"""The ledger: what was started is known at the destination, and what died there is taken back."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import dagster as dg
import dlt
import pytest
from dlt.common.schema import Schema
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.destinations.impl.postgres.sql_client import Psycopg2SqlClient
from dlt.pipeline.pipeline import Pipeline
from filelock import FileLock, Timeout

from dagster_dlt import DagsterDltResource, _dlt
from dagster_dlt.errors import LoadTakenBackError
from dagster_dlt.loading import files_book, life
from dagster_dlt.loading import run as run_module
from dagster_dlt.loading.book import TABLE
from dagster_dlt.loading.entry import Entry, Loader
from dagster_dlt.loading.files_book import KEPT, FilesBook
from dagster_dlt.loading.ledger import Ledger
from dagster_dlt.loading.life import LEASE
from dagster_dlt.loading.machine import machine, sign_of_life
from dagster_dlt.loading.sql_book import SqlBook
from dagster_dlt.loading.sql_undo import SqlUndo
from dagster_dlt.loading.turns import Turn
from places import Died, contents, expected, load, retry, shop
from sources import assets_of, metadata_by_asset

on = pytest.mark.parametrize
postgres_only = on("place", ["postgres"], indirect=True)
files_only = on("place", ["files"], indirect=True)
duckdb_only = on("place", ["duckdb"], indirect=True)
servers_and_files = on("place", ["duckdb", "postgres"], indirect=True)


def events(until):
    """The first of the resources alone, where the others make no difference."""
    return shop(until).with_resources("events")


def died(place, source, **options):
    """Load everything up to the commit, and die; return what the ledger knows of it."""
    before = {entry.load_id for entry in place.entries()}
    with place.dying():
        load(place.pipeline(), source, **options)
    (entry,) = [entry for entry in place.entries() if entry.load_id not in before]
    assert entry.status == "loading"
    return entry


def statuses(place, **options):
    return [entry.status for entry in place.entries(**options)]


@contextmanager
def alive(load_id):
    """Hold the sign of life of a load in another process."""
    path = sign_of_life(load_id).path
    code = (
        "import sys, filelock\n"
        "with filelock.FileLock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.close()


# --- the table ----------------------------------------------------------------------------------


def test_the_table_is_made_on_demand_and_gets_a_row_for_each_load(place):
    for day in (1, 2):
        load(place.pipeline(), events(day), run_id=f"run {day}", partition="p")

    entries = place.entries()
    assert [(each.status, each.loader) for each in entries] == [
        ("committed", Loader("run 1", "load", 0, "p")),
        ("committed", Loader("run 2", "load", 0, "p")),
    ]
    assert place.query(f"select count(*) from raw.{TABLE}") == [(2,)]
    assert place.column("select load_id from raw._dlt_loads") == [e.load_id for e in entries]


def test_the_table_is_not_in_dlts_schema_nor_makes_versions_of_it(place):
    load(place.pipeline(), events(1))
    load(place.pipeline(), events(1))

    assert place.query("select count(*) from raw._dlt_version") == [(1,)]
    ((stored,),) = place.query("select schema from raw._dlt_version")
    assert TABLE not in stored
    pipeline = place.pipeline(pipelines_dir=str(place.disk / "fresh"))
    pipeline.sync_destination()
    assert TABLE not in pipeline.default_schema.tables
    assert "events" in pipeline.default_schema.data_table_names()


@postgres_only
def test_a_dataset_and_a_table_that_another_load_makes_at_the_same_moment_do_no_harm(
    place, monkeypatch
):
    first, second = (Entry(f"{n}.5", "shop", Loader("run", "load"), ()) for n in (1, 2))
    create_dataset, execute_many = Psycopg2SqlClient.create_dataset, Psycopg2SqlClient.execute_many
    collisions = []

    # Neither was there a moment ago.
    def dataset(client):
        collisions.append("dataset")
        place.query("create schema raw")
        create_dataset(client)

    def table(client, statements):
        if "table" not in collisions:
            collisions.append("table")
            place.ledger().write(first)
        execute_many(client, statements)

    monkeypatch.setattr(Psycopg2SqlClient, "create_dataset", dataset)
    monkeypatch.setattr(Psycopg2SqlClient, "execute_many", table)
    place.ledger().write(second)

    assert collisions == ["dataset", "table"]
    assert [entry.load_id for entry in place.entries()] == ["1.5", "2.5"]


# --- who is dead --------------------------------------------------------------------------------

NOW = 1_000_000.0


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client for ledgers that are asked, and never opened."""
    schema = Schema("shop")
    pipeline = dlt.pipeline(
        "shop",
        pipelines_dir=str(tmp_path_factory.mktemp("pipelines")),
        destination=dlt.destinations.duckdb("unused.duckdb"),
        dataset_name="raw",
    )
    return _dlt.client_with_table(pipeline, schema, TABLE, {"load_id": "text"})


ANOTHER = Loader("run 2", "load")


def is_dead(client, entry, loader=ANOTHER, *, file=None, over=()):
    ledger = Ledger(
        SqlBook(lambda: client, Turn(file)),
        "shop",
        turn=Turn(file),
        is_over=lambda run: run in over,
        clock=lambda: NOW,
    )
    return ledger.is_dead(entry, loader)


ELSEWHERE = Entry(
    "17.5", "shop", Loader("run 1", "load", 1), ("events",), machine="another", beat_at=NOW - 60
)


def test_a_load_of_this_machine_is_dead_when_its_lock_is_free_whatever_its_last_beat(client):
    entry = replace(ELSEWHERE, machine=machine())

    with alive(entry.load_id):
        assert not is_dead(client, replace(entry, beat_at=NOW - 2 * LEASE), over={"run 1"})
    assert is_dead(client, replace(entry, beat_at=NOW))


def test_a_load_of_another_machine_lives_while_it_gives_signs_of_life(client):
    assert not is_dead(client, ELSEWHERE)
    assert not is_dead(client, replace(ELSEWHERE, beat_at=NOW - LEASE))
    assert is_dead(client, replace(ELSEWHERE, beat_at=NOW - LEASE - 1))


def test_a_load_of_another_machine_is_dead_when_its_run_is_over(client):
    assert is_dead(client, ELSEWHERE, over={"run 1"})
    assert not is_dead(client, ELSEWHERE, over={"run 2"})


@on(
    ("loader", "dead"),
    [
        (Loader("run 1", "load", 2), True),
        (Loader("run 1", "load", 1), False),
        (Loader("run 1", "load", 0), False),
        (Loader("run 1", "other step", 2), False),
        (Loader("run 2", "load", 2), False),
    ],
)
def test_an_earlier_attempt_of_the_same_step_of_the_same_run_is_dead(client, loader, dead):
    assert is_dead(client, ELSEWHERE, loader) is dead


def test_of_a_load_into_a_file_elsewhere_no_beats_are_expected(client, tmp_path):
    old = replace(ELSEWHERE, beat_at=NOW - 2 * LEASE)

    assert not is_dead(client, old, file=tmp_path / "file")
    assert is_dead(client, old, file=tmp_path / "file", over={"run 1"})


# --- taking back --------------------------------------------------------------------------------


def test_a_load_that_died_with_its_disk_is_taken_back_before_the_next_one(place):
    load(place.pipeline(), shop(1))
    entry = died(place, shop(2))
    place.lose_disk()

    load(place.pipeline(), shop(3), run_id="another")

    assert contents(place) == expected(3)
    assert statuses(place) == ["committed", "undone", "committed"]
    for table in ("events", "notes", "_dlt_pipeline_state"):
        left = place.column(f"select _dlt_load_id from raw.{table}")
        assert entry.load_id not in left


ROOTS = "delete from raw.{table} where _dlt_load_id = '{load_id}'"
FIRST_LEVEL = (
    "delete from raw.{table}__items where _dlt_parent_id in "
    "(select _dlt_id from raw.{table} where _dlt_load_id = '{load_id}')"
)


@on("missing", [[ROOTS], [FIRST_LEVEL], [FIRST_LEVEL, ROOTS]], ids=["roots", "first", "both"])
def test_nested_rows_whose_parents_never_came_are_taken_back(place, missing):
    load(place.pipeline(), events(1))
    entry = died(place, events(2))
    place.lose_disk()
    for statement in missing:
        place.query(statement.format(table="events", load_id=entry.load_id))

    load(place.pipeline(), events(2))

    assert contents(place, "events") == expected(2, "events")


@on("place", ["sqlite", "postgres"], indirect=True)
def test_what_a_dead_load_has_merged_by_key_or_replaced_stays(place):
    load(place.pipeline(), shop(1))
    entry = died(place, shop(2))
    place.lose_disk()

    load(place.pipeline(), shop(2).with_resources("events"))

    assert statuses(place)[1] == "undone"
    for table in ("accounts", "prices"):
        assert set(place.column(f"select _dlt_load_id from raw.{table}")) == {entry.load_id}
    assert contents(place)["prices tags"] == [2, 2]
    assert contents(place)["accounts lines"] == [1, 1]
    # Its notes are gone, and come with the next load of them.
    assert contents(place)["notes marks"] == expected(1)["notes marks"]
    load(place.pipeline(), shop(2))
    assert contents(place) == expected(2)


@servers_and_files
def test_rows_of_loads_made_with_plain_dlt_stay(place):
    def plain(until):
        place.pipeline(pipelines_dir=str(place.disk / "plain")).run(events(until))

    plain(1)
    died(place, events(2))
    place.lose_disk()
    # It knows nothing of the ledger, and loads the second day for itself.
    plain(3)
    assert len(contents(place, "events")["events items"]) == 2 + 2 + 4

    load(place.pipeline(), events(4))

    assert contents(place, "events") == expected(4, "events")


@duckdb_only
def test_a_load_that_died_before_it_sent_anything_is_taken_back(place, monkeypatch):
    def dies(*_args, **_options):
        raise Died

    monkeypatch.setattr(Pipeline, "load", dies)
    with pytest.raises(Died):
        load(place.pipeline(), events(1))
    monkeypatch.undo()
    place.lose_disk()

    load(place.pipeline(), events(1))

    assert contents(place, "events") == expected(1, "events")
    assert statuses(place) == ["undone", "committed"]


def test_it_says_what_it_has_taken_back(place, caplog):
    entry = died(place, events(1), run_id="the dead one")
    place.lose_disk()

    load(place.pipeline(), events(1))

    (line,) = [each for each in caplog.messages if "never committed" in each]
    # An event with two items and two marks, and the cursors.
    assert line == (
        f"Load {entry.load_id} of run the dead one was never committed: took back 6 rows of events."
    )


@servers_and_files
def test_a_load_that_is_alive_on_this_machine_is_left_alone(place):
    entry = died(place, events(1))
    place.lose_disk()

    with alive(entry.load_id):
        load(place.pipeline(), events(1))

    assert statuses(place) == ["loading", "committed"]
    assert entry.load_id in place.column("select _dlt_load_id from raw.events")
    assert len(contents(place, "events")["events marks"]) == 4


@postgres_only
def test_a_load_that_gives_signs_of_life_elsewhere_is_left_alone(place):
    entry = died(place, events(1))
    place.lose_disk()
    place.ledger().write(replace(entry, machine="another", beat_at=time.time()))

    load(place.pipeline(), events(1))

    assert statuses(place) == ["loading", "committed"]
    assert entry.load_id in place.column("select _dlt_load_id from raw.events")


@postgres_only
def test_nested_rows_of_a_load_that_goes_on_are_not_taken_for_those_of_a_dead_one(place):
    """A live load may have sent nested rows, and not yet what they hang from."""
    live = died(place, events(2), partition="live")
    place.lose_disk()
    place.query("create table held as select * from raw.events")
    place.query("delete from raw.events")
    dead = died(place, events(1), partition="a")
    place.lose_disk()
    place.query(ROOTS.format(table="events", load_id=dead.load_id))

    with alive(live.load_id):
        load(place.pipeline(), events(1), partition="a")
    # What they hang from arrives.
    place.query("insert into raw.events select * from held")

    assert contents(place, "events")["events"] == sorted(
        expected(2, "events")["events"] + expected(1, "events")["events"]
    )
    assert statuses(place) == ["loading", "undoing", "committed"]


@postgres_only
def test_nested_rows_that_were_left_for_a_live_load_go_once_it_is_over(place):
    live = died(place, events(1), partition="live")
    place.lose_disk()
    dead = died(place, events(1), partition="a")
    place.lose_disk()
    place.query(ROOTS.format(table="events", load_id=dead.load_id))
    with alive(live.load_id):
        load(place.pipeline(), events(1), partition="a")
    assert len(contents(place, "events")["events marks"]) == 6

    # It never ends, and its own partition is loaded again, and any other one then.
    load(place.pipeline(), events(2), partition="live")
    load(place.pipeline(), events(3), partition="b")

    assert contents(place, "events") == expected(3, "events")
    assert statuses(place) == ["undone", "undone", "committed", "committed", "committed"]


@servers_and_files
def test_dead_loads_of_other_partitions_and_pipelines_are_left_to_those(place):
    month = died(place, events(1), partition="month")
    place.lose_disk()
    with place.dying():
        load(place.pipeline("other"), events(1))
    place.lose_disk()
    (other,) = place.entries(name="other")

    load(place.pipeline(), events(1))

    assert statuses(place) == ["loading", "committed"]
    assert statuses(place, name="other") == ["loading"]
    left = place.column("select _dlt_load_id from raw.events")
    assert {month.load_id, other.load_id} < set(left)

    load(place.pipeline(), events(2), partition="month")
    load(place.pipeline("other"), events(1))

    assert statuses(place) == ["undone", "committed", "committed"]
    assert statuses(place, name="other") == ["undone", "committed"]
    left = place.column("select _dlt_load_id from raw.events")
    assert not {month.load_id, other.load_id} & set(left)


@duckdb_only
def test_several_dead_loads_are_all_taken_back_at_once(place):
    for _ in range(2):
        died(place, events(1))
        place.lose_disk()
    # The second has taken back the first: let both of them be there.
    ledger = place.ledger()
    ledger.write(replace(ledger.entries()[0], status="loading"))
    place.query("delete from raw.events")

    load(place.pipeline(), events(1))

    assert contents(place, "events") == expected(1, "events")
    assert statuses(place) == ["undone", "undone", "committed"]


@duckdb_only
def test_a_process_that_dies_while_it_takes_back_is_followed_by_one_that_ends_it(
    place, monkeypatch
):
    died(place, shop(1))
    place.lose_disk()
    undo = SqlUndo.undo

    def half(self, load_id, chains):
        undo(self, load_id, chains[:1])
        raise Died

    monkeypatch.setattr(SqlUndo, "undo", half)
    with pytest.raises(Died):
        load(place.pipeline(), shop(1))
    assert statuses(place) == ["undoing"]
    monkeypatch.undo()

    load(place.pipeline(), shop(1))

    assert contents(place) == expected(1)
    assert statuses(place) == ["undone", "committed"]


@duckdb_only
def test_a_file_is_not_opened_to_take_back_rows_while_it_is_the_turn_of_another(place, monkeypatch):
    died(place, events(1))
    place.lose_disk()
    undo, free = SqlUndo.undo, []

    def watched(*args):
        try:
            with FileLock(f"{place.url}.dagster-dlt.lock").acquire(timeout=0):
                free.append(True)
        except Timeout:
            free.append(False)
        return undo(*args)

    monkeypatch.setattr(SqlUndo, "undo", watched)
    load(place.pipeline(), events(1))

    assert free == [False]


# --- committed, and not reported ----------------------------------------------------------------


@dlt.source(name="shop")
def counted(until, calls):
    @dlt.resource
    def events(day=dlt.sources.incremental("day", initial_value=0)):
        calls.append(day.last_value)
        yield [{"day": number} for number in range(day.last_value + 1, until + 1)]

    return events


@on("place", ["duckdb", "sqlite", "postgres", "files"], indirect=True)
@on("lost", [False, True], ids=["disk kept", "disk lost"])
def test_what_was_committed_is_reported_by_the_next_attempt_and_not_loaded_again(place, lost):
    with place.dying("after commit"):
        load(place.pipeline(), counted(3, []))
    if lost:
        place.lose_disk()
    calls = []

    reported = retry(place.pipeline(), counted(5, calls))

    assert calls == []
    assert reported["events"].rows_loaded == 3
    assert place.column("select day from raw.events") == [1, 2, 3]


@servers_and_files
def test_a_new_run_loads_what_came_after_what_was_committed(place):
    with place.dying("after commit"):
        load(place.pipeline(), counted(3, []))
    place.lose_disk()
    calls = []

    load(place.pipeline(), counted(5, calls), run_id="new")

    assert calls == [3]
    assert place.column("select day from raw.events") == [1, 2, 3, 4, 5]


@on("place", ["postgres"], indirect=True)
@on("lost", [False, True], ids=["disk kept", "disk lost"])
def test_what_a_load_had_for_itself_is_dropped_if_it_died_when_it_was_committed(place, lost):
    with place.dying("after commit"):
        load(place.pipeline(), counted(3, []))
    with place.pipeline().sql_client() as client:
        client.execute_sql("CREATE SCHEMA raw_staging_its_own")
    [entry] = place.entries()
    place.ledger().note(replace(entry, staging="raw_staging_its_own"))
    if lost:
        place.lose_disk()

    load(place.pipeline(), counted(5, []), run_id="new")

    found = "select schema_name from information_schema.schemata where schema_name like 'raw%'"
    assert place.column(found) == ["raw"]
    assert [each.status for each in place.entries()] == ["committed"] * 2
    assert not any(each.unsaid for each in place.entries())


@duckdb_only
def test_what_another_step_or_partition_has_committed_is_not_reported_for_it(place):
    for other in ({"step": "other"}, {"partition": "other"}, {"run_id": "other"}):
        load(place.pipeline(), counted(3, []), **other)
    calls = []

    reported = retry(place.pipeline(), counted(5, calls))

    assert calls == [3]
    assert reported["events"].rows_loaded == 2


@duckdb_only
def test_rows_of_a_package_are_known_to_the_attempt_after_the_one_that_resumed_it(place):
    with place.dying():
        load(place.pipeline(), counted(3, []))
    with place.dying("after commit"):
        retry(place.pipeline(), counted(3, []))

    reported = retry(place.pipeline(), counted(3, []))

    assert reported["events"].rows_loaded == 3


def test_a_step_that_fails_before_it_reports_is_retried_without_loading(pipeline, monkeypatch):
    calls, failures = [], [RuntimeError("between commit and event")]
    outcome = run_module.outcome_of

    def failing_once(*args, **options):
        if failures:
            raise failures.pop()
        return outcome(*args, **options)

    monkeypatch.setattr(run_module, "outcome_of", failing_once)
    assets = assets_of(
        counted(3, calls), pipeline, retry_policy=dg.RetryPolicy(max_retries=1), name="load"
    )
    result = dg.materialize([assets], resources={"dlt_resource": DagsterDltResource()})

    assert result.success
    assert calls == [0]
    assert metadata_by_asset(result)["dlt_shop_events"]["rows_loaded"] == 3


# --- names --------------------------------------------------------------------------------------


@on("naming", ["source's own", "all"])
def test_names_that_need_quotes_are_quoted(place, naming, monkeypatch):
    section = "SOURCES__SHOP__SCHEMA__NAMING" if naming == "source's own" else "SCHEMA__NAMING"
    monkeypatch.setenv(section, "direct")

    @dlt.source(name="shop")
    def source():
        rows = [{"Id No": 1, "Item List": [{"Sku": "x"}]}]
        return dlt.resource(lambda: iter(rows), name="My Orders")

    options = {"name": "My Shop", "dataset_name": "Raw"}
    with place.dying():
        load(place.pipeline(**options), source())
    place.lose_disk()
    load(place.pipeline(**options), source())

    ledger = place.ledger(source(), **options)
    assert [(each.status, each.chains[0].names) for each in ledger.entries()] == [
        ("undone", ("My Orders", "My Orders▶Item List")),
        ("committed", ("My Orders", "My Orders▶Item List")),
    ]
    pipeline = place.pipeline(**options)
    with _dlt.client_of(pipeline, _dlt.schema_for(pipeline, source())) as client:
        for table in ("My Orders", "My Orders▶Item List"):
            rows = client.sql_client.execute_sql(f'select count(*) from "Raw"."{table}"')
            assert [tuple(row) for row in rows] == [(1,)]


@duckdb_only
def test_the_ledger_is_where_the_pipelines_own_configuration_leads(place, monkeypatch, tmp_path):
    own = tmp_path / "own.duckdb"
    monkeypatch.setenv("SHOP__DESTINATION__DUCKDB__CREDENTIALS", str(own))
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", place.url)

    load(place.pipeline(destination="duckdb"), events(1))

    assert sorted(tmp_path.glob("*.duckdb")) == [own]
    assert statuses(place, destination="duckdb") == ["committed"]


@duckdb_only
def test_the_ledger_is_in_the_dataset_that_the_run_asks_for(place):
    load(place.pipeline(), events(1), options={"dataset_name": "other"})

    assert statuses(place, dataset_name="other") == ["committed"]
    assert statuses(place) == []


@files_only
def test_what_became_of_a_load_into_files_is_forgotten_when_nobody_asks_for_it_any_more(place):
    now = time.time()
    for age in (KEPT - 3600, KEPT + 3600):
        place.ledger().write(Entry(f"{now - age}", "shop", Loader("run", "load"), ()))

    load(place.pipeline(), events(1))

    assert statuses(place) == ["loading", "committed"]


# --- signs of life ------------------------------------------------------------------------------


@on("place", ["postgres", "files"], indirect=True)
@on("options", [{}, {"dataset_name": "other"}], ids=["plain", "with options of the run"])
def test_a_load_gives_signs_of_life_while_dlt_is_busy(place, monkeypatch, options):
    beaten, load_package = threading.Event(), Pipeline.load
    book = SqlBook if place.kind == "postgres" else FilesBook
    beat = book.beat
    seen = []

    def watched(*args):
        beat(*args)
        beaten.set()

    def slow(pipeline, *args, **keywords):
        before = place.entries(**options)[0].beat_at
        assert beaten.wait(60)
        seen.append(place.entries(**options)[0].beat_at > before)
        return load_package(pipeline, *args, **keywords)

    monkeypatch.setattr(life, "BEAT", 0.01)
    monkeypatch.setattr(files_book, "FRESH", 0)
    monkeypatch.setattr(book, "beat", watched)
    monkeypatch.setattr(Pipeline, "load", slow)
    load(place.pipeline(), events(1), options=options)

    assert seen == [True]
    assert statuses(place, **options) == ["committed"]


@postgres_only
def test_a_load_that_was_taken_for_dead_counts_as_nothing_and_says_so(place, monkeypatch):
    """Its machine stood still, and another run has taken its rows back meanwhile."""
    load_package = Pipeline.load

    def interrupted(pipeline, *args, **keywords):
        monkeypatch.undo()
        info = load_package(pipeline, *args, **keywords)
        ledger = place.ledger()
        ledger.write(replace(ledger.entries()[0], status="undoing"))
        return info

    monkeypatch.setattr(Pipeline, "load", interrupted)
    with pytest.raises(LoadTakenBackError, match=r"rows back.* Run it again"):
        load(place.pipeline(), shop(1))
    place.lose_disk()
    assert place.query("select count(*) from raw.events__items__marks") == [(0,)]

    load(place.pipeline(), shop(1))

    assert contents(place) == expected(1)


# --- where rows cannot be taken back -------------------------------------------------------------


def test_where_no_row_can_be_taken_back_the_log_says_so_where_rows_are_added(tmp_path, caplog):
    seen = []

    @dlt.destination(name="sink")
    def take(items, table):
        seen.append(table["name"])

    pipeline = dlt.pipeline(
        "shop", pipelines_dir=str(tmp_path), destination=take, dataset_name="raw"
    )

    for day in (1, 2):
        load(pipeline, shop(day))

    warnings = [each for each in caplog.messages if "cannot be told from others" in each]
    assert len(warnings) == 2
    assert "it has added to events, notes until then" in warnings[0]
    assert "events" in seen


# --- what it costs ------------------------------------------------------------------------------


@duckdb_only
def test_the_ledger_takes_as_many_statements_for_twenty_resources_as_for_one(place, monkeypatch):
    @dlt.source(name="shop")
    def wide(number):
        rows = [{"id": 1, "lines": [{"line": 1}]}]
        return [dlt.resource(lambda: iter(rows), name=f"r{each}") for each in range(number)]

    execute, sent = DuckDbSqlClient.execute_query, []

    def counting(client, query, *args, **keywords):
        if TABLE in str(query):
            sent.append(query)
        return execute(client, query, *args, **keywords)

    def statements(number):
        # Once the table is there.
        load(place.pipeline(), wide(number))
        with monkeypatch.context() as patched:
            patched.setattr(DuckDbSqlClient, "execute_query", counting)
            load(place.pipeline(), wide(number))
        count = len(sent)
        sent.clear()
        return count

    assert statements(1) == statements(20) <= 12
