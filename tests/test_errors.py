"""Errors say what is wrong and what to do, and reach another process whole."""

import functools
import pickle
import threading
from dataclasses import replace

import dagster as dg
import dlt
import pytest

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltResourceTranslatorData,
    build_dlt_asset_specs,
    dlt_assets,
    errors,
)
from dagster_dlt._facts import ResourceFailure
from sources import assets_of, one, query, shop

EXAMPLES = [
    errors.NotADltSourceError("list"),
    errors.SourceNotCalledError("shop", ["token", "region"]),
    errors.NotADltSourceError("list", "shop"),
    errors.NotADltPipelineError("str"),
    errors.NotADltPipelineError("str", "pipeline"),
    errors.FactoryParameterError("shop", "asks for a partition", "Give the assets partitions"),
    errors.UnknownSourceError("shop", "it needs 'token'"),
    errors.SnapshotError("shop.json", "is not there", "Write it"),
    errors.UnannotatedParameterError("load", ["dlt_resource"]),
    errors.GroupNameConflictError("shop", "p", ["a"]),
    errors.DuplicateAssetKeyError("a", ["x", "y"]),
    errors.InvalidAssetKeyError("x y", "x y"),
    errors.InvalidKeyPatternError(["{a}"], "has the unknown placeholder 'a'", ["table"]),
    errors.InvalidSettingError("upstream", "both", ["resource", "location", "none"]),
    errors.InvalidResourceAttributeError("orders", "owner", "is not known"),
    errors.UnknownResourceError("shop", "order", ["orders"]),
    errors.InvalidChecksError("orders", "have sample=-1", "Give a number of rows up to 50"),
    errors.AmbiguousResourceError("orders", ["shop", "till"]),
    errors.PipelineRequiredError("orders", ["dataset", "table"]),
    errors.NotADltAssetError("orders"),
    errors.ReadOnlyError("orders"),
    errors.NotReadableError("orders", "nothing is loaded", "Materialize it first"),
    errors.UnknownKindError("orders", "int", ["pandas.DataFrame"]),
    errors.LibraryNotInstalledError("polars", "No module named 'polars'"),
    errors.InputMetadataError("orders", "columns", "is not a list of names"),
    errors.UnknownTableError("orders", "orders__item", ["orders__items"]),
    errors.UnknownColumnError("orders", "orders", "totl", ["total"]),
    errors.PartitionNotToldError("orders", "nothing in the rows does", "Say how"),
    errors.TableNotLoadedError("w.raw.orders", "spent", ["w.raw.order"]),
    errors.ObjectNotFoundError("source", ".loads.x", "pkg.loads", "no attribute 'x'"),
    errors.ConflictingLoadsError("raw/orders", ["load 1", "load 2"]),
    errors.LoadNameError("shop", "is given to load 1 and to load 2", "Rename one of them"),
    errors.InvalidLoadError("load 1 ('shop')", "source.rest_api", "is missing"),
    errors.ScaffoldError("only one of --source and --destination is given", "Give both"),
    errors.NotARunContextError("AssetCheckExecutionContext"),
    errors.UnboundRunError("op", "has no source", "Pass one"),
    errors.VariableNotSetError("TOKEN", "load 1", "source.rest_api.client.auth.token"),
    errors.ResourceNotInSourceError("shop", ["b"], ["a"]),
    errors.UnknownRunOptionError("write_dispostion", ["write_disposition"]),
    errors.SharedCursorError("2024-01-01", {"orders": "id"}, by_time=True),
    errors.PartitionedReplaceError("2024-01-01", ["orders"]),
    errors.CursorValueError("soon", "orders", "at"),
    errors.RunConfigError("window", "is given to a run of partition 'a'", "Leave it out"),
    errors.BranchDatasetError("fix/a", "destination 'sink' has no datasets", "Give another one"),
    errors.EnvironmentSettingError("branch", "is not known", "Give the name of the branch"),
    errors.ResourceNotSelectedError("shop", "order", ["orders"]),
    errors.DestinationFileBusyError("/data/x.duckdb", "/usr/bin/duckdb (PID 7)", 300.0),
    errors.LeaseLostError(["orders"]),
    errors.PendingPackagesError("shop", ["1.2"], "/w"),
    errors.WorkspaceProtocolError("s33", "Protocol not known: s33", ["s3"]),
    errors.ParkingError("s3://bucket", "cannot be read (OSError: gone)", "Check the URL"),
    errors.LoadTakenBackError("1.2", ["orders"]),
    errors.PackagesLeftBehindError("shop", ["1.2"], "/w"),
    errors.ResourcesFailedError(
        "shop", [ResourceFailure("a", "load", ("b",), "a", "1.2", "OSError: gone", "/w", None)]
    ),
    errors.PipelineNotFoundError("Module 'shop'", "has several dlt pipelines", ["a", "b"]),
    errors.NothingMatchesError("shop", "resource", "order", ["orders"]),
    errors.RefusedError("Load 1.2", "is alive", "End its run first"),
    errors.DestinationFailedError("shop", "OSError: gone"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_data(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_is_a_sentence_that_ends(error):
    assert str(error).endswith((".", ")"))
    shown = ["{table}", "'{a}'", '{"window": "milliseconds"}', '{"window": "own"}']
    assert "{" not in functools.reduce(lambda text, each: text.replace(each, ""), shown, str(error))


def test_a_failure_leaves_what_dlt_raised_behind_when_it_is_pickled():
    failure = ResourceFailure("a", "load", (), None, None, "x", None, OSError(threading.Lock()))

    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own bytes

    assert copy == replace(failure, error=None)


def test_the_examples_cover_every_error_that_is_raised():
    def leaves(cls):
        below = cls.__subclasses__()
        return {cls} if not below else set().union(*(leaves(each) for each in below))

    assert {type(error) for error in EXAMPLES} == leaves(errors.DagsterDltError)


def test_a_source_function_without_required_arguments_is_called(pipeline):
    specs = build_dlt_asset_specs(shop, pipeline)

    assert len(specs) == 2


def test_a_source_function_that_needs_arguments_is_refused_with_their_names(pipeline):
    @dlt.source
    def tenant(region: str, token: str = "", *, limit: int):
        return dlt.resource([region, token, limit], name="x")

    with pytest.raises(errors.SourceNotCalledError, match=r"tenant\(region=\.\.\., limit=\.\.\.\)"):
        build_dlt_asset_specs(tenant, pipeline)


@pytest.mark.parametrize("thing", [[1], "shop", None, dlt.resource([1], name="r")])
def test_an_object_that_is_no_source_is_refused_by_its_type(pipeline, thing):
    with pytest.raises(errors.NotADltSourceError, match=type(thing).__name__):
        build_dlt_asset_specs(thing, pipeline)


def test_an_object_that_is_no_pipeline_is_refused_by_its_type():
    with pytest.raises(errors.NotADltPipelineError, match="'str'"):
        build_dlt_asset_specs(shop(), "shop")


def test_a_parameter_without_an_annotation_is_named(pipeline):
    with pytest.raises(
        errors.UnannotatedParameterError, match="`dlt_resource: DagsterDltResource`"
    ):

        @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline)
        def load(context, dlt_resource):
            yield from dlt_resource.run(context=context)


def test_two_resources_under_one_key_are_refused_by_name(pipeline):
    translator = DagsterDltTranslator(DagsterDltTranslatorSettings(key=["{source}"]))

    with pytest.raises(errors.DuplicateAssetKeyError, match="'customers', 'orders'"):
        build_dlt_asset_specs(shop(), pipeline, translator)


def test_a_key_that_dagster_cannot_use_is_refused_with_the_resource(pipeline):
    class Plain(DagsterDltTranslator):
        def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
            key = dg.AssetKey(data.resource.name)
            return super().get_asset_spec(data).replace_attributes(key=key)

    with pytest.raises(errors.InvalidAssetKeyError, match="'order items'"):
        build_dlt_asset_specs(one("order items", [{"id": 1}]), pipeline, Plain())


def failure_of(assets: dg.AssetsDefinition, materialize, error: type[Exception]) -> str:
    with pytest.raises(error) as raised:
        materialize(assets)
    return str(raised.value)


def assets_with_body(body, pipeline) -> dg.AssetsDefinition:
    @dg.multi_asset(specs=build_dlt_asset_specs(shop(), pipeline), can_subset=True)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from body(context, dlt_resource)

    return load


def test_an_unknown_option_is_refused_before_anything_is_read(pipeline, materialize):
    assets = assets_with_body(
        lambda context, dlt_resource: dlt_resource.run(context, write_dispostion="append"), pipeline
    )

    text = failure_of(assets, materialize, errors.UnknownRunOptionError)

    assert "Did you mean 'write_disposition'?" in text


def test_a_run_time_source_without_a_selected_resource_is_refused(pipeline, materialize):
    assets = assets_with_body(
        lambda context, dlt_resource: dlt_resource.run(
            context, dlt_source=one("orders", [{"id": 1}])
        ),
        pipeline,
    )

    text = failure_of(assets, materialize, errors.ResourceNotInSourceError)

    assert "lacks 'customers'" in text
    assert query(pipeline, "select count(*) from information_schema.tables") == [(0,)]


def test_a_plain_asset_without_source_is_told_what_to_do(materialize):
    @dg.asset
    def orders(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context)

    text = failure_of(orders, materialize, errors.UnboundRunError)

    assert "@dlt_assets" in text


def test_an_op_without_source_is_told_what_to_do():
    @dg.op(out={})
    def load(context: dg.OpExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context)

    @dg.job(resource_defs={"dlt_resource": DagsterDltResource()})
    def loading():
        load()

    with pytest.raises(errors.UnboundRunError, match=r"Pass dlt_source= and dlt_pipeline="):
        loading.execute_in_process()


def test_assets_of_several_sources_need_a_source_to_run(make_pipeline, materialize):
    pipeline = make_pipeline()
    web, till = one("w", [{"id": 1}], source="web"), one("t", [{"id": 1}], source="till")
    specs = [*build_dlt_asset_specs(web, pipeline), *build_dlt_asset_specs(till, pipeline)]

    @dg.multi_asset(specs=specs, can_subset=True)
    def unclear(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context)

    @dg.multi_asset(specs=specs, can_subset=True)
    def clear(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, dlt_source=web, dlt_pipeline=pipeline)
        yield from dlt_resource.run(context, dlt_source=till, dlt_pipeline=pipeline)

    assert "'" not in failure_of(unclear, materialize, errors.UnboundRunError).split("sources:")[1]
    assert len(materialize(clear).get_asset_materialization_events()) == 2


def test_settings_for_a_resource_that_is_not_there_are_refused(pipeline):
    settings = DagsterDltTranslatorSettings(resources={"order": {"group_name": "x"}})

    with pytest.raises(errors.UnknownResourceError, match="Did you mean 'orders'"):
        assets_of(shop(), pipeline, dagster_dlt_translator=DagsterDltTranslator(settings))
