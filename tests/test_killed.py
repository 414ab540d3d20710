"""A load that is killed between its stages is completed by the next run, without rows twice.

What is killed is a real process, with SIGKILL; the next run is another one, which has the disk of
the first or has lost it.
"""

import os
import shutil
import signal
import subprocess
import sys

import duckdb
import pytest

PROJECT = """
import os
import signal
import sys

import dagster as dg
import dlt
from dlt.pipeline.pipeline import Pipeline
from dagster_dlt import DagsterDltResource, dlt_assets

point = sys.argv[1]

def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

@dlt.source
def shop():
    @dlt.resource
    def events(at=dlt.sources.incremental("at")):
        yield [{"at": 1, "marks": [{"m": 1}]}, {"at": 2, "marks": []}]
        if point == "extracting":
            die()
        yield [{"at": 3, "marks": [{"m": 2}, {"m": 3}]}]

    @dlt.resource(primary_key="id", write_disposition="merge")
    def customers():
        yield [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}]

    @dlt.resource(write_disposition="replace")
    def prices():
        yield [{"sku": "tea"}, {"sku": "jam"}]

    return events, customers, prices

@dlt_assets(
    dlt_source=shop(),
    dlt_pipeline=dlt.pipeline(
        "shop",
        pipelines_dir="pipelines",
        destination=dlt.destinations.duckdb("warehouse.duckdb"),
        dataset_name="raw",
    ),
)
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)

if point == "extracted":
    Pipeline.normalize = die
if point == "normalized":
    Pipeline.load = die
if point == "committed":
    whole = Pipeline.load
    Pipeline.load = lambda *args, **options: (whole(*args, **options), die())

assert dg.materialize([load], resources={"dlt_resource": DagsterDltResource()}).success
"""

POINTS = ["extracting", "extracted", "normalized", "committed"]


def run(folder, point):
    return subprocess.run(
        [sys.executable, folder / "project.py", point],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "RUNTIME__LOG_LEVEL": "CRITICAL"},
    )


def contents(folder) -> dict[str, list[object]]:
    """Return what the user loaded, table by table, and the cursor that the next run starts from."""
    queries = {
        "events": 'select "at" from raw.events order by all',
        "marks": "select m from raw.events__marks order by all",
        "customers": "select id, name from raw.customers order by all",
        "prices": "select sku from raw.prices order by all",
        "cursors": "select count(*) from raw._dlt_pipeline_state",
    }
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        return {name: warehouse.execute(sql).fetchall() for name, sql in queries.items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "project.py").write_text(PROJECT, encoding="utf-8")
    assert run(folder, "nowhere").returncode == 0
    return contents(folder)


@pytest.mark.parametrize("disk", ["kept", "lost"])
@pytest.mark.parametrize("point", POINTS)
def test_a_run_after_a_killed_one_ends_like_one_that_was_not(tmp_path, uninterrupted, point, disk):
    (tmp_path / "project.py").write_text(PROJECT, encoding="utf-8")
    killed = run(tmp_path, point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if disk == "lost":
        shutil.rmtree(tmp_path / "pipelines")

    after = run(tmp_path, "nowhere")

    assert after.returncode == 0, after.stderr
    assert contents(tmp_path) == uninterrupted
    assert list((tmp_path / "pipelines" / ".dagster" / "shop").iterdir()) == []
