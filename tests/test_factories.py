"""Sources and pipelines may be functions, which are called when something runs and not before."""

import functools
import os
import pickle
from pathlib import Path

import dagster as dg
import dlt
import pytest

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltResourceSpec,
    DltRunConfig,
    build_dlt_asset_specs,
    dlt_assets,
)
from dagster_dlt.errors import (
    FactoryParameterError,
    NotADltPipelineError,
    NotADltSourceError,
    PartitionWarning,
    ResourceNotInSourceError,
    SourceNotCalledError,
    UnknownResourceError,
    UnknownSourceError,
)
from sources import assets_of, metadata_by_asset, query

CALLS = []
TOKEN = "given"  # noqa: S105 - a secret for nothing


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


def for_tenant(tenant):
    return shop(token=tenant)


def for_partition(partition_key):
    return shop(token=partition_key)


def orders(*ids):
    return dlt.resource([{"id": each} for each in ids], name="orders", primary_key="id")


@dlt.source
def shop(token: str = dlt.secrets.value):
    CALLS.append(token)
    return orders(1, 2)


@pytest.fixture
def run(pipeline):
    """Return a function that defines assets, materializes them, and returns the ids loaded."""

    def run(source, *, resources=("orders",), dagster_resources=None, config=None, **options):
        assets = assets_of(source, pipeline, resources=list(resources), **options)
        assert CALLS == []
        given = {"dlt_resource": DagsterDltResource(), **(dagster_resources or {})}
        run_options = {}
        if config is not None:
            run_options["run_config"] = {"ops": {"load": {"config": config}}}
        if assets.partitions_def:
            run_options["partition_key"] = assets.partitions_def.get_first_partition_key()
        assert dg.materialize([assets], resources=given, **run_options).success
        return sorted(row[0] for row in query(pipeline, "select id from raw.orders"))

    return run


# --- what the function is called with ------------------------------------------------------------


def test_a_source_function_with_secrets_is_called_by_the_run_only(run, monkeypatch):
    monkeypatch.delenv("TOKEN", raising=False)
    assets = run  # defined below, without the secret
    monkeypatch.setenv("SOURCES__TEST_FACTORIES__SHOP__TOKEN", "known by now")

    assert assets(shop) == [1, 2]
    assert CALLS == ["known by now"]


def test_what_a_function_asks_for_by_name_is_of_the_run(run):
    def source(context, partition_key: str, partition_time_window):
        CALLS.append((context, partition_key, partition_time_window))
        return dlt.source(lambda: orders(1), name="shop")()

    run(source, partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))

    [(context, key, window)] = CALLS
    assert isinstance(context, dg.AssetExecutionContext)
    assert key == "2024-01-01"
    assert (window.start.day, window.end.day) == (1, 2)


def test_a_parameter_with_a_default_keeps_it_where_nothing_is_partitioned(run):
    @dlt.source(name="shop")
    def source(partition_key="none", partition_time_window=None):
        CALLS.append((partition_key, partition_time_window))
        return orders(1)

    run(source)

    assert CALLS == [("none", None)]


class Api(dg.ConfigurableResource):
    url: str


def test_dagster_resources_are_given_by_annotation_as_dagster_does(run):
    def source(api: Api, session: dg.ResourceParam[str]):
        CALLS.append((api.url, session))
        return dlt.source(lambda: orders(1), name="shop")()

    run(source, dagster_resources={"api": Api(url="https://x"), "session": "s"})

    assert CALLS == [("https://x", "s")]


class Since(dg.Config):
    first: int
    last: int = 3


def test_a_config_is_the_config_of_the_op(run):
    def source(since: Since):
        CALLS.append((since.first, since.last))
        return dlt.source(lambda: orders(*range(since.first, since.last)), name="shop")()

    assert run(source, config={"first": 2, "last": 5}) == [2, 3, 4]


