"""Loads declared in YAML or in Python become assets that load themselves."""

import inspect
import re
from pathlib import Path
from textwrap import dedent, indent

import dagster as dg
import dlt
import pytest
from projects import LOADS, YAML, assets_at, keys, load_all, rows

from dagster_dlt import (
    DltLoadCollectionComponent,
    DltLoadSpecModel,
    DltResourceTranslatorData,
)
from dagster_dlt.errors import (
    ConflictingLoadsError,
    DagsterDltError,
    NotADltPipelineError,
    NotADltSourceError,
    ObjectNotFoundError,
    SourceNotCalledError,
)

# What Dagster itself uses when it reads a project's `defs` folder.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore:Class `.*CodeReference.*` is currently in beta"),
    # Its resources are lists, and have no cursor for a partition to bound.
    pytest.mark.filterwarnings("ignore::dagster_dlt.errors.PartitionWarning"),
    pytest.mark.filterwarnings("ignore:Function `load_definitions_from_module.*` is currently in"),
]


@dlt.source(name="shop")
def shop():
    return dlt.resource([{"id": 1}], name="orders"), dlt.resource([{"id": 1}], name="items")


def build(component):
    return component.build_defs(dg.ComponentTree.for_test().load_context)


def with_attribute(yaml: str) -> str:
    """Return the YAML of one load with more attributes."""
    return YAML + indent(dedent(yaml), " " * 6)


def root_error(error: BaseException) -> DagsterDltError:
    """Return our error behind the one that Dagster wraps around whatever a component raises."""
    while not isinstance(error, DagsterDltError):
        error = error.__cause__
    return error


# --- a load ------------------------------------------------------------------------------------


def test_each_resource_is_an_asset_named_after_dataset_and_table(project):
    project.write({})

    specs = project.specs()

    assert list(specs) == ["raw/customers", "raw/orders"]
    assert specs["raw/orders"].description == "What they bought."
    assert specs["raw/orders"].kinds == {"dlt", "duckdb"}
    assert specs["raw/orders"].deps == [dg.AssetDep("shop_orders")]


def test_a_run_loads_the_resources_without_any_dagster_resource_provided(project):
    project.write({})

    with project.definitions() as defs:
        assert load_all(defs).success

    assert rows("raw.customers") == 2
    assert rows("raw.orders") == 3


def test_the_same_definitions_run_twice_in_one_process(project):
    project.write({})

    with project.definitions() as defs:
        first, second = load_all(defs), load_all(defs)

    for result in (first, second):
        events = result.get_asset_materialization_events()
        assert [event.materialization.metadata["rows_loaded"].value for event in events] == [2, 3]
    assert rows("raw.orders") == 3


def test_only_the_selected_asset_is_loaded(project):
    project.write({})

    with project.definitions() as defs:
        load_all(defs, asset_selection=[dg.AssetKey(["raw", "orders"])])

    assert rows("raw.orders") == 3
    assert rows("information_schema.tables WHERE table_name = 'customers'") == 0


def test_a_narrowed_source_has_only_the_assets_that_it_selects(project):
    loads = LOADS + "\nonly_orders = shop_source.with_resources('orders')\n"
    yaml = YAML.replace("shop_source", "only_orders")
    project.write({"loads.py": loads, "defs.yaml": yaml})

    assert list(project.specs()) == ["raw/orders"]


def test_the_yaml_of_the_docstring_is_a_component(project):
    docstring = inspect.cleandoc(DltLoadCollectionComponent.__doc__)
    block = docstring.split(".. code-block:: yaml\n")[1].split("In a subclass")[0]
    loads = LOADS.replace("shop_source", "my_load_source").replace(
        "shop_pipeline", "my_load_pipeline"
    )
    project.write({"defs.yaml": dedent(block), "loads.py": loads})

    with project.definitions() as defs:
        assets = assets_at(defs, "raw/orders")

    spec = assets.get_asset_spec(dg.AssetKey(["raw", "orders"]))
    assert (spec.group_name, spec.owners) == ("shop", ["team:shop"])
    assert assets.partitions_def == dg.DailyPartitionsDefinition("2024-01-01")
    assert assets.backfill_policy == dg.BackfillPolicy.single_run()


