"""`dg scaffold defs dagster_dlt.DltLoadCollectionComponent` writes a load that runs."""

import ast
import re
import sqlite3
import subprocess
from pathlib import Path
from string import Template

import pytest
from api import serve
from projects import keys, load_all, rows

from dagster_dlt import DltLoadCollectionComponent
from dagster_dlt.components.dlt_load_collection import scaffolder
from dagster_dlt.errors import ScaffoldError

# What Dagster itself uses when it reads a project's `defs` folder.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore:Class `.*CodeReference.*` is currently in beta"),
    pytest.mark.filterwarnings("ignore:Function `load_definitions_from_module.*` is currently in"),
]


def scaffold(project, name="my_ingest", **options):
    """Scaffold as `dg` does once it has read the command line."""
    format_ = options.pop("scaffold_format", "yaml")
    return project.sandbox.scaffold_component(
        DltLoadCollectionComponent, name, options or None, format_
    )


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def as_if_dlt_init_wrote(monkeypatch, written):
    """Replace `dlt init`, which would need the network, by what it would write."""

    def run(_command, *, cwd, **_options):
        for name, text in written.items():
            path = cwd / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return subprocess.CompletedProcess([], 0, "Looking up sources...", "no such source")

    monkeypatch.setattr(scaffolder.subprocess, "run", run)


def test_without_options_a_load_is_written_that_runs_as_it_is(project):
    folder = scaffold(project)

    assert files(folder) == {"defs.yaml", "loads.py"}
    with project.definitions() as defs:
        assert keys(defs) == ["my_ingest_data/greetings"]
        assert load_all(defs).success
    assert rows("my_ingest_data.greetings", "my_ingest.duckdb") == 3


def test_scaffolded_components_live_side_by_side(project):
    scaffold(project, "one")
    scaffold(project, "Two-2")
    scaffold(project, "three", scaffold_format="python")
    scaffold(project, "2024")

    with project.definitions() as defs:
        assert keys(defs) == [
            "loads_2024_data/greetings",
            "one_data/greetings",
            "three_data/greetings",
            "two_2_data/greetings",
        ]


def test_a_core_source_is_nothing_but_yaml_with_dlts_own_example(project):
    folder = scaffold(project, source="rest_api", destination="duckdb")

    assert files(folder) == {"defs.yaml", "env.example", "requirements.txt", "rest_api_pipeline.py"}
    with project.definitions() as defs:
        assert keys(defs) == [
            "my_ingest_data/berry",
            "my_ingest_data/location",
            "my_ingest_data/pokemon",
        ]


