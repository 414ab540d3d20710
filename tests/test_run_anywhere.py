"""`run()` outside of `@dlt_assets`: one asset for a source, graph assets, several calls."""

import importlib.util
import sys
from collections import Counter

import dagster as dg
import dlt
import pytest

from dagster_dlt import DagsterDltResource, build_dlt_asset_specs, dlt_assets, errors
from sources import assets_of, metadata_by_asset, one, query, rows_by_table, shop

RETRY = dg.RetryPolicy(max_retries=1)


def events_of(result) -> list[tuple[str, dict]]:
    """Return key and plain metadata of every materialization, in their order."""
    return [
        (event.asset_key.to_user_string(), {k: v.value for k, v in event.metadata.items()})
        for event in (
            each.materialization for each in result.all_events if each.is_step_materialization
        )
    ]


def run(*assets, **options):
    resources = {"dlt_resource": DagsterDltResource()}
    return dg.materialize(list(assets), resources=resources, raise_on_error=False, **options)


def failure_text(result) -> str:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    return event.step_failure_data.user_failure_data.description


class Pages:
    """A source of numbered pages that can be told to fail on one, and counts what it is asked."""

    def __init__(self, *, broken: int | None = None) -> None:
        self.broken = broken
        self.calls: Counter[int] = Counter()

    def source(self, page: int):
        def orders():
            self.calls[page] += 1
            if page == self.broken:
                self.broken = None
                message = "the line is dead"
                raise ConnectionError(message)
            yield [{"page": page, "n": 1}, {"page": page, "n": 2}]

        def build():
            return dlt.resource(orders, name="orders")

        return dlt.source(build, name="shop")()


def pages_of(pipeline) -> list[int]:
    return [page for (page,) in query(pipeline, "select page from raw.orders order by page, n")]


# --- one asset for a whole source ----------------------------------------------------------------


def whole(pipeline, source=None, **options):
    """Return one asset, `everything`, that loads a source."""

    @dg.asset(**options)
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(
            context=context, dlt_source=source or shop(), dlt_pipeline=pipeline
        ).fetch_row_count()

    return everything


def test_a_plain_asset_is_materialized_once_by_all_resources_of_the_source(pipeline):
    ((key, found),) = events_of(run(whole(pipeline)))

    assert key == "everything"
    assert found["dagster_dlt/resources"] == ["customers", "orders"]
    assert found["rows_loaded"] == 4
    assert rows_by_table(found) == {"customers": 2, "orders": 2, "orders__items": 3}
    assert found["dagster/row_count"] == 4
    assert {job["table_name"] for job in found["jobs"]} >= {"customers", "orders", "orders__items"}
    assert {"first_run", "started_at", "finished_at", "dataset_name"} <= found.keys()
    assert not {"dagster/table_name", "dagster/column_schema", "orders__items"} & found.keys()


def test_a_plain_asset_of_one_resource_has_the_event_of_a_dlt_asset(make_pipeline):
    def normal():
        ((_, found),) = events_of(run(assets_of(one("orders", [{"id": 1}]), make_pipeline("a"))))
        return found

    def plain():
        ((_, found),) = events_of(run(whole(make_pipeline("b"), one("orders", [{"id": 1}]))))
        return found

    expected, found = normal(), plain()

    # The table is there when the second one is loaded.
    assert found.keys() - {"path"} == expected.keys() - {"dagster_dlt/schema_changes"}
    changing = {"jobs", "started_at", "finished_at", "dagster/row_count", "path"}
    changing |= {name for name in expected if name.startswith("dagster_dlt/")}
    changing -= {"dagster_dlt/resource", "dagster_dlt/rows_extracted", "dagster_dlt/files_loaded"}
    assert {k: v for k, v in found.items() if k not in changing} == {
        k: v for k, v in expected.items() if k not in changing
    }


