"""What only building a source tells is kept by Dagster: loading definitions costs nothing."""

import asyncio
import json
import re
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import dlt
import duckdb
import psycopg2
import pytest
from dagster.components.core.component_tree import ComponentTreeException
from projects import DgProject, assets_at, component_of, keys, load_all, rows

from dagster_dlt import DltLoadCollectionComponent, DltLoadSpecModel
from dagster_dlt.components.dlt_load_collection.state import place_of
from dagster_dlt.errors import InvalidLoadError, SnapshotError, SnapshotWarning
from postgres import for_sqlalchemy, sessions

SECRETIVE = """
import dlt

@dlt.source
def shop(token: str = dlt.secrets.value):
    orders = dlt.resource([{"id": 1}, {"id": 2}], name="orders", primary_key="id")
    return orders, dlt.resource([{"id": 1}], name="customers")
"""

pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore:Class `.*CodeReference.*` is currently in beta"),
    pytest.mark.filterwarnings("ignore:Function `load_definitions_from_module.*` is currently in"),
]

PIPELINE = """
  pipeline:
    pipeline_name: shop
    destination: {type: duckdb, credentials: shop.duckdb}
    dataset_name: raw
"""

LOAD = f"""
- source: .loads.shop
{PIPELINE}
"""

DATABASE = f"""
- source: {{sql_database: {{credentials: "{{{{ env.SHOP_URL }}}}"}}}}
{PIPELINE}
"""

REFRESH = ("utils", "refresh-defs-state")


# --- one project in this process -----------------------------------------------------------------


@pytest.fixture
def secretive(project):
    """Return a function that writes a component whose source needs a secret."""

    def write(more=""):
        project.write({"loads.py": SECRETIVE, "defs.yaml": component_of(f"{LOAD}\n{more}")})
        return project

    return write


def test_resources_that_are_listed_are_not_looked_for(secretive, monkeypatch):
    with secretive("  resources: [orders]").definitions() as defs:
        assert keys(defs) == ["raw/orders"]

        monkeypatch.setenv("TOKEN", "known by now")
        assert load_all(defs).success

    assert rows("raw.orders", "shop.duckdb") == 2


def test_attributes_of_resources_list_them_too(secretive):
    project = secretive("  resources: {orders: {owners: [team:shop]}, customers: {}}")

    with project.definitions() as defs:
        assert keys(defs) == ["raw/customers", "raw/orders"]
        [spec] = [
            spec
            for spec in assets_at(defs, "raw/orders").specs
            if spec.key.to_user_string() == "raw/orders"
        ]
    assert spec.owners == ["team:shop"]


def test_what_nobody_tells_is_refused_with_what_to_do(secretive):
    with (
        pytest.raises(ComponentTreeException) as raised,
        secretive().definitions(),
    ):
        pass

    error = raised.value.__cause__
    assert isinstance(error, InvalidLoadError)
    assert re.search("List them under resources.*refresh-defs-state", str(error))


def test_of_a_source_that_is_given_the_list_is_a_selection(project):
    yaml = component_of(
        """
        - source: .loads.shop_source
          pipeline: .loads.shop_pipeline
          resources: [orders]
        """
    )
    project.write({"defs.yaml": yaml})

    with project.definitions() as defs:
        assert keys(defs) == ["raw/orders"]


@pytest.fixture
def kept(secretive, monkeypatch):
    """Return a project whose state was written, and the file that it is in."""
    project = secretive()
    with monkeypatch.context() as patch:
        patch.setenv("TOKEN", "known by now")
        with project.sandbox.load_component_and_build_defs(project.folder / "ingest") as (found, _):
            asyncio.run(found.refresh_state(project.sandbox.project_root))
    [file] = (
        path
        for path in project.folder.rglob("state")
        if path.is_file() and ".local_defs_state" in path.parts
    )
    return project, file


def test_a_state_that_was_written_is_used_where_the_source_cannot_be_built(kept):
    project, file = kept
    before = file.read_bytes()

    with project.definitions() as defs:
        assert keys(defs) == ["raw/customers", "raw/orders"]

    [said] = json.loads(before).values()
    assert [each["name"] for each in said["resources"]] == ["orders", "customers"]
    assert file.read_bytes() == before


