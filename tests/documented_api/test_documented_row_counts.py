"""`fetch_row_count`: counts read from the destination, which never fail a load."""

import logging

import dagster as dg
import pytest
from bookshop import assets_of, bookshop, events_of, materialize

from dagster_dlt import DagsterDltResource, DltEventIterator, dlt_assets, dlt_event_iterator


def counted(pipeline, **options) -> dg.AssetsDefinition:
    @dlt_assets(dlt_source=bookshop(), dlt_pipeline=pipeline, name="load", **options)
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        events = dlt.run(context=context).fetch_row_count()
        assert isinstance(events, DltEventIterator)
        yield from events

    return load


@pytest.fixture(scope="module")
def second(new_pipeline):
    """Metadata of the second of two loads."""
    assets = counted(new_pipeline())
    materialize(assets)
    return events_of(materialize(assets))


def test_the_count_is_of_the_rows_at_the_destination(second):
    assert second["dlt_bookshop_sales"]["rows_loaded"] == 3
    assert second["dlt_bookshop_sales"]["dagster/row_count"] == 6


def test_a_merged_table_is_counted_as_it_is(second):
    assert second["dlt_bookshop_books"]["dagster/row_count"] == 2


def test_the_other_metadata_stays(second):
    assert second["dlt_bookshop_sales"].keys() >= {
        "jobs",
        "sales__lines",
        "dagster/column_schema",
        "dagster/table_name",
    }


def test_without_asking_there_is_no_count(new_pipeline):
    found = events_of(
        materialize(assets_of(bookshop(), new_pipeline()), selection=["dlt_bookshop_books"])
    )

    assert "dagster/row_count" not in found["dlt_bookshop_books"]


def test_the_query_goes_through_a_function_that_can_be_replaced(new_pipeline, monkeypatch):
    asked: list[tuple[str, str]] = []

    def forty_two(dlt_pipeline, table_name):
        asked.append((dlt_pipeline.pipeline_name, table_name))
        return 42

    monkeypatch.setattr(dlt_event_iterator, "_fetch_row_count", forty_two)

    found = events_of(
        materialize(counted(new_pipeline("nightly")), selection=["dlt_bookshop_books"])
    )

    assert asked == [("nightly", "books")]
    assert found["dlt_bookshop_books"]["dagster/row_count"] == 42


def test_a_count_that_cannot_be_had_is_a_warning(new_pipeline, monkeypatch):
    def refused(*_args):
        message = "permission denied"
        raise RuntimeError(message)

    warnings: list[str] = []

    @dg.logger
    def listener(_context):
        logger = logging.Logger("listener")  # noqa: LOG001 - heard by this test alone
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: warnings.append(record.getMessage())
        logger.addHandler(handler)
        return logger

    monkeypatch.setattr(dlt_event_iterator, "_fetch_row_count", refused)
    job = dg.define_asset_job("job", selection=["dlt_bookshop_books"])
    defs = dg.Definitions(
        assets=[counted(new_pipeline())],
        jobs=[job],
        resources={"dlt": DagsterDltResource()},
        loggers={"listener": listener},
    )

    result = defs.resolve_job_def("job").execute_in_process(
        run_config={"loggers": {"listener": {}}}
    )

    assert result.success
    assert "dagster/row_count" not in events_of(result)["dlt_bookshop_books"]
    assert [text for text in warnings if "books" in text and "permission denied" in text]


def test_a_run_of_one_partition_counts_the_rows_it_loaded(new_pipeline):
    colours = dg.StaticPartitionsDefinition(["red", "green"])
    assets = counted(new_pipeline(), partitions_def=colours)

    for colour in ("red", "green"):
        found = events_of(materialize(assets, partition_key=colour))

    assert found["dlt_bookshop_sales"]["dagster/partition_row_count"] == 3
    assert found["dlt_bookshop_returns"]["dagster/partition_row_count"] == 0
    assert "dagster/row_count" not in found["dlt_bookshop_sales"]
