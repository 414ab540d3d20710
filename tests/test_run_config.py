"""What a person chooses for one run: in the launchpad, in a `RunConfig`, on the resource."""

import threading
from datetime import datetime, timedelta, timezone
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
import dlt
import pytest
from pydantic import ValidationError

from dagster_dlt import (
    DagsterDltResource,
    DltLimit,
    DltLoadCollectionComponent,
    DltLoadSpecModel,
    DltRunConfig,
    DltWindow,
    dlt_assets,
)
from dagster_dlt._facts import Window
from sources import one, outage, query

UTC = timezone.utc
JANUARY = {"start": "2024-01-01", "end": "2024-02-01"}


@dlt.source(name="shop")
def shop(until=3, pages=1):
    """Two resources with cursors, one of which adds rows and one merges them, and a plain one."""

    @dlt.resource
    def orders(at=dlt.sources.incremental("at", initial_value=0)):
        for page in range(pages):
            days = range(at.start_value + 1, until + 1)
            yield [{"at": day, "page": page, "items": [{"sku": "tea"}]} for day in days]

    @dlt.resource(primary_key="at", write_disposition="merge")
    def visits(at=dlt.sources.incremental("at", initial_value=0)):
        yield [{"at": day} for day in range(at.start_value + 1, until + 1)]

    @dlt.resource
    def prices():
        yield [{"sku": "tea"}, {"sku": "jam"}]

    return orders, visits, prices


def one_line(source, pipeline, **options):
    """Return the assets as the documentation writes them: no config, one line."""

    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, name="load", **options)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)

    return load


def with_config(source, pipeline, **options):
    """Return the assets of a function that takes config, with the options it gives to `run`."""

    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, name="load")
    def load(
        context: dg.AssetExecutionContext, config: DltRunConfig, dlt_resource: DagsterDltResource
    ):
        yield from dlt_resource.run(context=context, **options)

    return load


def run(assets, config=None, *, op=None, resource=None, **options):
    """Materialize with config in the places of the launchpad."""
    chosen = {}
    if config:
        chosen["resources"] = {"dlt_resource": {"config": config}}
    if op:
        chosen["ops"] = {"load": {"config": op}}
    return dg.materialize(
        [assets],
        resources={"dlt_resource": resource or DagsterDltResource()},
        run_config=chosen,
        **options,
    )


def refused(assets, config=None, **options):
    """Return the error of a run that is refused, after it was seen that nothing was loaded."""
    result = run(assets, config, raise_on_error=False, **options)
    (event,) = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    while error.cause:
        error = error.cause
    assert not result.get_asset_materialization_events()
    return error


def loaded(result):
    """Return the resources that were materialized."""
    return [
        event.asset_key.path[-1].removeprefix("dlt_shop_")
        for event in result.get_asset_materialization_events()
    ]


def days(pipeline, table="orders"):
    return [row[0] for row in query(pipeline, f'select "at" from raw.{table} order by "at"')]


def tables(pipeline):
    sql = "select table_name from information_schema.tables where table_schema = 'raw'"
    return {name for (name,) in query(pipeline, sql) if not name.startswith("_dlt")}


# --- where it is chosen ------------------------------------------------------------------------


def test_the_one_line_body_is_steered_from_the_launchpad_through_the_resource(pipeline):
    run(one_line(shop(), pipeline))
    run(one_line(shop(), pipeline), {"refresh": "drop_resources"})

    assert days(pipeline) == [1, 2, 3]
    assert query(pipeline, "select count(*) from raw.prices") == [(2,)]


def test_what_the_code_sets_on_the_resource_stays_when_something_else_is_chosen(
    pipeline, tmp_path, monkeypatch
):
    monkeypatch.setenv("WORKSPACES", str(tmp_path / "workspaces"))
    set_in_code = DagsterDltResource(
        workspace_dir=dg.EnvVar("WORKSPACES"), decompose="serialize", limit=DltLimit(max_items=1)
    )
    assets = one_line(shop(pages=2), pipeline)

    run(assets, {"resources": ["orders", "prices"]}, resource=set_in_code)
    run(assets, {"decompose": "none", "refresh": "drop_data"}, resource=set_in_code)

    assert query(pipeline, "select distinct page from raw.orders") == [(0,)]
    assert query(pipeline, "select count(*) from raw._dlt_loads") == [(3,)]
    assert (tmp_path / "workspaces").is_dir()


