"""Pipelines move in from plain dlt and back again, without a row lost or loaded twice."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import pytest
from click.testing import CliRunner
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import DagsterDltResource
from dagster_dlt.cli import main
from dagster_dlt.errors import PackagesLeftBehindError
from sources import assets_of, query


def shop(last: int, meet: Callable[[], object] = lambda: None) -> DltSource:
    """Two resources with cursors, whose rows are numbered from 1 to `last`."""

    @dlt.resource
    def orders(at: Any = dlt.sources.incremental("at")) -> Any:
        meet()
        for number in range(1, last + 1):
            yield {"at": number, "items": [{"sku": number}]}

    @dlt.resource
    def payments(at: Any = dlt.sources.incremental("at")) -> Any:
        meet()
        for number in range(1, last + 1):
            yield {"at": number}

    return dlt.source(lambda: (orders, payments), name="shop")()


def load(pipeline: Pipeline, last: int) -> None:
    """Load the shop with Dagster."""
    resources = {"dlt_resource": DagsterDltResource()}
    dg.materialize([assets_of(shop(last), pipeline)], resources=resources)


def numbers(pipeline: Pipeline) -> dict[str, list[int]]:
    """Return what is at the destination."""
    return {
        "orders": [n for (n,) in query(pipeline, 'select "at" from raw.orders order by all')],
        "items": [n for (n,) in query(pipeline, "select sku from raw.orders__items order by all")],
        "payments": [n for (n,) in query(pipeline, 'select "at" from raw.payments order by all')],
    }


def up_to(last: int) -> dict[str, list[int]]:
    return {name: list(range(1, last + 1)) for name in ("orders", "items", "payments")}


@pytest.fixture
def plain(make_pipeline, tmp_path) -> Callable[..., Pipeline]:
    """Return a factory of the same pipeline, in a directory that was never used."""
    count = iter(range(9))
    return lambda: make_pipeline(pipelines_dir=str(tmp_path / f"plain{next(count)}"))


def test_plain_dlt_goes_on_where_dagster_stopped_and_the_other_way_round(make_pipeline, plain):
    load(make_pipeline(), 2)
    plain().run(shop(4))
    load(make_pipeline(), 6)
    plain().run(shop(8))

    assert numbers(make_pipeline()) == up_to(8)


def test_a_library_that_drops_the_local_state_before_each_run_goes_on_too(make_pipeline, plain):
    load(make_pipeline(), 2)
    other = plain()
    for last in (4, 6):
        other = other.drop()
        other.run(shop(last))
    load(make_pipeline(), 8)

    assert numbers(make_pipeline()) == up_to(8)


def test_the_directory_that_dlt_used_before_may_be_used_again(make_pipeline):
    make_pipeline().run(shop(2))
    load(make_pipeline(), 4)
    make_pipeline().run(shop(6))
    load(make_pipeline(), 8)

    assert numbers(make_pipeline()) == up_to(8)


def test_the_ledger_may_be_dropped(make_pipeline, plain):
    load(make_pipeline(), 2)
    query(make_pipeline(), "drop table raw._dlt_dagster_loads")
    plain().run(shop(4))
    load(make_pipeline(), 6)

    assert numbers(make_pipeline()) == up_to(6)
    assert query(make_pipeline(), "select count(*) from raw._dlt_dagster_loads") == [(1,)]


def test_cursors_of_loads_that_overlapped_are_merged_before_plain_dlt_goes_on(
    make_pipeline, plain, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    both = threading.Barrier(2, timeout=60)  # each is extracted before the other is committed
    loader = DagsterDltResource(decompose="parallel")
    assets = assets_of(shop(2, both.wait), make_pipeline())
    dg.materialize([assets], resources={"dlt_resource": loader})
    (tmp_path / "found.py").write_text(
        "import dlt\n"
        "pipeline = dlt.pipeline('shop', dataset_name='raw', pipelines_dir='pipelines',\n"
        "    destination=dlt.destinations.duckdb('warehouse.duckdb'))",
        encoding="utf-8",
    )

    before = CliRunner().invoke(main, ["-f", "found.py", "cursors", "show"])
    done = CliRunner().invoke(main, ["-f", "found.py", "cursors", "merge", "--yes"])
    plain().run(shop(4))

    assert before.output.count("int") == 2
    assert "Done, in load" in done.output
    assert numbers(make_pipeline()) == up_to(4)


# --- where only a disk keeps the state -----------------------------------------------------------


@pytest.fixture
def sunk() -> list[int]:
    """What has arrived at a destination that keeps no state."""
    return []


@pytest.fixture
def sinking(make_pipeline, sunk) -> Callable[..., Pipeline]:
    @dlt.destination(name="sink")
    def sink(items, table):
        if table["name"] == "orders":
            sunk.extend(item["at"] for item in items)

    return lambda **options: make_pipeline(destination=sink(), dataset_name=None, **options)


def test_cursors_that_plain_dlt_keeps_on_the_disk_move_in_once(sinking, sunk):
    sinking().run(shop(2))
    load(sinking(), 4)
    load(sinking(), 6)

    assert sunk == [1, 2, 3, 4, 5, 6]


def test_cursors_that_are_ahead_of_a_pending_package_do_not_move_in(sinking, sunk):
    pipeline = sinking()
    pipeline.extract(shop(2))
    pipeline.normalize()
    with pytest.raises(PackagesLeftBehindError, match="abort-packages"):
        load(sinking(), 4)

    pipeline.load()
    load(sinking(), 4)

    assert sunk == [1, 2, 3, 4]


def test_cursors_on_the_disk_move_back_with_their_directory(sinking, sunk, tmp_path):
    load(sinking(), 2)
    (kept,) = (tmp_path / "pipelines" / ".dagster" / "shop").glob("state-*/shop")
    own = Path(sinking().working_dir)
    shutil.rmtree(own)
    shutil.copytree(kept, own)

    sinking().run(shop(4))

    assert sunk == [1, 2, 3, 4]
