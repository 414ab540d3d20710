"""Each load has a working directory of its own, which others neither see nor share."""

import os
import shutil
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import dlt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_dlt import DagsterDltResource
from dagster_dlt.loading.workspace import (
    RETENTION,
    Scope,
    adopt_state,
    claim,
    claim_permanent,
)
from sources import assets_of, metadata_by_asset, one, outage, query

SCOPE = Scope("shop", "duckdb|warehouse", "raw", "load")


def folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.rglob("*") if entry.is_dir())


def test_nothing_is_left_after_a_load(pipeline, materialize, tmp_path):
    materialize(assets_of(one("orders", [{"id": 1}]), pipeline))

    assert list((tmp_path / "pipelines" / ".dagster" / "shop").iterdir()) == []


def test_a_workspace_can_be_put_elsewhere(pipeline, tmp_path, monkeypatch):
    seen: list[str] = []

    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def orders():
            seen.append(dlt.current.pipeline().working_dir)
            yield {"id": 1}

        return orders

    loader = DagsterDltResource(workspace_dir=str(tmp_path / "volume"))
    dg.materialize([assets_of(source(), pipeline)], resources={"dlt_resource": loader})

    assert seen[0].startswith(str(tmp_path / "volume" / "shop"))


def test_a_workspace_is_readable_by_its_owner_only(tmp_path):
    with claim(tmp_path, SCOPE) as workspace:
        mode = stat.S_IMODE(workspace.path.stat().st_mode)

    assert mode == 0o700


def test_a_busy_scope_gets_a_sibling(tmp_path):
    with claim(tmp_path, SCOPE) as first, claim(tmp_path, SCOPE) as second:
        assert first.path != second.path

    assert list((tmp_path / "shop").iterdir()) == []


def test_what_a_dead_process_left_in_a_sibling_is_taken_over(tmp_path):
    with claim(tmp_path, SCOPE), pytest.raises(KeyboardInterrupt), claim(tmp_path, SCOPE) as dead:
        (dead.room() / "shop").mkdir(parents=True)
        (dead.room() / "shop" / "package").touch()
        raise KeyboardInterrupt

    with claim(tmp_path, SCOPE) as workspace:
        (room,) = workspace.rooms()

        assert (room / "shop" / "package").exists()
        assert not dead.path.exists()


def test_a_room_that_is_kept_is_there_for_the_next_load(tmp_path):
    with claim(tmp_path, SCOPE) as workspace:
        for name in ("kept", "done"):
            workspace.room(name).mkdir()
        workspace.keep(workspace.room("kept"))

    with claim(tmp_path, SCOPE) as workspace:
        assert workspace.rooms() == [workspace.room("kept")]


def test_an_error_leaves_everything_for_the_next_attempt(tmp_path):
    with pytest.raises(OSError, match="gone"), claim(tmp_path, SCOPE) as workspace:
        workspace.room().mkdir()
        message = "gone"
        raise OSError(message)

    with claim(tmp_path, SCOPE) as workspace:
        assert len(workspace.rooms()) == 1


def test_what_a_failed_load_left_is_removed_after_a_week(tmp_path):
    other = replace(SCOPE, dataset="other")
    with pytest.raises(OSError, match="x"), claim(tmp_path, other) as old:
        old.room().mkdir()
        raise OSError("x")  # noqa: EM101 - any error
    week_ago = time.time() - RETENTION - 1
    os.utime(old.path, (week_ago, week_ago))

    with claim(tmp_path, SCOPE):
        pass

    assert not old.path.exists()


scopes = st.builds(
    Scope,
    pipeline=st.text(max_size=5),
    destination=st.text(max_size=5),
    dataset=st.none() | st.text(max_size=5),
    step=st.text(max_size=5),
    partition=st.none() | st.text(max_size=5),
)


@given(one=scopes, other=scopes)
def test_two_scopes_share_a_folder_only_if_they_are_the_same(one, other):
    assert (one.folder == other.folder) == (one == other)


