"""What an event says of a load: the documented metadata, from one materialization."""

import inspect
from datetime import datetime
from typing import Any

import dagster as dg
import dlt
import pytest
from bookshop import assets_of, bookshop, events_of, materialize, rows

from dagster_dlt import DagsterDltResource, dlt_assets

ALWAYS = {
    "first_run",
    "started_at",
    "finished_at",
    "dataset_name",
    "destination_name",
    "destination_type",
    "jobs",
    "rows_loaded",
    "dagster/storage_kind",
}
OF_A_TABLE = {"dagster/column_schema", "dagster/table_name"}


@pytest.fixture(scope="module")
def assets(new_pipeline):
    return assets_of(bookshop(), new_pipeline())


@pytest.fixture(scope="module")
def events(assets):
    return events_of(materialize(assets))


@pytest.fixture(scope="module")
def books(events):
    return events["dlt_bookshop_books"]


@pytest.fixture(scope="module")
def sales(events):
    return events["dlt_bookshop_sales"]


def columns_of(schema: dg.TableSchema) -> dict[str, dg.TableColumn]:
    return {column.name: column for column in schema.columns}


# --- the load ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["books", "sales", "reviews", "returns"])
def test_an_event_carries_the_documented_keys(events, name):
    assert events[f"dlt_bookshop_{name}"].keys() >= ALWAYS


@pytest.mark.parametrize("name", ["books", "sales", "reviews"])
def test_an_event_of_a_loaded_table_describes_it(events, name):
    assert events[f"dlt_bookshop_{name}"].keys() >= OF_A_TABLE


def test_an_event_names_the_destination(books):
    assert books["destination_name"] == "duckdb"
    assert books["destination_type"] == "dlt.destinations.duckdb"
    assert books["dataset_name"] == "raw"
    assert books["dagster/storage_kind"] == "duckdb"


def test_an_event_says_when_the_load_ran(books):
    started, finished = map(datetime.fromisoformat, (books["started_at"], books["finished_at"]))

    assert books["first_run"] is True
    assert started <= finished


def test_the_jobs_are_the_resources_own(books, sales):
    assert {job["table_name"] for job in books["jobs"]} == {"books"}
    assert {job["table_name"] for job in sales["jobs"]} == {"sales", "sales__lines"}
    assert {job["state"] for job in sales["jobs"]} == {"completed_jobs"}


def test_rows_are_counted_without_nested_ones(books, sales):
    assert books["rows_loaded"] == 2
    assert sales["rows_loaded"] == 3


def test_a_resource_without_rows_has_loaded_zero(events):
    assert events["dlt_bookshop_returns"]["rows_loaded"] == 0
    assert events["dlt_bookshop_returns"]["jobs"] == []


def test_a_load_to_which_nothing_arrives_at_all_has_loaded_zero(new_pipeline):
    assets = assets_of(bookshop().with_resources("returns"), new_pipeline())

    for _ in range(2):
        assert events_of(materialize(assets))["dlt_bookshop_returns"]["rows_loaded"] == 0


# --- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["books", "sales", "reviews", "returns"])
def test_the_table_name_is_the_one_a_query_uses_before_and_after_the_load(assets, events, name):
    key = f"dlt_bookshop_{name}"
    defined = assets.metadata_by_key[dg.AssetKey(key)]

    assert defined["dagster/table_name"] == f"warehouse.raw.{name}"
    assert events[key]["dagster/table_name"] == f"warehouse.raw.{name}"


def test_assets_that_share_a_table_name_it_under_two_keys(new_pipeline):
    @dlt.source
    def shop():
        return (
            dlt.resource([{"id": 1}], name="paperbacks", table_name="books"),
            dlt.resource([{"id": 2}, {"id": 3}], name="hardbacks", table_name="books"),
        )

    assets = assets_of(shop(), new_pipeline())
    first, second = (dg.AssetKey(f"dlt_shop_{name}") for name in ("paperbacks", "hardbacks"))

    assert assets.metadata_by_key[first]["dagster/table_name"] == "warehouse.raw.books"
    assert assets.metadata_by_key[second]["dagster_dlt/table"] == "warehouse.raw.books"
    assert "dagster/table_name" not in assets.metadata_by_key[second]

    events = events_of(materialize(assets))

    assert events["dlt_shop_paperbacks"]["dagster/table_name"] == "warehouse.raw.books"
    assert events["dlt_shop_hardbacks"]["dagster_dlt/table"] == "warehouse.raw.books"
    assert "dagster/table_name" not in events["dlt_shop_hardbacks"]
    assert [event["rows_loaded"] for event in events.values()] == [1, 2]


