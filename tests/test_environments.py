"""One definition in several deployments: where it loads, and what a branch must never touch."""

import functools
import threading

import dagster as dg
import dlt
import pytest
from dlt.common.configuration.exceptions import ConfigFieldMissingException

from dagster_dlt import DagsterDltResource, dlt_assets
from dagster_dlt.environment import values_of
from dagster_dlt.errors import EnvironmentSettingError, PartitionWarning
from dagster_dlt.loading import life
from dagster_dlt.loading.branch import Branch
from places import Place
from sources import assets_of, metadata_by_asset, one, outage, query

BRANCH = "Feature/new-orders"


@dlt.source(name="shop")
def shop(until=3):
    """One resource that adds the days since the last load."""

    @dlt.resource
    def orders(day=dlt.sources.incremental("day", initial_value=0)):
        yield [{"day": each} for each in range(day.last_value + 1, until + 1)]

    return orders


@pytest.fixture(autouse=True)
def _no_deployment(monkeypatch):
    for name in ("IS_BRANCH_DEPLOYMENT", "GIT_BRANCH", "DEPLOYMENT_NAME"):
        monkeypatch.delenv(f"DAGSTER_CLOUD_{name}", raising=False)


@pytest.fixture
def branch_deployment(monkeypatch):
    monkeypatch.setenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT", "1")
    monkeypatch.setenv("DAGSTER_CLOUD_GIT_BRANCH", BRANCH)


def assets(source, pipeline, **options):
    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, name="load")
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context, **options)

    return load


def run(definition, launchpad=None, *, raise_on_error=True, **fields):
    """Materialize with a Dagster resource of these fields, or with a resource as it is."""
    config = {"resources": {"dlt_resource": {"config": launchpad}}} if launchpad else {}
    return dg.materialize(
        [definition],
        resources={"dlt_resource": fields.pop("resource", None) or DagsterDltResource(**fields)},
        run_config=config,
        raise_on_error=raise_on_error,
    )


def refused(definition, launchpad=None, **fields):
    result = run(definition, launchpad, raise_on_error=False, **fields)
    (event,) = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    while error.cause:
        error = error.cause
    assert not result.get_asset_materialization_events()
    return error


def days(pipeline, dataset="raw"):
    return [row[0] for row in query(pipeline, f"select day from {dataset}.orders order by 1")]


def dataset_of(name, dataset="raw"):
    return f"{dataset}_{Branch(name).identifier}"


# --- one definition, several deployments ----------------------------------------------------------


def test_the_same_definition_loads_where_each_deployment_says(make_pipeline, tmp_path, monkeypatch):
    definition = assets(shop(), make_pipeline())
    field = {"destination.duckdb.credentials": dg.EnvVar("DB")}
    resource = DagsterDltResource(
        destination="duckdb", dataset_name=dg.EnvVar("DATASET"), config=field
    )
    for name in ("staging", "production"):
        monkeypatch.setenv("DB", str(tmp_path / f"{name}.duckdb"))
        monkeypatch.setenv("DATASET", f"of_{name}")
        result = run(definition, resource=resource)

        (told,) = metadata_by_asset(result).values()
        assert told["dagster/table_name"] == f"{name}.of_{name}.orders"
        there = dlt.destinations.duckdb(str(tmp_path / f"{name}.duckdb"))
        assert days(make_pipeline(destination=there), f"of_{name}") == [1, 2, 3]
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_a_definition_of_duckdb_loads_into_postgres(make_pipeline, postgres, monkeypatch):
    url = postgres()
    monkeypatch.setenv("PG_URL", url)

    run(
        assets_of(shop(), make_pipeline()),
        destination="postgres",
        config={"destination": {"postgres": {"credentials": dg.EnvVar("PG_URL")}}},
    )

    assert days(make_pipeline(destination=dlt.destinations.postgres(url))) == [1, 2, 3]