def test_a_subclass_of_the_resource_keeps_the_resources_it_is_made_of(pipeline):
    class Team(dg.ConfigurableResource):
        name: str = "none"

    class TeamResource(DagsterDltResource):
        team: Team
        room: str = "none"

    seen = []

    @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline, name="load")
    def load(context: dg.AssetExecutionContext, dlt_resource: TeamResource):
        seen.append((dlt_resource.team.name, dlt_resource.room))
        yield from dlt_resource.run(context=context)

    team = Team.configure_at_launch()
    dg.materialize(
        [load],
        resources={"team": team, "dlt_resource": TeamResource(team=team, room="north")},
        run_config={
            "resources": {
                "team": {"config": {"name": "shop"}},
                "dlt_resource": {"config": {"resources": ["prices"]}},
            }
        },
    )

    assert seen == [("shop", "north")]


def test_a_function_that_takes_the_config_gets_it_without_passing_it_on(pipeline):
    result = run(with_config(shop(), pipeline), op={"resources": ["orders"]})

    assert loaded(result) == ["orders"]


def test_a_run_config_object_chooses_like_the_launchpad(pipeline):
    result = dg.materialize(
        [with_config(shop(), pipeline)],
        resources={"dlt_resource": DagsterDltResource()},
        run_config=dg.RunConfig(
            ops={"load": DltRunConfig(resources=["orders"], limit=DltLimit(max_items=1))}
        ),
    )

    assert loaded(result) == ["orders"]


def test_op_config_wins_over_the_resource_field_by_field(pipeline):
    result = run(
        with_config(shop(pages=3), pipeline),
        {"limit": {"max_items": 1}, "resources": ["prices"]},
        op={"resources": ["orders"]},
    )

    assert loaded(result) == ["orders"]
    assert query(pipeline, "select distinct page from raw.orders") == [(0,)]


def test_what_is_chosen_wins_over_what_the_code_says(pipeline):
    source = shop()
    run(with_config(source, pipeline, write_disposition="append"))
    run(
        with_config(shop(), pipeline, write_disposition="append"),
        op={"write_disposition": "replace", "resources": ["prices"]},
    )

    assert query(pipeline, "select count(*) from raw.prices") == [(2,)]


def test_a_subclass_with_fields_of_its_own_is_found_too(pipeline):
    seen = []

    class ShopConfig(DltRunConfig):
        region: str = "north"

    @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline, name="load")
    def load(
        context: dg.AssetExecutionContext, config: ShopConfig, dlt_resource: DagsterDltResource
    ):
        seen.append(config.region)
        yield from dlt_resource.run(context=context)

    result = run(load, op={"resources": ["orders"], "region": "south"})

    assert seen == ["south"]
    assert loaded(result) == ["orders"]


def test_config_of_another_class_is_left_alone_and_one_can_be_passed(pipeline):
    class Mine(dg.Config):
        resources: str = "nonsense"
        dlt: DltRunConfig = DltRunConfig()

    @dlt_assets(dlt_source=shop(), dlt_pipeline=pipeline, name="load")
    def load(context: dg.AssetExecutionContext, config: Mine, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context, config=config.dlt)

    result = run(load, op={"dlt": {"resources": ["orders"]}})

    assert loaded(result) == ["orders"]


def test_a_function_that_a_test_calls_itself_has_the_config_it_is_given(pipeline):
    events = with_config(shop(), pipeline)(
        dg.build_asset_context(),
        config=DltRunConfig(resources=["orders"]),
        dlt_resource=DagsterDltResource(),
    )

    assert [event.asset_key.path[-1] for event in events] == ["dlt_shop_orders"]


def test_an_op_of_a_job_takes_the_config_too(pipeline):
    @dg.op
    def load(
        context: dg.OpExecutionContext, config: DltRunConfig, dlt_resource: DagsterDltResource
    ):
        yield from dlt_resource.run(context=context, dlt_source=shop(), dlt_pipeline=pipeline)
        yield dg.Output(None)

    @dg.job(resource_defs={"dlt_resource": DagsterDltResource()})
    def job():
        load()

    job.execute_in_process(run_config={"ops": {"load": {"config": {"resources": ["prices"]}}}})

    assert tables(pipeline) == {"prices"}


