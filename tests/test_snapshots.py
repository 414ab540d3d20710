"""A snapshot says what a source has, so that definitions need not build it."""

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import dlt
import pytest

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltSourceSnapshot,
    build_dlt_asset_specs,
)
from dagster_dlt.errors import PartitionWarning, SnapshotError, SnapshotWarning
from sources import assets_of, query


@dlt.source
def shop(token: str = dlt.secrets.value):
    @dlt.resource(
        primary_key="id",
        write_disposition="merge",
        columns={"id": {"data_type": "bigint", "description": "Its number."}},
    )
    def orders(
        at=dlt.sources.incremental(
            "at", initial_value=datetime(2024, 1, 1, tzinfo=timezone.utc), row_order="asc"
        ),
    ):
        """What was bought."""
        yield [{"id": 1, "at": datetime(2024, 1, 2, tzinfo=timezone.utc)}]

    @dlt.transformer(data_from=orders, table_name=lambda row: f"kind_{row['id']}")
    def items(order):
        yield {"id": 7}

    customers = dlt.resource([{"id": 1}], name="customers")
    customers.add_input({"kind": "files", "location": "file:///data/customers"})
    customers.apply_hints(additional_table_hints={"x-dagster": {"owners": ["team:shop"]}})
    return orders, items, customers


def built():
    return shop(token="of the snapshot")  # noqa: S106 - a secret for nothing


@pytest.fixture
def snapshot(tmp_path):
    snapshot = DltSourceSnapshot(tmp_path / "snapshots" / "shop.json", build=built)
    snapshot.write(shop)
    return snapshot


def edit(snapshot, change):
    said = json.loads(snapshot.path.read_text())
    change(said)
    snapshot.path.write_text(json.dumps(said))


# --- what it says --------------------------------------------------------------------------------


def described(specs):
    """Return all of specs but the objects that runs are bound to."""
    own = ("dagster_dlt/source", "dagster_dlt/translator", "dagster/code_references")
    return [
        (
            *(spec.key, spec.description, list(spec.deps), spec.kinds, spec.owners, spec.tags),
            {name: str(value) for name, value in spec.metadata.items() if name not in own},
        )
        for spec in specs
    ]


@pytest.mark.parametrize("upstream", ["resource", "location", "none"])
def test_specs_from_a_snapshot_are_those_of_the_source(snapshot, pipeline, upstream):
    translator = DagsterDltTranslator(DagsterDltTranslatorSettings(upstream=upstream))

    known = build_dlt_asset_specs(shop, pipeline, translator, snapshot=snapshot)

    assert described(known) == described(build_dlt_asset_specs(built(), pipeline, translator))


def test_a_snapshot_is_written_for_people_to_compare(snapshot):
    said = json.loads(snapshot.path.read_text())

    assert {"version": 1, "source": "shop"}.items() <= said.items()
    orders, items, customers = said["resources"]
    assert orders == {
        "name": "orders",
        "description": "What was bought.",
        "write_disposition": "merge",
        "primary_key": ["id"],
        "columns": {
            "id": {"data_type": "bigint", "description": "Its number.", "nullable": False},
        },
        "cursor": {"path": "at", "value": "datetime", "is_descending": False, "is_live": True},
    }
    assert (items["parent"], items["is_dynamic"]) == ("orders", True)
    assert customers["inputs"] == [{"kind": "files", "location": "file:///data/customers"}]
    assert snapshot.path.read_text().endswith("}\n")


def test_a_snapshot_that_is_written_twice_is_the_same(snapshot):
    before = snapshot.path.read_bytes()

    snapshot.write(shop)

    assert snapshot.path.read_bytes() == before
    assert [each.name for each in snapshot.path.parent.iterdir()] == ["shop.json"]


def test_no_secret_is_in_a_snapshot(snapshot):
    assert "of the snapshot" not in snapshot.path.read_text()


def test_cursors_of_a_snapshot_are_known_to_partitions(snapshot, pipeline):
    daily = dg.DailyPartitionsDefinition("2024-01-01")

    with pytest.warns(PartitionWarning, match="Resources 'customers' have no cursor"):
        assets_of(shop, pipeline, snapshot=snapshot, partitions_def=daily)