def test_one_config_serves_the_function_the_source_and_the_run(pipeline):
    class Both(DltRunConfig):
        first: int = 0

    def source(chosen: Both):
        return dlt.source(lambda: orders(chosen.first), name="shop")()

    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, resources=["orders"])
    def load(context: dg.AssetExecutionContext, config: Both, dlt_resource: DagsterDltResource):
        CALLS.append(config.first)
        yield from dlt_resource.run(context=context)

    config = {"ops": {"load": {"config": {"first": 7, "dry_run": True}}}}
    resources = {"dlt_resource": DagsterDltResource()}
    assert dg.materialize([load], resources=resources, run_config=config).success

    assert CALLS == [7]
    with pytest.raises(Exception, match="orders"):
        query(pipeline, "select id from raw.orders")


def test_two_configs_on_one_op_are_refused(pipeline):
    def source(since: Since):
        return shop()

    with pytest.raises(FactoryParameterError, match="Since and DltRunConfig"):

        @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, resources=["orders"])
        def load(context, config: DltRunConfig): ...


def test_names_that_sources_of_dlt_use_are_left_to_dlt(run):
    @dlt.source(name="shop")
    def source(config="own", client="own", resources="own", session="own"):
        CALLS.append((config, client, resources, session))
        return orders(1)

    run(source)

    assert CALLS == [("own",) * 4]


def test_arguments_may_be_given_with_partial(run):
    run(functools.partial(shop, token=TOKEN))

    assert CALLS == [TOKEN]


# --- what is known of it before ------------------------------------------------------------------


def test_names_are_enough_to_define_assets(pipeline):
    specs = build_dlt_asset_specs(shop, pipeline, resources=["orders", "customers"])

    keys = [spec.key.to_user_string() for spec in specs]
    assert keys == ["dlt_shop_orders", "dlt_shop_customers"]
    assert CALLS == []


def test_what_is_said_of_a_resource_is_in_its_asset(pipeline):
    spec = DltResourceSpec(
        name="orders", table_name="Raw Orders", description="What was bought.", primary_key="id"
    )

    [asset] = build_dlt_asset_specs(shop, pipeline, resources=[spec])

    assert asset.description == "What was bought."
    assert asset.metadata["dagster/table_name"] == "warehouse.raw.raw_orders"


def test_a_transformer_that_is_declared_depends_on_its_parent(pipeline):
    declared = [DltResourceSpec(name="items", parent="orders"), "orders"]
    translator = DagsterDltTranslator(DagsterDltTranslatorSettings(upstream="none"))

    orders, items = build_dlt_asset_specs(shop, pipeline, translator, resources=declared)

    assert [dep.asset_key for dep in items.deps] == [orders.key]


def test_the_code_of_the_function_is_the_code_of_its_assets(pipeline):
    [spec] = build_dlt_asset_specs(shop, pipeline, resources=["orders"])

    [reference] = spec.metadata["dagster/code_references"].code_references
    assert reference.file_path == __file__


def test_a_function_of_which_nothing_is_known_is_called_once_to_find_out(pipeline):
    def source():
        CALLS.append("called")
        return dlt.source(lambda: orders(1), name="shop")()

    build_dlt_asset_specs(source, pipeline)

    assert CALLS == ["called"]


def test_a_function_that_cannot_be_called_yet_is_refused_with_three_ways_out(pipeline):
    def source(context):
        raise AssertionError

    with pytest.raises(UnknownSourceError, match=r"context.*resources=.*snapshot=.*call the"):
        build_dlt_asset_specs(source, pipeline)
    with pytest.raises(UnknownSourceError, match="ConfigFieldMissing"):
        build_dlt_asset_specs(shop, pipeline)


def test_a_function_that_can_never_be_called_is_refused(pipeline):
    with pytest.raises(SourceNotCalledError, match="tenant"):
        build_dlt_asset_specs(for_tenant, pipeline, resources=["orders"])


def test_a_partition_is_refused_to_assets_that_have_none(pipeline):
    with pytest.raises(FactoryParameterError, match="partition_key"):
        assets_of(for_partition, pipeline, resources=["orders"])


def test_a_function_without_a_name_is_refused(pipeline):
    with pytest.raises(FactoryParameterError, match="`def`"):
        build_dlt_asset_specs(lambda: None, pipeline, resources=["orders"])


