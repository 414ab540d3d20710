"""Loads without Python: sources and pipelines that are nothing but YAML."""

import importlib.util
import json
import os
import re
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import psycopg2
import pytest
from api import Api, serve
from projects import LOADS, Project, assets_at, keys, load_all, rows
from yamls import DATABASE, FILES, PIPELINE, REST_API

from dagster_dlt import DltLoadCollectionComponent, DltLoadSpecModel
from dagster_dlt.components.dlt_load_collection import op_settings, schedules
from dagster_dlt.components.dlt_load_collection.inline import (
    filesystem,
    hints,
    pipeline,
    rest_api,
    source,
    sql_database,
)
from dagster_dlt.errors import InvalidLoadError, ResourceNotInSourceError, VariableNotSetError

# What Dagster itself uses when it reads a project's `defs` folder.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore:Class `.*CodeReference.*` is currently in beta"),
    pytest.mark.filterwarnings("ignore:Function `load_definitions_from_module.*` is currently in"),
]


def refusal(project: Project) -> InvalidLoadError:
    """Return why the project's component is refused."""
    with pytest.raises(Exception) as caught, project.definitions():  # noqa: PT011 - Dagster's own
        pass
    found: BaseException | None = caught.value
    while found and not isinstance(found, InvalidLoadError):
        found = found.__cause__
    assert found, repr(caught.value)
    return found


# --- what runs -----------------------------------------------------------------------------------


def test_a_rest_api_with_pages_and_a_token_is_loaded_from_yaml(project, api: Api, monkeypatch):
    monkeypatch.setenv("SHOP_URL", api.url)
    monkeypatch.setenv("SHOP_TOKEN", api.token)
    project.write_yaml(REST_API)

    with project.definitions() as defs:
        assert api.asked == []
        assert keys(defs) == ["raw/customers", "raw/orders"]
        assert load_all(defs).success
        assert load_all(defs).success

    assert rows("raw.customers") == 5
    assert rows("raw.orders") == 3


def test_tables_of_a_database_are_loaded_from_yaml_each_with_its_own_hints(
    project, crm: str, monkeypatch
):
    monkeypatch.setenv("CRM_URL", crm)
    project.write_yaml(DATABASE)

    with project.definitions() as defs:
        assert load_all(defs).success
        with psycopg2.connect(crm) as connection, connection.cursor() as cursor:
            cursor.execute("insert into orders values (4, '2024-05-04 10:00')")
            cursor.execute("update customers set name = 'Cy'")
        connection.close()
        assert load_all(defs).success

    assert rows("raw.orders") == 3  # the first is older than the initial value
    assert rows("raw.customers") == 4  # two loads, without a key


def test_each_table_of_files_has_a_cursor_of_its_own(project, tmp_path):
    for name, year in (("new", 2030), ("old", 2020)):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.jsonl").write_text('{"id": 1}\n')
        moment = datetime(year, 1, 1, tzinfo=timezone.utc).timestamp()
        os.utime(tmp_path / "data" / name / "1.jsonl", (moment, moment))
    table = """
        - name: {0}
          file_glob: "{0}/*.jsonl"
          reader: jsonl
          incremental: modification_date
          write_disposition: append
    """
    head = "- source:\n    filesystem:\n      bucket_url: data\n      tables:"
    tables = table.format("new").rstrip() + table.format("old").rstrip()
    project.write_yaml(head + tables + PIPELINE)

    with project.definitions() as defs:
        assert load_all(defs).success
        (tmp_path / "data" / "old" / "2.jsonl").write_text('{"id": 2}\n')
        moment = datetime(2021, 1, 1, tzinfo=timezone.utc).timestamp()
        os.utime(tmp_path / "data" / "old" / "2.jsonl", (moment, moment))
        assert load_all(defs).success

    assert (rows("raw.new"), rows("raw.old")) == (1, 2)


