"""What `dg` does with projects that have loads: scaffold, check and launch."""

from pathlib import Path

import duckdb
import pytest
import yaml
from api import Api
from jsonschema import Draft202012Validator
from projects import DgProject, can_be_offline, component_of
from yamls import DATABASE, FILES, REST_API

from dagster_dlt import DltLoadSpecModel

COMPONENT = "dagster_dlt.DltLoadCollectionComponent"
#: One process for all loads, which is what takes long.
IN_PROCESS = '{"execution": {"config": {"in_process": {}}}}'
GREEN = "All definitions loaded successfully"

needs_namespaces = pytest.mark.skipif(
    not can_be_offline(), reason="this machine cannot start a command without a network"
)


@pytest.fixture
def project(tmp_path: Path) -> DgProject:
    """Return an empty project, in a folder of its own."""
    return DgProject(tmp_path / "project")


def counts(file: Path) -> dict[str, int]:
    """Return the number of rows of the tables at the destination."""
    tables = ("customers", "orders")
    with duckdb.connect(str(file), read_only=True) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM raw.{table}").fetchall()[0][0]
            for table in tables
        }


@needs_namespaces
def test_a_project_of_yaml_is_checked_without_secrets_and_network_and_then_runs(
    project: DgProject, api: Api, crm: str
):
    (project.defs / "shop").mkdir()
    (project.defs / "shop" / "defs.yaml").write_text(component_of(REST_API))
    (project.defs / "crm").mkdir()
    database = DATABASE.replace("warehouse", "crm").replace(
        "dataset_name: raw", "dataset_name: raw\n  translation: {key_prefix: crm}"
    )
    (project.defs / "crm" / "defs.yaml").write_text(component_of(database))
    before = project.files()

    checked = project.dg("check", "defs", offline=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert GREEN in checked.stdout
    assert project.files() == before
    assert api.asked == []

    variables = {"SHOP_URL": api.url, "SHOP_TOKEN": api.token, "CRM_URL": crm}
    launched = project.dg("launch", "--assets", "*", "--config-json", IN_PROCESS, **variables)

    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert counts(project.folder / "warehouse.duckdb") == {"customers": 5, "orders": 3}
    assert counts(project.folder / "crm.duckdb") == {"customers": 2, "orders": 2}
    assert api.token not in launched.stdout + launched.stderr


@needs_namespaces
def test_a_scaffold_needs_no_network_and_is_one_that_dg_accepts(project: DgProject):
    source, destination = ["--source", "sql_database"], ["--destination", "postgres"]

    scaffolded = project.dg(
        "scaffold", "defs", COMPONENT, "ingest", *source, *destination, offline=True
    )
    checked = project.dg("check", "defs", offline=True)

    assert scaffolded.returncode == 0, scaffolded.stdout + scaffolded.stderr
    left = {path.name for path in (project.defs / "ingest").iterdir()}
    assert left >= {"defs.yaml", "env.example", "sql_database_pipeline.py"}
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert GREEN in checked.stdout


@pytest.mark.parametrize("text", [REST_API, DATABASE, FILES])
def test_dgs_own_check_leaves_fields_to_ours_which_says_more(text: str):
    schema = DltLoadSpecModel.model().model_json_schema()
    load = yaml.safe_load(text)[0]
    mistyped = yaml.safe_load(text.replace("dataset_name", "dataset").replace("name: o", "nme: o"))[
        0
    ]

    assert list(Draft202012Validator(schema).iter_errors(load)) == []
    assert list(Draft202012Validator(schema).iter_errors(mistyped)) == []
