"""The command `dagster-dlt`: shows what is there, and changes it when it is told to, once more."""

import json
import logging
import re
import shutil
import sys
from datetime import date, datetime, timezone
from pathlib import Path

import click
import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner, Result
from dlt.pipeline.pipeline import Pipeline
from filelock import FileLock

from dagster_dlt.cli import main
from dagster_dlt.cli.code_location import load_file
from dagster_dlt.errors import RefusedError
from dagster_dlt.loading import cursors, pending
from dagster_dlt.loading.branch import Branch
from dagster_dlt.loading.entry import Loader
from dagster_dlt.loading.leases import lease
from dagster_dlt.loading.machine import sign_of_life
from dagster_dlt.loading.site import site_of
from sources import outage

PROJECT = """
import os
from datetime import date, datetime, timezone

import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, dlt_assets


@dlt.source
def shop():
    @dlt.resource
    def orders(at=dlt.sources.incremental("at", initial_value=0)):
        for number in range(1, int(os.environ.get("LAST", "3")) + 1):
            yield {"at": number, "items": [{"sku": "tea", "tags": [1, 2]}, {"sku": "jam"}]}

    @dlt.resource(primary_key="id", write_disposition="merge")
    def customers():
        yield [{"id": 1, "name": "Ada"}]

    return orders, customers


pipeline = dlt.pipeline(
    "shop",
    pipelines_dir="pipelines",
    destination=dlt.destinations.duckdb("warehouse.duckdb"),
    dataset_name=os.environ.get("DATASET", "raw"),
)


@dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline, name="load")
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)


defs = dg.Definitions(assets=[load], resources={"dlt_resource": DagsterDltResource()})
"""
JOB = """

def build():
    return dg.Definitions(
        assets=[load],
        jobs=[dg.define_asset_job("everything", executor_def=dg.in_process_executor)],
        resources={"dlt_resource": DagsterDltResource()},
    ).resolve_job_def("everything")
"""
ALL = ["packages list", "packages resume", "packages abort", "loads list", "loads undo", "leases"]
ALL += ["cursors show", "cursors set", "cursors rewind", "cursors merge", "packages", "loads"]
ALL += ["snapshots", "snapshots refresh", "snapshots check"]


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    """Take back what the command adds to the path on which modules are looked for."""
    monkeypatch.setattr(sys, "path", sys.path.copy())


def write(text: str = PROJECT, name: str = "project.py") -> None:
    Path(name).write_text(text, encoding="utf-8")


@pytest.fixture
def project():
    write()


def command(*words: str, file: str = "project.py") -> Result:
    return CliRunner().invoke(main, ["-f", file, *words])


def rows(*words: str, file: str = "project.py") -> list[dict]:
    """Return the rows of a command that shows some."""
    result = command(*words, "--json", file=file)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def run(monkeypatch, last: int = 3, **options: object) -> dg.ExecuteInProcessResult:
    """Run the project; its orders are numbered from 1 to `last`."""
    monkeypatch.setenv("LAST", str(last))
    load_file(Path("project.py"))
    job = sys.modules["project"].defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(raise_on_error=False, **options)


def query(sql: str) -> list[tuple]:
    with duckdb.connect("warehouse.duckdb", read_only=True) as warehouse:
        return warehouse.execute(sql).fetchall()


def orders() -> list[int]:
    return [number for (number,) in query('select "at" from raw.orders order by all')]


def leave_a_package(monkeypatch, last: int = 5) -> str:
    """Let a run fail in its load, after one that succeeded; return the id of its package."""
    run(monkeypatch)
    outage(monkeypatch)
    assert not run(monkeypatch, last).success
    (row,) = rows("packages", "list")
    return row["load_id"]