def test_files_are_loaded_from_yaml_and_new_ones_only_once(project, tmp_path):
    folder = tmp_path / "data" / "clicks"
    folder.mkdir(parents=True)
    (folder / "1.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    (tmp_path / "data" / "prices.csv").write_text("sku;price\na;1\nb;2\n")
    project.write_yaml(FILES)

    with project.definitions() as defs:
        assert keys(defs) == ["raw/clicks", "raw/prices"]
        assert load_all(defs).success
        (folder / "2.jsonl").write_text('{"id": 3}\n')
        os.utime(folder / "2.jsonl", (2**31, 2**31))
        assert load_all(defs).success

    assert rows("raw.clicks") == 3
    assert rows("raw.prices") == 2


PLANETS = """
- source:
    type: {module}.planets
    arguments:
      region: "{{{{ env.REGION }}}}"
    resources:
      - name: stars
        primary_key: id
        write_disposition: merge
"""


def write_planets(project: Project, *more: str) -> None:
    """Write a source function, and a load that names it."""
    (project.folder / "ingest").mkdir(parents=True)
    (project.folder / "ingest" / "planets.py").write_text(
        "import dlt\n\n@dlt.source\ndef planets(region):\n"
        "    yield dlt.resource([{'id': 1, 'region': region}], name='stars')\n"
        "    yield dlt.resource([{'id': 1}], name='moons')\n"
    )
    module = ".".join([*project.folder.parts[-2:], "ingest", "planets"])
    others = "".join(f"      - {name}\n" for name in more)
    project.write_yaml(PLANETS.format(module=module) + others + PIPELINE)


def test_any_other_source_is_loaded_by_its_reference(project, monkeypatch):
    write_planets(project)

    with project.definitions() as defs:
        monkeypatch.setenv("REGION", "north")
        assert keys(defs) == ["raw/stars"]
        assert load_all(defs).success
        assert load_all(defs).success

    assert rows("raw.stars where region = 'north'") == 1


def test_a_resource_that_the_source_turns_out_to_lack_fails_the_run(project, monkeypatch):
    monkeypatch.setenv("REGION", "north")
    write_planets(project, "comets")

    with project.definitions() as defs, pytest.raises(ResourceNotInSourceError) as caught:
        load_all(defs)

    assert caught.value.missing == ("comets",)


def test_two_loads_may_share_a_table_and_one_pipeline(project, tmp_path):
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text('{"id": 1}\n')
    load = """
    - name: load_{0}
      source:
        name: {0}
        filesystem:
          bucket_url: {0}
          tables:
            - {{name: sales, file_glob: "*.jsonl", reader: jsonl}}
      pipeline:
        pipeline_name: {0}
        destination: {{type: duckdb, credentials: warehouse.duckdb}}
        dataset_name: raw
      translation:
        key_prefix: {0}
    """
    project.write_yaml(load.format("north") + load.format("south"))

    with project.definitions() as defs:
        specs = {s.key.to_user_string(): s.metadata for a in defs.assets for s in a.specs}
        assert load_all(defs).success

    assert "dagster/table_name" in specs["north/raw/sales"]
    assert "dagster/table_name" not in specs["south/raw/sales"]
    assert specs["south/raw/sales"]["dagster_dlt/table"] == "warehouse.raw.sales"
    assert rows("raw.sales") == 2


# --- secrets and other templates -----------------------------------------------------------------


def test_definitions_need_no_variable_and_leave_no_trace(project, monkeypatch, tmp_path):
    for variable in ("SHOP_URL", "SHOP_TOKEN", "CRM_URL"):
        monkeypatch.delenv(variable, raising=False)
    project.write_yaml(REST_API + DATABASE.replace("raw", "crm"))
    before = sorted(tmp_path.rglob("*"))

    with project.definitions() as defs:
        assert len(keys(defs)) == 4

    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_a_variable_says_which_one_and_touches_nothing(project, api, monkeypatch):
    monkeypatch.setenv("SHOP_URL", api.url)
    monkeypatch.delenv("SHOP_TOKEN", raising=False)
    project.write_yaml(REST_API)

    with project.definitions() as defs, pytest.raises(VariableNotSetError) as caught:
        load_all(defs)

    assert caught.value.variable == "SHOP_TOKEN"
    assert caught.value.field == "source.rest_api.client.auth.token"
    assert "load 1 ('load_shop')" in str(caught.value)
    assert api.asked == []
    assert not Path("warehouse.duckdb").exists()


def test_a_variable_of_the_pipeline_is_asked_for_before_the_source_is_built(project, monkeypatch):
    monkeypatch.setenv("REGION", "north")
    monkeypatch.delenv("FILE", raising=False)
    write_planets(project)
    loads = project.folder / "ingest" / "planets.py"
    loads.write_text(loads.read_text().replace("    yield", "    raise OSError\n    yield", 1))
    text = (project.folder / "ingest" / "defs.yaml").read_text()
    text = text.replace("credentials: warehouse.duckdb", 'credentials: "{{ env.FILE }}"')
    (project.folder / "ingest" / "defs.yaml").write_text(text)

    with project.definitions() as defs, pytest.raises(VariableNotSetError) as caught:
        load_all(defs)

    assert caught.value.field == "pipeline.destination.credentials"


def test_variables_are_what_they_are_when_the_load_runs(project, api, monkeypatch):
    project.write_yaml(REST_API)

    with project.definitions() as defs:
        monkeypatch.setenv("SHOP_URL", api.url)
        monkeypatch.setenv("SHOP_TOKEN", api.token)

        assert load_all(defs).success


def test_a_token_that_looks_like_a_number_stays_as_it_is(project, monkeypatch):
    with serve("1e5") as api:
        monkeypatch.setenv("SHOP_URL", api.url)
        monkeypatch.setenv("SHOP_TOKEN", "1e5")
        project.write_yaml(REST_API)

        with project.definitions() as defs:
            assert load_all(defs).success


def test_a_template_may_stand_in_a_longer_text_with_defaults_and_filters(
    project, crm: str, monkeypatch
):
    monkeypatch.setenv("CRM_PASSWORD", "none")
    monkeypatch.setenv("CRM_CHUNK", "1")
    url = crm.replace(":none@", ":{{ env.CRM_PASSWORD }}@").replace(
        "postgresql://postgres",
        "{{ env('CRM_KIND', 'postgresql') }}://{{ env.USER_ or 'postgres' }}",
    )
    chunk = '      chunk_size: "{{ env.CRM_CHUNK | int }}"'
    project.write_yaml(
        DATABASE.replace("{{ env.CRM_URL }}", url).replace(
            "      tables:", f"{chunk}\n      tables:"
        )
    )

    with project.definitions() as defs:
        assert load_all(defs).success


def test_templates_of_dagsters_own_go_on_working(project, tmp_path):
    (tmp_path / "data").mkdir()
    (project.folder / "ingest").mkdir(parents=True)
    (project.folder / "ingest" / "template_vars.py").write_text(
        "import dagster as dg\n\n@dg.template_var\ndef folder():\n    return 'data'\n"
    )
    project.write_yaml(FILES.replace("bucket_url: data", 'bucket_url: "{{ folder }}"'))
    defs_yaml = project.folder / "ingest" / "defs.yaml"
    defs_yaml.write_text(f"template_vars_module: .template_vars\n{defs_yaml.read_text()}")

    with project.definitions() as defs:
        assert load_all(defs).success


def test_secrets_of_templates_are_not_shown(project, api, monkeypatch):
    monkeypatch.setenv("SHOP_URL", api.url)
    monkeypatch.setenv("SHOP_TOKEN", api.token)
    monkeypatch.setenv("SHOP_API_KEY", "Xk29-hidden")
    project.write_yaml(REST_API.replace("path: orders", 'path: "of/{{ env.SHOP_API_KEY }}"'))

    with project.definitions() as defs, pytest.raises(dg.Failure) as caught:
        load_all(defs)

    assert "/of/***" in str(caught.value)
    assert "Xk29-hidden" not in str(caught.value)


def test_names_that_assets_have_are_known_when_definitions_are_loaded(project, monkeypatch):
    monkeypatch.setenv("DATASET", "staging_raw")
    project.write_yaml(FILES.replace("dataset_name: raw", 'dataset_name: "{{ env.DATASET }}"'))
    with project.definitions() as defs:
        assert keys(defs) == ["staging_raw/clicks", "staging_raw/prices"]

    monkeypatch.delenv("DATASET")
    error = refusal(project)

    assert error.field == "pipeline.dataset_name"
    assert "'DATASET', which is not set" in error.problem


def test_names_of_tables_are_known_when_definitions_are_loaded_too(project, monkeypatch):
    monkeypatch.setenv("TABLE", "visits")
    project.write_yaml(FILES.replace("name: clicks", 'name: "{{ env.TABLE }}"'))
    with project.definitions() as defs:
        assert keys(defs) == ["raw/prices", "raw/visits"]

    monkeypatch.delenv("TABLE")

    assert refusal(project).field == "source.filesystem.tables[0].name"


def test_a_database_that_is_known_only_at_run_time_is_not_made_up(project, monkeypatch):
    monkeypatch.delenv("PASSWORD", raising=False)
    credentials = "postgresql://loader:{{ env.PASSWORD }}@db.example.com/wh"
    load = FILES.replace("type: duckdb", "type: postgres")
    project.write_yaml(
        load.replace("credentials: warehouse.duckdb", f'credentials: "{credentials}"')
    )
    known = project.specs()["raw/clicks"].metadata["dagster/table_name"]

    hidden = credentials.replace("/wh", "/{{ env.DATABASE }}")
    project.write_yaml(load.replace("credentials: warehouse.duckdb", f'credentials: "{hidden}"'))
    unknown = project.specs()["raw/clicks"].metadata["dagster/table_name"]

    assert known == "wh.raw.clicks"
    assert unknown == "raw.clicks"


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "field", "said"),
    [
        (
            "rest_api:",
            "rest_apis:",
            "source",
            "unknown field 'rest_apis'. Did you mean 'rest_api'?",
        ),
        (
            "base_url:",
            "base_ulr:",
            "source.rest_api",
            "'base_ulr' in client. Did you mean 'base_url'",
        ),
        (
            "endpoint:",
            "endpont:",
            "source.rest_api",
            "'endpont' in resources[1]. Did you mean 'endpoint'?",
        ),
        ("path: orders", "pat: orders", "source.rest_api", "'pat' in resources[1].endpoint"),
        ("type: bearer", "type: baerer", "source.rest_api", "is refused by dlt"),
        ("dataset_name:", "dataset:", "pipeline", "Did you mean 'dataset_name'?"),
        ("type: duckdb", "type: dukdb", "pipeline.destination", "is refused by dlt"),
        (
            "credentials: warehouse",
            "credentails: warehouse",
            "pipeline.destination",
            "Did you mean 'credentials'?",
        ),
        ("pipeline_name: shop", "dev_mode: false", "pipeline.pipeline_name", "is missing"),
    ],
)
def test_a_wrong_field_is_refused_with_its_place_and_the_nearest_right_one(
    project, before, after, field, said
):
    assert before in REST_API
    project.write_yaml(REST_API.replace(before, after, 1))

    error = refusal(project)

    assert error.load == "load 1 ('load_shop')"
    assert error.field == field
    assert said in str(error)