def test_a_pipeline_without_a_destination_gets_that_of_the_deployment(tmp_path):
    pipeline = dlt.pipeline("shop", pipelines_dir=str(tmp_path / "pipelines"))
    file = str(tmp_path / "dev.duckdb")

    result = run(
        assets(shop(), pipeline),
        destination="duckdb",
        config={"DESTINATION__DUCKDB__CREDENTIALS": file},
    )

    (told,) = metadata_by_asset(result).values()
    assert told["dagster/table_name"] == "dev.shop_dataset.orders"


def test_what_run_is_told_beats_the_resource_and_the_launchpad_beats_both(make_pipeline):
    pipeline = make_pipeline()
    definition = assets(shop(), pipeline, dataset_name="of_the_call")

    run(definition, dataset_name="of_the_resource")
    assert days(pipeline, "of_the_call") == [1, 2, 3]

    run(definition, {"dataset_name": "of_the_launchpad"}, dataset_name="of_the_resource")
    assert days(pipeline, "of_the_launchpad") == [1, 2, 3]


def test_an_option_that_is_none_leaves_the_resource_its_say(make_pipeline):
    pipeline = make_pipeline()
    run(assets(shop(), pipeline, dataset_name=None), dataset_name="of_the_resource")

    assert days(pipeline, "of_the_resource") == [1, 2, 3]


def test_a_layout_of_dataset_names_is_applied_once(make_pipeline, monkeypatch):
    monkeypatch.setenv("DATASET_NAME_LAYOUT", "dev_%s")
    pipeline = make_pipeline()
    run(assets(shop(), pipeline), dataset_name="other")
    run(assets(shop(), pipeline), branch=BRANCH)

    assert days(pipeline, "dev_other") == [1, 2, 3]
    assert days(pipeline, dataset_of(BRANCH, "dev_raw")) == [1, 2, 3]


@pytest.mark.parametrize("launchpad", [None, {"max_workers": 2}])
@pytest.mark.parametrize("field", ["destination", "dataset_name", "branch"])
def test_a_variable_that_is_not_set_is_an_error_that_names_field_and_variable(
    make_pipeline, field, launchpad
):
    definition = assets(shop(), make_pipeline())

    with pytest.raises(dg.DagsterError) as caught:
        run(definition, launchpad, **{field: dg.EnvVar("MISSING_ONE")})

    told = f"{caught.value} {caught.value.__cause__}"
    assert field in told
    assert "MISSING_ONE" in told


def test_a_variable_in_config_that_is_not_set_is_an_error_that_names_key_and_variable(
    make_pipeline,
):
    given = {"sources.shop.token": dg.EnvVar("MISSING_ONE")}
    error = refused(assets(shop(), make_pipeline()), config=given)

    assert error.cls_name == "EnvironmentSettingError"
    assert "config['sources.shop.token']" in error.message
    assert "'MISSING_ONE', which is not set" in error.message


# --- dlt's configuration --------------------------------------------------------------------------


@dlt.source(name="vault")
def vault(token: str = dlt.secrets.value):
    """A source that cannot be called without its secret, and whose resources need others."""

    @dlt.resource
    def plain(password: str = dlt.secrets.value):
        yield [{"told": f"{token} {password}"}]

    @dlt.resource(parallelized=True)
    def in_threads():
        yield [{"told": dlt.secrets["sources.vault.token"]}]

    @dlt.resource
    async def in_tasks():
        yield [{"told": dlt.secrets["sources.vault.token"]}]

    return plain, in_threads, in_tasks


@pytest.mark.parametrize("decompose", ["none", "parallel"])
def test_config_is_seen_by_the_source_wherever_its_resources_run_and_by_load_jobs(
    make_pipeline, tmp_path, monkeypatch, decompose
):
    monkeypatch.setenv("VAULT_TOKEN", "opensesame")
    configured = make_pipeline(destination="duckdb")

    @dg.asset
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, dlt_source=vault, dlt_pipeline=configured)

    keys = {"vault": {"token": dg.EnvVar("VAULT_TOKEN")}, "plain.password": "tiger-tiger"}
    file = {"destination.duckdb.credentials": str(tmp_path / "warehouse.duckdb")}
    run(everything, config={"sources": keys, **file}, decompose=decompose)
    pipeline = make_pipeline()

    assert query(pipeline, "select told from raw.plain") == [("opensesame tiger-tiger",)]
    assert query(pipeline, "select told from raw.in_threads") == [("opensesame",)]
    assert query(pipeline, "select told from raw.in_tasks") == [("opensesame",)]


