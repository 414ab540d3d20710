"""With a URL for `workspace_dir`, what a failed load leaves is finished by any machine.

Another machine is another `pipelines_dir`, or a disk that was emptied.
"""

import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import fsspec
import pytest
from dlt.load import Load
from dlt.pipeline.pipeline import Pipeline
from fsspec.implementations.local import LocalFileSystem

from dagster_dlt import DagsterDltResource, dlt_assets
from dagster_dlt.errors import ParkingError, WorkspaceProtocolError
from dagster_dlt.loading import life, stay
from dagster_dlt.loading import parked as parked_rooms
from dagster_dlt.loading.archive import pack, unpack
from dagster_dlt.loading.book import TABLE
from dagster_dlt.loading.entry import Loader
from dagster_dlt.loading.marker import behind
from dagster_dlt.loading.owner import Owner
from dagster_dlt.loading.parked import Parked
from dagster_dlt.loading.parking import Parking
from dagster_dlt.loading.stay import claim_parked
from dagster_dlt.loading.workspace import Scope, claim, origin_of
from sources import assets_of, metadata_by_asset, one, outage, query

SCOPE = Scope("shop", "duckdb|warehouse", "raw", "load")


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path) -> str:
    """A place to park, on a disk that all machines have, and in a bucket."""
    if request.param == "file":
        return f"file://{tmp_path}/parked"
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


@pytest.fixture
def memory(tmp_path) -> str:
    return f"memory://{tmp_path.name}"


def parked(url: str) -> list[str]:
    """Return the names of the objects that the pipeline `shop` has there."""
    return sorted(each.name for each in Parking(url).objects("shop"))


def kinds(url: str) -> list[str]:
    objects = Parking(url).objects("shop")
    return [each.kind for each in sorted(objects, key=lambda each: each.number)]


def outage_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next load fail when its rows are at the destination, and its package is not done."""
    complete = Load.complete_package
    left = [OSError("the network is gone")]

    def failing_once(self: Load, *args: Any, **kwargs: Any) -> None:
        if left:
            raise left.pop()
        complete(self, *args, **kwargs)

    monkeypatch.setattr(Load, "complete_package", failing_once)


def run(assets: dg.AssetsDefinition, url: str, **options: Any) -> dg.ExecuteInProcessResult:
    loader = DagsterDltResource(workspace_dir=url, **options)
    return dg.materialize([assets], resources={"dlt_resource": loader}, raise_on_error=False)


def failure_of(result: dg.ExecuteInProcessResult) -> Any:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    return event.step_failure_data


@dlt.source(name="shop")
def events():
    @dlt.resource(name="events")
    def rows(at=dlt.sources.incremental("at")):
        yield [{"at": 1}, {"at": 2}]

    return rows


class Log:
    """Takes what a load says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, *args: object) -> None:
        self.lines.append(text % args)

    error = warning = info


class Machine:
    """A disk of its own, on which loads claim and leave packages."""

    def __init__(self, disk: Path, url: str) -> None:
        self.disk = disk
        self.url = url
        self.log = Log()
        #: Runs that have ended, for all that is known on it.
        self.over: set[str] = set()

    @contextmanager
    def load(self, scope: Scope = SCOPE, *, attempt: int = 0):
        with claim_parked(
            self.disk,
            scope,
            Parking(self.url),
            Loader(f"run on {self.disk.name}", "load", attempt),
            is_over=self.over.__contains__,
            log=self.log,
        ) as workspace:
            yield workspace

    def fail(self, content: str = "rows", scope: Scope = SCOPE) -> None:
        """End a load with a package that waits."""
        with self.load(scope) as workspace:
            room = next(iter(workspace.rooms()), workspace.room())
            package = room / "shop" / "load" / "normalized" / "1"
            package.mkdir(parents=True, exist_ok=True)
            (package / "job").write_text(content, encoding="utf-8")
            workspace.keep(room)

    def finish(self, scope: Scope = SCOPE) -> list[str]:
        """Finish all packages that wait; return them."""
        with self.load(scope) as workspace:
            found = waiting(workspace)
            for room in workspace.rooms():
                workspace.clear(room)
        return found


def waiting(workspace) -> list[str]:
    found = workspace.path.glob("*/shop/load/normalized/*/job")
    return [path.read_text(encoding="utf-8") for path in found]


