"""Definitions written the way the documented snippets are, loaded as a user's own modules."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import dagster as dg
import dlt
import duckdb
import pytest
from bookshop import events_of

PROJECTS = Path(__file__).parent / "projects"

# `progress="log"` shows memory use where it can; the documented snippets do not ask for psutil.
pytestmark = pytest.mark.filterwarnings("ignore:psutil dependency is not installed:UserWarning")


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "warehouse.duckdb")


@pytest.fixture
def load(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ModuleType]:
    """Return a function that imports a project anew, with its settings in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", database)
    monkeypatch.setenv("SOURCES__TICKET_SOURCE__ACCESS_TOKEN", "token")
    monkeypatch.setenv("SOURCES__REFERENCE_PAGE__ACCESS_TOKEN", "token")
    monkeypatch.setenv("SOURCES__SECRET_SOURCE__API_KEY", "chalk")
    monkeypatch.syspath_prepend(str(PROJECTS))

    def project(name: str) -> ModuleType:
        for path in PROJECTS.glob("*.py"):
            monkeypatch.delitem(sys.modules, path.stem, raising=False)
        return import_module(name)

    return project


def run(project: ModuleType, **options: object) -> dict[str, dict[str, object]]:
    """Load and run everything that a project defines."""
    dg.Definitions.validate_loadable(project.defs)
    job = project.defs.resolve_implicit_global_asset_job_def()
    return events_of(job.execute_in_process(**options))


def rows_in(database: str, table: str) -> int:
    with duckdb.connect(database, read_only=True) as connection:
        return connection.table(table).count("*").fetchall()[0][0]


def test_the_first_steps_of_the_guide(load, database):
    events = run(load("first_steps"))

    assert {key: event["rows_loaded"] for key, event in events.items()} == {
        "dlt_tickets_issues": 3,
        "dlt_tickets_pull_requests": 1,
    }
    assert rows_in(database, "acme.issues") == 3


def test_a_source_with_a_secret(load, database):
    events = run(load("secret_source"))

    assert {key: event["rows_loaded"] for key, event in events.items()} == {
        "dlt_school_courses": 2,
        "dlt_school_users": 1,
    }
    assert rows_in(database, "school_data.courses") == 2


def test_a_lesson_whose_assets_are_named_like_the_decorator(load):
    project = load("lesson")

    assert project.dlt_assets.op.name == "dlt_assets"
    assert run(project)["dlt_simple_people"]["rows_loaded"] == 2


def test_a_cursor_and_superseded_getters(load, database):
    with pytest.warns(dg.SupersessionWarning, match="get_asset_spec"):
        project = load("reference_page")

    events = run(project)

    assert events.keys() == {
        "dlt_repository_issues",
        "dlt_repository_pull_requests",
        "raw/code/issues",
        "raw/code/pull_requests",
        "report",
    }
    # One pipeline and one cursor: whichever comes second finds nothing new.
    issues = (events["dlt_repository_issues"], events["raw/code/issues"])
    assert sorted(event["rows_loaded"] for event in issues) == [0, 1]
    assert rows_in(database, "raw_repository.issues") == 1


def test_a_translator_with_assets_upstream_and_downstream(load, database):
    project = load("advanced")

    events = run(project)

    assert events.keys() == {
        "issues",
        "pull_requests",
        "rocket_report",
        "dlt_tickets_issues",
        "dlt_tickets_pull_requests",
        "anvil_report",
    }
    assert rows_in(database, "rockets.issues") == rows_in(database, "anvils.issues") == 4

    graph = project.defs.resolve_asset_graph()
    upstream = dg.AssetKey("tickets_issues")
    assert graph.get(upstream).group_name == "upstream"
    assert graph.get(upstream).metadata == {"owner": "acme"}
    assert graph.get(upstream).child_keys == {dg.AssetKey("dlt_tickets_issues")}
    assert graph.get(dg.AssetKey("rocket_report")).parent_keys == {dg.AssetKey("issues")}
    assert graph.get(dg.AssetKey("anvil_report")).parent_keys == {dg.AssetKey("dlt_tickets_issues")}


def test_a_source_for_each_static_partition(load, database):
    project = load("colours")

    for colour in ("red", "green"):
        events = run(project, partition_key=colour)

        assert events["dlt_palette_shades"]["rows_loaded"] == 2

    assert rows_in(database, "palette_data.shades") == 4


# --- what Dagster refuses ------------------------------------------------------------------------


def test_a_dlt_resource_without_annotation_is_refused_as_an_unknown_input(load):
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="dlt_resource"):
        load("untyped_parameter")


def test_a_dlt_resource_under_another_key_is_refused_with_the_keys_there_are(load):
    project = load("other_resource_key")

    with pytest.raises(
        dg.DagsterInvalidDefinitionError, match=r"'dlt_resource' .* was not provided.*'dlt'"
    ):
        dg.Definitions.validate_loadable(project.defs)


def test_an_ellipsis_is_refused_by_what_it_is():
    from dagster_dlt import dlt_assets

    pipeline = dlt.pipeline("placeholder", destination="duckdb")

    with pytest.raises(Exception, match="dlt_source is a 'ellipsis', not a dlt source"):
        dlt_assets(dlt_source=..., dlt_pipeline=pipeline)