def test_every_attribute_is_described_and_has_an_example():
    schemas = [DltLoadCollectionComponent.model(), DltLoadSpecModel.model()]
    fields = [field for schema in schemas for field in schema.model_fields.values()]

    assert len(fields) == 18
    assert all(field.description and field.examples for field in fields)


# --- translation -------------------------------------------------------------------------------


FUNCTIONS = """
    import dagster as dg

    @dg.template_var
    def eager():
        return dg.AutomationCondition.eager()

    @dg.template_var
    def regions():
        return dg.StaticPartitionsDefinition(["a"])

    @dg.template_var
    def translate():
        return lambda spec, resource: spec.replace_attributes(group_name=resource.name)
"""


def test_every_attribute_of_a_translation_reaches_the_spec(project):
    project.write(
        {
            "functions.py": FUNCTIONS,
            "defs.yaml": "template_vars_module: .functions\n"
            + with_attribute(
                """
                translation:
                  key: "{{ resource.name }}"
                  key_prefix: [lake, "{{ pipeline.dataset_name }}"]
                  group_name: sales
                  description: "{{ spec.description }} From {{ resource.source_name }}."
                  owners: [team:sales]
                  tags: {tier: gold, level: raw}
                  kinds: [dlt, "{{ pipeline.destination.destination_name }}", table]
                  metadata: {table: "{{ resource.name }}"}
                  deps: ["upstream/{{ resource.name }}"]
                  code_version: "7"
                  skippable: true
                  automation_condition: "{{ eager }}"
                  partitions_def: {type: static, partition_keys: [a, b]}
                """
            ),
        }
    )

    spec = project.specs()["lake/raw/orders"]

    assert spec.group_name == "sales"
    assert spec.description == "What they bought. From shop."
    assert spec.owners == ["team:sales"]
    assert spec.tags.items() >= {"tier": "gold", "level": "raw"}.items()
    assert spec.kinds == {"dlt", "duckdb", "table"}
    assert spec.metadata["table"] == "orders"
    assert spec.metadata["dagster/table_name"] == "warehouse.raw.orders"
    assert spec.deps == [dg.AssetDep(["upstream", "orders"])]
    assert (spec.code_version, spec.skippable) == ("7", True)
    assert spec.automation_condition == dg.AutomationCondition.eager()
    assert spec.partitions_def == dg.StaticPartitionsDefinition(["a", "b"])


def test_a_translation_can_be_a_function_of_the_project(project):
    yaml = with_attribute('translation: "{{ translate(spec, resource) }}"')
    project.write(
        {"defs.yaml": "template_vars_module: .functions\n" + yaml, "functions.py": FUNCTIONS}
    )

    assert project.specs()["raw/orders"].group_name == "orders"


def test_renamed_assets_load_their_own_resource(project):
    project.write(
        {"defs.yaml": with_attribute('translation: {key: "x/{{ resource.name[::-1] }}"}')}
    )

    with project.definitions() as defs:
        load_all(defs, asset_selection=[dg.AssetKey(["x", "sredro"])])

    assert rows("raw.orders") == 3