# --- columns -----------------------------------------------------------------------------------


def test_the_column_schema_is_the_destinations(books):
    columns = columns_of(books["dagster/column_schema"])

    assert {name: column.type for name, column in columns.items()} == {
        "isbn": "text",
        "title": "text",
        "price": "bigint",
        "_dlt_id": "text",
        "_dlt_load_id": "text",
    }


def test_a_key_column_is_constrained_by_its_hints(books):
    constraints = columns_of(books["dagster/column_schema"])["isbn"].constraints

    assert not constraints.nullable
    assert constraints.unique
    assert constraints.other == ["primary_key"]


def test_an_ordinary_column_is_not_constrained(books):
    constraints = columns_of(books["dagster/column_schema"])["title"].constraints

    assert constraints.nullable
    assert not constraints.unique
    assert constraints.other == []


def test_the_row_key_is_among_the_other_hints(books):
    constraints = columns_of(books["dagster/column_schema"])["_dlt_id"].constraints

    assert not constraints.nullable
    assert constraints.unique
    assert "row_key" in constraints.other


def test_what_only_describes_a_column_is_no_constraint(events):
    described = {"name", "data_type", "nullable", "unique"}
    schemas = [
        value
        for event in events.values()
        for value in event.values()
        if isinstance(value, dg.TableSchema)
    ]

    assert schemas
    for schema in schemas:
        for column in schema.columns:
            assert described.isdisjoint(column.constraints.other)


# --- nested tables -----------------------------------------------------------------------------


def test_a_nested_table_is_an_entry_of_its_own(sales):
    columns = columns_of(sales["sales__lines"])

    assert isinstance(sales["sales__lines"], dg.TableSchema)
    assert columns["isbn"].type == "text"
    assert "parent_key" in columns["_dlt_parent_id"].constraints.other


def test_a_table_without_nested_ones_has_no_further_entries(books):
    assert not [name for name in books if name.startswith("books__")]


def test_a_resource_whose_name_extends_anothers_is_not_nested_in_it(new_pipeline):
    @dlt.source
    def shop():
        return (
            dlt.resource([{"id": 1}], name="sales"),
            dlt.resource([{"id": 2}, {"id": 3}], name="sales__audit"),
        )

    events = events_of(materialize(assets_of(shop(), new_pipeline())))

    assert "sales__audit" not in events["dlt_shop_sales"]
    assert events["dlt_shop_sales__audit"]["rows_loaded"] == 2
    assert "id" in columns_of(events["dlt_shop_sales__audit"]["dagster/column_schema"])


# --- a load that the caller ran ----------------------------------------------------------------


def test_extract_resource_metadata_has_the_documented_arguments():
    parameters = inspect.signature(DagsterDltResource.extract_resource_metadata).parameters

    assert list(parameters) == ["self", "context", "resource", "load_info", "dlt_pipeline"]
    assert all(parameter.default is parameter.empty for parameter in parameters.values())


def test_a_load_that_the_caller_ran_has_the_same_metadata(new_pipeline, events):
    pipeline = new_pipeline()
    source = bookshop()

    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline)
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        info = pipeline.run(source)
        for name, resource in source.selected_resources.items():
            metadata: Any = dlt.extract_resource_metadata(context, resource, info, pipeline)
            yield dg.MaterializeResult(asset_key=f"dlt_bookshop_{name}", metadata=metadata)

    found = events_of(materialize(load))

    for name in ("books", "sales", "reviews"):
        mine, theirs = found[f"dlt_bookshop_{name}"], events[f"dlt_bookshop_{name}"]
        assert mine.keys() == theirs.keys()
        for key in ("rows_loaded", "dagster/table_name", "dagster/column_schema", "first_run"):
            assert mine[key] == theirs[key]
        assert {job["table_name"] for job in mine["jobs"]} == {
            job["table_name"] for job in theirs["jobs"]
        }
    assert found["dlt_bookshop_returns"]["rows_loaded"] == 0


def test_metadata_can_be_extracted_for_one_resource_in_a_plain_asset(new_pipeline):
    pipeline = new_pipeline()

    @dg.asset
    def titles(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        source = rows("books", {"id": 1})
        info = pipeline.run(source)
        metadata = dlt.extract_resource_metadata(
            context=context,
            resource=source.resources["books"],
            load_info=info,
            dlt_pipeline=pipeline,
        )
        return dg.MaterializeResult(metadata=metadata)

    assert events_of(materialize(titles))["titles"]["rows_loaded"] == 1