def test_assets_of_a_component_have_the_config_in_the_launchpad(pipeline):
    component = DltLoadCollectionComponent(
        loads=[DltLoadSpecModel(source=shop(), pipeline=pipeline)]
    )
    (assets,) = component.build_defs(None).assets

    result = dg.materialize(
        [assets], run_config={"ops": {assets.op.name: {"config": {"resources": ["prices"]}}}}
    )

    assert [event.asset_key.path for event in result.get_asset_materialization_events()] == [
        ["raw", "prices"]
    ]


def test_every_field_is_described_in_the_launchpad_in_both_places():
    for kind in (DltRunConfig, DagsterDltResource):
        fields = kind.to_config_schema().as_field().config_type.fields
        described = {name for name in DltRunConfig.model_fields if fields[name].description}

        assert described == set(DltRunConfig.model_fields), kind


def test_a_word_that_is_none_is_refused_when_the_run_is_launched(pipeline):
    with pytest.raises(dg.DagsterInvalidConfigError, match="not in enum type DltRefresh"):
        run(with_config(shop(), pipeline), op={"refresh": "drop_everything"})


# --- the fields --------------------------------------------------------------------------------


def test_write_disposition_replaces_for_one_run_and_says_what(pipeline, capfd):
    run(one_line(shop(), pipeline))
    run(one_line(shop(until=4), pipeline), {"write_disposition": "replace"})

    assert days(pipeline) == [1, 2, 3, 4]
    assert query(pipeline, "select count(*) from raw.prices") == [(2,)]
    assert (
        "replaces all rows of tables orders, orders__items, prices, visits "
        "and forgets cursors orders.at, visits.at"
    ) in capfd.readouterr().err


def test_limit_stops_after_some_items(pipeline):
    run(one_line(shop(pages=3), pipeline), {"limit": {"max_items": 2}})

    assert query(pipeline, "select distinct page from raw.orders order by 1") == [(0,), (1,)]


def test_limit_stops_after_some_seconds(pipeline):
    @dlt.source(name="shop")
    def endless():
        @dlt.resource
        def orders():
            while True:
                yield {"at": 1}

        return orders

    run(one_line(endless(), pipeline), {"limit": {"max_time": 0.05}})

    assert query(pipeline, "select count(*) > 0 from raw.orders") == [(True,)]


def test_limit_holds_for_what_feeds_a_selected_transformer(pipeline):
    @dlt.source(name="shop")
    def source():
        @dlt.resource(selected=False)
        def pages():
            yield from range(5)

        @dlt.transformer(data_from=pages)
        def orders(page):
            yield {"page": page}

        return pages, orders

    run(one_line(source(), pipeline), {"limit": {"max_items": 2}})

    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]


def test_limit_is_for_one_run_only(pipeline):
    source = shop(pages=3)
    assets = one_line(source, pipeline)
    run(assets, {"limit": {"max_items": 1}, "resources": ["orders"]})
    run(assets, {"refresh": "drop_data"})

    assert query(pipeline, "select distinct page from raw.orders order by 1") == [(0,), (1,), (2,)]


def test_resources_loads_some_of_the_selected_ones(pipeline):
    result = run(one_line(shop(), pipeline), {"resources": ["visits", "orders"]})

    assert sorted(loaded(result)) == ["orders", "visits"]
    assert tables(pipeline) == {"orders", "orders__items", "visits"}


def test_on_pending_is_chosen_for_a_run(pipeline, monkeypatch, capfd):
    outage(monkeypatch)
    run(one_line(shop(), pipeline), raise_on_error=False)
    error = refused(one_line(shop(), pipeline), {"on_pending": "fail"})
    run(one_line(shop(until=4), pipeline), {"on_pending": "abort"})

    assert error.cls_name == "PendingPackagesError"
    assert "Aborting load packages" in capfd.readouterr().err
    assert days(pipeline) == [1, 2, 3, 4]


def test_decompose_is_chosen_for_a_run(pipeline):
    run(with_config(shop(), pipeline), op={"decompose": "parallel", "max_workers": 2})

    assert query(pipeline, "select count(*) from raw._dlt_loads") == [(3,)]


