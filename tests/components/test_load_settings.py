"""What YAML says of a load as a whole: its op, its retries, its runs and its schedule."""

from datetime import datetime, timezone

import dagster as dg
import pytest
from projects import YAML, Project, assets_at, load_all, rows

from dagster_dlt import DltLoadCollectionComponent, DltLoadSpecModel
from dagster_dlt.errors import ComponentError, DefinitionError, InvalidLoadError, LoadNameError

# What Dagster itself uses when it reads a project's `defs` folder.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore:Class `.*CodeReference.*` is currently in beta"),
    pytest.mark.filterwarnings("ignore:Function `load_definitions_from_module.*` is currently in"),
]


def write(project: Project, settings: str, *more: str) -> None:
    """Write a component whose loads have settings."""
    head, _, load = YAML.partition("    - ")
    blocks = [
        f"    - {load}" + "".join(f"      {line.strip()}\n" for line in each.strip().splitlines())
        for each in (settings, *more)
    ]
    project.write({"defs.yaml": head + "".join(blocks)})


def refusal(project: Project) -> ComponentError:
    """Return why the project's component is refused."""
    with pytest.raises(Exception) as caught, project.definitions():  # noqa: PT011 - Dagster's own
        pass
    found: BaseException | None = caught.value
    while found and not isinstance(found, ComponentError):
        found = found.__cause__
    assert found, repr(caught.value)
    return found


def test_the_checks_of_the_yaml_are_those_of_the_assets(project):
    write(project, "checks: {drift: false, blocking: true, row_count: {min: 1}}")

    with project.definitions() as defs:
        found = load_all(defs).get_asset_check_evaluations()

    assert {each.check_name for each in found} == {"dlt_primary_key", "dlt_row_count"}
    assert all(each.passed and each.blocking for each in found)


def test_checks_of_the_yaml_that_cannot_be_name_the_load_and_the_field(project):
    write(project, "checks: {uniqe: true}")

    found = str(refusal(project))

    assert "checks have the unknown field 'uniqe'. Did you mean 'unique'?" in found
    assert "'shop'" in found


# --- the op --------------------------------------------------------------------------------------


def test_the_op_has_the_name_pool_tags_and_retries_of_the_yaml(project):
    write(
        project,
        """
        name: load_shop
        pool: shop_api
        op_tags: {team: shop}
        retry_policy: {max_retries: 3, delay: 30, backoff: exponential, jitter: full}
        """,
    )

    with project.definitions() as defs:
        op = assets_at(defs, "raw/orders").op

    assert (op.name, op.pool) == ("load_shop", "shop_api")
    assert op.tags["team"] == "shop"
    assert op.retry_policy == dg.RetryPolicy(
        max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
    )


def test_the_group_is_that_of_assets_to_which_the_translation_gives_none(project):
    write(
        project,
        """
        group_name: shop
        code_version: "3"
        translation: {group_name: "{{ 'own' if resource.name == 'orders' else spec.group_name }}"}
        """,
    )

    specs = project.specs()

    assert specs["raw/orders"].group_name == "own"
    assert specs["raw/customers"].group_name == "shop"
    assert specs["raw/customers"].code_version == "3"


def test_two_loads_of_one_name_are_refused_with_both(project):
    write(project, "name: shop", "name: shop\ntranslation: {key_prefix: other}")

    error = refusal(project)

    assert isinstance(error, LoadNameError)
    assert "'shop' is given to load 1" in str(error)
    assert "and to load 2" in str(error)


def test_a_name_that_dagster_does_not_allow_is_refused(project):
    write(project, "name: my-shop")

    error = refusal(project)

    assert isinstance(error, LoadNameError)
    assert "Use letters, digits and '_'" in str(error)


def test_two_loads_of_one_table_do_not_both_claim_its_name(project):
    write(project, "name: a", "name: b\ntranslation: {key_prefix: other}")

    specs = project.specs()

    assert specs["raw/orders"].metadata["dagster/table_name"] == "warehouse.raw.orders"
    assert "dagster/table_name" not in specs["other/raw/orders"].metadata
    assert specs["other/raw/orders"].metadata["dagster_dlt/table"] == "warehouse.raw.orders"