@pytest.mark.parametrize(
    ("before", "after", "field", "said"),
    [
        ("tables:", "table_names:", "source.sql_database", "Did you mean 'tables'?"),
        (
            "primary_key: id",
            "primry_key: id",
            "source.sql_database.tables[1]",
            "Did you mean 'primary_key'?",
        ),
        (
            "cursor_path: placed_at",
            "row_order: up",
            "source.sql_database.tables[1].incremental.cursor_path",
            "is missing",
        ),
        (
            "window: local_datetime",
            "window: fortnight",
            "source.sql_database.tables[1].incremental.window",
            "has a wrong value",
        ),
        (
            "- customers",
            "- {write_disposition: merge}",
            "source.sql_database.tables[0].name",
            "is missing",
        ),
    ],
)
def test_a_wrong_field_of_a_table_is_refused_with_the_table(project, before, after, field, said):
    assert before in DATABASE
    project.write_yaml(DATABASE.replace(before, after, 1))

    error = refusal(project)

    assert error.field == field
    assert said in str(error)


def test_a_database_whose_tables_are_not_listed_has_them_all_when_it_is_asked(crm: str):
    inline = source.InlineSource({"sql_database": {"credentials": crm}, "name": "crm"}, "load 1")

    assert inline.described() is None
    assert sorted(inline().resources) == ["customers", "orders"]
    assert inline().name == "crm"