def test_of_a_source_that_is_built_the_resources_are_selected(pipeline):
    @dlt.source(name="shop")
    def two():
        return orders(1), dlt.resource([1], name="customers")

    [spec] = build_dlt_asset_specs(two(), pipeline, resources=["customers"])
    assert spec.key.to_user_string() == "dlt_shop_customers"
    with pytest.raises(UnknownResourceError, match="Did you mean 'orders'"):
        build_dlt_asset_specs(two(), pipeline, resources=["order"])


# --- what the run finds --------------------------------------------------------------------------


def source_with(*names):
    @dlt.source(name="shop")
    def found():
        return [dlt.resource([{"id": 1}], name=name) for name in names]

    return found


def failure_of(assets):
    result = dg.materialize(
        [assets], resources={"dlt_resource": DagsterDltResource()}, raise_on_error=False
    )
    [failed] = result.get_step_failure_events()
    return failed.step_failure_data.error.to_string()


def test_a_resource_that_is_declared_and_not_there_fails_before_anything_is_loaded(pipeline):
    assets = assets_of(source_with("customers"), pipeline, resources=["orders", "customers"])

    text = failure_of(assets)

    assert ResourceNotInSourceError.__name__ in text
    assert "lacks 'orders'" in text
    assert "resources=[...]" in text
    with pytest.raises(Exception, match="customers"):
        query(pipeline, "select id from raw.customers")


def test_a_resource_that_nobody_has_declared_is_told_of_and_not_loaded(run, pipeline, capfd):
    run(source_with("orders", "customers"))

    assert "resources that are no assets, and are not loaded: customers" in capfd.readouterr().err
    with pytest.raises(Exception, match="customers"):
        query(pipeline, "select id from raw.customers")


def test_what_is_returned_instead_of_a_source_is_named(pipeline):
    def source():
        return [1, 2]

    assets = assets_of(source, pipeline, resources=["orders"])

    text = failure_of(assets)

    assert NotADltSourceError.__name__ in text
    assert "returned a 'list'" in text


def test_an_error_of_the_function_is_the_users_own_and_tells_no_secret(pipeline, monkeypatch):
    monkeypatch.setenv("SOURCES__TEST_FACTORIES__BROKEN__TOKEN", "s3cr3t-value")

    @dlt.source
    def broken(token: str = dlt.secrets.value):
        message = f"refused with {token}"
        raise ConnectionError(message)

    text = failure_of(assets_of(broken, pipeline, resources=["orders"]))

    assert "ConnectionError: refused with ***" in text
    assert "s3cr3t-value" not in text


def test_each_run_has_a_source_of_its_own(run):
    @dlt.source(name="shop")
    def source():
        CALLS.append("built")
        return orders(len(CALLS))

    run(source)
    CALLS.clear()
    run(source)

    assert CALLS == ["built"]


def test_nothing_is_built_where_only_checks_are_selected(pipeline):
    def source(context):
        raise AssertionError

    key = dg.AssetKey("dlt_source_orders")

    @dlt_assets(
        dlt_source=source,
        dlt_pipeline=pipeline,
        resources=["orders"],
        check_specs=[dg.AssetCheckSpec("fine", asset=key)],
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)
        yield dg.AssetCheckResult(passed=True, check_name="fine", asset_key=key)

    job = dg.define_asset_job("only", selection=dg.AssetSelection.checks_for_assets(load))
    defs = dg.Definitions([load], jobs=[job], resources={"dlt_resource": DagsterDltResource()})

    assert defs.resolve_job_def("only").execute_in_process().success


def test_each_partition_has_a_run_where_the_source_is_built_for_one(pipeline):
    partitions = dg.DailyPartitionsDefinition("2024-01-01")

    built = assets_of(for_partition, pipeline, resources=["orders"], partitions_def=partitions)
    with pytest.warns(PartitionWarning):
        given = assets_of(shop(token=TOKEN), pipeline, partitions_def=partitions)

    assert built.backfill_policy is None
    assert given.backfill_policy == dg.BackfillPolicy.single_run()


def test_a_function_may_be_given_to_run(pipeline):
    @dg.asset
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        def source(context):
            return shop(token=context.run.run_id)

        def make():
            return pipeline

        yield from dlt_resource.run(context, source, make)

    result = dg.materialize([everything], resources={"dlt_resource": DagsterDltResource()})

    assert result.success
    assert [result.run_id] == CALLS