def load_in_part(load_id: str) -> None:
    """Put rows at the destination as a load has that died before it had sent the rest."""
    with duckdb.connect("warehouse.duckdb") as warehouse:
        warehouse.execute(
            f'insert into raw.orders ("at", _dlt_load_id, _dlt_id) '
            f"values (4, '{load_id}', 'o4'), (5, '{load_id}', 'o5')"
        )
        nested = (
            "insert into raw.orders__items (sku, _dlt_parent_id, _dlt_list_idx, _dlt_id) values "
        )
        # The second one belongs to an order that did not arrive.
        warehouse.execute(nested + "('tea', 'o4', 0, 'i4'), ('tea', 'o6', 0, 'i6')")
        warehouse.execute(
            "insert into raw.orders__items__tags (value, _dlt_parent_id, _dlt_list_idx, _dlt_id) "
            "values (1, 'i4', 0, 't4')"
        )


def everything() -> dict[str, object]:
    """Return all that a command could have changed: files, by name, and rows, by table."""
    files = sorted(
        str(path) for path in Path("pipelines").rglob("*") if not path.name.endswith(".lock")
    )
    tables = query("select table_schema, table_name from information_schema.tables")
    return {
        "files": files,
        **{name: query(f"select * from {schema}.{name} order by all") for schema, name in tables},
    }


# --- the command itself --------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["", *ALL, "cursors"])
def test_help_has_an_example(words):
    result = CliRunner().invoke(main, [*words.split(), "--help"])

    assert result.exit_code == 0
    assert "Example: dagster-dlt -m shop.defs" in re.sub(r"\s+", " ", result.output)


def test_every_command_is_in_the_list_of_these_tests():
    def names(group: click.Group, above: str = "") -> set[str]:
        own = {f"{above}{name}" for name in group.commands}
        below = [
            names(each, f"{name} ")
            for name, each in group.commands.items()
            if isinstance(each, click.Group)
        ]
        return own.union(*below)

    assert names(main) == {*ALL, "cursors"}


def test_a_command_without_a_code_location_is_called_wrongly():
    result = CliRunner().invoke(main, ["leases"])

    assert result.exit_code == 2
    assert "-m MODULE or -f FILE" in result.output


def test_a_module_that_cannot_be_imported_is_reported_without_a_traceback():
    write("import nowhere_to_be_found")

    result = command("leases")

    assert result.exit_code == 2
    assert "ModuleNotFoundError: No module named 'nowhere_to_be_found'" in result.output
    assert "Traceback" not in result.output


def test_definitions_of_a_function_are_found_in_a_module(monkeypatch, tmp_path):
    write(name="the_shop.py")
    function = "@dg.definitions\ndef defs():\n    return the_shop.defs"
    write(f"import dagster as dg\nimport the_shop\n\n{function}", "the_shop_defs.py")
    monkeypatch.syspath_prepend(tmp_path)

    result = CliRunner().invoke(main, ["-m", "the_shop_defs", "cursors", "show"])

    assert result.exit_code == 0, result.output
    assert "no cursors" in result.output


def test_a_pipeline_is_found_without_definitions():
    write("import dlt\nit = dlt.pipeline('plain', destination='duckdb', dataset_name='d')")

    assert rows("loads", "list") == []


def test_where_there_is_no_pipeline_that_is_said():
    write("x = 1")

    result = command("leases")

    assert result.exit_code == 2
    assert "has no dlt pipeline" in result.output


def test_of_several_pipelines_one_has_to_be_chosen_for_a_change():
    write(
        "import dlt\n"
        "a, b, c = (dlt.pipeline('shop', destination='duckdb', dataset_name=d) for d in 'xyx')"
    )

    refused = command("cursors", "rewind", "orders")
    unknown = command("-p", "shop/w", "cursors", "show")
    chosen = command("-p", "shop/y", "cursors", "rewind", "orders")

    assert (refused.exit_code, unknown.exit_code, chosen.exit_code) == (2, 2, 1)
    assert "Choose one with --pipeline: 'shop/x', 'shop/y'" in refused.output
    assert "has no resource with a state 'orders'" in chosen.output


def test_a_destination_that_does_not_answer_is_an_error_without_secrets():
    write(
        "import dlt\n"
        "url = 'postgresql://loader:hunter2@127.0.0.1:1/db'\n"
        "it = dlt.pipeline('shop', destination=dlt.destinations.postgres(url), dataset_name='d')"
    )

    result = command("loads", "list")

    assert result.exit_code == 1
    assert "The destination of pipeline 'shop' cannot be used" in result.output
    assert "Traceback" not in result.output
    assert "hunter2" not in result.output