def test_a_database_is_loaded_from_the_scaffold(project, tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
        connection.execute("CREATE TABLE orders (id INTEGER)")
        connection.execute("INSERT INTO orders VALUES (1), (2)")
    connection.close()
    scaffold(project, source="sql_database", destination="duckdb")

    with project.definitions() as defs:
        monkeypatch.setenv("MY_INGEST_DATABASE_URL", f"sqlite:///{tmp_path}/shop.db")
        assert load_all(defs).success
    assert rows("my_ingest_data.orders", "my_ingest.duckdb") == 2


def test_a_rest_api_is_loaded_from_the_scaffold(project, monkeypatch):
    folder = scaffold(project, source="rest_api", destination="duckdb")
    text = (folder / "defs.yaml").read_text()
    text = text.replace("# auth", "auth").replace("#   t", "  t")
    for word in ("- pokemon", "- berry", "- location"):
        text = text.replace(word, "- customers" if word == "- pokemon" else "")
    (folder / "defs.yaml").write_text(text)

    with serve() as api, project.definitions() as defs:
        monkeypatch.setenv("MY_INGEST_URL", api.url)
        monkeypatch.setenv("MY_INGEST_TOKEN", api.token)
        assert load_all(defs).success
    assert rows("my_ingest_data.customers", "my_ingest.duckdb") == 2


@pytest.mark.parametrize("source", ["rest_api", "sql_database", "filesystem"])
def test_a_scaffold_lists_the_variables_that_it_asks_for(project, source):
    folder = scaffold(project, source=source, destination="duckdb")

    asked = set(re.findall(r"MY_INGEST_[A-Z_]+", (folder / "defs.yaml").read_text()))
    listed = set(re.findall(r"^# (\w+)=$", (folder / "env.example").read_text(), re.MULTILINE))
    assert asked
    assert asked == listed


def test_files_are_loaded_from_the_scaffold(project, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    scaffold(project, source="filesystem", destination="duckdb")

    with project.definitions() as defs:
        assert load_all(defs).success
    assert rows("my_ingest_data.my_rows", "my_ingest.duckdb") == 2


def test_settings_of_the_destination_are_listed_as_variables(project):
    folder = scaffold(project, source="rest_api", destination="postgres")

    lines = (folder / "env.example").read_text().splitlines()
    assert "# DESTINATION__POSTGRES__CREDENTIALS__PASSWORD=" in lines
    assert not any("RUNTIME" in line for line in lines)
    assert not (folder / ".dlt").exists()


def test_a_verified_source_is_imported_and_waits_for_an_edit(project, monkeypatch):
    as_if_dlt_init_wrote(
        monkeypatch,
        {
            "planets/__init__.py": "from .settings import NAMES\n",
            "planets/settings.py": "NAMES = []\n",
            "planets_pipeline.py": "from planets import a_thing_that_is_not_there\n",
            ".dlt/secrets.toml": '[sources.planets]\ntoken = "<configure me>"\n',
        },
    )

    folder = scaffold(project, source="planets", destination="duckdb")

    assert "# EDIT" in (folder / "loads.py").read_text()
    assert "# SOURCES__PLANETS__TOKEN=" in (folder / "env.example").read_text()
    with project.definitions() as defs:
        assert keys(defs) == []


def test_a_template_of_dlt_is_imported_and_waits_for_an_edit(project, monkeypatch):
    as_if_dlt_init_wrote(monkeypatch, {"planets_pipeline.py": "import dlt\n"})

    folder = scaffold(project, source="planets", destination="duckdb")

    assert "from . import planets_pipeline" in (folder / "loads.py").read_text()
    with project.definitions() as defs:
        assert keys(defs) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "rest_api"}, "--source is given without --destination"),
        ({"destination": "duckdb"}, "--destination is given without --source"),
        (
            {"source": "rest_api", "destination": "duckdb", "scaffold_format": "python"},
            "--source is given with --format python",
        ),
        ({"source": "rest_api", "destination": "no_such_place"}, "no_such_place"),
        ({"source": "Not A Name", "destination": "duckdb"}, "not a valid Python identifier"),
    ],
)
def test_a_refused_scaffold_leaves_nothing_behind(project, options, said):
    with pytest.raises(ScaffoldError, match=said):
        scaffold(project, **options)

    assert not (project.folder / "my_ingest").exists()
    scaffold(project)


def test_a_dlt_init_that_fails_is_told_in_its_own_words(project, monkeypatch):
    as_if_dlt_init_wrote(monkeypatch, {".dlt/config.toml": "", "half/written.py": ""})

    with pytest.raises(ScaffoldError, match="`dlt init planets duckdb` failed: no such source"):
        scaffold(project, source="planets", destination="duckdb")

    assert not (project.folder / "my_ingest").exists()


def test_a_dlt_init_that_hangs_is_given_up(project, monkeypatch):
    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(scaffolder.subprocess, "run", run)

    with pytest.raises(ScaffoldError, match="no answer in 300 s"):
        scaffold(project, source="planets", destination="duckdb")


def test_a_dlt_init_that_is_interrupted_leaves_nothing_behind(project, monkeypatch):
    def run(_command, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(scaffolder.subprocess, "run", run)

    with pytest.raises(KeyboardInterrupt):
        scaffold(project, source="planets", destination="duckdb")

    assert not (project.folder / "my_ingest").exists()


def test_files_that_are_there_already_survive_a_refused_scaffold(project):
    mine = project.folder / "my_ingest" / "mine.py"
    mine.parent.mkdir()
    mine.write_text("")

    with pytest.raises(ScaffoldError):
        scaffold(project, source="rest_api")

    assert mine.exists()


def test_every_template_is_python_that_compiles_once_filled_in():
    values = dict.fromkeys(
        ["name", "destination", "source", "module", "example", "class_name"], "word"
    )
    folder = Path(scaffolder.__file__).parent / "templates"

    templates = [path.read_text() for path in folder.glob("*.py.template")]

    assert len(templates) == 3
    for template in templates:
        ast.parse(Template(template).substitute(values))