@pytest.fixture
def machine(tmp_path, memory):
    """Return a factory of machines that park in one place."""
    return lambda name, url=memory: Machine(tmp_path / name, url)


# --- a run and the next one --------------------------------------------------------------------


def test_a_retry_on_another_machine_finishes_what_the_first_one_extracted(
    make_pipeline, monkeypatch, tmp_path, url
):
    outage(monkeypatch)
    calls: Counter[str] = Counter()

    @dlt.source(name="shop")
    def shop():
        @dlt.resource
        def orders():
            calls["orders"] += 1
            yield [{"id": 1}, {"id": 2}]

        return orders

    pipeline = make_pipeline()

    @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline, name="load")
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        if context.retry_number:
            shutil.rmtree(tmp_path / "pipelines")
        try:
            yield from dlt_resource.run(context=context)
        except dg.Failure as failure:
            raise dg.RetryRequested from failure

    result = run(load, url)

    assert result.success
    assert calls["orders"] == 1
    assert query(pipeline, "select id from raw.orders order by id") == [(1,), (2,)]
    assert list(metadata_by_asset(result)) == ["dlt_shop_orders"]
    assert parked(url) == []


def test_rows_that_the_first_machine_loaded_are_not_loaded_again(
    make_pipeline, monkeypatch, tmp_path, url
):
    outage_before_the_commit(monkeypatch)
    machines = [make_pipeline(pipelines_dir=str(tmp_path / name)) for name in ("one", "two")]
    one_, two = (assets_of(events(), each) for each in machines)
    assert not run(one_, url).success
    assert query(machines[0], "select count(*) from raw.events") == [(2,)]

    assert run(two, url).success

    assert query(machines[0], "select count(*) from raw.events") == [(2,)]


def test_three_machines_load_every_row_once(make_pipeline, monkeypatch, tmp_path, url):
    """The first fails and keeps its disk, the second finishes, and the first runs once more."""
    outage(monkeypatch)
    machines = [make_pipeline(pipelines_dir=str(tmp_path / name)) for name in ("one", "two")]
    one_, two = (assets_of(one("orders", [{"id": 1}]), each) for each in machines)

    assert not run(one_, url).success
    assert run(two, url).success
    assert query(machines[0], "select count(*) from raw.orders") == [(2,)]  # finished, and its own
    assert run(one_, url).success

    assert query(machines[0], "select count(*) from raw.orders") == [(3,)]
    assert parked(url) == []


def test_a_machine_that_kept_its_disk_needs_no_archive(pipeline, monkeypatch, url):
    def unreachable(*_args: Any) -> None:
        raise ConnectionError

    outage(monkeypatch)
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)
    run(assets, url)
    monkeypatch.setattr(Parking, "download", unreachable)

    assert run(assets, url).success

    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]
    assert parked(url) == []


def test_a_load_that_succeeds_parks_nothing(pipeline, tmp_path, url):
    assert run(assets_of(one("orders", [{"id": 1}]), pipeline), url).success

    assert parked(url) == []
    assert list((tmp_path / "pipelines" / ".dagster" / "shop").iterdir()) == []


def test_a_resource_that_cannot_be_extracted_parks_nothing(pipeline, url):
    @dlt.resource
    def orders():
        yield {"id": 1}
        raise ConnectionError

    assets = assets_of(dlt.source(lambda: orders, name="shop")(), pipeline)

    assert not run(assets, url).success

    assert parked(url) == []


def test_the_failure_says_where_the_package_is_parked(pipeline, monkeypatch, url):
    outage(monkeypatch)

    result = run(assets_of(one("orders", [{"id": 1}]), pipeline), url)

    found = failure_of(result).user_failure_data.metadata["dagster_dlt/parked"].value
    assert found == [f"{url}/shop/{name}" for name in parked(url)]
    assert kinds(url) == ["tar.gz"]


def test_packages_that_are_thrown_away_are_not_kept_for_another_machine(pipeline, monkeypatch, url):
    outage(monkeypatch)
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)
    run(assets, url)

    assert run(assets, url, on_pending="abort").success

    assert query(pipeline, "select count(*) from raw.orders") == [(1,)]
    assert parked(url) == []