# --- packages ------------------------------------------------------------------------------------


def test_a_package_that_waits_is_listed_with_where_it_came_from(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)

    (row,) = rows("packages", "list")

    assert row["state"] == "normalized"
    assert (row["step"], row["partition"], row["dataset"], row["lock"]) == (
        "load",
        None,
        "raw",
        "free",
    )
    assert row["resources"] == ["customers", "orders"]
    assert row["tables"] == ["customers", "orders", "orders__items", "orders__items__tags"]
    assert load_id in command("packages", "list").output


def test_the_partition_of_a_package_is_shown(monkeypatch):
    hint = """.apply_hints(additional_table_hints={"x-dagster": {"window": "own"}})"""
    project = PROJECT.replace("return orders,", f"return orders{hint},")
    write(project.replace('name="load"', 'partitions_def=dg.StaticPartitionsDefinition(["a"])'))
    outage(monkeypatch)
    run(monkeypatch, partition_key="a")

    (row,) = rows("packages", "list")

    assert row["partition"] == "a"


def test_nothing_waits_after_a_load_that_succeeded(project, monkeypatch):
    run(monkeypatch)

    assert rows("packages", "list") == []
    assert "No load packages wait" in command("packages", "list").output


@pytest.mark.parametrize(
    "words", [("packages", "resume"), ("packages", "abort"), ("loads", "undo")]
)
def test_without_yes_nothing_is_changed(project, monkeypatch, words):
    load_id = leave_a_package(monkeypatch)
    load_in_part(load_id)
    before = everything()

    result = command(*words, load_id)

    assert result.exit_code == 0, result.output
    assert "Nothing was changed" in result.output
    assert everything() == before


@pytest.mark.parametrize("by", ["load_id", "workspace"])
def test_a_package_is_resumed_by_its_id_or_its_workspace(project, monkeypatch, by):
    leave_a_package(monkeypatch)
    (row,) = rows("packages", "list")

    result = command("packages", "resume", row[by], "--yes")

    assert result.exit_code == 0, result.output
    assert f"{row['load_id']}: loaded" in result.output
    assert orders() == [1, 2, 3, 4, 5]
    assert rows("packages", "list") == []
    assert list(Path("pipelines/.dagster/shop").iterdir()) == []