# --- partitions and backfills ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            '{type: hourly, start_date: "2024-01-01-00:00", minute_offset: 5}',
            dg.HourlyPartitionsDefinition("2024-01-01-00:00", minute_offset=5),
        ),
        (
            """{type: daily, start_date: 2024-01-01, end_date: 2024-02-01,
                hour_offset: 6, minute_offset: 30, timezone: Europe/Paris}""",
            dg.DailyPartitionsDefinition(
                "2024-01-01",
                end_date="2024-02-01",
                timezone="Europe/Paris",
                hour_offset=6,
                minute_offset=30,
            ),
        ),
        (
            '{type: weekly, start_date: "2024-01-07", day_offset: 1}',
            dg.WeeklyPartitionsDefinition("2024-01-07", day_offset=1),
        ),
        (
            '{type: monthly, start_date: "2024-01-01"}',
            dg.MonthlyPartitionsDefinition("2024-01-01"),
        ),
        (
            """{type: time_window, start_date: "2024-01-01", fmt: "%Y-%m-%d",
                cron_schedule: "0 6 * * 1", timezone: Europe/Paris}""",
            dg.TimeWindowPartitionsDefinition(
                start="2024-01-01",
                fmt="%Y-%m-%d",
                cron_schedule="0 6 * * 1",
                timezone="Europe/Paris",
            ),
        ),
        (
            '{type: static, partition_keys: ["1", "02", "1e3", north]}',
            dg.StaticPartitionsDefinition(["1", "02", "1e3", "north"]),
        ),
        (
            "{type: daily, start_date: \"{{ '2024' }}-05-01\"}",
            dg.DailyPartitionsDefinition("2024-05-01"),
        ),
        ('"{{ regions }}"', dg.StaticPartitionsDefinition(["a"])),
    ],
)
def test_partitions_have_the_forms_that_dagster_documents(project, form, expected):
    yaml = with_attribute(f"partitions_def: {form}")
    project.write(
        {"defs.yaml": "template_vars_module: .functions\n" + yaml, "functions.py": FUNCTIONS}
    )

    with project.definitions() as defs:
        assert assets_at(defs, "raw/orders").partitions_def == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("{type: single_run}", dg.BackfillPolicy.single_run()),
        ("{type: multi_run}", dg.BackfillPolicy.multi_run(1)),
        ("{type: multi_run, max_partitions_per_run: 10}", dg.BackfillPolicy.multi_run(10)),
    ],
)
def test_backfill_policies_have_the_forms_that_dagster_documents(project, form, expected):
    yaml = f"""
    partitions_def: {{type: daily, start_date: "2024-01-01"}}
    backfill_policy: {form}
    """
    project.write({"defs.yaml": with_attribute(yaml)})

    with project.definitions() as defs:
        assert assets_at(defs, "raw/orders").backfill_policy == expected


def test_time_windows_are_backfilled_in_a_single_run_by_default(project):
    yaml = 'partitions_def: {type: daily, start_date: "2024-01-01"}'
    project.write({"defs.yaml": with_attribute(yaml)})

    with project.definitions() as defs:
        policy = assets_at(defs, "raw/orders").backfill_policy

    assert policy == dg.BackfillPolicy.single_run()


def test_a_partition_is_loaded(project):
    yaml = "partitions_def: {type: static, partition_keys: [north, south]}"
    project.write({"defs.yaml": with_attribute(yaml)})

    with project.definitions() as defs:
        result = load_all(defs, partition_key="north")

    events = result.get_asset_materialization_events()
    assert {event.partition for event in events} == {"north"}


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("{type: yearly, start_date: '2024-01-01'}", "yearly"),
        ("{type: weekly}", "start_date"),
        ("{type: daily, start_date: '2024-01-01', partition_keys: [a]}", "partition_keys"),
        ("{start_date: '2024-01-01'}", "type"),
    ],
)
def test_a_wrong_form_of_partitions_is_refused_with_the_field(project, form, said):
    project.write({"defs.yaml": with_attribute(f"partitions_def: {form}")})

    with pytest.raises(Exception, match="Error while") as raised, project.definitions():
        pass

    assert said in str(raised.value.__cause__)


# --- several loads -----------------------------------------------------------------------------

TWICE = (
    YAML
    + """
    - source: .loads.shop_source
      pipeline: .loads.shop_pipeline
      translation:
        key_prefix: copy
        group_name: copies
"""
)


def test_two_loads_of_one_source_and_dataset_are_two_ops_with_their_own_translations(project):
    project.write({"defs.yaml": TWICE})

    with project.definitions() as defs:
        ops = {assets.op.name for assets in defs.assets}
        result = load_all(defs)

    assert len(ops) == 2
    assert {key.to_user_string() for key in materialized(result)} == {
        "raw/customers",
        "raw/orders",
        "copy/raw/customers",
        "copy/raw/orders",
    }
    specs = project.specs()
    assert specs["raw/orders"].group_name == "default"
    assert specs["copy/raw/orders"].group_name == "copies"


def materialized(result):
    return [event.asset_key for event in result.get_asset_materialization_events()]


def test_op_names_depend_neither_on_the_order_of_loads_nor_on_later_resources():
    pipeline = dlt.pipeline("shop", destination="duckdb", dataset_name="raw")
    first = DltLoadSpecModel(source=shop(), pipeline=pipeline)
    second = DltLoadSpecModel(source=shop(), pipeline=pipeline, translation=prefixed)
    fewer = DltLoadSpecModel(source=shop().with_resources("orders"), pipeline=pipeline)

    assert names_of(first, second) == names_of(second, first)[::-1]
    assert names_of(first) == names_of(fewer)