def test_config_is_seen_by_load_jobs_in_their_threads(make_pipeline):
    seen = []

    @dlt.destination(name="sink", batch_size=1)
    def sink(items, table, key: str = dlt.secrets.value):
        if not table["name"].startswith("_dlt"):
            seen.append((key, dlt.secrets["sink_token"], threading.current_thread().name))

    definition = assets(shop(), make_pipeline(destination=sink))
    run(definition, config={"destination.sink.key": "key-of-dev", "sink_token": "token-of-dev"})

    assert {told[:2] for told in seen} == {("key-of-dev", "token-of-dev")}
    assert all(name.startswith("dlt-pool-") for *_, name in seen)


def test_config_is_seen_by_processes_that_normalize(make_pipeline):
    pipeline = make_pipeline()
    source = one("orders", [{"day": each} for each in range(6)])
    result = run(
        assets(source, pipeline),
        config={"normalize.workers": 2, "normalize.data_writer.file_max_items": 2},
        decompose="parallel",
    )

    told = metadata_by_asset(result)["dlt_shop_orders"]
    jobs = [job for job in told["jobs"] if job["table_name"] == "orders"]
    assert len(jobs) == 3


def test_config_comes_before_the_environment_and_files(make_pipeline, monkeypatch, tmp_path):
    monkeypatch.setenv("SOURCES__VAULT__TOKEN", "of-the-environment")
    monkeypatch.setenv("SHOP__SOURCES__VAULT__TOKEN", "of-the-pipeline")
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "secrets.toml").write_text('[sources.vault]\ntoken = "of-the-file"\n')
    resource = DagsterDltResource(config={"sources.vault.token": "of-the-resource"})

    with resource.configured():
        source = vault()

        assert dlt.secrets["sources.vault.token"] == "of-the-resource"
    assert dlt.secrets["sources.vault.token"] == "of-the-environment"
    assert source.name == "vault"


def test_row_counts_are_asked_for_with_the_same_credentials(make_pipeline, tmp_path):
    file = str(tmp_path / "dev.duckdb")

    result = run(
        assets_of(shop(), make_pipeline(destination="duckdb")),
        config={"destination.duckdb.credentials": file},
    )

    (told,) = metadata_by_asset(result).values()
    assert told["dagster/row_count"] == 3
    assert told["dagster/table_name"] == "dev.raw.orders"


def test_signs_of_life_are_given_with_the_same_configuration(monkeypatch):
    monkeypatch.setattr(life, "BEAT", 0.001)
    seen, given = [], threading.Event()

    def beat():
        seen.append(dlt.secrets["destination.password"])
        given.set()

    resource = DagsterDltResource(config={"destination.password": "tiger-tiger"})
    with resource.configured(), life.beating(beat):
        assert given.wait(60)

    assert set(seen) == {"tiger-tiger"}