def test_a_package_on_which_a_run_stops_can_be_finished_elsewhere(
    make_pipeline, monkeypatch, tmp_path, url
):
    outage(monkeypatch)
    machines = [make_pipeline(pipelines_dir=str(tmp_path / name)) for name in ("one", "two")]
    one_, two = (assets_of(one("orders", [{"id": 1}]), each) for each in machines)
    run(one_, url)

    stopped = run(two, url, on_pending="fail")

    assert "PendingPackagesError" in str(failure_of(stopped).error)
    assert kinds(url) == ["tar.gz"]
    assert run(one_, url).success
    assert query(machines[0], "select count(*) from raw.orders") == [(2,)]


@pytest.mark.parametrize("disk", ["one", "two"])
def test_a_run_that_stops_at_a_parked_package_does_not_park_it_again(
    make_pipeline, monkeypatch, tmp_path, memory, disk
):
    def unwanted(*_args: Any) -> None:
        raise AssertionError

    outage(monkeypatch)
    machines = {name: make_pipeline(pipelines_dir=str(tmp_path / name)) for name in ("one", "two")}
    assets = {name: assets_of(one("orders", [{"id": 1}]), each) for name, each in machines.items()}
    run(assets["one"], memory)
    before = parked(memory)
    with monkeypatch.context() as patch:
        patch.setattr(Parking, "upload", unwanted)
        for _ in range(2):
            stopped = run(assets[disk], memory, on_pending="fail")
            assert "PendingPackagesError" in str(failure_of(stopped).error)
            assert parked(memory) == before

    assert run(assets["two"], memory).success
    assert query(machines["two"], "select count(*) from raw.orders") == [(2,)]
    assert parked(memory) == []


def test_an_interrupted_load_is_parked(pipeline, monkeypatch, url):
    def interrupted(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "load", interrupted)
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)

    assert not run(assets, url).success

    assert kinds(url) == ["tar.gz"]


def test_state_that_is_on_the_disk_only_stays_there(make_pipeline, memory):
    pipeline = make_pipeline(destination=dlt.destinations.duckdb(":pipeline:"))
    loader = DagsterDltResource(workspace_dir=memory)
    with dg.instance_for_test() as instance:
        assets = assets_of(one("orders", [{"id": 1}]), pipeline)
        result = dg.materialize([assets], resources={"dlt_resource": loader}, instance=instance)
        said = [
            record.user_message
            for record in instance.all_logs(result.run_id)
            if not record.is_dagster_event
        ]

    assert sum("so nothing is parked" in text for text in said) == 1
    assert parked(memory) == []


# --- a process that is killed ------------------------------------------------------------------

PROJECT = """
import os
import signal
import sys

import dagster as dg
import dlt
from dlt.load import Load
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline
from dagster_dlt import DagsterDltResource, dlt_assets

point, machine, url = sys.argv[1:]

@dlt.source
def shop():
    @dlt.resource
    def orders(at=dlt.sources.incremental("at")):
        yield [{"at": 1}, {"at": 2}]

    return orders

@dlt_assets(
    dlt_source=shop(),
    dlt_pipeline=dlt.pipeline(
        "shop",
        pipelines_dir=machine,
        destination=dlt.destinations.duckdb(os.path.abspath("warehouse.duckdb")),
        dataset_name="raw",
    ),
)
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)

def killed(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

def failing(self, *_args, **_options):
    raise PipelineStepFailed(self, "load", "1", OSError("the network is gone"))

if point == "killed before the commit":
    Load.complete_package = killed
elif point != "nowhere":
    Pipeline.load = {"killed": killed, "failing": failing}[point]
with dg.DagsterInstance.get() as instance:
    if "MONITORED" in os.environ:
        for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            instance.report_run_failed(run)
    resources = {"dlt_resource": DagsterDltResource(workspace_dir=url)}
    assert dg.materialize([load], resources=resources, instance=instance).success
"""


