"""`DagsterDltResource.run` in an asset: what is loaded, with which options, and what is left."""

import inspect
from collections.abc import Iterator
from typing import Any

import dagster as dg
import dlt
import pytest
from bookshop import (
    assets_of,
    bookshop,
    events_of,
    failure_of,
    materialize,
    query,
    rows,
    tables_of,
)

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DltEventIterator,
    build_dlt_asset_specs,
    dlt_assets,
)


def test_the_arguments_begin_with_the_documented_ones():
    parameters = inspect.signature(DagsterDltResource.run).parameters
    (options,) = (p for p in parameters.values() if p.kind is p.VAR_KEYWORD)

    assert [name for name in parameters if name != options.name][:5] == [
        "self",
        "context",
        "dlt_source",
        "dlt_pipeline",
        "dagster_dlt_translator",
    ]
    assert parameters["context"].default is inspect.Parameter.empty
    for name in ("dlt_source", "dlt_pipeline", "dagster_dlt_translator"):
        assert parameters[name].default is None


def test_the_resource_needs_no_configuration():
    assert isinstance(DagsterDltResource(), dg.ConfigurableResource)


def test_a_run_is_an_iterator_of_materialize_results(new_pipeline):
    seen: list[Any] = []

    @dlt_assets(dlt_source=bookshop(), dlt_pipeline=new_pipeline())
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        events = dlt.run(context)
        seen.append(events)
        for event in events:
            seen.append(event)
            yield event

    assert materialize(load, selection=["dlt_bookshop_sales"]).success

    iterator, *events = seen
    assert isinstance(iterator, DltEventIterator)
    assert isinstance(iterator, Iterator)
    (event,) = events
    assert isinstance(event, dg.MaterializeResult)
    assert event.asset_key == dg.AssetKey("dlt_bookshop_sales")


@pytest.mark.parametrize("context", ["annotated", "not annotated"])
def test_a_context_needs_no_annotation_and_the_dlt_resource_does(new_pipeline, context):
    pipeline = new_pipeline()
    if context == "annotated":

        @dlt_assets(dlt_source=rows("books", {"id": 1}), dlt_pipeline=pipeline)
        def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
            yield from dlt_resource.run(context=context)
    else:

        @dlt_assets(dlt_source=rows("books", {"id": 1}), dlt_pipeline=pipeline)
        def load(context, dlt_resource: DagsterDltResource):
            yield from dlt_resource.run(context=context)

    resources = {"dlt_resource": DagsterDltResource()}

    assert dg.materialize([load], resources=resources).success
    assert query(pipeline, "select id from raw.books") == [(1,)]


# --- what is loaded ----------------------------------------------------------------------------


def test_a_subset_run_loads_the_selected_resources_only(new_pipeline):
    pipeline = new_pipeline()

    found = events_of(
        materialize(assets_of(bookshop(), pipeline), selection=["dlt_bookshop_books"])
    )

    assert found.keys() == {"dlt_bookshop_books"}
    assert tables_of(pipeline) == {"books"}


def test_a_transformer_is_loaded_without_its_parent(new_pipeline):
    pipeline = new_pipeline()

    found = events_of(
        materialize(assets_of(bookshop(), pipeline), selection=["dlt_bookshop_reviews"])
    )

    assert found["dlt_bookshop_reviews"]["rows_loaded"] == 2
    assert tables_of(pipeline) == {"reviews"}


def test_a_source_given_to_the_run_is_loaded_instead_of_the_definitions(new_pipeline):
    pipeline = new_pipeline()
    other = rows("books", {"id": 7}, {"id": 8})

    materialize(assets_of(rows("books", {"id": 1}), pipeline, run={"dlt_source": other}))

    assert query(pipeline, "select id from raw.books order by id") == [(7,), (8,)]


def test_a_pipeline_given_to_the_run_is_used_instead_of_the_definitions(new_pipeline):
    unused, used = new_pipeline("unused"), new_pipeline("used", dataset_name="other")

    found = events_of(
        materialize(assets_of(rows("books", {"id": 1}), unused, run={"dlt_pipeline": used}))
    )

    assert query(used, "select id from other.books") == [(1,)]
    assert tables_of(unused) == set()
    assert found["dlt_shop_books"]["dataset_name"] == "other"


def test_a_translator_given_to_the_run_tells_which_asset_a_resource_is(new_pipeline):
    class Bare(DagsterDltTranslator):
        def get_asset_spec(self, data):
            return super().get_asset_spec(data).replace_attributes(key=data.resource.name)

    pipeline = new_pipeline()

    @dg.multi_asset(specs=[dg.AssetSpec("books"), dg.AssetSpec("covers")], can_subset=True)
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        yield from dlt.run(
            context=context,
            dlt_source=rows("books", {"id": 1}),
            dlt_pipeline=pipeline,
            dagster_dlt_translator=Bare(),
        )

    assert events_of(materialize(load, selection=["books"]))["books"]["rows_loaded"] == 1