def test_a_source_is_of_exactly_one_kind(project):
    project.write_yaml(
        FILES.replace("  source:\n", "  source:\n    type: github\n", 1).replace(
            "- source:\n", "- source:\n    type: github\n", 1
        )
    )

    error = refusal(project)

    assert "exactly one of rest_api, sql_database, filesystem, type" in str(error)


def test_a_database_whose_tables_are_not_listed_is_refused(project):
    project.write_yaml("- source:\n    sql_database: {credentials: 'sqlite://'}" + PIPELINE)

    error = refusal(project)

    assert "List tables" in str(error)


@pytest.mark.parametrize(
    ("package", "load", "said"),
    [
        ("sqlalchemy", DATABASE, "pip install 'dagster-dlt[sql-database]'"),
        ("pandas", FILES, "pip install 'pandas'"),
        (
            "s3fs",
            FILES.replace("bucket_url: data", "bucket_url: s3://bucket"),
            "pip install 'dagster-dlt[filesystem]'",
        ),
    ],
)
def test_what_has_to_be_installed_is_said(project, monkeypatch, package, load, said):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "dagster_dlt.components.dlt_load_collection.inline.form.find_spec",
        lambda name: None if name == package else find(name),
    )
    project.write_yaml(load)

    assert said in str(refusal(project))


# --- with the rest of the component --------------------------------------------------------------


