"""A load that is interrupted ends, wherever it is, and the next run completes it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import dlt
import duckdb
import pyarrow as pa
import pytest
from dlt.common.runtime.collector_base import Collector
from dlt.destinations.exceptions import DatabaseTransientException
from filelock import FileLock

from dagster_dlt import DagsterDltResource, _dlt, dlt_assets
from dagster_dlt.loading import worker
from dagster_dlt.loading.worker import stream
from dagster_dlt.loading.workspace import claim_permanent
from sources import assets_of, outage, query

INTERRUPTED = dg.DagsterExecutionInterruptedError
EVENTS = 'select "at", extraction from raw.events order by 1, 2'


def interrupt() -> None:
    """Do what terminates a run: a signal comes to the main thread, where the step is."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def interrupt_and_wait() -> None:
    interrupt()
    while not _dlt.is_stopped():
        time.sleep(0.01)


def threads() -> list[threading.Thread]:
    """Return the threads of loads."""
    names = ("dagster-dlt", "dlt-pool")
    return [thread for thread in threading.enumerate() if thread.name.startswith(names)]


@pytest.fixture
def left_over(tmp_path: Path) -> Callable[[], list[str]]:
    """Return a function that lists what is in the folder of the workspaces."""
    folder = tmp_path / "pipelines" / ".dagster" / "shop"
    return lambda: [path.name for path in folder.iterdir()]


class Shop:
    """A source with events, of which each extraction finds three new ones, and says so."""

    def __init__(self) -> None:
        self.extractions = 0

    def source(self, between: Callable[[], object] = bool):
        @dlt.resource
        def events(at=dlt.sources.incremental("at")) -> Iterator[object]:
            self.extractions += 1
            extraction, start = self.extractions, at.last_value or 0
            yield {"at": start + 1, "extraction": extraction}
            between()
            yield {"at": start + 2, "extraction": extraction}
            yield {"at": start + 3, "extraction": extraction}

        return dlt.source(lambda: events, name="shop")()


@pytest.fixture
def shop() -> Shop:
    return Shop()


# --- in each stage -----------------------------------------------------------------------------


def test_after_an_interrupt_in_extract_the_next_run_extracts_again(
    shop, pipeline, materialize, left_over
):
    with pytest.raises(INTERRUPTED):
        materialize(assets_of(shop.source(interrupt_and_wait), pipeline))
    assert threads() == []

    assert materialize(assets_of(shop.source(), pipeline)).success
    assert query(pipeline, EVENTS) == [(1, 2), (2, 2), (3, 2)]
    assert left_over() == []


class InterruptsNormalize(Collector):
    """A user's collector, in the first call of which the run is terminated; it counts rows."""

    def __init__(self) -> None:
        self.normalized = 0

    def update(self, name, inc=1, *_more):
        if self.step.startswith("Normalize") and name == "events":
            self.normalized += inc
            if not _dlt.is_stopped():
                interrupt_and_wait()

    def _start(self, step):
        pass

    def _stop(self):
        pass


def test_after_an_interrupt_in_normalize_the_next_run_finishes_what_was_extracted(
    shop, make_pipeline, materialize, left_over
):
    with pytest.raises(INTERRUPTED):
        materialize(assets_of(shop.source(), make_pipeline(progress=InterruptsNormalize())))
    assert threads() == []

    pipeline = make_pipeline()
    assert materialize(assets_of(shop.source(), pipeline)).success
    assert query(pipeline, EVENTS) == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert left_over() == []


def test_an_interrupt_while_a_pending_package_is_normalized_leaves_it_to_the_next_run(
    shop, make_pipeline, materialize, left_over
):
    for _ in range(2):  # the second run comes to what the first one has extracted
        with pytest.raises(INTERRUPTED):
            materialize(assets_of(shop.source(), make_pipeline(progress=InterruptsNormalize())))
    assert shop.extractions == 1

    pipeline = make_pipeline()
    assert materialize(assets_of(shop.source(), pipeline)).success
    assert query(pipeline, EVENTS) == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert left_over() == []


def test_normalize_stops_in_the_middle_of_a_file(make_pipeline, materialize):
    @dlt.resource
    def events() -> Iterator[object]:
        for _page in range(100):
            yield [{"at": number} for number in range(1000)]

    collector = InterruptsNormalize()
    with pytest.raises(INTERRUPTED):
        source = dlt.source(lambda: events, name="shop")()
        materialize(assets_of(source, make_pipeline(progress=collector)))

    assert collector.normalized < 100_000


def numbers(count: int):
    @dlt.resource
    def events() -> Iterator[object]:
        yield pa.table({"at": range(count)})

    return dlt.source(lambda: events, name="shop")()