def test_loads_at_once_do_not_see_each_others_configuration(make_pipeline, tmp_path):
    meeting = threading.Barrier(2, timeout=60)

    def load(name):
        @dlt.source(name="vault")
        def rows(token: str = dlt.secrets.value):
            @dlt.resource(parallelized=True)
            def told():
                meeting.wait()
                yield [{"token": token, "again": dlt.secrets["sources.vault.token"]}]

            return told

        pipeline = make_pipeline(name, destination="duckdb")

        @dg.asset(name=name)
        def asset(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
            yield from dlt_resource.run(context, dlt_source=rows, dlt_pipeline=pipeline)

        keys = {"sources.vault.token": f"token-of-{name}"}
        file = str(tmp_path / f"{name}.duckdb")
        run(asset, config={**keys, "destination.duckdb.credentials": file})

    threads = [threading.Thread(target=load, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for name in ("one", "two"):
        there = dlt.destinations.duckdb(str(tmp_path / f"{name}.duckdb"))
        pipeline = make_pipeline(name, destination=there)
        found = query(pipeline, "select token, again from raw.told")
        assert found == [(f"token-of-{name}", f"token-of-{name}")]


def test_nothing_of_the_configuration_stays_behind(make_pipeline):
    run(assets(shop(), make_pipeline()), config={"sources.vault.token": "opensesame"})

    with pytest.raises(ConfigFieldMissingException):
        vault()


def test_the_values_of_variables_in_config_are_never_shown(make_pipeline, monkeypatch):
    monkeypatch.setenv("REGION_KEY", "zanzibar-77")

    @dlt.source(name="shop")
    def failing(region: str = dlt.config.value):
        @dlt.resource
        def orders():
            message = f"no such region: {region}"
            raise ValueError(message)
            yield

        return orders

    @dg.asset
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, dlt_source=failing, dlt_pipeline=make_pipeline())

    given = {"sources.shop.region": dg.EnvVar("REGION_KEY")}
    result = run(everything, config=given, raise_on_error=False)

    assert not result.success
    told = "".join(str(event) for event in result.all_events)
    assert "no such region: ***" in told
    assert "zanzibar" not in told


def test_the_launchpad_configures_dlt_too(make_pipeline, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "opensesame")
    pipeline = make_pipeline()

    @dg.asset
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, dlt_source=vault, dlt_pipeline=pipeline)

    keys = {"vault": {"token": {"env": "VAULT_TOKEN"}}, "plain.password": "tiger-tiger"}
    run(everything, {"config": {"sources": keys}})

    assert query(pipeline, "select told from raw.plain") == [("opensesame tiger-tiger",)]


@pytest.mark.parametrize(
    "given",
    [
        {"sources.shop": "x", "sources.shop.token": "y"},
        {"sources.shop.token": "y", "sources.shop": "x"},
        {"sources.shop.token": "y", "sources": {"shop": {"token": "x"}}},
    ],
)
def test_two_values_at_one_place_are_refused(given):
    with pytest.raises(EnvironmentSettingError, match="Keep one of them"):
        values_of(given)


def test_keys_are_written_nested_dotted_or_as_in_the_environment():
    given = {"a.b": 1, "a": {"c.d": 2}, "E__F": 3, "g__h": [4]}

    assert values_of(given) == {"a": {"b": 1, "c": {"d": 2}}, "e": {"f": 3}, "g": {"h": [4]}}


# --- branches -------------------------------------------------------------------------------------


def everything_in(place, dataset):
    """Return all that is in a dataset: tables with rows, or files."""
    if place.kind == "files":
        from pathlib import Path

        below = Path(place.url) / dataset
        return {str(file): file.read_bytes() for file in below.rglob("*") if file.is_file()}
    tables = place.query(
        f"select table_name from information_schema.tables where table_schema = '{dataset}'"
    )
    return {
        name: sorted(map(repr, place.query(f'select * from {dataset}."{name}"')))
        for (name,) in tables
    }


@pytest.mark.usefixtures("branch_deployment")
@pytest.mark.parametrize("place", ["duckdb", "postgres", "files"], indirect=True)
def test_a_branch_deployment_starts_anew_and_leaves_production_alone(place: Place, monkeypatch):
    with monkeypatch.context() as production:
        production.delenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT")
        run(assets(shop(3), place.pipeline()))
    before = everything_in(place, "raw")
    assert before

    result = run(assets(shop(5), place.pipeline()))

    own = dataset_of(BRANCH)
    assert everything_in(place, "raw") == before
    (told,) = metadata_by_asset(result).values()
    assert told["dataset_name"] == own
    assert told["rows_loaded"] == 5
    assert f"{own}.orders" in told["dagster/table_name"]
    assert everything_in(place, own)

    again = run(assets(shop(6), place.pipeline()))
    assert metadata_by_asset(again)["dlt_shop_orders"]["rows_loaded"] == 1


def test_two_branches_have_datasets_of_their_own(make_pipeline):
    pipeline = make_pipeline()
    for name, until in (("fix/a", 1), ("fix-a", 2)):
        run(assets(shop(until), pipeline), branch=name)

    assert days(pipeline, dataset_of("fix/a")) == [1]
    assert days(pipeline, dataset_of("fix-a")) == [1, 2]


def test_no_two_names_and_no_name_of_dlt_become_the_same_identifier():
    names = [
        "fix/a",
        "fix-a",
        "fix_a",
        "Fix_a",
        "fix__a",
        "_fix_a",
        "staging",
        "raw",
        "-",
        "ä",
        "x" * 99,
    ]
    found = {Branch(name).identifier for name in [*names, "x" * 98]}

    assert len(found) == len(names) + 1
    assert all(len(each) <= 33 and each.isascii() for each in found)
    assert not {"staging", "raw"} & found
    # Neither are they as parts of a name: `shop` in `eu_fix`, `shop_eu` in `fix`.
    assert dataset_of("eu_fix", "shop") != dataset_of("fix", "shop_eu")


@pytest.mark.usefixtures("branch_deployment")
def test_a_dataset_that_run_is_told_is_that_of_the_branch_too(make_pipeline):
    pipeline = make_pipeline()
    run(assets(shop(), pipeline, dataset_name="raw"))
    run(assets(shop(), pipeline), dataset_name="other")

    assert days(pipeline, dataset_of(BRANCH)) == [1, 2, 3]
    assert days(pipeline, dataset_of(BRANCH, "other")) == [1, 2, 3]
    found = query(pipeline, "select distinct table_schema from information_schema.tables")
    assert {name for (name,) in found} == {dataset_of(BRANCH), dataset_of(BRANCH, "other")}


@pytest.mark.usefixtures("branch_deployment")
def test_without_a_name_of_its_branch_a_branch_deployment_is_refused(make_pipeline, monkeypatch):
    monkeypatch.setenv("DAGSTER_CLOUD_GIT_BRANCH", " ")
    error = refused(assets(shop(), make_pipeline()))
    assert error.cls_name == "EnvironmentSettingError"
    assert "Give the name of the branch" in error.message

    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "e2c0ffee")
    pipeline = make_pipeline()
    run(assets(shop(), pipeline))
    assert days(pipeline, dataset_of("e2c0ffee")) == [1, 2, 3]