def test_a_load_whose_state_is_held_by_another_says_so_and_waits(tmp_path):
    order: list[str] = []
    waiting = threading.Event()

    def second():
        with claim_permanent(tmp_path, "shop", waiting.set):
            order.append("second")

    with claim_permanent(tmp_path, "shop", lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)

    assert order == ["first", "second"]


def test_nobody_finds_half_of_a_room_that_was_being_removed(pipeline, materialize, monkeypatch):
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)
    folder = Path(pipeline.pipelines_dir) / ".dagster" / "shop"

    remove = shutil.rmtree

    def die(path, **options):
        half = Path(path) / "shop" / "load" / "normalized"
        remove(half if half.exists() else path, **options)
        if half.parent.exists():
            raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(shutil, "rmtree", die)
        materialize(assets)
    assert list(folder.iterdir())

    assert materialize(assets).success
    assert list(folder.iterdir()) == []


def test_state_of_dlts_own_directory_is_taken_over_once(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "schemas").mkdir(parents=True)
    (old / "state.json").write_text("1", encoding="utf-8")
    adopt_state(old, new)
    (old / "state.json").write_text("2", encoding="utf-8")

    adopt_state(old, new)

    assert (new / "state.json").read_text(encoding="utf-8") == "1"
    assert folders(new) == ["schemas"]


def test_a_package_left_for_development_is_never_loaded_into_production(
    make_pipeline, materialize, monkeypatch
):
    outage(monkeypatch)
    development = assets_of(one("orders", [{"id": 1}]), make_pipeline(dataset_name="dev"))
    with pytest.raises(dg.Failure):
        materialize(development)

    production = make_pipeline(dataset_name="prod")
    materialize(assets_of(one("orders", [{"id": 2}]), production))

    assert query(production, "select id from prod.orders") == [(2,)]


def test_partitions_do_not_finish_each_others_packages(pipeline, monkeypatch):
    outage(monkeypatch)
    months = dg.StaticPartitionsDefinition(["a", "b"])
    assets = assets_of(one("orders", [{"id": 1}]), pipeline, partitions_def=months)
    resources = {"dlt_resource": DagsterDltResource()}
    with pytest.raises(dg.Failure):
        dg.materialize([assets], resources=resources, partition_key="a")

    dg.materialize([assets], resources=resources, partition_key="b")

    assert query(pipeline, "select count(*) from raw.orders") == [(1,)]


@pytest.mark.parametrize(("on_pending", "rows"), [("resume", 2), ("abort", 1)])
def test_a_new_run_deals_with_pending_packages_as_it_is_told(
    pipeline, monkeypatch, on_pending, rows
):
    outage(monkeypatch)
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)
    resources = {"dlt_resource": DagsterDltResource(on_pending=on_pending)}
    with pytest.raises(dg.Failure):
        dg.materialize([assets], resources=resources)

    result = dg.materialize([assets], resources=resources)

    assert metadata_by_asset(result)["dlt_shop_orders"]["dagster/row_count"] == rows


def test_a_run_can_be_told_to_stop_at_pending_packages(pipeline, monkeypatch):
    from dagster_dlt.errors import PendingPackagesError

    outage(monkeypatch)
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)
    resources = {"dlt_resource": DagsterDltResource(on_pending="fail")}
    with pytest.raises(dg.Failure):
        dg.materialize([assets], resources=resources)

    for _ in range(2):
        with pytest.raises(PendingPackagesError, match=r"pipeline shop --pipelines-dir .* info"):
            dg.materialize([assets], resources=resources)


def test_data_in_the_pipelines_own_directory_stay_there(make_pipeline, materialize):
    pipeline = make_pipeline(destination=dlt.destinations.duckdb(":pipeline:"))
    assets = assets_of(one("orders", [{"id": 1}]), pipeline)

    for _ in range(2):
        found = metadata_by_asset(materialize(assets))

    assert found["dlt_shop_orders"]["dagster/row_count"] == 2
    assert list(Path(pipeline.working_dir).glob("*.duckdb"))
