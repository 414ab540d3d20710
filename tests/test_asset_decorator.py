"""`@dlt_assets` takes what `multi_asset` takes, and says more."""

import inspect
import sys
from typing import Any

import dagster as dg
import dlt
import pytest

from dagster_dlt import DagsterDltResource, _dlt, dlt_assets, source_code_version
from sources import assets_of, metadata_by_asset, shop

# Arguments of `multi_asset` that mean something else here, or nothing.
NOT_OURS = {"outs", "ins", "internal_asset_deps", "specs", "can_subset", "kwargs"}
# Said for each asset in the translator.
IN_THE_TRANSLATOR = {"deps", "description"}


def test_every_argument_of_multi_asset_is_there_or_known_to_have_no_use():
    theirs = set(inspect.signature(dg.multi_asset).parameters)
    ours = set(inspect.signature(dlt_assets).parameters)

    assert theirs - ours == NOT_OURS | IN_THE_TRANSLATOR


def test_arguments_reach_the_op(pipeline):
    @dg.failure_hook
    def alarm(_context):
        pass

    assets = assets_of(
        shop(),
        pipeline,
        name="load_shop",
        group_name="sales",
        hooks={alarm},
        op_tags={"team": "data"},
        pool="shop",
        retry_policy=dg.RetryPolicy(max_retries=2),
        code_version="3",
    )

    assert assets.op.name == "load_shop"
    assert assets.op.tags["team"] == "data"
    assert assets.op.pool == "shop"
    assert assets.op.retry_policy == dg.RetryPolicy(max_retries=2)
    assert assets.hook_defs == {alarm}
    assert {spec.group_name for spec in assets.specs} == {"sales"}
    assert {spec.code_version for spec in assets.specs} == {"3"}


def test_resources_can_be_required_by_key_and_provided_with_the_assets(pipeline):
    with pytest.warns(dg.BetaWarning, match="resource_defs"):

        @dlt_assets(
            dlt_source=shop(),
            dlt_pipeline=pipeline,
            required_resource_keys={"vault", "loader"},
            resource_defs={
                "vault": dg.ResourceDefinition.hardcoded_resource("key"),
                "loader": DagsterDltResource(),
            },
        )
        def load(context: dg.AssetExecutionContext):
            assert context.resources.vault == "key"
            yield from context.resources.loader.run(context=context)

    assert len(dg.materialize([load]).get_asset_materialization_events()) == 2


def test_a_config_schema_reaches_the_body(pipeline, materialize):
    seen: list[Any] = []

    @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline, config_schema={"limit": int})
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        seen.append(context.op_execution_context.op_config)
        yield from dlt_resource.run(context=context)

    config = {"ops": {"load": {"config": {"limit": 3}}}}
    assert materialize(load, run_config=config).success
    assert seen == [{"limit": 3}]


def test_check_results_are_yielded_beside_the_load(pipeline, materialize):
    key = dg.AssetKey("dlt_shop_orders")

    @dlt_assets(
        dlt_source=shop(),
        dlt_pipeline=pipeline,
        check_specs=[dg.AssetCheckSpec("not_empty", asset=key)],
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)
        yield dg.AssetCheckResult(asset_key=key, check_name="not_empty", passed=True)

    result = materialize(load)

    assert [check.check_name for check in result.get_asset_check_evaluations()] == ["not_empty"]


def test_a_retry_policy_loads_again_after_a_failure(pipeline, materialize):
    calls: list[int] = []

    @dlt.source(name="shop")
    def flaky():
        @dlt.resource
        def orders():
            calls.append(1)
            if len(calls) == 1:
                message = "the line is dead"
                raise ConnectionError(message)
            yield {"id": 1}

        return orders

    assets = assets_of(flaky(), pipeline, retry_policy=dg.RetryPolicy(max_retries=1))

    found = metadata_by_asset(materialize(assets))

    assert found["dlt_shop_orders"]["dagster/row_count"] == 1
    assert len(calls) == 2


def test_specs_point_at_the_code_of_their_resource(pipeline):
    assets = assets_of(shop(), pipeline)
    spec = assets.specs_by_key[dg.AssetKey("dlt_shop_orders")]

    (reference,) = spec.metadata["dagster/code_references"].code_references

    assert reference.file_path == inspect.getsourcefile(sys.modules["sources"])
    line = inspect.getsourcelines(sys.modules["sources"])[0][reference.line_number]
    assert "def orders" in line


def test_a_code_version_can_follow_the_code_of_each_resource(pipeline):
    assets = assets_of(shop(), pipeline, code_version=source_code_version)

    versions = [spec.code_version for spec in assets.specs]

    assert len(set(versions)) == 2
    assert all(len(version or "") == 12 for version in versions)


def test_a_resource_made_of_data_has_no_code_version(pipeline):
    def build():
        return dlt.resource([1], name="numbers")

    assets = assets_of(dlt.source(build, name="shop")(), pipeline, code_version=source_code_version)

    assert [spec.code_version for spec in assets.specs] == [None]


def test_what_travels_in_the_metadata_reads_as_text_in_the_ui(pipeline):
    assets = assets_of(shop(), pipeline)

    shown = assets.specs_by_key[dg.AssetKey("dlt_shop_orders")].metadata

    assert shown["dagster_dlt/source"] == "shop"
    assert shown["dagster_dlt/pipeline"] == "shop → duckdb/raw"
    assert shown["dagster_dlt/translator"] == "DagsterDltTranslator"
    assert shown["dagster_dlt/source"].live.name == "shop"


def test_specs_of_a_thousand_resources_ask_the_destination_once(pipeline, monkeypatch):
    calls: list[int] = []
    ask = _dlt.location_of

    def counted(*asked):
        calls.append(1)
        return ask(*asked)

    monkeypatch.setattr(_dlt, "location_of", counted)

    @dlt.source(name="wide")
    def wide():
        return [dlt.resource([1], name=f"r{number}") for number in range(1000)]

    assert len(assets_of(wide(), pipeline).specs) == 1000
    assert len(calls) == 1


def test_a_definition_in_a_multiprocess_run_finds_its_source_again(tmp_path):
    module = tmp_path / "defs_mp.py"
    module.write_text(
        """
import dagster as dg, dlt
from dagster_dlt import DagsterDltResource, dlt_assets

@dlt.source
def shop():
    return dlt.resource([{"id": 1}], name="orders")

@dlt_assets(
    dlt_source=shop(),
    dlt_pipeline=dlt.pipeline("shop", destination="duckdb", dataset_name="raw"),
)
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context=context)

job = dg.define_asset_job("job", executor_def=dg.multiprocess_executor)
defs = dg.Definitions(assets=[load], jobs=[job], resources={"dlt_resource": DagsterDltResource()})

def build():
    return defs.resolve_job_def("job")
""",
        encoding="utf-8",
    )
    with dg.instance_for_test() as instance:
        job = dg.reconstructable(_load(module).build)
        with dg.execute_job(job, instance=instance) as result:
            assert result.success


def _load(path):
    import importlib.util

    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