@pytest.mark.parametrize(
    "template", ["{dataset}", "raw", "{dataset}_{branch!r}", "{dataset}_{Branch}", "{branch"]
)
def test_a_template_that_might_name_production_is_refused(make_pipeline, template):
    error = refused(assets(shop(), make_pipeline()), branch=BRANCH, branch_dataset=template)

    assert error.cls_name == "BranchDatasetError"
    assert "{dataset}_{branch}" in error.message


def test_the_template_is_the_users(make_pipeline):
    pipeline = make_pipeline()
    run(assets(shop(), pipeline), branch="x", branch_dataset="branch_{branch}_{dataset}")

    assert days(pipeline, f"branch_{Branch('x').identifier}_raw") == [1, 2, 3]


@pytest.mark.parametrize("empty", ["", "0", "false"])
def test_production_is_no_branch(make_pipeline, monkeypatch, empty):
    monkeypatch.setenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT", empty)
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "prod")
    monkeypatch.setenv("DATA_BRANCH", "")
    pipeline = make_pipeline()
    run(assets(shop(), pipeline), branch=dg.EnvVar("DATA_BRANCH"))

    assert days(pipeline) == [1, 2, 3]


def test_a_destination_that_cannot_keep_a_branch_apart_is_refused(make_pipeline, monkeypatch):
    @dlt.destination(name="sink")
    def sink(items, table):
        pytest.fail("it writes")

    def problem(destination):
        definition = assets(shop(), make_pipeline(destination=destination))
        error = refused(definition, branch=BRANCH)
        assert error.cls_name == "BranchDatasetError"
        return error.message

    assert "'sink' has no datasets" in problem(sink)
    assert "dlt's own working directory" in problem(dlt.destinations.duckdb(":pipeline:"))
    shared = dlt.destinations.duckdb("x.duckdb", staging_dataset_name_layout="stage")
    assert "the same staging dataset" in problem(shared)