def test_a_subclass_that_runs_the_load_itself_needs_to_know_nothing_of_it(project, tmp_path):
    (tmp_path / "data" / "clicks").mkdir(parents=True)
    (tmp_path / "data" / "clicks" / "1.jsonl").write_text('{"id": 1}\n')
    project.write_yaml(FILES)
    folder = project.folder / "ingest"
    (folder / "own.py").write_text(
        "from dagster_dlt import DltLoadCollectionComponent\n\n"
        "class Own(DltLoadCollectionComponent):\n"
        "    def execute(self, context, dlt_pipeline_resource):\n"
        "        yield from dlt_pipeline_resource.run(context=context).fetch_row_count()\n"
    )
    text = (folder / "defs.yaml").read_text()
    (folder / "defs.yaml").write_text(
        text.replace("dagster_dlt.DltLoad", ".own.Own\n# dagster_dlt.DltLoad", 1)
    )

    with project.definitions() as defs:
        assert load_all(defs).success

    assert rows("raw.clicks") == 1


def test_a_partition_of_a_database_loads_the_rows_of_its_window(project, crm: str, monkeypatch):
    monkeypatch.setenv("CRM_URL", crm)
    partitions = "  partitions_def: {type: daily, start_date: '2024-05-01'}\n"
    load = DATABASE.replace("        - customers\n", "")
    project.write_yaml(load + partitions)

    with project.definitions() as defs:
        assets = assets_at(defs, "raw/orders")
        assert dg.materialize([assets], partition_key="2024-05-01").success
        assert dg.materialize([assets], partition_key="2024-05-03").success

    assert rows("raw.orders where id = 1") == 1
    assert rows("raw.orders") == 2


def test_a_partition_of_files_loads_those_that_were_changed_in_its_time(project, tmp_path):
    folder = tmp_path / "data" / "clicks"
    folder.mkdir(parents=True)
    for day in (1, 2, 3):
        (folder / f"{day}.jsonl").write_text(f'{{"id": {day}}}\n')
        moment = datetime(2024, 5, day, 12, tzinfo=timezone.utc).timestamp()
        os.utime(folder / f"{day}.jsonl", (moment, moment))
    partitions = "  partitions_def: {type: daily, start_date: '2024-05-01'}\n"
    clicks = FILES[: FILES.index("        - name: prices")] + PIPELINE + partitions
    project.write_yaml(clicks)

    with project.definitions() as defs:
        assets = assets_at(defs, "raw/clicks")
        assert dg.materialize([assets], partition_key="2024-05-02").success

    assert rows("raw.clicks where id = 2") == 1
    assert rows("raw.clicks") == 1


def test_dg_is_told_of_every_field_of_an_inline_load():
    schema = DltLoadSpecModel.model().model_json_schema()
    told = json.dumps(schema)

    for word in ("sql_database", "reader_kwargs", "cursor_path", "staging", "SHOP_URL"):
        assert word in told
    assert "{{ env.API_TOKEN }}" in told


# --- the documents -------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs"
FORMS = [
    DltLoadCollectionComponent.model(),
    DltLoadSpecModel.model(),
    op_settings.RetryPolicyForm,
    schedules.DltLoadSchedule,
    source.InlineSourceForm,
    rest_api.RestApiForm,
    sql_database.SqlDatabaseForm,
    sql_database.SqlTableForm,
    filesystem.FilesystemForm,
    filesystem.FileTableForm,
    hints.IncrementalForm,
    pipeline.PipelineForm,
    pipeline.DestinationForm,
]
GUIDE = (DOCS / "guides" / "component.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_field_has_a_row_in_the_reference(form):
    page = (DOCS / "reference" / "component.md").read_text(encoding="utf-8")

    for name, field in form.model_fields.items():
        row = re.search(
            rf"^\| `{field.alias or name}` \|.*{re.escape(field.description)}", page, re.MULTILINE
        )
        assert row, name


@pytest.mark.filterwarnings("ignore::dagster_dlt.errors.PartitionWarning")
@pytest.mark.parametrize(
    "yaml", re.findall(r"```yaml\n(type: .*?)```", GUIDE, re.DOTALL), ids=range(7)
)
def test_every_yaml_of_the_guide_is_a_component(project, yaml):
    project.write(
        {
            "loads.py": LOADS.replace("shop_source", "my_load_source")
            .replace("shop_pipeline", "my_load_pipeline")
            .replace("orders", "greetings"),
            "defs.yaml": yaml,
        }
    )

    with project.definitions() as defs:
        assert keys(defs)