def prefixed(spec, _data):
    return spec.replace_attributes(key=spec.key.with_prefix("copy"))


def names_of(*loads):
    defs = build(DltLoadCollectionComponent(loads=loads))
    return [assets.op.name for assets in defs.assets]


def test_two_loads_of_one_asset_are_refused_by_name(project):
    project.write({"defs.yaml": YAML + YAML.split("loads:")[1]})

    with pytest.raises(Exception, match="Error while") as raised, project.definitions():
        pass

    error = root_error(raised.value)
    load = "source 'shop' with pipeline 'shop' into 'raw'"
    assert type(error) is ConflictingLoadsError
    assert f"'raw/customers' is defined by load 1 ({load}) and by load 2 ({load})" in str(error)


def test_names_that_dagster_does_not_allow_are_replaced(project):
    loads = LOADS.replace('dataset_name="raw"', 'dataset_name="my-dataset"')
    loads = loads.replace("def orders", "def other")
    loads = loads.replace("@dlt.resource(primary", "@dlt.resource(name='order items', primary", 1)
    loads = loads.replace("return customers, orders", "return customers, other")
    project.write({"loads.py": loads})

    with project.definitions() as defs:
        assert keys(defs) == ["my-dataset/order_items", "my-dataset/other"]
        assert all(re.fullmatch(r"\w+", assets.op.name, re.ASCII) for assets in defs.assets)
        assert load_all(defs).success

    assert rows("my_dataset.order_items") == 2


def test_pipeline_names_that_dagster_does_not_allow_are_replaced(project):
    project.write({"loads.py": LOADS.replace('"shop", dest', '"my-shop é", dest')})

    with project.definitions() as defs:
        assert all(re.fullmatch(r"\w+", assets.op.name, re.ASCII) for assets in defs.assets)
        assert load_all(defs).success

    assert rows("raw.orders") == 3


def test_a_source_without_resources_loads_nothing(project):
    loads = LOADS.replace("return customers, orders", "return ()")
    project.write({"loads.py": loads})
    project.write({}, component="other")

    with project.definitions() as defs:
        assert load_all(defs).success

    assert rows("raw.orders") == 3


# --- several components, and the Dagster resource ----------------------------------------------

OTHER = YAML + "      translation: {key_prefix: other}\n"
PROVIDED = """
    from pathlib import Path
    import dagster as dg
    from dagster_dlt import DagsterDltResource

    class Loud(DagsterDltResource):
        def run(self, *args, **kwargs):
            Path("loud.txt").write_text("ran")
            return super().run(*args, **kwargs)

    @dg.asset
    def report(dlt_pipeline_resource: DagsterDltResource, dlt_resource: DagsterDltResource):
        pass

    defs = dg.Definitions(
        assets=[report],
        resources={"dlt_pipeline_resource": DagsterDltResource(), "dlt_resource": Loud()},
    )
"""


def test_two_components_and_a_resource_of_the_projects_own_do_not_conflict(project):
    project.write({}, component="one")
    project.write({"defs.yaml": OTHER}, component="two")
    (project.folder / "resources.py").write_text(dedent(PROVIDED))

    with project.definitions() as defs:
        assert len(keys(defs)) == 5
        assert load_all(defs).success

    assert not Path("loud.txt").exists()


def test_the_projects_own_resource_is_used_where_its_key_is_given(project):
    project.write({"defs.yaml": YAML + "  dlt_resource_key: dlt_resource\n"})
    (project.folder / "resources.py").write_text(dedent(PROVIDED))

    with project.definitions() as defs:
        assert load_all(defs).success

    assert Path("loud.txt").read_text() == "ran"


# --- subclasses --------------------------------------------------------------------------------


def subclass(project, code, yaml=YAML):
    header = """
        from collections.abc import Iterator
        import dagster as dg
        from dagster_dlt import DltLoadCollectionComponent
    """
    project.write(
        {
            "component_type.py": dedent(header) + dedent(code),
            "defs.yaml": yaml.replace(
                "dagster_dlt.DltLoadCollectionComponent",
                f"{project.sandbox.project_name}.defs.ingest.component_type.Mine",
            ),
        }
    )