# --- pipelines -----------------------------------------------------------------------------------


def test_a_pipeline_is_known_by_the_arguments_it_will_be_made_with(tmp_path):
    later = functools.partial(
        dlt.pipeline,
        "nightly",
        pipelines_dir=str(tmp_path / "pipelines"),
        destination=dlt.destinations.duckdb(str(tmp_path / "data" / "shop.duckdb")),
        dataset_name="raw",
    )
    before = sorted(tmp_path.rglob("*"))

    [spec] = build_dlt_asset_specs(shop, later, resources=["orders"])

    assert spec.metadata["dagster/table_name"] == "shop.raw.orders"
    assert str(spec.metadata["dagster_dlt/pipeline"]) == "nightly → duckdb/raw"
    assert "duckdb" in spec.kinds
    assert sorted(tmp_path.rglob("*")) == before


def test_a_pipeline_that_is_described_loads_as_one_that_was_made(tmp_path):
    warehouse = str(tmp_path / "shop.duckdb")
    later = functools.partial(
        dlt.pipeline,
        "nightly",
        pipelines_dir=str(tmp_path / "pipelines"),
        destination=dlt.destinations.duckdb(warehouse),
        dataset_name="raw",
    )

    @dlt.source(name="shop")
    def counted():
        @dlt.resource
        def orders(at=dlt.sources.incremental("at", initial_value=0)):
            yield [{"at": number} for number in range(at.last_value + 1, at.last_value + 4)]

        return orders

    assets = assets_of(counted, later, resources=["orders"])
    for _ in range(2):
        result = dg.materialize([assets], resources={"dlt_resource": DagsterDltResource()})
        assert result.success

    found = query(later(), 'select "at" from raw.orders order by 1')
    assert [row[0] for row in found] == [1, 2, 3, 4, 5, 6]
    assert metadata_by_asset(result)["dlt_shop_orders"]["dagster/table_name"] == "shop.raw.orders"


def test_a_pipeline_function_is_called_by_the_run_with_what_it_asks_for(pipeline):
    def make(context, partition_key="none"):
        CALLS.append((context.run.run_id, partition_key))
        return pipeline

    assets = assets_of(functools.partial(shop, token=TOKEN), make, resources=["orders"])
    [spec] = assets.specs
    assert str(spec.metadata["dagster_dlt/pipeline"]) == "make()"
    assert CALLS == []

    result = dg.materialize([assets], resources={"dlt_resource": DagsterDltResource()})

    assert result.success
    assert CALLS[0] == (result.run_id, "none")
    assert metadata_by_asset(result)["dlt_shop_orders"]["dagster/table_name"] == (
        "warehouse.raw.orders"
    )


def test_what_a_pipeline_function_returns_is_checked(pipeline):
    def make():
        return "shop"

    text = failure_of(assets_of(shop, make, resources=["orders"]))

    assert NotADltPipelineError.__name__ in text
    with pytest.raises(NotADltPipelineError, match="dlt_pipeline is a 'str'"):
        build_dlt_asset_specs(shop, "shop", resources=["orders"])
    with pytest.raises(FactoryParameterError, match="tenant"):
        build_dlt_asset_specs(shop, for_tenant, resources=["orders"])


def test_specs_of_functions_can_be_pickled(pipeline):
    [spec] = build_dlt_asset_specs(shop, pipeline, resources=["orders"])

    copy = pickle.loads(pickle.dumps(dict(spec.metadata)))  # noqa: S301 - our own

    assert copy["dagster_dlt/source"] == "shop"


def test_a_thousand_declared_resources_leave_no_trace_on_the_disk(tmp_path, monkeypatch):
    later = functools.partial(dlt.pipeline, "nightly", destination="duckdb", dataset_name="raw")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = sorted(Path(tmp_path).rglob("*"))

    specs = build_dlt_asset_specs(shop, later, resources=[f"table_{n}" for n in range(1000)])

    assert len(specs) == 1000
    assert sorted(Path(tmp_path).rglob("*")) == before
    assert os.environ["DLT_DATA_DIR"] not in {str(each) for each in tmp_path.iterdir()}