def test_single_resources_have_attributes_of_their_own(project):
    write(
        project,
        """
        group_name: shop
        resources: {orders: {owners: ["team:a"], group_name: sales, automation_condition: eager}}
        """,
    )

    specs = project.specs()

    assert specs["raw/orders"].owners == ["team:a"]
    assert specs["raw/orders"].group_name == "sales"
    assert specs["raw/orders"].automation_condition == dg.AutomationCondition.eager()
    assert specs["raw/customers"].group_name == "shop"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("resources: {order: {group_name: a}}", "Did you mean 'orders'?"),
        ("resources: {orders: {ownr: [a]}}", "'ownr'"),
    ],
)
def test_attributes_of_a_resource_that_cannot_be_are_refused(project, settings, said):
    write(project, settings)

    with pytest.raises(Exception) as caught, project.definitions():  # noqa: PT011 - Dagster's own
        pass

    found: BaseException | None = caught.value
    while found and not isinstance(found, DefinitionError):
        found = found.__cause__
    assert said in str(found)


# --- its runs ------------------------------------------------------------------------------------


def test_run_config_of_the_yaml_is_what_runs_do_by_default(project):
    write(project, "name: load_shop\nrun_config: {resources: [orders], limit: {max_items: 1}}")

    with project.definitions() as defs:
        schema = assets_at(defs, "raw/orders").op.config_schema
        result = load_all(defs)

    materialized = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
    assert materialized == {"orders"}
    assert schema.default_value["resources"] == ["orders"]


def test_the_launchpad_wins_over_the_run_config_of_the_yaml(project):
    write(project, "name: load_shop\nrun_config: {resources: [orders]}")
    chosen = {"ops": {"load_shop": {"config": {"resources": ["customers"]}}}}

    with project.definitions() as defs:
        result = load_all(defs, run_config=chosen)

    materialized = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
    assert materialized == {"customers"}