def test_a_branch_does_not_finish_what_waits_for_production(make_pipeline, monkeypatch):
    pipeline = make_pipeline()
    with monkeypatch.context() as broken:
        outage(broken)
        assert not run(assets(shop(3), pipeline), raise_on_error=False).success

    run(assets(shop(2), pipeline), branch=BRANCH)
    assert days(pipeline, dataset_of(BRANCH)) == [1, 2]
    tables = "information_schema.tables where table_name = 'orders'"
    assert query(pipeline, f"select table_schema from {tables}") == [(dataset_of(BRANCH),)]

    run(assets(shop(4), pipeline))
    assert days(pipeline) == [1, 2, 3, 4]


def test_a_branch_does_not_take_over_the_cursors_of_dlts_own_directory(make_pipeline, monkeypatch):
    monkeypatch.setenv("RESTORE_FROM_DESTINATION", "false")
    pipeline = make_pipeline()
    pipeline.run(shop(3))  # as before Dagster

    run(assets(shop(4), make_pipeline()), branch=BRANCH)
    assert days(pipeline, dataset_of(BRANCH)) == [1, 2, 3, 4]

    run(assets(shop(5), make_pipeline()))
    assert days(pipeline) == [1, 2, 3, 4, 5]


def test_a_dry_run_tells_the_dataset_of_the_branch(make_pipeline, tmp_path):
    result = run(assets(shop(), make_pipeline()), branch=BRANCH, dry_run=True)

    (event,) = [event for event in result.all_events if event.is_asset_observation]
    observed = event.event_specific_data.asset_observation.metadata["dagster_dlt/dry_run"].value
    assert observed["target"] == f"duckdb/warehouse.{dataset_of(BRANCH)}"
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_an_event_without_rows_names_the_dataset_of_the_branch_as_well(make_pipeline):
    result = run(assets(one("orders", []), make_pipeline()), branch=BRANCH)

    (told,) = metadata_by_asset(result).values()
    assert told["dagster/table_name"] == f"warehouse.{dataset_of(BRANCH)}.orders"


def test_a_branch_called_like_a_partition_does_not_give_it_a_dataset_of_its_own(make_pipeline):
    with pytest.warns(PartitionWarning, match="would be shared"):

        @dlt_assets(
            dlt_source=shop(),
            dlt_pipeline=make_pipeline(),
            name="load",
            partitions_def=dg.StaticPartitionsDefinition(["eu", "us"]),
        )
        def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
            yield from dlt_resource.run(context=context)

    result = dg.materialize(
        [load],
        resources={"dlt_resource": DagsterDltResource(branch="fix-eu")},
        partition_key="eu",
        raise_on_error=False,
    )

    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert "SharedCursorError" in event.step_failure_data.error.to_string()


# --- what is built when it runs -------------------------------------------------------------------


def later(tmp_path):
    """Return a pipeline that is described, and made by each run."""
    return functools.partial(
        dlt.pipeline, "shop", destination="duckdb", dataset_name="raw", pipelines_dir=str(tmp_path)
    )


@dlt.source(name="shop")
def secretive(token=dlt.secrets.value):
    return dlt.resource([{"day": len(token)}], name="orders")


def test_sources_and_pipelines_that_runs_build_see_the_configuration(tmp_path):
    @dlt_assets(
        dlt_source=secretive, dlt_pipeline=later(tmp_path), resources=["orders"], name="load"
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)

    file = str(tmp_path / "there.duckdb")
    run(load, config={"destination.duckdb.credentials": file, "sources.shop.token": "four"})

    there = dlt.pipeline("asks", destination=dlt.destinations.duckdb(file), dataset_name="raw")
    assert days(there) == [4]


@pytest.mark.usefixtures("branch_deployment")
def test_a_pipeline_that_runs_build_loads_a_branch_apart(tmp_path):
    file = str(tmp_path / "there.duckdb")
    definition = assets(shop(), later(tmp_path))

    run(definition, config={"destination.duckdb.credentials": file})

    there = dlt.pipeline("asks", destination=dlt.destinations.duckdb(file), dataset_name="raw")
    assert days(there, dataset_of(BRANCH)) == [1, 2, 3]
    assert query(there, "select 1 from information_schema.schemata where schema_name = 'raw'") == []