SUBCLASS_KEY = """
    class Mine(DltLoadCollectionComponent):
        def get_asset_spec(self, data):
            spec = super().get_asset_spec(data)
            group = f"{spec.group_name or 'none'}_seen"
            return spec.replace_attributes(key=spec.key.with_prefix("mine"), group_name=group)
"""


def test_what_a_subclass_returns_as_spec_wins(project):
    subclass(project, SUBCLASS_KEY)

    specs = project.specs()

    assert list(specs) == ["mine/raw/customers", "mine/raw/orders"]


def test_a_subclass_sees_the_translation_of_the_load_it_is_asked_about(project):
    subclass(project, SUBCLASS_KEY, TWICE)

    specs = project.specs()

    assert specs["mine/raw/orders"].group_name == "none_seen"
    assert specs["mine/copy/raw/orders"].group_name == "copies_seen"


def test_assets_that_a_subclass_renamed_load_their_own_resource(project):
    subclass(project, SUBCLASS_KEY, TWICE)

    with project.definitions() as defs:
        load_all(defs, asset_selection=[dg.AssetKey(["mine", "copy", "raw", "orders"])])

    assert rows("raw.orders") == 3
    assert rows("information_schema.tables WHERE table_name = 'customers'") == 0


def test_a_subclass_decides_what_a_run_does(project):
    code = """
        from dataclasses import dataclass
        from pathlib import Path

        @dataclass
        class Mine(DltLoadCollectionComponent):
            note: str = "nothing"

            def execute(self, context, dlt_pipeline_resource):
                Path("note.txt").write_text(f"{self.note} {context.op_execution_context.op.name}")
                yield from dlt_pipeline_resource.run(context=context).fetch_row_count()
    """
    subclass(project, code, YAML + "  note: hello\n")

    with project.definitions() as defs:
        result = load_all(defs)

    assert Path("note.txt").read_text().startswith("hello shop__shop__raw__")
    events = result.get_asset_materialization_events()
    assert [event.materialization.metadata["dagster/row_count"].value for event in events] == [2, 3]


def test_a_run_in_a_subclass_may_load_a_source_of_its_own(project):
    code = """
        class Mine(DltLoadCollectionComponent):
            def execute(self, context, dlt_pipeline_resource):
                source = self.loads[0].source.clone()
                source.customers.add_limit(0)
                return dlt_pipeline_resource.run(context=context, dlt_source=source)
    """
    subclass(project, code)

    with project.definitions() as defs:
        assert load_all(defs).success

    assert rows("raw.orders") == 3


def test_the_spec_can_be_asked_for_with_a_resource_of_the_users_source(pipeline):
    source = shop()
    component = DltLoadCollectionComponent(
        loads=[DltLoadSpecModel(source=source, pipeline=pipeline, translation=prefixed)]
    )

    data = DltResourceTranslatorData(resource=source.resources["orders"], pipeline=pipeline)

    assert component.get_asset_spec(data).key == dg.AssetKey(["copy", "raw", "orders"])