def process(folder: Path, point: str, disk: str, machine: str = "", **environment: str) -> int:
    """Run the project in a process; `machine` is a word for those that see each other's locks."""
    (folder / "project.py").write_text(PROJECT, encoding="utf-8")
    home, temporary = folder / "home", folder / f"machine{machine}"
    for path in (home, temporary):
        path.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    return subprocess.run(
        [sys.executable, folder / "project.py", point, disk, f"file://{folder}/parked"],
        cwd=folder,
        env={
            **os.environ,
            "DAGSTER_HOME": str(home),
            "TMPDIR": str(temporary),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    ).returncode


def rows_in(folder: Path) -> list[Any]:
    import duckdb

    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.execute('select "at" from raw.orders order by all').fetchall()


def load_ids_in(folder: Path) -> list[Any]:
    """Return the loads that the rows belong to."""
    import duckdb

    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.execute("select distinct _dlt_load_id from raw.orders").fetchall()


def test_a_killed_process_parks_nothing_and_another_machine_extracts_again(tmp_path):
    assert process(tmp_path, "killed", "one") == -signal.SIGKILL
    assert parked(f"file://{tmp_path}/parked") == []

    assert process(tmp_path, "nowhere", "two") == 0

    assert rows_in(tmp_path) == [(1,), (2,)]


def test_a_process_killed_while_it_finishes_a_parked_package_is_continued_on_its_disk(tmp_path):
    url = f"file://{tmp_path}/parked"
    assert process(tmp_path, "failing", "one") == 1
    assert process(tmp_path, "killed", "two") == -signal.SIGKILL
    assert kinds(url) == ["tar.gz", "owner"]

    assert process(tmp_path, "nowhere", "two") == 0

    assert rows_in(tmp_path) == [(1,), (2,)]
    assert parked(url) == []


@pytest.mark.parametrize(
    ("point", "machine", "environment"),
    [("killed", "two", {}), ("killed before the commit", "three", {"MONITORED": "1"})],
    ids=["on its machine", "elsewhere once its run has ended, and its rows sent"],
)
def test_a_package_whose_owner_was_killed_is_finished_at_once(
    tmp_path, point, machine, environment
):
    url = f"file://{tmp_path}/parked"
    assert process(tmp_path, "failing", "one", "one") == 1
    assert process(tmp_path, point, "two", "two") == -signal.SIGKILL
    assert kinds(url) == ["tar.gz", "owner"]
    (archive,) = (tmp_path / "parked" / "shop").glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        (load_id,) = {
            Path(name).name for name in packed.getnames() if Path(name).parent.name == "normalized"
        }

    assert process(tmp_path, "nowhere", "three", machine, **environment) == 0

    assert rows_in(tmp_path) == [(1,), (2,)]
    assert load_ids_in(tmp_path) == [(load_id,)]  # not extracted again
    assert parked(url) == []


# --- who may finish ----------------------------------------------------------------------------


def test_what_a_second_machine_parks_is_what_it_left_not_what_it_fetched(machine):
    machine("one").fail("two jobs")
    machine("two").fail("one job")

    assert machine("three").finish() == ["one job"]


def test_a_disk_with_an_older_copy_is_passed_over(machine):
    machine("one").fail("two jobs")
    machine("two").fail("one job")

    assert machine("one").finish() == ["one job"]


def test_a_copy_that_was_finished_elsewhere_is_removed(machine):
    machine("one").fail()
    machine("two").finish()

    assert machine("one").finish() == []


def test_a_room_that_is_taken_is_left_to_its_owner(machine, memory):
    first, second, third = machine("one"), machine("two"), machine("three")
    first.fail()

    with second.load() as workspace:
        assert waiting(workspace) == ["rows"]
        assert third.finish() == []
        assert first.finish() == []
        workspace.clear(*workspace.rooms())

    assert any("is left to run run on two on" in line for line in third.log.lines)
    assert parked(memory) == []


def owner_of(load: str = "run on two", attempt: int = 0, *, machine: str = "elsewhere") -> Owner:
    return replace(Owner.new(Loader(load, "load", attempt)), machine=machine)


def as_listed(place: Parking) -> Any:
    """Return the one room that is parked, as a load sees it that is about to take it."""
    objects = tuple(place.objects("shop"))
    return Parked(objects[0].ticket, objects)


def seen_from_another_machine(url: str) -> Parking:
    """Return a place that shares nothing that a filesystem object remembers."""
    place = Parking(url)
    vars(place)["_fs"] = fsspec.url_to_fs(url, skip_instance_cache=True)[0]
    return place


def test_a_room_that_was_taken_since_it_was_listed_is_not_taken_again(machine, url):
    machine("one", url).fail()
    two, three = seen_from_another_machine(url), seen_from_another_machine(url)
    there = as_listed(three)

    assert two.take("shop", as_listed(two), owner_of())

    assert three.take("shop", there, owner_of()) is None


def test_of_two_loads_that_reach_for_a_room_one_gets_it(machine, url):
    machine("one", url).fail()
    start, taken = threading.Barrier(2), []

    def reach() -> None:
        place = seen_from_another_machine(url)
        there = as_listed(place)
        start.wait(10)
        taken.append(place.take("shop", there, owner_of()))

    threads = [threading.Thread(target=reach) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(each is None for each in taken) == [False, True]


def test_a_room_that_was_finished_since_it_was_listed_is_not_taken(machine, memory, monkeypatch):
    first, second = machine("one"), machine("two")
    first.fail()
    there = as_listed(Parking(memory))
    first.finish()
    monkeypatch.setattr(Parking, "objects", lambda *_args: list(there.objects))

    assert second.finish() == []

    monkeypatch.undo()
    assert parked(memory) == []


def test_a_room_whose_owner_has_died_on_the_same_machine_is_taken_at_once(machine, memory):
    machine("one").fail()
    Parking(memory).take("shop", as_listed(Parking(memory)), Owner.new(Loader("run 2", "load")))

    assert machine("three").finish() == ["rows"]

    assert parked(memory) == []


def test_a_room_whose_owner_may_be_alive_elsewhere_is_left_to_it(machine, memory):
    machine("one").fail()
    Parking(memory).take("shop", as_listed(Parking(memory)), owner_of())
    three = machine("three")

    assert three.finish() == []

    assert any("is left to run run on two on" in line for line in three.log.lines)
    assert kinds(memory) == ["tar.gz", "owner"]


def test_a_room_whose_owner_has_died_elsewhere_is_taken_once_its_run_has_ended(machine, memory):
    machine("one").fail()
    Parking(memory).take("shop", as_listed(Parking(memory)), owner_of())
    three = machine("three")
    three.over.add("run on two")

    assert three.finish() == ["rows"]

    assert any("run has ended" in line for line in three.log.lines)
    assert parked(memory) == []


def test_a_room_whose_owner_has_died_elsewhere_is_taken_by_the_next_attempt(machine, memory):
    machine("one").fail()
    Parking(memory).take("shop", as_listed(Parking(memory)), owner_of("run on three"))

    with machine("three").load(attempt=1) as workspace:
        assert waiting(workspace) == ["rows"]
        workspace.keep(*workspace.rooms())


def test_a_room_whose_owner_gives_no_sign_of_life_is_taken(machine, memory, monkeypatch):
    machine("one").fail()
    Parking(memory).take("shop", as_listed(Parking(memory)), owner_of())

    monkeypatch.setattr(life, "LEASE", -1)
    assert machine("two").finish() == ["rows"]
    assert parked(memory) == []


def test_an_owner_gives_signs_of_life_until_it_is_over(machine, url, monkeypatch):
    def owner() -> Owner:
        place = seen_from_another_machine(url)
        (mark,) = (each for each in place.objects("shop") if each.kind == "owner")
        found = place.owner("shop", mark)
        assert found is not None
        return found

    def beating(*args: Any) -> None:
        renew(*args)
        beaten.set()

    renew, beaten = Parking.renew, threading.Event()
    machine("one", url).fail()
    monkeypatch.setattr(life, "BEAT", 0.01)
    monkeypatch.setattr(Parking, "renew", beating)

    with machine("two", url).load() as workspace:
        before = owner()
        beaten.clear()
        assert beaten.wait(30)
        assert owner().beat_at > before.beat_at
        assert owner().load_id == before.load_id
        workspace.clear(*workspace.rooms())

    assert parked(url) == []


def test_a_load_that_was_taken_for_dead_does_not_park_over_its_successor(
    machine, memory, monkeypatch
):
    machine("one").fail()
    two, three = machine("two"), machine("three")
    three.over.add("run on two")
    with ExitStack() as of_two:
        workspace = of_two.enter_context(two.load())
        workspace.keep(*workspace.rooms())
        monkeypatch.setattr(life, "machine", lambda: "another")
        with three.load() as taken:
            before = parked(memory)
            assert waiting(taken) == ["rows"]
            next(workspace.path.rglob("job")).write_text("less", encoding="utf-8")
            of_two.close()
            assert parked(memory) == before
            taken.clear(*taken.rooms())

    assert parked(memory) == []


@pytest.mark.parametrize("was_taken", [True, False])
def test_a_room_that_was_taken_from_a_dead_load_is_known_for_older_than_what_was_sent(
    machine, memory, was_taken
):
    """Also by whoever fetches it after the one that has taken it could not finish it either."""
    machine("one").fail()
    if was_taken:
        Parking(memory).take("shop", as_listed(Parking(memory)), Owner.new(Loader("run 2", "load")))
    machine("three").fail()

    with machine("four").load() as workspace:
        assert [behind(room).exists() for room in workspace.rooms()] == [was_taken]
        workspace.clear(*workspace.rooms())


def die_while_parking(machine, monkeypatch, *, arrived):
    """Let a load fail, and its process die before it knows whether the upload has arrived."""
    upload = Parking.upload

    def killed(*args: Any) -> None:
        if arrived:
            upload(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Parking, "upload", killed)
    with pytest.raises(KeyboardInterrupt):
        machine.fail()
    monkeypatch.undo()


@pytest.mark.parametrize("arrived", [True, False])
def test_a_load_killed_while_it_parks_leaves_one_package(machine, memory, monkeypatch, arrived):
    """The disk does not know whether the upload succeeded."""
    first = machine("one")
    die_while_parking(first, monkeypatch, arrived=arrived)

    assert first.finish() == ["rows"]
    assert parked(memory) == []


def test_a_room_that_was_left_where_it_is_is_removed_once_it_is_finished_elsewhere(
    machine, memory, monkeypatch
):
    """Also when the load that has parked it was killed before it knew that the upload was there."""
    first = machine("one")
    die_while_parking(first, monkeypatch, arrived=True)
    with first.load() as workspace:
        workspace.keep(*workspace.rooms())
    assert kinds(memory) == ["tar.gz"]

    assert machine("two").finish() == ["rows"]
    assert first.finish() == []


def test_what_a_killed_load_has_half_unpacked_is_no_room(tmp_path):
    with pytest.raises(KeyboardInterrupt), claim(tmp_path, SCOPE) as dead:
        (dead.path / ".parking-x" / "room").mkdir(parents=True)
        raise KeyboardInterrupt

    with claim(tmp_path, SCOPE) as workspace:
        assert workspace.rooms() == []


def test_a_workspace_says_which_run_has_left_it_where_it_is_parked_too(machine):
    with machine("one").load() as workspace:
        found = origin_of(workspace.path)

    assert found is not None
    assert found.run_id == "run on one"


def test_scopes_do_not_see_each_others_rooms(machine):
    machine("one").fail()

    assert machine("two").finish(replace(SCOPE, dataset="other")) == []


def test_packages_of_two_machines_that_failed_at_the_same_time_are_both_finished(machine):
    with machine("one").load():
        machine("two").fail("of two")
        with machine("two").load() as workspace:  # holds it while the third fails
            workspace.keep(*workspace.rooms())
            machine("three").fail("of three")

    assert sorted(machine("four").finish()) == ["of three", "of two"]


def test_a_place_that_was_changed_does_not_cost_a_package(machine, memory):
    machine("one").fail()

    assert machine("one", f"{memory}/moved").finish() == ["rows"]


# --- retention ---------------------------------------------------------------------------------


def let_it_be_2020(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parked_rooms, stay):
        monkeypatch.setattr(module, "stamp", lambda _seconds: "20200101T000000Z")


def test_what_nobody_finished_within_a_week_is_removed(machine, memory, monkeypatch):
    let_it_be_2020(monkeypatch)
    machine("one").fail()
    machine("one").fail(scope=replace(SCOPE, dataset="other"))
    monkeypatch.undo()
    assert len(parked(memory)) == 2

    assert machine("two").finish() == []

    assert parked(memory) == []


def test_a_load_removes_no_more_than_so_many_old_rooms(machine, memory, monkeypatch):
    with monkeypatch.context() as patch:
        let_it_be_2020(patch)
        for dataset in "abc":
            machine("one").fail(scope=replace(SCOPE, dataset=dataset))
    monkeypatch.setattr(stay, "_REMOVED_AT_ONCE", 2)

    machine("two").finish()

    assert len(parked(memory)) == 1


# --- when the place fails ----------------------------------------------------------------------


def test_a_place_that_cannot_be_reached_is_told_before_anything_is_extracted(pipeline):
    result = run(assets_of(one("orders", [{"id": 1}]), pipeline), "ftp://me:hush@127.0.0.1:1/x?k=v")

    error = failure_of(result).error
    assert "ParkingError: Packages parked at 'ftp://127.0.0.1:1/x' cannot be read" in str(error)
    assert "hush" not in str(error)
    assert query(pipeline, "select table_name from information_schema.tables") == [(TABLE,)]


def test_what_is_parked_stays_as_it_is_where_a_load_cannot_start(machine, memory, monkeypatch):
    def broken(self: Parking, *args: Any) -> None:
        if left.pop():
            message = "the line is dead"
            raise OSError(message)
        download(self, *args)

    machine("one").fail()
    with machine("two").load() as workspace:
        workspace.keep(*workspace.rooms())
        machine("three").fail()
    before, download, left = parked(memory), Parking.download, [True, False]
    monkeypatch.setattr(Parking, "download", broken)

    with pytest.raises(ParkingError, match="the line is dead"):
        machine("four").finish()

    assert parked(memory) == before
    monkeypatch.undo()
    assert machine("four").finish() == ["rows", "rows"]
    assert parked(memory) == []


def test_a_load_that_cannot_start_does_not_park_its_disk_again(machine, memory, monkeypatch):
    def broken(*_args: Any) -> None:
        raise ConnectionError

    machine("one").fail()
    before = parked(memory)
    with monkeypatch.context() as patch:
        patch.setattr(Parking, "objects", broken)
        with pytest.raises(ParkingError):
            machine("one").finish()

    assert parked(memory) == before


def test_a_load_fails_with_its_own_cause_where_nothing_can_be_parked(
    pipeline, monkeypatch, memory, capfd
):
    def full(*_args: Any) -> None:
        message = "the bucket is full"
        raise OSError(message)

    outage(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Parking, "upload", full)
        result = run(assets_of(one("orders", [{"id": 1}]), pipeline), memory)

    assert "the network is gone" in failure_of(result).user_failure_data.description
    assert "the bucket is full). Only this disk has them." in capfd.readouterr().err
    assert run(assets_of(one("orders", [{"id": 1}]), pipeline), memory).success
    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]


def test_a_load_fails_if_what_it_finished_stays_parked(machine, monkeypatch):
    def refused(*_args: Any) -> None:
        message = "no right to delete"
        raise PermissionError(message)

    machine("one").fail()
    monkeypatch.setattr(Parking, "remove", refused)

    with pytest.raises(ParkingError, match=r"cannot be removed \(PermissionError: no right.*hand"):
        machine("two").finish()


def test_half_an_upload_is_never_an_archive(machine, tmp_path, monkeypatch):
    def half(_self: LocalFileSystem, source: str, target: str, **_options: Any) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        message = "the line is dead"
        raise OSError(message)

    url = f"file://{tmp_path}/parked"
    monkeypatch.setattr(LocalFileSystem, "put_file", half)

    machine("one", url).fail()

    assert kinds(url) == ["part"]
    assert machine("two", url).finish() == []


def test_an_archive_that_cannot_be_read_does_not_fail_the_load(machine, tmp_path):
    url = f"file://{tmp_path}/parked"
    machine("one", url).fail()
    (archive,) = (tmp_path / "parked" / "shop").iterdir()
    archive.write_bytes(archive.read_bytes()[:50])

    second = machine("two", url)

    assert second.finish() == []
    assert "cannot be unpacked" in second.log.lines[-1]
    assert archive.exists()


def test_a_protocol_without_a_filesystem_is_refused_with_what_to_install(pipeline):
    result = run(assets_of(one("orders", [{"id": 1}]), pipeline), "webdav://host/x")

    assert "Install webdav4 to access WebDAV" in str(failure_of(result).error)
    assert query(pipeline, "select count(*) from information_schema.tables") == [(0,)]


def test_a_mistyped_protocol_is_refused_with_the_nearest_one():
    with pytest.raises(WorkspaceProtocolError, match="Did you mean 'memory'"):
        Parking.at("memry://x")


# --- what is in an archive ---------------------------------------------------------------------


def test_what_dlt_notes_of_the_configuration_is_not_parked(
    make_pipeline, monkeypatch, tmp_path, s3
):
    outage_before_the_commit(monkeypatch)
    monkeypatch.setenv("DESTINATION__FILESYSTEM__CREDENTIALS__AWS_ACCESS_KEY_ID", "AKIAHUSH")
    monkeypatch.setenv("DESTINATION__FILESYSTEM__CREDENTIALS__AWS_SECRET_ACCESS_KEY", "hushhush")
    pipeline = make_pipeline(destination=dlt.destinations.filesystem(f"{s3}/warehouse"))

    run(assets_of(one("orders", [{"id": 1}]), pipeline), f"file://{tmp_path}/parked")

    (trace,) = (tmp_path / "pipelines" / ".dagster").rglob("trace.pickle")
    assert b"AKIAHUSH" in trace.read_bytes()
    (archive,) = (tmp_path / "parked" / "shop").iterdir()
    with tarfile.open(archive) as packed:
        files = {each.name: packed.extractfile(each) for each in packed if each.isfile()}
        assert not [name for name, file in files.items() if b"hush" in file.read().lower()]
        assert not [name for name in files if name.endswith(("trace.pickle", ".exception"))]
        assert "shop/state.json" in files


def test_what_is_parked_on_a_disk_is_readable_by_its_owner_only(machine, tmp_path):
    url = f"file://{tmp_path}/parked"
    machine("one", url).fail()

    with machine("two", url).load() as workspace:
        modes = {
            stat.S_IMODE(path.stat().st_mode)
            for top in (tmp_path / "parked" / "shop", workspace.path)
            for path in (top, *top.rglob("*"))
        }

    assert modes == {0o700, 0o600}


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, "/etc/passwd"
    return found


@pytest.mark.parametrize(
    "hostile",
    [
        member("../out"),
        member("/tmp/out"),  # noqa: S108 - it must not be written
        member("shop/../../out"),
        member("shop/link", tarfile.SYMTYPE),
        member("shop/link", tarfile.LNKTYPE),
        member("shop/pipe", tarfile.FIFOTYPE),
        member("shop/trace.pickle"),
    ],
    ids=lambda each: f"{each.name}-{each.type.decode()}",
)
def test_nothing_is_taken_from_an_archive_that_no_load_packs(tmp_path, hostile):
    with tarfile.open(tmp_path / "archive", "w:gz") as packed:
        packed.addfile(hostile, io.BytesIO())

    with pytest.raises(tarfile.ReadError, match="cannot be taken"):
        unpack(tmp_path / "archive", tmp_path / "room")

    assert list((tmp_path / "room").rglob("*")) == [] or (tmp_path / "room" / "shop").is_dir()
    assert not (tmp_path / "out").exists()


def test_an_archive_holds_plain_files_and_nobodys_name(tmp_path):
    room = tmp_path / "room"
    (room / "shop").mkdir(parents=True)
    (room / "shop" / "job").touch()
    (room / "shop" / "link").symlink_to("/etc/passwd")

    pack(room, tmp_path / "archive")

    with tarfile.open(tmp_path / "archive") as packed:
        members = packed.getmembers()
    assert [each.name for each in members] == ["shop", "shop/job"]
    assert {(each.uid, each.uname) for each in members} == {(0, "")}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("ftp://me:hush@host/x", "ftp://host/x"),
        ("ftp://me:hu@sh@host/x", "ftp://host/x"),
        ("ftp://me:hu?sh@host/x", "ftp://host/x"),
        ("s3://bucket/x?versionId=hush#hush", "s3://bucket/x"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert Parking(url).shown == shown


def test_an_error_of_a_driver_is_told_without_the_password():
    told = Parking("ftp://me:hu%40sh@host/x?token=abc").told(
        OSError("530 me:hu%40sh hu@sh token=abc refused")
    )

    assert told == "OSError: 530 *** *** *** refused"