def test_a_package_is_resumed_without_the_source_it_came_from(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    plain = PROJECT.split("\n@dlt_assets", maxsplit=1)[0]
    write(plain, "plain.py")

    result = command("packages", "resume", load_id, "--yes", file="plain.py")

    assert result.exit_code == 0, result.output
    assert orders() == [1, 2, 3, 4, 5]


def test_rows_that_were_sent_before_are_not_doubled_by_a_resume(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    load_in_part(load_id)
    assert command("loads", "undo", load_id, "--yes").exit_code == 0

    command("packages", "resume", load_id, "--yes")

    assert orders() == [1, 2, 3, 4, 5]


def test_what_was_resumed_is_not_loaded_again_by_a_reexecution_of_its_run(monkeypatch):
    # Without a cursor nothing but the ledger tells that the rows are loaded.
    write(PROJECT.replace('at=dlt.sources.incremental("at", initial_value=0)', "") + JOB)
    load_file(Path("project.py"))
    job = dg.reconstructable(sys.modules["project"].build)
    outage(monkeypatch)
    with dg.instance_for_test() as instance:
        with dg.execute_job(job, instance) as failed:
            assert not failed.success
        (row,) = rows("packages", "list")
        assert row["run_id"] == failed.run_id
        assert command("packages", "resume", row["load_id"], "--yes").exit_code == 0

        options = dg.ReexecutionOptions.from_failure(failed.run_id, instance)
        with dg.execute_job(job, instance, reexecution_options=options) as again:
            loaded = again.filter_events(lambda event: event.is_step_materialization)

    assert len(loaded) == 2
    assert orders() == [1, 2, 3]


def test_a_workspace_that_a_load_holds_is_left_alone(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    (row,) = rows("packages", "list")
    before = everything()

    with FileLock(f"pipelines/.dagster/shop/{row['workspace']}.lock"):
        (held,) = rows("packages", "list")
        results = [command("packages", word, load_id, "--yes") for word in ("resume", "abort")]
        # It may be taken after the command has looked.
        (bound, *_) = load_file(Path("project.py")).bound
        site = site_of(bound.pipeline, logging.getLogger(__name__))
        (left,) = pending.left_behind(site)
        with pytest.raises(RefusedError, match="is held by a load"):
            pending.resume(site, left, left.waiting, None)

    assert held["lock"] == "held"
    assert [result.exit_code for result in results] == [1, 1]
    assert "is held by a load" in results[0].output
    assert everything() == before


@pytest.mark.parametrize("word", ["resume", "abort"])
def test_a_package_for_another_dataset_is_not_touched(project, monkeypatch, word):
    load_id = leave_a_package(monkeypatch)
    before = everything()
    monkeypatch.setenv("DATASET", "production")

    (row,) = rows("packages", "list")
    shown = command("packages", word, load_id)
    result = command("packages", word, load_id, "--yes")

    assert (row["dataset"], row["fits"]) == ("raw", False)
    assert (shown.exit_code, result.exit_code) == (1, 1)
    assert "for another destination or dataset" in result.output
    assert everything() == before


def test_an_aborted_package_takes_its_rows_with_it(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    load_in_part(load_id)

    shown = command("packages", "abort", load_id)
    result = command("packages", "abort", load_id, "--yes")

    assert "Rows that are taken back: 2 of orders, 2 of orders__items" in shown.output
    assert result.exit_code == 0, result.output
    assert f"{load_id}: aborted" in result.output
    assert orders() == [1, 2, 3]
    assert rows("packages", "list") == []
    assert {row["load_id"]: row["status"] for row in rows("loads", "list")}[load_id] == "undone"


def test_what_was_aborted_is_extracted_again(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    command("packages", "abort", load_id, "--yes")

    assert run(monkeypatch, 5).success

    assert orders() == [1, 2, 3, 4, 5]


def stop_after_extract(monkeypatch) -> None:
    """Let the next run die between extract and normalize."""
    normalize = Pipeline.normalize
    left = [OSError("the disk is full")]

    def failing_once(self: Pipeline, *args: object, **kwargs: object) -> object:
        if left:
            raise left.pop()
        return normalize(self, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "normalize", failing_once)


def test_a_package_that_never_began_to_load_is_noted_when_it_is_aborted(project, monkeypatch):
    stop_after_extract(monkeypatch)
    run(monkeypatch)
    (row,) = rows("packages", "list")

    result = command("packages", "abort", row["load_id"], "--yes")

    assert row["state"] == "extracted"
    assert result.exit_code == 0, result.output
    assert [each["status"] for each in rows("loads", "list")] == ["undone"]


def test_a_package_that_can_never_be_loaded_is_aborted_and_said_to_be(project, monkeypatch):
    contract = PROJECT.replace(
        "@dlt.resource\n", "@dlt.resource(schema_contract={'columns': 'freeze'})\n"
    )
    write(contract)
    run(monkeypatch)
    stop_after_extract(monkeypatch)
    write(contract.replace('{"at": number', '{"new": 1, "at": number'))
    run(monkeypatch, 5)
    (row,) = rows("packages", "list")

    result = command("packages", "resume", row["load_id"], "--yes")

    assert result.exit_code == 1
    assert f"{row['load_id']}: aborted" in result.output
    assert "can never be loaded" in result.output


@pytest.mark.parametrize("word", ["resume", "abort"])
def test_a_package_that_is_not_there_is_answered_with_those_that_are(project, monkeypatch, word):
    load_id = leave_a_package(monkeypatch)

    result = command("packages", word, load_id[:-1], "--yes")

    assert result.exit_code == 1
    assert f"Did you mean {load_id!r}?" in result.output


def test_workspaces_are_found_where_the_definitions_put_them(monkeypatch):
    write(
        PROJECT.replace(
            '"dlt_resource": DagsterDltResource()',
            '"dlt_resource": DagsterDltResource(workspace_dir="volume")',
        )
    )
    outage(monkeypatch)
    run(monkeypatch)

    assert len(rows("packages", "list")) == 1
    assert rows("--workspace-dir", "elsewhere", "packages", "list") == []


# --- loads ---------------------------------------------------------------------------------------


def lose_the_disk() -> None:
    shutil.rmtree("pipelines")


def test_loads_are_listed_with_what_became_of_them(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)

    first, second = rows("loads", "list")

    assert (first["status"], first["step"], first["resources"]) == (
        "committed",
        "load",
        ["customers", "orders"],
    )
    assert (second["load_id"], second["status"]) == (load_id, "dead: its process is gone")
    assert rows("loads", "list", "--dead") == [second]


def test_rows_of_a_dead_load_are_taken_back_with_those_nested_in_them(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    lose_the_disk()
    load_in_part(load_id)
    shown = rows_of_proposal(command("loads", "undo", load_id, "--json"))

    result = command("loads", "undo", load_id, "--yes")

    assert shown == {"orders": 2, "orders__items": 2, "orders__items__tags": 1}
    assert result.exit_code == 0, result.output
    assert f"load {load_id} is undone" in result.output
    assert "Left as they are: customers" in result.output
    assert orders() == [1, 2, 3]
    assert query("select count(*) from raw.orders__items") == [(6,)]
    assert query("select count(*) from raw.orders__items__tags") == [(6,)]
    assert rows("loads", "list")[-1]["status"] == "undone"


def rows_of_proposal(result: Result) -> dict[str, int]:
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert not answer["done"]
    return {row["table"]: row["rows"] for row in answer["rows"]}


def test_a_committed_load_is_not_undone(project, monkeypatch):
    run(monkeypatch)
    (row,) = rows("loads", "list")

    result = command("loads", "undo", row["load_id"], "--force", "--yes")

    assert result.exit_code == 1
    assert "is committed" in result.output
    assert orders() == [1, 2, 3]


def test_a_load_that_is_alive_on_this_machine_is_not_undone(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    load_in_part(load_id)
    before = everything()

    with sign_of_life(load_id).given():
        (alive,) = rows("leases")
        result = command("loads", "undo", load_id, "--force", "--yes")

    assert (alive["load_id"], alive["status"], alive["machine"]) == (load_id, "alive", "this one")
    assert result.exit_code == 1
    assert "is alive on this machine" in result.output
    assert everything() == before


def test_a_cursor_that_a_load_has_read_is_not_changed_meanwhile(project, monkeypatch):
    run(monkeypatch)
    (bound, *_) = load_file(Path("project.py")).bound
    ledger = site_of(bound.pipeline, logging.getLogger("tests")).ledger
    mine = {"pipeline": "shop", "log": logging.getLogger("tests")}

    with lease(ledger, ["orders"], loader=Loader("the run", "step"), **mine):
        (held,) = rows("leases")
        refused = command("cursors", "rewind", "orders", "--yes")

    assert (held["status"], held["resources"], held["run_id"]) == ("lease", ["orders"], "the run")
    assert refused.exit_code == 1
    assert "about to be written by run the run" in refused.output


def test_loads_into_files_are_listed_and_their_files_removed(monkeypatch):
    write(PROJECT.replace('duckdb("warehouse.duckdb")', 'filesystem("bucket")'))
    load_id = leave_a_package(monkeypatch)

    listed = {row["load_id"]: row["status"] for row in rows("loads", "list")}
    sent = Path("bucket/raw/orders") / f"{load_id}.part.jsonl"
    sent.write_text('{"at": 4}\n{"at": 5}\n', encoding="utf-8")
    (proposed,) = json.loads(command("loads", "undo", load_id, "--json").output)["rows"]
    undone = command("loads", "undo", load_id, "--yes")
    aborted = command("packages", "abort", load_id, "--yes")

    assert sorted(listed.values()) == ["committed", "dead: its process is gone"]
    assert undone.exit_code == 0, undone.output
    assert aborted.exit_code == 0, aborted.output
    assert sorted(row["status"] for row in rows("loads", "list")) == ["committed", "undone"]
    assert (proposed["table"], proposed["rows"]) == ("orders", 2)
    assert not sent.exists()


def note_elsewhere(load_id: str) -> None:
    """Let the ledger say that a load was on another machine."""
    with duckdb.connect("warehouse.duckdb") as warehouse:
        warehouse.execute(
            "update raw._dlt_dagster_loads set facts = "
            'regexp_replace(facts, \'"machine": "[0-9a-f]*"\', \'"machine": "other"\') '
            f"where load_id = '{load_id}'"
        )


def test_a_load_of_another_machine_is_undone_by_force_only(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    load_in_part(load_id)
    note_elsewhere(load_id)

    (alive,) = rows("leases")
    refused = command("loads", "undo", load_id, "--yes")
    forced = command("loads", "undo", load_id, "--yes", "--force")

    assert (alive["load_id"], alive["machine"]) == (load_id, "other")
    assert refused.exit_code == 1
    assert "may be alive" in refused.output
    assert forced.exit_code == 0, forced.output
    assert "rows of it get lost" in forced.output
    assert orders() == [1, 2, 3]


def test_a_load_whose_run_has_ended_is_dead_wherever_it_was(project, monkeypatch, tmp_path):
    home = tmp_path / "dagster"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        outage(monkeypatch)
        run(monkeypatch, instance=instance)
    (row,) = rows("loads", "list")
    note_elsewhere(row["load_id"])

    (row,) = rows("loads", "list")

    assert row["status"] == "dead: its run has ended"


def test_a_dead_load_waits_for_a_live_one_of_the_same_tables(project, monkeypatch):
    dead = leave_a_package(monkeypatch)
    lose_the_disk()
    with duckdb.connect("warehouse.duckdb") as warehouse:
        warehouse.execute(
            "insert into raw._dlt_dagster_loads select * replace ('9999999999.5' as load_id) "
            f"from raw._dlt_dagster_loads where load_id = '{dead}'"
        )
    note_elsewhere("9999999999.5")

    result = command("loads", "undo", dead, "--yes")

    assert result.exit_code == 1
    assert "load 9999999999.5 of the same tables may be alive" in result.output


def test_a_load_that_is_not_in_the_ledger_is_answered_with_those_that_are(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)

    result = command("loads", "undo", load_id[:-1])

    assert result.exit_code == 1
    assert f"Did you mean {load_id!r}?" in result.output


# --- cursors -------------------------------------------------------------------------------------


def cursor_values(**options: str) -> dict[str, tuple[str, str]]:
    shown = rows("cursors", "show", **options)
    return {row["resource"]: (row["last_value"], row["type"]) for row in shown}


def test_cursors_are_shown_with_their_types(monkeypatch):
    write(
        PROJECT.replace("return orders, customers", "return orders, *moments()").replace(
            "@dlt.source",
            """
def moments():
    values = {
        "day": date(2024, 1, 31),
        "zoned": datetime(2024, 1, 31, 8, tzinfo=timezone.utc),
        "naive": datetime(2024, 1, 31, 8),
        "text": "2024-W05",
    }
    for name, value in values.items():
        yield dlt.resource([{"at": value}], name=name).apply_hints(
            incremental=dlt.sources.incremental("at")
        )


@dlt.source""",
        )
    )
    run(monkeypatch)

    assert cursor_values() == {
        "orders": ("3", "int"),
        "day": ("2024-01-31", "date"),
        "zoned": ("2024-01-31 08:00:00+00:00", "datetime"),
        "naive": ("2024-01-31 08:00:00", "datetime"),
        "text": ("2024-W05", "str"),
    }


def test_a_run_starts_from_the_cursor_that_was_set(project, monkeypatch):
    run(monkeypatch, 3)
    before = everything()

    shown = command("cursors", "set", "orders", "5")
    unchanged = everything() == before
    result = command("cursors", "set", "orders", "5", "--yes")
    run(monkeypatch, 6)

    assert unchanged
    assert "3           int   5" in shown.output
    assert result.exit_code == 0, result.output
    assert orders() == [1, 2, 3, 5, 6]
    assert cursor_values()["orders"] == ("6", "int")


def test_a_run_starts_from_the_beginning_after_a_rewind(project, monkeypatch):
    run(monkeypatch, 3)
    before = everything()

    command("cursors", "rewind", "orders")
    unchanged = everything() == before
    result = command("cursors", "rewind", "orders", "--yes")
    rewound = cursor_values()
    run(monkeypatch, 3)

    assert unchanged
    assert result.exit_code == 0, result.output
    assert rewound == {}
    assert orders() == [1, 1, 2, 2, 3, 3]


def test_a_cursor_that_was_rewound_can_be_set_with_its_type(project, monkeypatch):
    run(monkeypatch, 3)
    command("cursors", "rewind", "orders", "--yes")

    without = command("cursors", "set", "orders", "5", "--yes")
    result = command("cursors", "set", "orders", "5", "--cursor", "at", "--type", "int", "--yes")
    run(monkeypatch, 6)

    assert without.exit_code == 1
    assert result.exit_code == 0, result.output
    assert orders() == [1, 2, 3, 5, 6]


def test_a_change_of_a_cursor_is_in_the_ledger(project, monkeypatch):
    run(monkeypatch)
    command("cursors", "set", "orders", "2", "--yes")

    row = rows("loads", "list")[-1]

    assert (row["run_id"], row["step"], row["resources"], row["status"]) == (
        "dagster-dlt",
        "cursor orders.at to 2",
        ["orders"],
        "committed",
    )
    assert (row["load_id"],) in query("select load_id from raw._dlt_loads where status = 0")


@pytest.mark.parametrize(
    "words", [("cursors", "set", "orders", "1"), ("cursors", "rewind", "orders")]
)
def test_a_cursor_that_a_waiting_package_holds_is_not_moved(project, monkeypatch, words):
    load_id = leave_a_package(monkeypatch)
    before = everything()

    result = command(*words, "--yes")

    assert result.exit_code == 1
    assert f"load package {load_id}, which waits" in result.output
    assert everything() == before


def test_a_cursor_that_a_live_load_holds_is_not_moved(project, monkeypatch):
    load_id = leave_a_package(monkeypatch)
    lose_the_disk()
    note_elsewhere(load_id)

    result = command("cursors", "set", "orders", "1", "--yes")

    assert result.exit_code == 1
    assert "may be alive" in result.output


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("orders", "many"), 2, "'many' is no int"),
        (("order", "1"), 1, "Did you mean 'orders'?"),
        (("orders", "1", "--cursor", "to"), 1, "has no cursor 'orders.to'"),
        (("orders", "1", "--source", "till"), 1, "has no resource with a state"),
    ],
)
def test_a_cursor_is_set_to_what_it_can_be(project, monkeypatch, words, code, text):
    run(monkeypatch)

    result = command("cursors", "set", *words, "--yes")

    assert result.exit_code == code
    assert text in result.output


def test_one_of_several_cursors_has_to_be_chosen(monkeypatch):
    write(
        PROJECT.replace("return orders, customers", "return orders, *more()").replace(
            "@dlt.source",
            """
def more():
    both = dlt.resource([{"a": 1, "b": 2}], name="both")
    yield both.apply_hints(incremental=dlt.sources.incremental("a")).add_step(
        dlt.sources.incremental("b")
    )


@dlt.source""",
        )
    )
    run(monkeypatch)

    refused = command("cursors", "set", "both", "1")
    result = command("cursors", "set", "both", "1", "--cursor", "b", "--yes")

    assert refused.exit_code == 2
    assert "--source shop --cursor a" in refused.output
    assert result.exit_code == 0, result.output
    shown = {row["cursor"]: row["last_value"] for row in rows("cursors", "show", "both")}
    assert shown == {"a": "1", "b": "1"}


ZONED = datetime(2024, 1, 31, 8, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "like", "value"),
    [
        ("12", 3, 12),
        ("1.5", 3.0, 1.5),
        ("b", "a", "b"),
        ("2024-02-01", date(2024, 1, 31), date(2024, 2, 1)),
        ("2024-02-01", ZONED, datetime(2024, 2, 1, tzinfo=timezone.utc)),
        ("2024-02-01T10:00:00Z", ZONED, datetime(2024, 2, 1, 10, tzinfo=timezone.utc)),
        ("2024-02-01T10:00:00+02:00", ZONED, datetime(2024, 2, 1, 8, tzinfo=timezone.utc)),
        ("2024-02-01 10:00", ZONED.replace(tzinfo=None), datetime(2024, 2, 1, 10)),  # noqa: DTZ001
    ],
)
def test_a_value_is_read_as_the_type_of_the_cursor(text, like, value):
    found = cursors.read(text, like)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("x", 3),
        ("soon", ZONED),
        ("2024-02-01T10:00:00Z", ZONED.replace(tzinfo=None)),
        ("2024-02-01T10:00:00", date(2024, 1, 31)),
        ("true", True),
    ],
)
def test_a_value_of_another_type_is_refused(text, like):
    with pytest.raises(ValueError, match=r"."):
        cursors.read(text, like)


def test_a_cursor_of_data_in_the_pipelines_own_directory_is_moved(monkeypatch):
    write(PROJECT.replace('duckdb("warehouse.duckdb")', 'duckdb(":pipeline:")'))
    run(monkeypatch, 3)

    result = command("cursors", "set", "orders", "5", "--yes")
    run(monkeypatch, 6)
    (path,) = Path("pipelines/shop").glob("*.duckdb")
    shutil.copy(path, "warehouse.duckdb")

    assert result.exit_code == 0, result.output
    assert [n for (n,) in query('select "at" from raw.orders order by all')] == [1, 2, 3, 5, 6]


SINK = (
    PROJECT.replace("orders, customers", "orders")
    .replace(
        "pipeline = ",
        """
@dlt.destination(name="sink")
def sink(items, table):
    with open("sink", "a") as file:
        file.write(str([item["at"] for item in items if "at" in item] or ""))


pipeline = """,
    )
    .replace('dlt.destinations.duckdb("warehouse.duckdb")', "sink()")
)


def test_a_cursor_that_only_a_disk_keeps_is_moved_there(monkeypatch):
    write(SINK)
    run(monkeypatch, 3)
    shown = cursor_values()

    dry = command("cursors", "set", "orders", "5")
    between = cursor_values()
    result = command("cursors", "set", "orders", "5", "--yes")
    run(monkeypatch, 6)

    assert shown == between == {"orders": ("3", "int")}
    assert dry.exit_code == 0
    assert result.exit_code == 0, result.output
    assert "the state on this disk" in result.output
    assert Path("sink").read_text(encoding="utf-8") == "[1, 2, 3][5, 6]"


ENVIRONMENT = PROJECT.replace(
    "DagsterDltResource()",
    'DagsterDltResource(destination="duckdb", branch="fix/a", '
    'config={"destination.duckdb.credentials": dg.EnvVar("DB")})',
)


def test_a_command_looks_where_the_environment_loads_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("DB", "dev.duckdb")
    write(ENVIRONMENT)
    outage(monkeypatch)
    run(monkeypatch)
    dataset = f"raw_{Branch('fix/a').identifier}"

    (waiting,) = rows("packages", "list")
    assert waiting["dataset"] == dataset
    assert waiting["fits"]

    result = command("packages", "resume", waiting["load_id"], "--yes")
    assert result.exit_code == 0, result.output
    (cursor,) = rows("cursors", "show")
    assert cursor["last_value"] == "3"
    assert not Path("warehouse.duckdb").exists()
    with duckdb.connect("dev.duckdb") as there:
        assert there.execute(f"select count(*) from {dataset}.orders").fetchone() == (3,)