def test_what_json_cannot_have_is_left_out_with_a_warning(tmp_path):
    @dlt.source(name="shop")
    def source():
        hint = {"x-dagster": {"automation_condition": dg.AutomationCondition.eager()}}
        return dlt.resource([1], name="orders").apply_hints(additional_table_hints=hint)

    with pytest.warns(SnapshotWarning, match=r"'orders' leaves out 'table_hints.*automation"):
        DltSourceSnapshot(tmp_path / "shop.json").write(source)


# --- when it is not what it should be ------------------------------------------------------------


def refusal(snapshot, pipeline, function=shop):
    with pytest.raises(SnapshotError) as raised:
        build_dlt_asset_specs(function, pipeline, snapshot=snapshot)
    assert "snapshots refresh" in str(raised.value)
    return str(raised.value)


def test_a_snapshot_that_is_missing_says_how_to_write_it(tmp_path, pipeline):
    assert "is not there" in refusal(tmp_path / "none.json", pipeline)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_file_that_is_no_snapshot_is_refused(snapshot, pipeline, text):
    snapshot.path.write_text(text)

    refusal(snapshot, pipeline)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda said: said.update(version=2), "is of version 2"),
        (lambda said: said.pop("resources"), "is not complete"),
        (lambda said: said["resources"][0].pop("name"), "is not complete"),
        (lambda said: said["resources"][0].update(primery_key="id"), "primery_key"),
        (lambda said: said["resources"][0]["cursor"].update(value="soon"), "soon"),
        (lambda said: said["resources"].clear(), "has no resources"),
    ],
)
def test_a_snapshot_that_is_not_complete_is_refused(snapshot, pipeline, change, problem):
    edit(snapshot, change)

    assert problem in refusal(snapshot, pipeline)


def test_a_snapshot_that_was_edited_by_hand_is_used_with_a_warning(snapshot, pipeline):
    edit(snapshot, lambda said: said["resources"].pop())

    with pytest.warns(SnapshotWarning, match=r"edited by hand.*snapshots refresh"):
        specs = build_dlt_asset_specs(shop, pipeline, snapshot=snapshot)

    assert len(specs) == 2


def test_a_snapshot_of_other_code_is_used_with_a_warning(snapshot, pipeline):
    @dlt.source(name="shop")
    def changed(token: str = dlt.secrets.value):
        return dlt.resource([1], name="new")

    with pytest.warns(SnapshotWarning, match=r"other code of 'shop'.*snapshots refresh"):
        specs = build_dlt_asset_specs(changed, pipeline, snapshot=snapshot)

    assert len(specs) == 3


def test_a_source_that_lost_a_resource_since_fails_the_run_with_what_to_do(snapshot, pipeline):
    edit(snapshot, lambda said: said["resources"].append({"name": "gone"}))
    with pytest.warns(SnapshotWarning):
        assets = assets_of(built_later, pipeline, snapshot=snapshot)

    result = dg.materialize(
        [assets], resources={"dlt_resource": DagsterDltResource()}, raise_on_error=False
    )

    text = result.get_step_failure_events()[0].step_failure_data.error.to_string()
    assert "lacks 'gone'" in text
    assert "snapshots refresh" in text


def built_later():
    return built()


def test_what_a_source_has_since_is_told_of_and_not_loaded(snapshot, pipeline, capfd):
    edit(snapshot, lambda said: said["resources"].pop())
    with pytest.warns(SnapshotWarning):
        assets = assets_of(built_later, pipeline, snapshot=snapshot)

    assert dg.materialize([assets], resources={"dlt_resource": DagsterDltResource()}).success

    assert "are not loaded: customers. Refresh snapshot" in capfd.readouterr().err
    with pytest.raises(Exception, match="customers"):
        query(pipeline, "select * from raw.customers")


# --- in development ------------------------------------------------------------------------------


@pytest.fixture
def development(monkeypatch):
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")