def meeting(tables=2):
    """Return a source whose resources end only when as many are extracted at the same time."""
    meet = threading.Barrier(tables)

    @dlt.source(name="shop")
    def source():
        def make(name):
            def rows():
                meet.wait(60)
                yield {"id": 1}

            return dlt.resource(rows, name=name, parallelized=True)

        return [make(f"table_{number}") for number in range(tables)]

    return source()


def test_workers_of_extract_are_chosen_whatever_dlt_is_configured_to(pipeline, monkeypatch):
    monkeypatch.setenv("SHOP__EXTRACT__WORKERS", "1")

    assert run(one_line(meeting(), pipeline), {"workers": {"extract": 2}}).success


def test_workers_of_load_are_chosen_whatever_dlt_is_configured_to(make_pipeline, monkeypatch):
    monkeypatch.setenv("SHOP__LOAD__WORKERS", "1")
    meet = threading.Barrier(2)

    @dlt.destination(skip_dlt_columns_and_tables=True)
    def sink(items, table):
        meet.wait(60)

    pipeline = make_pipeline(destination=sink)
    chosen = {"workers": {"load": 2}, "resources": ["visits", "prices"]}

    assert run(one_line(shop(), pipeline), chosen).success


def test_workers_of_normalize_are_chosen_whatever_dlt_is_configured_to(pipeline, monkeypatch):
    monkeypatch.setenv("SHOP__NORMALIZE__WORKERS", "2")

    def start(self):
        message = "no process is to be started"
        raise AssertionError(message)

    monkeypatch.setattr(BaseProcess, "start", start)

    assert run(one_line(shop(), pipeline), {"workers": {"normalize": 1}}).success


@dlt.source(name="shop")
def by_time():
    """One order a day, at midnight in UTC."""

    @dlt.resource
    def orders(at=dlt.sources.incremental("at", initial_value=datetime(2023, 12, 1, tzinfo=UTC))):
        first = datetime(2023, 12, 1, tzinfo=UTC)
        yield [{"at": first + timedelta(days=day), "day": day} for day in range(90)]

    @dlt.resource(selected=False)
    def prices():
        yield {"sku": "tea"}

    return orders, prices


def test_a_window_loads_its_rows_and_leaves_the_cursor_alone(pipeline):
    run(one_line(by_time(), pipeline), {"refresh": "drop_data"})
    cursor = observed(run(one_line(by_time(), pipeline), {"dry_run": True}))
    with pipeline.sql_client() as client:
        client.execute_sql("delete from raw.orders where day >= 31 and day < 62")
    run(one_line(by_time(), pipeline), {"window": JANUARY})

    assert [day for (day,) in query(pipeline, "select day from raw.orders order by day")] == list(
        range(90)
    )
    assert observed(run(one_line(by_time(), pipeline), {"dry_run": True})) == cursor


def test_window_reaches_the_plan_of_the_load_in_utc(pipeline, monkeypatch):
    from dagster_dlt import resource

    plans = []
    monkeypatch.setattr(resource, "run_load", lambda plan, _report, _log: plans.append(plan))

    run(
        one_line(by_time(), pipeline),
        {"window": {"start": "2024-01-01", "end": "2024-02-01T00:00:00+01:00"}},
    )

    assert plans[0].window == Window(
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 31, 23, tzinfo=UTC),
    )


# --- refresh -----------------------------------------------------------------------------------


def test_drop_sources_begins_anew_and_says_before_what_it_drops(pipeline, capfd):
    run(one_line(shop(), pipeline))
    run(one_line(shop(), pipeline), {"refresh": "drop_sources"})

    assert days(pipeline) == [1, 2, 3]
    assert (
        "Refresh drop_sources drops tables orders, orders__items, prices, visits "
        "and forgets cursors orders.at, visits.at."
    ) in capfd.readouterr().err


def test_drop_data_empties_tables_and_says_which(pipeline, capfd):
    run(one_line(shop(), pipeline))
    run(one_line(shop(), pipeline), {"refresh": "drop_data", "resources": ["orders"]})

    assert days(pipeline) == [1, 2, 3]
    assert "drop_data empties tables orders, orders__items and forgets cursors orders.at" in (
        capfd.readouterr().err
    )