def test_run_config_of_the_yaml_wins_over_the_projects_own_resource(project):
    write(project, "run_config: {dry_run: false}\n")
    text = (project.folder / "ingest" / "defs.yaml").read_text()
    (project.folder / "ingest" / "defs.yaml").write_text(
        text.replace("attributes:", "attributes:\n  dlt_resource_key: own")
    )
    (project.folder / "own.py").write_text(
        "import dagster as dg\nfrom dagster_dlt import DagsterDltResource\n\n"
        "defs = dg.Definitions(resources={'own': DagsterDltResource(dry_run=True)})\n"
    )

    with project.definitions() as defs:
        assert load_all(defs).success

    assert rows("raw.orders") == 3


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ("run_config: {decompos: parallel}", "run_config", "Did you mean 'decompose'?"),
        ("run_config: {max_workers: 0}", "run_config.max_workers", "greater than 0"),
        ("run_config: {limit: {max_items: 0}}", "run_config.limit.max_items", "greater than 0"),
        ("retry_policy: {max_retry: 1}", "retry_policy", "Did you mean 'max_retries'?"),
        ("retry_policy: {backoff: linear}", "retry_policy", "delay"),
        ("schedule: {corn: '0 6 * * *'}", "schedule", "Did you mean 'cron'?"),
        ("schedule: not a cron", "schedule", "not a cron"),
        ("schedule: {status: running}", "schedule", "has no cron"),
        ("schedule: {cron: '0 6 * * *', timezone: Mars/Base}", "schedule", "Mars/Base"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_load_and_field(project, settings, field, said):
    write(project, f"name: load_shop\n{settings}")

    error = refusal(project)

    assert isinstance(error, InvalidLoadError)
    assert error.load.startswith("load 1")
    assert field.startswith(error.field)  # old releases do not tell what is inside a config
    assert said in str(error)


# --- its schedule --------------------------------------------------------------------------------


def schedule_of(defs: dg.Definitions) -> dg.ScheduleDefinition:
    """Return the schedule of the load."""
    return defs.resolve_schedule_def("load_shop_schedule")


def requests(defs: dg.Definitions, moment: datetime) -> list[dg.RunRequest]:
    """Return what the schedule asks for at a time."""
    context = dg.build_schedule_context(
        scheduled_execution_time=moment, repository_def=defs.get_repository_def()
    )
    return list(schedule_of(defs).evaluate_tick(context).run_requests)


def test_a_cron_schedules_all_assets_of_the_load(project):
    write(project, "name: load_shop\nschedule: '0 6 * * *'")

    with project.definitions() as defs:
        schedule = schedule_of(defs)
        job = defs.resolve_job_def("load_shop_job")

        assert job.execute_in_process().success

    assert schedule.cron_schedule == "0 6 * * *"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert rows("raw.orders") == 3


def test_a_schedule_has_a_time_zone_and_may_run_by_itself(project):
    write(
        project,
        "name: load_shop\nschedule: {cron: '0 6 * * *', timezone: Europe/Paris, status: running}",
    )

    with project.definitions() as defs:
        schedule = schedule_of(defs)

    assert schedule.execution_timezone == "Europe/Paris"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


PARTITIONED = """
name: load_shop
partitions_def: {type: daily, start_date: "2024-01-01", timezone: Europe/Paris}
"""


@pytest.mark.filterwarnings("ignore::dagster_dlt.errors.PartitionWarning")
def test_time_partitions_say_themselves_when_the_load_runs(project):
    write(project, f"{PARTITIONED}schedule: {{status: running}}")

    with project.definitions() as defs:
        schedule = schedule_of(defs)
        asked = requests(defs, datetime(2024, 1, 5, tzinfo=timezone.utc))

    assert schedule.cron_schedule == "0 0 * * *"
    assert schedule.execution_timezone == "Europe/Paris"
    assert [each.partition_key for each in asked] == ["2024-01-04"]


@pytest.mark.filterwarnings("ignore::dagster_dlt.errors.PartitionWarning")
def test_a_cron_of_time_partitions_asks_for_the_last_one_that_is_over(project):
    write(project, f"{PARTITIONED}schedule: '0 6 * * *'")

    with project.definitions() as defs:
        asked = requests(defs, datetime(2024, 1, 5, 6, tzinfo=timezone.utc))
        too_early = requests(defs, datetime(2024, 1, 1, 6, tzinfo=timezone.utc))

    assert [each.partition_key for each in asked] == ["2024-01-04"]
    assert too_early == []


@pytest.mark.filterwarnings("ignore::dagster_dlt.errors.PartitionWarning")
def test_a_cron_of_static_partitions_asks_for_all_of_them_each_time(project):
    write(
        project,
        """
        name: load_shop
        partitions_def: {type: static, partition_keys: [north, south]}
        schedule: "0 6 * * *"
        """,
    )

    with project.definitions() as defs:
        asked = requests(defs, datetime(2024, 1, 5, 6, tzinfo=timezone.utc))
        later = requests(defs, datetime(2024, 1, 6, 6, tzinfo=timezone.utc))

    assert [each.partition_key for each in asked] == ["north", "south"]
    assert {each.run_key for each in asked}.isdisjoint(each.run_key for each in later)


# --- in Python -----------------------------------------------------------------------------------


def test_settings_can_be_given_in_python(pipeline):
    import dlt

    from dagster_dlt import DltLoadSchedule, DltRunConfig

    @dlt.source
    def shop():
        return dlt.resource([{"id": 1}], name="orders")

    component = DltLoadCollectionComponent(
        loads=[
            DltLoadSpecModel(
                source=shop(),
                pipeline=pipeline,
                name="load_shop",
                retry_policy=dg.RetryPolicy(max_retries=2),
                run_config=DltRunConfig(decompose="serialize"),
                schedule=DltLoadSchedule(cron="0 6 * * *"),
            )
        ]
    )

    defs = component.build_defs(None)

    assert defs.resolve_schedule_def("load_shop_schedule").cron_schedule == "0 6 * * *"
    assert dg.materialize(list(defs.assets)).success