@contextmanager
def calling(mark: Callable[[pa.Array], pa.Array], warehouse: Path) -> Iterator[None]:
    """Let DuckDB call `mark` for each 2,048 rows that it inserts into the table of events."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.create_function(
            "mark", mark, ["BIGINT"], "BIGINT", type="arrow", side_effects=True
        )
        connection.execute("alter table raw.events add column marked bigint")
        connection.execute("alter table raw.events alter column marked set default mark(1)")
        yield


def test_a_long_statement_in_duckdb_is_cancelled_and_the_next_run_completes_it(
    pipeline, materialize, left_over, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "GRACE", 0)
    chunks, rows = 1000, 1000 * 2048
    marked: list[int] = []
    once = iter([interrupt])

    def mark(values: pa.Array) -> pa.Array:
        next(once, bool)()  # DuckDB calls it in several threads
        if len(marked) < chunks:
            time.sleep(0.02)
        marked.append(len(values))
        return values

    assert materialize(assets_of(numbers(1), pipeline)).success
    with calling(mark, tmp_path / "warehouse.duckdb"):
        with pytest.raises(INTERRUPTED):
            materialize(assets_of(numbers(rows), pipeline))
        assert len(marked) < chunks
        assert threads() == []

        marked += [0] * chunks
        assert materialize(assets_of(numbers(1), pipeline)).success
    assert query(pipeline, "select count(*), count(marked) from raw.events") == [
        (rows + 2, rows + 1)
    ]
    assert left_over() == []


def test_an_interrupt_while_a_pending_package_is_finished_leaves_it_to_the_next_run(
    pipeline, materialize, left_over, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "GRACE", 0)
    rows = 1000 * 2048
    once = iter([interrupt])
    cancelled = False

    def mark(values: pa.Array) -> pa.Array:
        next(once, bool)()  # DuckDB calls it in several threads
        if not cancelled:
            time.sleep(0.02)
        return values

    assert materialize(assets_of(numbers(1), pipeline)).success
    with monkeypatch.context() as patch:
        outage(patch)
        with pytest.raises(dg.Failure):
            materialize(assets_of(numbers(rows), pipeline))
    with calling(mark, tmp_path / "warehouse.duckdb"):
        with pytest.raises(INTERRUPTED):
            materialize(assets_of(numbers(10), pipeline))
        assert query(pipeline, "select count(*) from raw.events") == [(1,)]
        assert threads() == []

        cancelled = True
        # It extracts its own, which the interrupted one did not come to.
        assert materialize(assets_of(numbers(20), pipeline)).success
    assert query(pipeline, "select count(*) from raw.events") == [(1 + rows + 20,)]
    assert left_over() == []


@pytest.fixture
def database(postgres) -> str:
    return postgres()


FIRST_INSERT_TAKES_TEN_MINUTES = """
create sequence raw.inserts;
create function raw.wait() returns trigger language plpgsql as $$
begin
    -- A sequence goes on counting where a transaction is rolled back.
    if nextval('raw.inserts') = 1 then perform pg_sleep(600); end if;
    return new;
end $$;
create trigger wait before insert on raw.events for each row execute function raw.wait();
"""
OTHERS = """
select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
"""

PROJECT = """
import os
import threading
from contextlib import suppress

import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, dlt_assets
from dagster_dlt.loading import worker

case = os.environ.get("CASE")
blocked = threading.Event()
if case == "terminated":
    worker.PATIENCE = 1.0

def block():
    with suppress(FileExistsError), open("blocked", "x"):
        blocked.set()
        print("blocks", flush=True)
        threading.Event().wait()

@dlt.source(name="shop")
def shop():
    @dlt.resource(parallelized=case is not None)
    def events(at=dlt.sources.incremental("at")):
        start = at.last_value or 0
        yield {"at": start + 1, "extraction": 100}
        if case:
            block()
        yield {"at": start + 2, "extraction": 100}

    @dlt.resource
    def broken():
        while not blocked.is_set():
            yield None
        raise ValueError("broken")

    return [events, broken] if case == "another fails" else events

@dlt_assets(
    name="load",
    dlt_source=shop(),
    dlt_pipeline=dlt.pipeline(
        "shop",
        pipelines_dir="pipelines",
        destination=dlt.destinations.postgres(os.environ["DATABASE"]),
        dataset_name="raw",
    ),
)
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)

def job():
    return dg.Definitions(
        assets=[load],
        jobs=[dg.define_asset_job("everything", executor_def=dg.multiprocess_executor)],
        resources={"dlt_resource": DagsterDltResource()},
    ).resolve_job_def("everything")