def digest(said):
    place = place_of("a load")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SnapshotWarning)
        return place.read(said).said()["checksum"]


def test_a_state_that_was_edited_or_is_of_other_code_is_used_with_a_warning(kept):
    project, file = kept
    file.write_text(file.read_text().replace('"id"', '"number"'))

    with pytest.warns(SnapshotWarning, match=r"edited.*refresh-defs-state"), project.definitions():
        pass

    [(load, said)] = json.loads(file.read_text()).items()
    content = place_of(load).read({**said, "checksum": digest(said)})
    file.write_text(json.dumps({load: replace(content, code="other").said()}))
    with (
        pytest.warns(SnapshotWarning, match=r"other code.*refresh-defs-state"),
        project.definitions(),
    ):
        pass


@pytest.mark.parametrize("text", ["{", '{"version": 7}'])
def test_a_state_that_cannot_be_read_is_refused_with_what_to_do(kept, text):
    project, file = kept
    said = json.loads(file.read_text())
    file.write_text(text if text == "{" else json.dumps(dict.fromkeys(said, json.loads(text))))

    with pytest.raises(ComponentTreeException) as raised, project.definitions():
        pass

    assert isinstance(raised.value.__cause__, SnapshotError)
    assert "refresh-defs-state" in str(raised.value.__cause__)


def test_two_components_of_the_same_loads_have_states_of_their_own_or_none(project):
    project.write({})
    project.write({"defs.yaml": component_of(PREFIXED)}, component="other")

    with project.definitions() as defs:
        assert len(keys(defs)) == 4
    assert not list(project.folder.rglob(".local_defs_state"))


PREFIXED = """
- source: .loads.shop_source
  pipeline: .loads.shop_pipeline
  translation: {key_prefix: other}
"""


def secretive_with(name):
    @dlt.source(name="shop")
    def shop(token: str = dlt.secrets.value):
        return dlt.resource([1], name=name)

    return shop


def test_loads_that_are_alike_are_told_apart(pipeline, tmp_path, monkeypatch):
    loads = [
        DltLoadSpecModel(source=secretive_with(name), pipeline=pipeline)
        for name in ("orders", "items")
    ]
    component = DltLoadCollectionComponent(loads=loads)

    monkeypatch.setenv("TOKEN", "known by now")
    component.write_state_to_path(tmp_path / "state")

    said = json.loads((tmp_path / "state").read_text()).values()
    assert [each["name"] for content in said for each in content["resources"]] == [
        "orders",
        "items",
    ]


def test_the_key_of_the_state_stays_the_same(secretive):
    assert re.fullmatch(
        r"DltLoadCollectionComponent\[[0-9a-f]{8}\]",
        DltLoadCollectionComponent(loads=[]).defs_state_config.key,
    )


# --- with dg, and a database ---------------------------------------------------------------------


def test_a_database_whose_tables_are_not_listed_is_asked_when_the_state_is_refreshed(
    postgres, tmp_path
):
    url = postgres()
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("create table items (id int primary key, name text not null)")
        cursor.execute("insert into items values (1, 'tea'), (2, 'jam')")
    variables = {"SHOP_URL": for_sqlalchemy(url)}
    project = DgProject(tmp_path / "project")
    (project.defs / "shop").mkdir()
    (project.defs / "shop" / "defs.yaml").write_text(component_of(DATABASE))

    refused = project.dg("check", "defs")
    assert refused.returncode != 0
    assert "refresh-defs-state" in refused.stdout + refused.stderr
    assert project.dg(*REFRESH, **variables).returncode == 0
    before = sessions(url)

    # It refreshes the state of what it checks, and makes do with what there is.
    checked = project.dg("check", "defs")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert sessions(url) == before
    launched = project.dg("launch", "--assets", "*", **variables)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    with duckdb.connect(str(Path(project.folder) / "shop.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from raw.items").fetchall() == [(2,)]