def test_resources_that_share_a_table_leave_its_name_and_are_counted_once(pipeline):
    @dlt.source(name="shop")
    def source():
        return (
            dlt.resource([{"id": 1}], name="web", table_name="orders"),
            dlt.resource([{"id": 2}, {"id": 3}], name="till", table_name="orders"),
        )

    ((_, found),) = events_of(run(whole(pipeline, source())))

    assert found["rows_loaded"] == 3
    assert rows_by_table(found) == {"orders": 3}
    assert found["dagster/row_count"] == 3
    assert found["dagster/table_name"] == "warehouse.raw.orders"
    assert "id" in {column.name for column in found["dagster/column_schema"].columns}
    names = [job["job_id"] for job in found["jobs"]]
    assert len(names) == len(set(names))


def test_only_the_selected_resources_of_the_source_are_loaded(pipeline):
    ((_, found),) = events_of(run(whole(pipeline, shop().with_resources("orders"))))

    assert found["dagster_dlt/resource"] == "orders"
    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]


@pytest.mark.parametrize("io_manager", [dg.InMemoryIOManager(), dg.FilesystemIOManager()])
def test_a_body_may_return_the_events(pipeline, io_manager):
    """Dagster stores what is no generator as the asset's value, and nothing would be loaded."""

    @dg.asset
    def plain(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        return dlt_resource.run(context, shop(), pipeline).fetch_row_count()

    @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        return dlt_resource.run(context)

    resources = {"dlt_resource": DagsterDltResource(), "io_manager": io_manager}
    result = dg.materialize([plain, load], resources=resources)

    assert {key: found["rows_loaded"] for key, found in events_of(result)} == {
        "plain": 4,
        "dlt_shop_customers": 2,
        "dlt_shop_orders": 2,
    }


def test_a_body_may_look_at_the_events_and_report_by_itself(pipeline):
    @dg.asset
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        (event,) = dlt_resource.run(context, shop(), pipeline)
        return dg.MaterializeResult(metadata={"rows": event.metadata["rows_loaded"]})

    ((_, found),) = events_of(run(everything))

    assert found["rows"] == 4


def test_a_plain_asset_can_be_called_directly_as_a_test_of_it_does(pipeline):
    @dg.asset
    def returned(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        return dlt_resource.run(context, shop(), pipeline)

    for body in (whole(pipeline), returned):
        (event,) = body(dg.build_asset_context(), dlt_resource=DagsterDltResource())

        assert event.metadata["rows_loaded"] == 4


class Broken:
    """Two resources, of which the second fails until it is mended."""

    def __init__(self) -> None:
        self.broken = True
        self.calls: Counter[str] = Counter()

    def source(self):
        def fine():
            self.calls["fine"] += 1
            yield {"id": 1}

        def broken():
            self.calls["broken"] += 1
            if self.broken:
                message = "the line is dead"
                raise ConnectionError(message)
            yield [{"id": 1}, {"id": 2}]

        def build():
            keyed = {"primary_key": "id", "write_disposition": "merge"}
            return (
                dlt.resource(fine, name="fine", **keyed),
                dlt.resource(broken, name="broken", **keyed),
            )

        return dlt.source(build, name="shop")()


def test_a_plain_asset_is_not_materialized_when_a_resource_fails(pipeline):
    result = run(whole(pipeline, Broken().source()))

    assert events_of(result) == []
    assert "resource 'broken' failed in extract" in failure_text(result)
    assert query(pipeline, "select count(*) from raw.fine") == [(1,)]


def test_the_event_after_a_retry_covers_all_resources(pipeline):
    source = Broken()

    @dg.asset(retry_policy=RETRY)
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        source.broken = not context.retry_number
        yield from dlt_resource.run(context, source.source(), pipeline)

    ((_, found),) = events_of(run(everything))

    assert found["dagster_dlt/resources"] == ["fine", "broken"]
    assert found["rows_loaded"] == 3
    assert rows_by_table(found) == {"fine": 1, "broken": 2}
    assert query(pipeline, "select count(*) from raw.fine") == [(1,)]


@pytest.mark.parametrize("define", ["asset", "multi_asset"])
def test_what_a_retry_need_not_load_is_reported_again_with_its_metadata(pipeline, define):
    """Dagster asks each attempt for an output that is required, or makes one without metadata."""
    pages = Pages()
    decorator = (
        dg.asset(name="everything", retry_policy=RETRY)
        if define == "asset"
        else dg.multi_asset(
            specs=build_dlt_asset_specs(pages.source(1), pipeline), retry_policy=RETRY
        )
    )

    @decorator
    def body(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, pages.source(1), pipeline)
        if not context.retry_number:
            message = "what comes after the load"
            raise ConnectionError(message)

    result = run(body)

    assert result.success
    assert [found["rows_loaded"] for _, found in events_of(result)] == [2, 2]
    assert pages.calls == {1: 1}


def test_a_partition_of_a_plain_asset_has_its_rows(pipeline):
    days = dg.StaticPartitionsDefinition(["mon", "tue"])

    result = run(whole(pipeline, partitions_def=days), partition_key="mon")

    ((_, found),) = events_of(result)
    assert found["dagster/partition_row_count"] == 4


def in_range(first: str, last: str) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


def test_a_range_of_partitions_is_materialized_in_each(pipeline):
    days = dg.StaticPartitionsDefinition(["mon", "tue", "wed"])

    result = run(whole(pipeline, partitions_def=days), tags=in_range("mon", "tue"))

    events = [each.materialization for each in result.all_events if each.is_step_materialization]
    assert {event.partition for event in events} == {"mon", "tue"}
    assert {event.metadata["rows_loaded"].value for event in events} == {4}


def test_a_source_without_selected_resources_is_refused(pipeline):
    with pytest.raises(errors.UnboundRunError, match="no resource of source 'shop' is selected"):
        dg.materialize(
            [whole(pipeline, shop().with_resources())],
            resources={"dlt_resource": DagsterDltResource()},
        )


def test_an_asset_check_cannot_load(pipeline):
    everything = whole(pipeline)

    @dg.asset_check(asset=everything)
    def check(context: dg.AssetCheckExecutionContext, dlt_resource: DagsterDltResource):
        return dlt_resource.run(context, shop(), pipeline)

    with pytest.raises(errors.NotARunContextError, match="'AssetCheckExecutionContext'"):
        dg.materialize([everything, check], resources={"dlt_resource": DagsterDltResource()})


# --- ops inside graph assets ---------------------------------------------------------------------


def loading(pipeline, source=None, **options):
    """Return an op, `load`, that loads a source and yields its events."""

    @dg.op(**options)
    def load(context: dg.OpExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, source or shop(), pipeline).fetch_row_count()

    return load


NOTHING = dg.Out(dg.Nothing)


@pytest.mark.parametrize("nested", [False, True])
def test_the_last_op_of_a_graph_asset_materializes_it_once(pipeline, nested):
    load = loading(pipeline, out=NOTHING)

    @dg.graph(out=dg.GraphOut())
    def inner():
        return load()

    @dg.graph_asset
    def everything():
        return inner() if nested else load()

    ((key, found),) = events_of(run(everything))

    assert key == "everything"
    assert (found["rows_loaded"], found["dagster/row_count"]) == (4, 4)


def test_an_op_with_a_value_of_its_own_gives_the_metadata_to_the_asset(pipeline):
    @dg.op
    def load(context: dg.OpExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, shop(), pipeline).fetch_row_count()
        yield dg.Output({"answer": 42})

    @dg.graph_asset
    def everything():
        return load()

    result = run(everything)

    ((_, found),) = events_of(result)
    assert (found["rows_loaded"], found["dagster/row_count"]) == (4, 4)
    assert result.output_for_node("everything.load") == {"answer": 42}


def test_several_calls_in_the_op_of_a_graph_asset_add_up(pipeline):
    pages = Pages()

    @dg.op
    def load(context: dg.OpExecutionContext, dlt_resource: DagsterDltResource):
        for number in (1, 2):
            yield from dlt_resource.run(context, pages.source(number), pipeline)
        yield dg.Output(None)

    @dg.graph_asset
    def everything():
        return load()

    ((_, found),) = events_of(run(everything))

    assert found["rows_loaded"] == 4


def test_an_op_in_the_midst_of_a_graph_asset_is_like_any_op(pipeline):
    load = loading(pipeline, out=NOTHING)

    @dg.op(ins={"start": dg.In(dg.Nothing)})
    def count() -> int:
        return 7

    @dg.graph_asset
    def dlt_shop_orders():
        return count(load())

    result = run(dlt_shop_orders)

    # The graph's own key is observed, so that it is materialized once.
    assert [key for key, _ in events_of(result)] == ["dlt_shop_customers", "dlt_shop_orders"]
    (observed,) = result.get_asset_observation_events()
    observation = observed.asset_observation_data.asset_observation
    assert observation.asset_key == dg.AssetKey("dlt_shop_orders")
    assert observation.metadata["rows_loaded"].value == 2


def test_ops_that_a_graph_asset_maps_report_each_their_own(pipeline):
    pages = Pages()

    @dg.op(out=dg.DynamicOut())
    def numbers():
        for number in (1, 2):
            yield dg.DynamicOutput(number, mapping_key=str(number))

    @dg.op
    def load(context: dg.OpExecutionContext, number: int, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, pages.source(number), pipeline)
        yield dg.Output(number)

    @dg.op
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @dg.graph_asset
    def everything():
        return total(numbers().map(load).collect())

    found = events_of(run(everything))

    assert [(key, each.get("rows_loaded")) for key, each in found] == [
        ("dlt_shop_orders", 2),
        ("dlt_shop_orders", 2),
        ("everything", None),
    ]


def graph_of_two(pipeline, **keys):
    """Return a graph of one op with two optional outputs, which are the assets of these keys."""

    @dg.op(out={name: dg.Out(dg.Nothing, is_required=False) for name in keys})
    def load(context: dg.OpExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, shop(), pipeline)

    outs = {name: dg.AssetOut(key=key, is_required=False) for name, key in keys.items()}

    @dg.graph_multi_asset(outs=outs, can_subset=True)
    def both():
        found = load()
        return {name: getattr(found, name) for name in keys}

    return both


def test_a_graph_of_several_assets_gives_each_its_own_event(pipeline):
    both = graph_of_two(pipeline, people="dlt_shop_customers", sales="dlt_shop_orders")

    found = dict(events_of(run(both)))

    assert found.keys() == {"dlt_shop_customers", "dlt_shop_orders"}
    assert found["dlt_shop_orders"]["dagster_dlt/resource"] == "orders"
    assert found["dlt_shop_orders"]["dagster/table_name"] == "warehouse.raw.orders"


def test_what_is_not_selected_of_a_graph_of_several_assets_is_not_loaded(pipeline):
    both = graph_of_two(pipeline, people="dlt_shop_customers", sales="dlt_shop_orders")

    result = run(both, selection=[dg.AssetKey("dlt_shop_orders")])

    assert [key for key, _ in events_of(result)] == ["dlt_shop_orders"]
    assert ("customers",) not in query(pipeline, "select table_name from information_schema.tables")


def test_a_graph_of_several_assets_that_are_no_resources_is_told_what_to_do(pipeline):
    both = graph_of_two(pipeline, people="a", sales="b")

    with pytest.raises(errors.UnboundRunError, match="cannot tell which of its assets"):
        dg.materialize([both], resources={"dlt_resource": DagsterDltResource()})


# --- several calls in one step -------------------------------------------------------------------


def paged(pipeline, pages, numbers=(1, 2, 3), **options):
    """Return the asset `dlt_shop_orders`, loaded by one call for each page."""

    @dlt_assets(dlt_source=pages.source(0), dlt_pipeline=pipeline, **{"name": "load", **options})
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for number in numbers:
            yield from dlt_resource.run(
                context=context, dlt_source=pages.source(number)
            ).fetch_row_count()

    return load


def test_what_several_calls_load_for_an_asset_adds_up(pipeline):
    result = run(paged(pipeline, Pages()))

    assert result.success
    assert pages_of(pipeline) == [1, 1, 2, 2, 3, 3]
    found = [metadata for _, metadata in events_of(result)]
    assert [each["rows_loaded"] for each in found] == [2, 4, 6]
    assert [each["dagster/row_count"] for each in found] == [2, 4, 6]
    assert [each.get("dagster_dlt/call") for each in found] == [None, 2, 3]
    assert rows_by_table(found[2]) == {"orders": 6}
    assert (found[2]["first_run"], found[2]["started_at"]) == (True, found[0]["started_at"])
    assert found[2]["dagster/column_schema"].columns
    # Jobs of the last call only: a hundred calls would repeat those of all before them.
    assert [job["table_name"] for job in found[2]["jobs"]].count("orders") == 1


def test_an_asset_keeps_its_data_version_through_several_calls(pipeline):
    result = run(paged(pipeline, Pages()))

    versions = {
        each.materialization.tags["dagster/data_version"]
        for each in result.all_events
        if each.is_step_materialization
    }
    assert len(versions) == 1


def test_a_multi_partition_keeps_its_parts_through_several_calls(pipeline):
    both = dg.MultiPartitionsDefinition(
        {
            "day": dg.StaticPartitionsDefinition(["mon", "tue"]),
            "shop": dg.StaticPartitionsDefinition(["here", "there"]),
        }
    )

    result = run(paged(pipeline, Pages(), partitions_def=both), partition_key="mon|here")

    events = [each.materialization for each in result.all_events if each.is_step_materialization]
    assert {event.tags["dagster/partition/shop"] for event in events} == {"here"}
    counts = [event.metadata["dagster/partition_row_count"].value for event in events]
    assert counts == [2, 4, 6]


def test_what_is_downstream_of_several_calls_runs_once(pipeline):
    runs: list[int] = []

    @dg.asset(deps=[dg.AssetKey("dlt_shop_orders")])
    def report():
        runs.append(1)

    assert run(paged(pipeline, Pages()), report).success
    assert runs == [1]


def test_a_body_may_keep_the_events_until_its_last_call(pipeline):
    pages = Pages()

    @dlt_assets(dlt_source=pages.source(0), dlt_pipeline=pipeline)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for number in (1, 2, 3):
            events = list(dlt_resource.run(context=context, dlt_source=pages.source(number)))
        yield from events

    ((_, found),) = events_of(run(load))

    assert found["rows_loaded"] == 6
    assert pages_of(pipeline) == [1, 1, 2, 2, 3, 3]


def test_a_retry_goes_on_with_the_call_that_failed(pipeline):
    pages = Pages(broken=2)

    result = run(paged(pipeline, pages, retry_policy=RETRY))

    assert result.success
    assert pages.calls == {1: 1, 2: 2, 3: 1}
    assert pages_of(pipeline) == [1, 1, 2, 2, 3, 3]
    assert [found["rows_loaded"] for _, found in events_of(result)] == [2, 4, 6]


def test_a_package_that_an_outage_left_is_finished_by_its_own_call(pipeline, monkeypatch):
    pages, seen = Pages(), []
    load = pipeline.__class__.load

    def failing_on_the_second(self, *args, **kwargs):
        seen.append(1)
        if len(seen) == 2:
            raise dlt.pipeline.exceptions.PipelineStepFailed(self, "load", "1", OSError("gone"))
        return load(self, *args, **kwargs)

    monkeypatch.setattr(pipeline.__class__, "load", failing_on_the_second)

    result = run(paged(pipeline, pages, retry_policy=RETRY))

    assert result.success
    assert pages.calls == {1: 1, 2: 1, 3: 1}
    assert pages_of(pipeline) == [1, 1, 2, 2, 3, 3]


def test_a_plain_asset_may_load_page_by_page_too(pipeline):
    pages = Pages(broken=3)

    @dg.asset(retry_policy=RETRY)
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for number in (1, 2, 3):
            yield from dlt_resource.run(context, pages.source(number), pipeline)

    result = run(everything)

    assert result.success
    assert pages.calls == {1: 1, 2: 1, 3: 2}
    # The second attempt begins with what the first one has reported.
    assert [found["rows_loaded"] for _, found in events_of(result)] == [2, 4, 4, 6]


def test_a_plain_asset_of_two_sources_covers_both(make_pipeline):
    pipeline = make_pipeline()

    @dg.asset
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for name in ("web", "till"):
            yield from dlt_resource.run(context, one(name, [{"id": 1}], source=name), pipeline)

    found = events_of(run(everything))[-1][1]

    assert found["dagster_dlt/resources"] == ["web", "till"]
    assert rows_by_table(found) == {"web": 1, "till": 1}
    assert "dagster/table_name" not in found


def test_calls_for_different_assets_are_each_the_first(make_pipeline):
    pipeline = make_pipeline()
    web, till = one("w", [{"id": 1}], source="web"), one("t", [{"id": 1}], source="till")
    specs = [*build_dlt_asset_specs(web, pipeline), *build_dlt_asset_specs(till, pipeline)]

    @dg.multi_asset(specs=specs, can_subset=True)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, dlt_source=web, dlt_pipeline=pipeline)
        yield from dlt_resource.run(context, dlt_source=till, dlt_pipeline=pipeline)

    found = events_of(run(load))

    assert [(key, each["rows_loaded"]) for key, each in found] == [
        ("dlt_web_w", 1),
        ("dlt_till_t", 1),
    ]
    assert all("dagster_dlt/call" not in each for _, each in found)


def test_every_partition_of_a_range_has_the_totals_of_all_calls(pipeline):
    days = dg.StaticPartitionsDefinition(["mon", "tue", "wed"])
    assets = paged(
        pipeline,
        Pages(),
        (1, 2),
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )

    result = run(assets, tags=in_range("mon", "tue"))

    last = {
        each.materialization.partition: each.materialization.metadata["rows_loaded"].value
        for each in result.all_events
        if each.is_step_materialization
    }
    assert last == {"mon": 4, "tue": 4}


def test_calls_in_an_op_add_up_too(pipeline):
    pages = Pages(broken=2)

    @dg.op(out={}, retry_policy=RETRY)
    def load(context: dg.OpExecutionContext, dlt_resource: DagsterDltResource):
        for number in (1, 2):
            yield from dlt_resource.run(context, pages.source(number), pipeline)

    @dg.job(resource_defs={"dlt_resource": DagsterDltResource()})
    def nightly():
        load()

    found = metadata_by_asset(nightly.execute_in_process())["dlt_shop_orders"]

    assert found["rows_loaded"] == 4
    assert pages_of(pipeline) == [1, 1, 2, 2]


# --- in other processes --------------------------------------------------------------------------

PROJECT = """
from pathlib import Path

import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, dlt_assets

def called(name):
    with Path("calls").open("a") as calls:
        calls.write(name + " ")

def source(page):
    @dlt.source(name="shop")
    def shop():
        @dlt.resource
        def orders():
            called(str(page))
            if Path(f"broken-{page}").exists():
                raise ConnectionError("the line is dead")
            yield {"page": page}

        return orders

    return shop()

pipeline = dlt.pipeline("shop", destination="duckdb", dataset_name="raw")

@dlt_assets(dlt_source=source(0), dlt_pipeline=pipeline)
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    for page in (1, 2, 3):
        yield from dlt_resource.run(context=context, dlt_source=source(page))

@dg.asset(deps=[load])
def report():
    called("report")

@dg.op(out=dg.Out(dg.Nothing))
def load_in_op(context: dg.OpExecutionContext, dlt_resource: DagsterDltResource):
    yield from dlt_resource.run(context, source(1), pipeline)

@dg.graph_asset
def everything():
    return load_in_op()

defs = dg.Definitions(
    assets=[load, report, everything],
    jobs=[
        dg.define_asset_job(
            "paged", selection=["dlt_shop_orders", "report"], executor_def=dg.in_process_executor
        ),
        dg.define_asset_job(
            "graph", selection=["everything"], executor_def=dg.multiprocess_executor
        ),
    ],
    resources={"dlt_resource": DagsterDltResource()},
)

def paged():
    return defs.resolve_job_def("paged")

def graph():
    return defs.resolve_job_def("graph")
"""


@pytest.fixture
def project(tmp_path):
    file = tmp_path / "anywhere.py"
    file.write_text(PROJECT, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("anywhere", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["anywhere"] = module
    spec.loader.exec_module(module)
    with dg.instance_for_test() as instance:
        yield module, instance
    del sys.modules["anywhere"]


def test_a_graph_asset_is_loaded_in_a_process_of_its_own(project):
    module, instance = project

    with dg.execute_job(dg.reconstructable(module.graph), instance) as result:
        assert result.success
        (event,) = result.get_asset_materialization_events()

    assert event.asset_key == dg.AssetKey("everything")
    assert event.materialization.metadata["rows_loaded"].value == 1


def test_a_re_execution_goes_on_with_the_call_that_failed(project, tmp_path):
    module, instance = project
    job = dg.reconstructable(module.paged)
    (tmp_path / "broken-3").touch()
    with dg.execute_job(job, instance) as failed:
        assert not failed.success
    (tmp_path / "broken-3").unlink()
    options = dg.ReexecutionOptions.from_failure(failed.run_id, instance)

    with dg.execute_job(job, instance, reexecution_options=options) as result:
        assert result.success
        events = result.get_asset_materialization_events()

    calls = (tmp_path / "calls").read_text(encoding="utf-8").split()
    assert calls == ["1", "2", "3", "3", "report"]
    rows = [
        each.materialization.metadata["rows_loaded"].value
        for each in events
        if each.asset_key == dg.AssetKey("dlt_shop_orders")
    ]
    assert rows == [2, 3]


def test_retry_of_plain_asset_loads_only_what_failed(pipeline):
    source = Broken()

    def append():
        built = source.source()
        for resource in built.resources.values():
            resource.apply_hints(write_disposition="append")
        return built

    @dg.asset(retry_policy=RETRY)
    def everything(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        if context.retry_number:
            source.broken = False
            source.calls.clear()
        yield from dlt_resource.run(context, append(), pipeline).fetch_row_count()

    ((_, found),) = events_of(run(everything))
    assert found["dagster_dlt/resources"] == ["fine", "broken"]
    assert found["rows_loaded"] == 3
    assert rows_by_table(found) == {"fine": 1, "broken": 2}
    assert found["dagster/row_count"] == 3
    assert source.calls == {"broken": 1}
    assert query(pipeline, "select count(*) from raw.fine") == [(1,)]


def test_kept_events_and_a_retry(pipeline):
    pages = Pages(broken=3)

    @dlt_assets(dlt_source=pages.source(0), dlt_pipeline=pipeline, retry_policy=RETRY)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for number in (1, 2, 3):
            events = list(dlt_resource.run(context=context, dlt_source=pages.source(number)))
        yield from events

    result = run(load)
    ((_, found),) = events_of(result)
    assert pages.calls == {1: 1, 2: 1, 3: 2}
    assert found["rows_loaded"] == 6
    assert pages_of(pipeline) == [1, 1, 2, 2, 3, 3]


def test_graph_op_fails_after_the_load(pipeline):
    pages = Pages()

    @dg.op(retry_policy=RETRY)
    def load(context: dg.OpExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context, pages.source(1), pipeline)
        if not context.retry_number:
            msg = "after"
            raise ConnectionError(msg)
        yield dg.Output(1)

    @dg.graph_asset
    def everything():
        return load()

    ((_, found),) = events_of(run(everything))
    assert found["rows_loaded"] == 2
    assert pages.calls == {1: 1}