# --- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        ".shop_source",
        ".inner.loads.shop_source",
        "..shared.shop_source",
        "{project}.shared.shop_source",
    ],
)
def test_paths_start_at_the_components_folder_or_are_absolute(project, path):
    path = path.format(project=f"{project.sandbox.project_name}.defs")
    project.write({"__init__.py": LOADS, "inner/loads.py": LOADS})
    project.write({"defs.yaml": YAML.replace(".loads.shop_source", path)})
    (project.folder / "shared.py").write_text(LOADS)

    assert list(project.specs()) == ["raw/customers", "raw/orders"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (".load.shop_source", r"there is no module '\w+.defs.ingest.load'. Did you mean 'loads'?"),
        (".loads.shop_sorce", r"module '\w+.defs.ingest.loads' has no 'shop_sorce'. Did you mean"),
        ("no_such_package.shop", "there is no module 'no_such_package'"),
        ("no_such_package.inner.shop", "there is no module 'no_such_package'"),
        ("dagster_dlt.zzz.shop", "there is no module 'dagster_dlt.zzz'"),
        ("shop_source", "it names no module"),
        (".loads.", "it names no module"),
        ("......loads.shop", "it has too many dots"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_what_was_looked_for(project, path, problem):
    project.write({"defs.yaml": YAML.replace(".loads.shop_source", path)})

    with pytest.raises(Exception, match="Error while") as raised, project.definitions():
        pass

    error = root_error(raised.value)
    assert isinstance(error, ObjectNotFoundError)
    assert (error.attribute, error.path) == ("source", path)
    assert re.search(problem, error.problem)


@pytest.mark.parametrize(
    ("path", "place"),
    [(".loads.nothing", "ingest/loads.py"), (".nothing.source", "defs/ingest")],
)
def test_a_path_that_leads_nowhere_is_refused_with_where_was_looked(project, path, place):
    project.write({"defs.yaml": YAML.replace(".loads.shop_pipeline", path)})

    with pytest.raises(Exception, match="Error while") as raised, project.definitions():
        pass

    error = root_error(raised.value)
    assert error.attribute == "pipeline"
    assert error.looked_in.endswith(place)


def test_an_import_that_fails_in_the_users_module_stays_visible(project):
    project.write({"loads.py": "import a_package_that_is_not_there\n" + LOADS})

    with pytest.raises(Exception, match="Error while") as raised, project.definitions():
        pass

    error = root_error(raised.value)
    assert isinstance(error, ObjectNotFoundError)
    assert "No module named 'a_package_that_is_not_there'" in str(error)
    assert isinstance(error.__cause__, ModuleNotFoundError)


def test_a_name_that_fails_in_the_users_module_stays_visible(project):
    project.write({"loads.py": "import dlt\nfrom dlt import nothing_like_it\n"})

    with pytest.raises(Exception, match="Error while") as raised, project.definitions():
        pass

    assert "nothing_like_it" in str(root_error(raised.value))


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ("shop_source, shop_pipeline = 'shop', dlt.pipeline('p')", NotADltSourceError),
        ("shop_source = shop_pipeline = dlt.pipeline('p')", NotADltSourceError),
        ("shop_source = shop_pipeline = shop()", NotADltPipelineError),
        ("shop_pipeline = dlt.pipeline('p')\nshop_source = needs", SourceNotCalledError),
    ],
)
def test_an_object_of_a_wrong_kind_is_refused(project, loads, expected):
    needs = "\n@dlt.source\ndef needs(token):\n    return ()\n\n"
    project.write({"loads.py": LOADS + needs + loads})

    with pytest.raises(Exception, match="Error while") as raised, project.definitions():
        pass

    assert type(root_error(raised.value)) is expected


# --- in Python ---------------------------------------------------------------------------------


def test_the_component_can_be_built_in_python(pipeline):
    load = DltLoadSpecModel(
        pipeline=pipeline,
        source=shop,
        translation=prefixed,
        partitions_def=dg.DailyPartitionsDefinition("2024-01-01"),
        backfill_policy=dg.BackfillPolicy.multi_run(),
    )
    defs = build(DltLoadCollectionComponent(loads=[load]))

    assert keys(defs) == ["copy/raw/items", "copy/raw/orders"]
    assets = assets_at(defs, "copy/raw/orders")
    assert assets.partitions_def == dg.DailyPartitionsDefinition("2024-01-01")
    assert assets.backfill_policy == dg.BackfillPolicy.multi_run()


def test_a_component_built_in_python_loads(pipeline):
    defs = build(
        DltLoadCollectionComponent(loads=[DltLoadSpecModel(source=shop(), pipeline=pipeline)])
    )

    assert load_all(defs).success
    assert rows("raw.items") == 1


def test_the_users_source_is_left_alone(pipeline):
    source = shop()
    load = DltLoadSpecModel(source=source, pipeline=pipeline)

    load.source.resources["orders"].add_limit(0)

    assert list(source.resources["orders"]) == [{"id": 1}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"source": "shop"}, NotADltSourceError), ({"pipeline": "shop"}, NotADltPipelineError)],
)
def test_an_object_of_a_wrong_kind_is_refused_in_python_too(pipeline, given, expected):
    with pytest.raises(expected):
        DltLoadSpecModel(**{"source": shop(), "pipeline": pipeline, **given})


def test_a_relative_path_without_a_component_is_refused():
    yaml = YAML.split("attributes:\n")[1]

    with pytest.raises(ObjectNotFoundError, match="needs a component's folder"):
        DltLoadCollectionComponent.resolve_from_yaml(dedent(yaml))
