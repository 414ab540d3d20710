"""`DagsterDltResource.run` in an op, which has to be told what to load."""

from typing import Any

import dagster as dg
import pytest
from bookshop import bookshop, events_of, query, rows

from dagster_dlt import DagsterDltResource, DagsterDltTranslator


class Bare(DagsterDltTranslator):
    """Keys are the resources' names."""

    def get_asset_spec(self, data):
        return super().get_asset_spec(data).replace_attributes(key=data.resource.name)


def execute(op: dg.OpDefinition) -> dg.ExecuteInProcessResult:
    @dg.job(resource_defs={"dlt": DagsterDltResource()})
    def nightly():
        op()

    return nightly.execute_in_process()


def test_an_op_yields_materializations_of_all_resources(new_pipeline):
    pipeline = new_pipeline()
    seen: list[Any] = []

    @dg.op(out={})
    def load(context: dg.OpExecutionContext, dlt: DagsterDltResource):
        for event in dlt.run(context=context, dlt_source=bookshop(), dlt_pipeline=pipeline):
            seen.append(event)
            yield event

    found = events_of(execute(load))

    assert {type(event) for event in seen} == {dg.AssetMaterialization}
    assert {key: event["rows_loaded"] for key, event in found.items()} == {
        "dlt_bookshop_books": 2,
        "dlt_bookshop_sales": 3,
        "dlt_bookshop_reviews": 2,
        "dlt_bookshop_returns": 0,
    }
    assert found["dlt_bookshop_books"]["dagster/table_name"] == "warehouse.raw.books"
    assert query(pipeline, "select count(*) from raw.sales") == [(3,)]


def test_an_op_can_log_the_events_and_return_a_value(new_pipeline):
    pipeline = new_pipeline()

    @dg.op
    def load(context, dlt: DagsterDltResource) -> int:
        events = dlt.run(
            context=context,
            dlt_source=rows("books", {"id": 1}),
            dlt_pipeline=pipeline,
            dagster_dlt_translator=Bare(),
        ).fetch_row_count()
        for event in events:
            context.log_event(event)
        return 42

    result = execute(load)

    assert result.output_for_node("load") == 42
    assert events_of(result)["books"]["dagster/row_count"] == 1


def test_options_are_passed_on_in_an_op(new_pipeline):
    pipeline = new_pipeline()

    @dg.op(out={})
    def load(context: dg.OpExecutionContext, dlt: DagsterDltResource):
        yield from dlt.run(context, rows("books", {"id": 1}), pipeline, write_disposition="replace")

    for _ in range(2):
        execute(load)

    assert query(pipeline, "select count(*) from raw.books") == [(1,)]


@pytest.mark.parametrize("missing", ["dlt_source", "dlt_pipeline"])
def test_an_op_without_source_or_pipeline_is_told_to_pass_both(new_pipeline, missing):
    given = {"dlt_source": rows("books", {"id": 1}), "dlt_pipeline": new_pipeline()}
    del given[missing]

    @dg.op(out={})
    def load(context: dg.OpExecutionContext, dlt: DagsterDltResource):
        yield from dlt.run(context=context, **given)

    with pytest.raises(Exception, match=r"'load'.*Pass dlt_source= and dlt_pipeline="):
        execute(load)