@pytest.mark.parametrize("narrow", ["selection", "config"])
def test_with_a_subset_drop_sources_leaves_the_other_tables(pipeline, capfd, narrow):
    assets = one_line(shop(), pipeline)
    run(assets)
    config = {"refresh": "drop_sources"}
    if narrow == "config":
        run(assets, {**config, "resources": ["orders"]})
    else:
        run(assets, config, selection=[dg.AssetKey("dlt_shop_orders")])

    assert days(pipeline) == [1, 2, 3]
    assert days(pipeline, "visits") == [1, 2, 3]
    assert "drop_sources acts as drop_resources" in capfd.readouterr().err
    run(one_line(shop(until=4), pipeline))
    assert days(pipeline, "visits") == [1, 2, 3, 4]


@pytest.mark.parametrize("decompose", ["serialize", "parallel"])
def test_parts_do_not_drop_what_other_parts_have_loaded(pipeline, decompose):
    run(one_line(shop(), pipeline))
    run(one_line(shop(), pipeline), {"refresh": "drop_sources", "decompose": decompose})
    run(one_line(shop(until=4), pipeline), {"resources": ["orders", "visits"]})

    assert days(pipeline) == [1, 2, 3, 4]
    assert days(pipeline, "visits") == [1, 2, 3, 4]
    assert query(pipeline, "select count(*) from raw.prices") == [(2,)]


@pytest.mark.parametrize("chosen", [{"refresh": "drop_sources"}, {"write_disposition": "replace"}])
def test_what_takes_rows_away_is_for_the_first_of_several_calls_only(pipeline, chosen):
    def page(number):
        return one("pages", [{"number": number}])

    @dlt_assets(dlt_source=page(0), dlt_pipeline=pipeline, name="load")
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for number in (1, 2):
            yield from dlt_resource.run(context=context, dlt_source=page(number))

    run(load)
    run(load, chosen)

    assert query(pipeline, "select number from raw.pages order by 1") == [(1,), (2,)]


class Flaky:
    """A source whose `visits` fails on some of its calls."""

    def __init__(self, *failing):
        self.failing = set(failing)
        self.calls = 0

    def source(self, until=3):
        source = shop(until=until)
        whole = source.resources["visits"]

        def fail(row):
            if self.calls in self.failing:
                message = "the line is dead"
                raise ConnectionError(message)
            return row

        whole.add_map(fail)
        return source