def test_one_body_can_run_several_sources(new_pipeline):
    pipeline = new_pipeline()
    books, toys = rows("books", {"id": 1}, source="a"), rows("toys", {"id": 2}, source="b")

    @dg.multi_asset(
        specs=[*build_dlt_asset_specs(books, pipeline), *build_dlt_asset_specs(toys, pipeline)]
    )
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        yield from dlt.run(context, dlt_source=books, dlt_pipeline=pipeline)
        yield from dlt.run(context, dlt_source=toys, dlt_pipeline=pipeline)

    assert events_of(materialize(load)).keys() == {"dlt_a_books", "dlt_b_toys"}
    assert tables_of(pipeline) == {"books", "toys"}


# --- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, [1, 1]),
        ({"write_disposition": "replace"}, [1]),
        ({"write_disposition": "merge", "primary_key": "id"}, [1]),
        ({"refresh": "drop_resources"}, [1]),
    ],
    ids=["none", "replace", "merge", "refresh"],
)
def test_options_of_dlts_run_decide_what_a_second_run_leaves(new_pipeline, options, ids):
    pipeline = new_pipeline()
    assets = assets_of(rows("books", {"id": 1}), pipeline, run=options)

    for _ in range(2):
        materialize(assets)

    found = query(pipeline, "select id from raw.books order by id")
    assert [number for (number,) in found] == ids


def test_the_file_format_and_the_table_name_are_passed_on(new_pipeline):
    pipeline = new_pipeline()
    options = {"loader_file_format": "jsonl", "table_name": "titles"}

    found = events_of(materialize(assets_of(rows("books", {"id": 1}), pipeline, run=options)))

    assert tables_of(pipeline) == {"titles"}
    assert {job["file_format"] for job in found["dlt_shop_books"]["jobs"]} == {"jsonl"}


def test_a_schema_contract_is_passed_on_and_a_failed_load_fails_the_step(new_pipeline):
    pipeline = new_pipeline()
    materialize(assets_of(rows("books", {"id": 1}), pipeline))
    wider = assets_of(
        rows("books", {"id": 2, "title": "Emma"}),
        pipeline,
        run={"schema_contract": {"columns": "freeze"}},
    )

    result = materialize(wider, raise_on_error=False)

    assert not result.success
    assert "DataValidationError" in failure_of(result)
    assert events_of(result) == {}
    assert query(pipeline, "select id from raw.books") == [(1,)]


def test_an_error_in_a_resource_fails_the_step(new_pipeline):
    @dlt.source
    def broken():
        @dlt.resource
        def books():
            yield {"id": 1}
            message = "the till is empty"
            raise RuntimeError(message)

        return books

    result = materialize(assets_of(broken(), new_pipeline()), raise_on_error=False)

    assert not result.success
    assert "the till is empty" in failure_of(result)
    assert events_of(result) == {}


def test_an_option_that_dlt_does_not_have_fails_the_step_with_the_nearest_one(new_pipeline):
    assets = assets_of(
        rows("books", {"id": 1}), new_pipeline(), run={"write_dispositon": "replace"}
    )

    with pytest.raises(TypeError, match=r"write_dispositon.*Did you mean 'write_disposition'"):
        materialize(assets)


# --- what is left ------------------------------------------------------------------------------


def test_one_definition_is_materialized_twice_in_one_process(new_pipeline):
    pipeline = new_pipeline()
    assets = assets_of(bookshop(), pipeline)

    first, second = events_of(materialize(assets)), events_of(materialize(assets))

    assert first.keys() == second.keys()
    assert first["dlt_bookshop_sales"]["first_run"] is True
    assert second["dlt_bookshop_sales"]["first_run"] is False
    assert query(pipeline, "select count(*) from raw.books") == [(2,)]
    assert query(pipeline, "select count(*) from raw.sales") == [(6,)]


def test_an_incremental_resource_goes_on_where_the_last_run_ended(new_pipeline):
    started_at: list[Any] = []

    @dlt.source
    def feed():
        @dlt.resource(primary_key="id", write_disposition="merge")
        def news(day=dlt.sources.incremental("day", initial_value=0)):
            started_at.append(day.last_value)
            yield [{"id": number, "day": number} for number in range(day.last_value + 1)]
            yield [{"id": 100, "day": day.last_value + 1}]

        return news

    pipeline = new_pipeline()
    assets = assets_of(feed(), pipeline)

    for _ in range(3):
        materialize(assets)

    assert started_at == [0, 1, 2]


def test_the_users_pipeline_is_not_run_and_the_iterator_offers_the_one_that_was(new_pipeline):
    pipeline = new_pipeline()
    offered: list[dlt.Pipeline] = []

    @dlt_assets(dlt_source=rows("books", {"id": 1}), dlt_pipeline=pipeline)
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        events = dlt.run(context=context)
        yield from events
        offered.append(events.pipeline)

    assert materialize(load).success

    (executed,) = offered
    assert executed is not pipeline
    assert executed.pipeline_name == pipeline.pipeline_name
    assert executed.dataset_name == pipeline.dataset_name
    assert executed.last_trace.last_normalize_info.row_counts["books"] == 1
    assert "books" in executed.default_schema.tables
    assert pipeline.default_schema_name is None
    assert pipeline.schema_names == []