@pytest.mark.usefixtures("development")
def test_in_development_a_missing_snapshot_is_written(tmp_path, pipeline):
    path = tmp_path / "shop.json"

    build_dlt_asset_specs(shop, pipeline, snapshot=DltSourceSnapshot(path, build=built))

    assert json.loads(path.read_text())["source"] == "shop"


@pytest.mark.usefixtures("development")
def test_in_development_a_snapshot_follows_the_code(snapshot, pipeline):
    @dlt.source(name="shop")
    def changed():
        return dlt.resource([1], name="new")

    for _ in range(2):
        found = build_dlt_asset_specs(changed, pipeline, snapshot=DltSourceSnapshot(snapshot.path))

    assert [spec.key.to_user_string() for spec in found] == ["dlt_shop_new"]


@pytest.mark.usefixtures("development")
def test_in_development_the_source_is_not_built_while_its_code_is_the_same(snapshot, pipeline):
    def build():
        raise AssertionError

    build_dlt_asset_specs(shop, pipeline, snapshot=DltSourceSnapshot(snapshot.path, build=build))


@pytest.mark.usefixtures("development")
def test_in_development_a_source_that_cannot_be_built_keeps_its_snapshot(snapshot, pipeline):
    @dlt.source(name="shop")
    def offline():
        raise ConnectionError

    with pytest.warns(SnapshotWarning, match="ConnectionError"):
        specs = build_dlt_asset_specs(offline, pipeline, snapshot=DltSourceSnapshot(snapshot.path))

    assert len(specs) == 3


def nothing():
    return []


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda context: context, "needs a run, for context"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (nothing, "NotADltSourceError"),
        (dlt.source(nothing, name="empty"), "has no resources"),
    ],
)
def test_what_cannot_be_written_says_why(tmp_path, function, problem):
    with pytest.raises(SnapshotError, match=problem):
        DltSourceSnapshot(tmp_path / "shop.json").write(function)

    assert list(tmp_path.glob("*.json")) == []


# --- the command ---------------------------------------------------------------------------------

PROJECT = """
import functools, os
from pathlib import Path
import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, DltSourceSnapshot, dlt_assets

@dlt.source
def shop(token: str = dlt.secrets.value):
    for name in os.environ["NAMES"].split():
        yield dlt.resource([1], name=name)

@dlt_assets(
    dlt_source=shop,
    dlt_pipeline=functools.partial(dlt.pipeline, "shop", destination="duckdb"),
    snapshot=DltSourceSnapshot(Path(__file__).with_name("shop.json")),
)
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)

defs = dg.Definitions([load], resources={"dlt_resource": DagsterDltResource()})
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Return a function that runs `dagster-dlt snapshots` in a project, with some resources."""
    (tmp_path / "shop_project.py").write_text(PROJECT)

    def run(verb, names, token="known"):  # noqa: S107 - a secret for nothing
        monkeypatch.setenv("NAMES", names)
        monkeypatch.setenv("SOURCES__SHOP_PROJECT__TOKEN", token) if token else None
        call = [
            Path(sys.executable).with_name("dagster-dlt"),
            "-m",
            "shop_project",
            "snapshots",
            verb,
        ]
        return subprocess.run(
            [*call, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run


def test_the_command_writes_what_sources_have(command, tmp_path):
    done = command("refresh", "orders customers")

    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert row["added"] == ["orders", "customers"]
    said = json.loads((tmp_path / "shop.json").read_text())
    assert [each["name"] for each in said["resources"]] == ["orders", "customers"]


def test_the_command_says_what_has_changed_and_leaves_it(command, tmp_path):
    command("refresh", "orders customers")
    before = (tmp_path / "shop.json").read_bytes()

    same = command("check", "orders customers")
    changed = command("check", "orders items")

    assert same.returncode == 0, same.stderr
    assert changed.returncode == 1
    [row] = json.loads(changed.stdout)
    assert (row["added"], row["removed"]) == (["items"], ["customers"])
    assert (tmp_path / "shop.json").read_bytes() == before


def test_the_command_fails_where_a_source_cannot_be_built(command):
    done = command("refresh", "orders", token=None)

    assert done.returncode == 1
    assert "ConfigFieldMissingException" in done.stderr
    assert "Traceback" not in done.stderr