def test_a_retry_refreshes_what_is_left_and_not_what_was_loaded(pipeline):
    run(one_line(shop(), pipeline))
    flaky = Flaky(1)

    @dlt_assets(
        dlt_source=flaky.source(),
        dlt_pipeline=pipeline,
        name="load",
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        flaky.calls += 1
        yield from dlt_resource.run(context=context)

    result = run(load, {"refresh": "drop_sources"})

    assert result.success
    assert days(pipeline) == [1, 2, 3]
    assert days(pipeline, "visits") == [1, 2, 3]
    # The first attempt has loaded the two others apart, the second one only what was left.
    loads = "select count(distinct _dlt_load_id) from raw.orders"
    assert query(pipeline, loads) == [(1,)]


def test_a_resumed_package_drops_its_tables_and_the_run_does_not_drop_them_again(
    pipeline, monkeypatch, capfd
):
    run(one_line(shop(), pipeline))
    outage(monkeypatch)
    assets = one_line(shop(until=5), pipeline, retry_policy=dg.RetryPolicy(max_retries=1))
    result = run(assets, {"refresh": "drop_resources"})

    assert result.success
    assert days(pipeline) == [1, 2, 3, 4, 5]
    assert capfd.readouterr().err.count("Refresh drop_resources drops") == 1


# --- refusals ----------------------------------------------------------------------------------

DAILY = dg.DailyPartitionsDefinition("2024-01-01")


@pytest.mark.parametrize("chosen", [{"refresh": "drop_data"}, {"write_disposition": "replace"}])
def test_what_takes_away_all_partitions_is_refused_in_a_run_of_one(pipeline, chosen):
    assets = one_line(by_time(), pipeline, partitions_def=DAILY)

    error = refused(assets, chosen, partition_key="2024-01-02")

    assert error.cls_name == "RunConfigError"
    assert "would take away the rows of all partitions, and the run is for '2024-01-02'" in (
        error.message
    )


def test_a_run_of_all_partitions_may_begin_anew(pipeline):
    monthly = dg.MonthlyPartitionsDefinition("2023-12-01", end_date="2024-03-01")
    assets = one_line(by_time(), pipeline, partitions_def=monthly)
    everything = {
        "dagster/asset_partition_range_start": "2023-12-01",
        "dagster/asset_partition_range_end": "2024-02-01",
    }
    for _ in range(2):
        run(assets, {"refresh": "drop_data"}, tags=everything)

    assert query(pipeline, "select count(*) from raw.orders") == [(90,)]
    january = dict.fromkeys(everything, "2024-01-01")
    assert "all partitions" in refused(assets, {"refresh": "drop_data"}, tags=january).message


def test_a_refresh_in_code_is_refused_in_a_run_of_a_partition_too(make_pipeline):
    assets = one_line(by_time(), make_pipeline(refresh="drop_sources"), partitions_def=DAILY)

    assert "all partitions" in refused(assets, partition_key="2024-01-02").message


def test_a_window_is_refused_in_a_run_of_a_partition(pipeline):
    assets = one_line(by_time(), pipeline, partitions_def=DAILY)

    error = refused(assets, {"window": JANUARY}, partition_key="2024-01-02")

    assert "window is given to a run of partition '2024-01-02'" in error.message


@pytest.mark.parametrize("anew", [{"refresh": "drop_data"}, {"write_disposition": "replace"}])
def test_a_window_is_refused_together_with_what_takes_away_all_rows(pipeline, anew):
    error = refused(one_line(shop(), pipeline), {"window": JANUARY, **anew})

    assert "takes away the rows outside of it as well" in error.message


def test_a_resource_that_is_not_loaded_is_refused_with_the_nearest_name(pipeline):
    error = refused(one_line(shop(), pipeline), {"resources": ["order"]})

    assert error.cls_name == "ResourceNotSelectedError"
    assert "Did you mean 'orders'?" in error.message


def test_a_resource_whose_asset_is_not_selected_is_refused(pipeline):
    assets = one_line(shop(), pipeline)

    error = refused(assets, {"resources": ["orders"]}, selection=[dg.AssetKey("dlt_shop_prices")])

    assert "It loads 'prices'" in error.message


def test_leaving_out_an_asset_that_dagster_would_take_for_loaded_is_refused(pipeline):
    specs = [spec.replace_attributes(skippable=False) for spec in one_line(shop(), pipeline).specs]

    @dg.multi_asset(specs=specs, name="load")
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)

    error = refused(load, {"resources": ["orders"]})

    assert "would leave out asset 'dlt_shop_" in error.message


@pytest.mark.parametrize(
    ("start", "end"),
    [("2024-02-01", "2024-01-01"), ("2024-01-01", "2024-01-01"), ("January", "2024-01-01")],
)
def test_a_window_has_to_be_two_times_in_their_order(start, end):
    with pytest.raises(ValidationError, match=r"not after its start|Invalid isoformat"):
        DltWindow(start=start, end=end)


def test_a_limit_has_to_limit_something():
    with pytest.raises(ValidationError, match="neither max_items nor max_time"):
        DltLimit(count_rows=True)


@pytest.mark.parametrize(
    "wrong",
    [{"max_workers": 0}, {"resources": []}, {"workers": {"load": 0}}, {"limit": {"max_items": 0}}],
)
def test_numbers_and_lists_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        DltRunConfig(**wrong)


# --- dry run -----------------------------------------------------------------------------------