if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        print(dg.execute_job(dg.reconstructable(job), instance).success)
"""


@pytest.fixture
def start(tmp_path: Path, database: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a run in a process of its own, with a child for the step."""
    (tmp_path / "project.py").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    started: list[subprocess.Popen[str]] = []

    def run(**environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "project.py"],
            cwd=tmp_path,
            env={
                **os.environ,
                "DAGSTER_HOME": str(tmp_path / "home"),
                "DATABASE": database,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def in_postgres(make_pipeline, database: str):
    return make_pipeline(destination=dlt.destinations.postgres(database))


def test_a_long_statement_in_postgres_is_cancelled_and_the_next_run_completes_it(
    shop, in_postgres, materialize, left_over, start
):
    assert materialize(assets_of(shop.source(), in_postgres)).success
    query(in_postgres, FIRST_INSERT_TAKES_TEN_MINUTES)
    run = start()
    while not query(in_postgres, f"{OTHERS} and wait_event = 'PgSleep'"):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    out, errors = run.communicate()
    assert "DagsterExecutionInterruptedError" in errors
    assert out.split() == ["False"]
    assert query(in_postgres, "select count(*) from raw.events") == [(3,)]
    while query(in_postgres, OTHERS):
        time.sleep(0.05)  # a statement that is not cancelled outlives the time of the test

    assert materialize(assets_of(shop.source(), in_postgres)).success
    # What was extracted by the run that was interrupted, and then what is new.
    assert query(in_postgres, EVENTS) == [
        *[(1, 1), (2, 1), (3, 1)],
        *[(4, 100), (5, 100)],
        *[(6, 2), (7, 2), (8, 2)],
    ]
    assert left_over() == []


# --- what does not stop by itself --------------------------------------------------------------


def test_a_process_that_is_terminated_ends_although_a_parallelized_resource_blocks(
    shop, in_postgres, materialize, left_over, start
):
    run = start(CASE="terminated")
    assert run.stdout is not None
    assert run.stdout.readline().strip() == "blocks"
    run.send_signal(signal.SIGTERM)
    out, errors = run.communicate()
    assert "is left behind" in errors
    assert out.split() == ["False"]

    assert materialize(assets_of(shop.source(), in_postgres)).success
    assert query(in_postgres, EVENTS) == [(1, 1), (2, 1), (3, 1)]
    assert left_over() == []


def test_a_process_ends_although_a_parallelized_resource_blocks_when_another_fails(
    in_postgres, start
):
    out, errors = start(CASE="another fails").communicate()

    assert out.split() == ["blocks", "False"], errors
    # Loaded apart from the broken one, without blocking.
    assert query(in_postgres, EVENTS) == [(1, 100), (2, 100)]


@pytest.mark.parametrize("blocks", ["before its last row", "after its last row"])
def test_a_load_that_is_left_behind_stops_no_other_and_writes_nothing_later(
    blocks, pipeline, materialize, left_over, monkeypatch
):
    monkeypatch.setattr(worker, "PATIENCE", 0.1)
    release = threading.Event()

    def load(run: int, block: Callable[[], object] = bool) -> bool:
        @dlt.resource
        def events() -> Iterator[object]:
            if blocks == "before its last row":
                block()
            yield {"run": run}
            if blocks == "after its last row":
                block()

        return materialize(assets_of(dlt.source(lambda: events, name="shop")(), pipeline)).success

    def interrupt_and_block() -> None:
        interrupt()
        release.wait()

    assert load(1)
    with pytest.raises(INTERRUPTED):
        load(2, interrupt_and_block)
    left = [thread for thread in threads() if thread.name == "dagster-dlt"]
    assert len(left) == 1
    assert load(3)
    release.set()
    left[0].join()
    assert load(4)

    assert query(pipeline, "select run from raw.events order by run") == [(1,), (3,), (4,)]
    assert left_over() == []


def test_a_statement_that_ends_after_its_load_was_left_behind_does_not_commit_the_package(
    pipeline, materialize, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "PATIENCE", 0.1)  # too short to cancel anything
    release = threading.Event()
    once = iter([interrupt])

    def mark(values: pa.Array) -> pa.Array:
        next(once, bool)()
        release.wait()
        return values

    assert materialize(assets_of(numbers(1), pipeline)).success
    with calling(mark, tmp_path / "warehouse.duckdb"):
        with pytest.raises(INTERRUPTED):
            materialize(assets_of(numbers(2), pipeline))
        release.set()
        for thread in threads():
            thread.join()
        assert query(pipeline, "select count(*) from raw._dlt_loads") == [(1,)]

        assert materialize(assets_of(numbers(3), pipeline)).success
    assert query(pipeline, "select count(*) from raw._dlt_loads") == [(3,)]
    assert query(pipeline, "select count(*) from raw.events") == [(6,)]


@pytest.mark.parametrize("kind", ["plain", "parallelized", "async"])
def test_a_resource_that_never_ends_stops_at_its_next_item(kind, pipeline, materialize):
    def plain() -> Iterator[object]:
        interrupt()
        while True:
            yield {"at": 1}

    async def asynchronous():
        interrupt()
        while True:
            yield {"at": 1}

    events = dlt.resource(
        asynchronous if kind == "async" else plain,
        name="events",
        parallelized=kind == "parallelized",
    )
    with pytest.raises(INTERRUPTED):
        materialize(assets_of(dlt.source(lambda: events, name="shop")(), pipeline))

    assert threads() == []


# --- how it is interrupted ---------------------------------------------------------------------


def wait_until_stopped() -> None:
    while not _dlt.is_stopped():
        time.sleep(0.01)


def test_a_reader_that_goes_away_stops_the_work():
    stopped = threading.Event()

    def work(hand):
        hand(1)
        wait_until_stopped()
        stopped.set()

    for _item in stream(work, idle=10, on_idle=lambda _seconds: None):
        break

    assert stopped.is_set()
    assert threads() == []


def test_the_work_stops_when_its_reader_is_over_and_keeps_the_iterator():
    over = threading.Event()

    def work(hand):
        while not _dlt.is_stopped():
            hand(1)

    read = stream(work, idle=10, on_idle=lambda _seconds: None, is_over=over.is_set)
    next(read)
    over.set()
    for thread in threads():
        thread.join()

    assert threads() == []
    read.close()


@pytest.mark.parametrize("counted", [False, True])
def test_what_a_failed_body_was_still_loading_ends_before_the_step_is_tried_again(
    counted, pipeline, left_over
):
    @dlt.resource
    def first() -> Iterator[object]:
        yield {"at": 1}

    @dlt.resource
    def second() -> Iterator[object]:
        yield {"attempt": len(attempts)}
        if len(attempts) == 1:
            begun.set()
            wait_until_stopped()
        yield {"attempt": len(attempts)}

    attempts: list[int] = []
    kept: list[object] = []
    begun = threading.Event()
    source = dlt.source(lambda: (first, second), name="shop")()

    @dlt_assets(
        name="load",
        dlt_source=source,
        dlt_pipeline=pipeline,
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        attempts.append(context.retry_number)
        events = dlt_resource.run(context=context)
        events = events.fetch_row_count() if counted else events
        kept.append(events)
        if context.retry_number == 0:
            yield next(events)
            begun.wait()
            raise ValueError
        yield from events

    resources = {"dlt_resource": DagsterDltResource(decompose="serialize")}
    assert dg.materialize([load], resources=resources).success

    assert threads() == []
    assert query(pipeline, 'select "at" from raw.first') == [(1,)]
    assert query(pipeline, "select attempt from raw.second") == [(2,), (2,)]
    assert left_over() == []


@pytest.fixture
def _listens() -> Iterator[None]:
    """Raise on interrupts outside of a step too; a shell ignores them for what it has started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_listens")
def test_a_second_interrupt_does_not_wait_any_longer():
    release = threading.Event()

    def work(hand):
        hand(1)
        wait_until_stopped()
        interrupt()
        release.wait()

    read = stream(work, idle=10, on_idle=lambda _seconds: None)
    next(read)
    try:
        with pytest.raises(KeyboardInterrupt):
            read.close()
        left = threads()
    finally:
        release.set()
    for thread in left:
        thread.join()

    assert "dagster-dlt" in {thread.name for thread in left}


@pytest.mark.usefixtures("_listens")
def test_a_load_that_waits_for_the_pipelines_state_can_be_interrupted(tmp_path):
    def work(hand):
        with claim_permanent(tmp_path, "shop", lambda: hand("waits")):
            hand("goes on")

    with FileLock(tmp_path / "shop.lock"), pytest.raises(KeyboardInterrupt):
        for item in stream(work, idle=10, on_idle=lambda _seconds: None):
            assert item == "waits"
            interrupt()

    assert threads() == []


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


@pytest.mark.parametrize("kind", ["duckdb", "sqlite", "postgres"])
def test_a_statement_is_cancelled_whatever_the_driver_calls_that(
    kind, make_pipeline, tmp_path, monkeypatch, request
):
    destination = {
        "duckdb": lambda: dlt.destinations.duckdb(str(tmp_path / "endless.duckdb")),
        "sqlite": lambda: dlt.destinations.sqlalchemy(f"sqlite:///{tmp_path / 'endless.sqlite'}"),
        "postgres": lambda: dlt.destinations.postgres(request.getfixturevalue("database")),
    }[kind]()
    monkeypatch.setattr(worker, "GRACE", 0)
    cancelled = threading.Event()

    def work(hand):
        pipeline = make_pipeline(destination=destination)
        _dlt.watch(pipeline)
        with pipeline.sql_client() as client:
            hand(1)
            try:
                client.execute_sql(ENDLESS)
            except DatabaseTransientException:
                # What dlt tries again. What it calls terminal could be lost.
                cancelled.set()

    next(iter(stream(work, idle=10, on_idle=lambda _seconds: None)))

    assert cancelled.is_set()
    assert threads() == []