def files(folder: Path):
    """Return every file, with what is in it."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def observed(result):
    """Return the plans of a dry run by asset."""
    events = [event for event in result.all_events if event.is_asset_observation]
    found = [event.event_specific_data.asset_observation for event in events]
    return {each.asset_key.path[-1]: each.metadata["dagster_dlt/dry_run"].value for each in found}


def test_a_dry_run_of_a_first_load_touches_nothing_and_succeeds(pipeline, tmp_path, capfd):
    calls = []
    source = shop()
    source.resources["orders"].add_map(lambda row: calls.append(row) or row)
    before = files(tmp_path)
    result = run(one_line(source, pipeline), {"dry_run": True})

    assert result.success
    assert not result.get_asset_materialization_events()
    assert files(tmp_path) == before
    assert not calls
    assert "Dry run: nothing is loaded, written or materialized." in capfd.readouterr().err
    assert set(observed(result)) == {"dlt_shop_orders", "dlt_shop_visits", "dlt_shop_prices"}


def test_a_dry_run_tells_cursors_what_is_dropped_and_what_waits(pipeline, tmp_path, monkeypatch):
    run(one_line(shop(), pipeline))
    outage(monkeypatch)
    run(one_line(shop(until=4), pipeline), raise_on_error=False)
    assets = one_line(shop(until=5), pipeline)
    before = files(tmp_path)

    plain = observed(run(assets, {"dry_run": True}))["dlt_shop_orders"]
    anew = observed(run(assets, {"dry_run": True, "refresh": "drop_sources"}))["dlt_shop_orders"]

    assert files(tmp_path) == before
    assert plain["target"] == "duckdb/warehouse.raw"
    assert plain["cursors"] == {"orders.at": "3", "visits.at": "3"}
    assert len(plain["pending_packages"]) == 1
    assert plain["on_pending"] == "resume"
    assert "dropped_tables" not in plain
    assert anew["refresh"] == "drop_sources"
    assert anew["dropped_tables"] == ["orders", "orders__items", "prices", "visits"]
    assert anew["forgotten_cursors"] == ["orders.at", "visits.at"]
    assert "cursors" not in anew
    run(assets)
    assert days(pipeline) == [1, 2, 3, 4, 5]


def test_a_dry_run_tells_what_else_was_chosen(pipeline):
    config = {
        "dry_run": True,
        "window": JANUARY,
        "limit": {"max_items": 5, "count_rows": True},
        "decompose": "serialize",
        "workers": {"load": 1},
        "resources": ["orders", "prices"],
    }

    source = by_time().with_resources("orders", "prices")
    told = observed(run(one_line(source, pipeline), config))["dlt_shop_orders"]

    assert told["window"] == "2024-01-01 00:00:00+00:00 <= cursor < 2024-02-01 00:00:00+00:00"
    assert told["limit"].startswith("Limit: each resource is read up to 5 rows.")
    assert told["packages"] == [["orders"], ["prices"]]
    assert told["workers"] == {"load": 1}
    assert told["resources"] == ["orders"]


@pytest.mark.parametrize("where", ["files", "own directory"])
def test_a_dry_run_touches_nothing_wherever_the_data_are(make_pipeline, tmp_path, where):
    bucket = dlt.destinations.filesystem(bucket_url=(tmp_path / "bucket").as_uri())
    destination = bucket if where == "files" else dlt.destinations.duckdb(":pipeline:")
    assets = one_line(shop(), make_pipeline(destination=destination))
    start = set(tmp_path.rglob("*"))

    first = observed(run(assets, {"dry_run": True}))["dlt_shop_orders"]

    assert set(tmp_path.rglob("*")) == start
    assert "cursors" not in first
    run(assets)
    before = files(tmp_path)
    second = observed(run(assets, {"dry_run": True}))["dlt_shop_orders"]
    assert files(tmp_path) == before
    assert second["cursors"] == {"orders.at": "3", "visits.at": "3"}


def test_a_dry_run_names_what_is_parked_and_leaves_it_there(pipeline, tmp_path, monkeypatch):
    parking = DagsterDltResource(workspace_dir=(tmp_path / "parking").as_uri())
    outage(monkeypatch)
    run(one_line(shop(), pipeline), resource=parking, raise_on_error=False)
    before = files(tmp_path)

    result = run(one_line(shop(), pipeline), {"dry_run": True}, resource=parking)

    assert observed(result)["dlt_shop_orders"]["pending_packages"][-1].endswith(".tar.gz")
    assert files(tmp_path) == before


def test_a_dry_run_reads_a_state_that_only_a_disk_keeps(make_pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_FROM_DESTINATION", "false")
    pipeline = make_pipeline()
    run(one_line(shop(), pipeline))
    before = files(tmp_path)

    told = observed(run(one_line(shop(), pipeline), {"dry_run": True}))["dlt_shop_orders"]

    assert told["cursors"] == {"orders.at": "3", "visits.at": "3"}
    assert files(tmp_path) == before


def test_a_dry_run_of_an_asset_that_dagster_would_take_for_loaded_is_refused(pipeline):
    @dg.asset(name="load")
    def shop_asset(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context, dlt_source=shop(), dlt_pipeline=pipeline)

    error = refused(shop_asset, {"dry_run": True})

    assert "dry_run would leave out asset 'load'" in error.message
