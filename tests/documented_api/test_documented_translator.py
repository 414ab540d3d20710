"""The translator as documented: what an asset is by default, and `get_asset_spec` to change it."""

import dagster as dg
import dlt
import pytest
from bookshop import bookshop, events_of, materialize
from dlt.destinations import duckdb

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DltResourceTranslatorData,
    build_dlt_asset_specs,
    dlt_assets,
)


@pytest.fixture
def books():
    return bookshop().resources["books"]


def default_spec(**data) -> dg.AssetSpec:
    return DagsterDltTranslator().get_asset_spec(DltResourceTranslatorData(**data))


def test_the_key_names_source_and_resource(books, new_pipeline):
    spec = default_spec(resource=books, pipeline=new_pipeline())

    assert spec.key == dg.AssetKey("dlt_bookshop_books")


def test_an_asset_depends_on_one_named_after_source_and_resource(books, new_pipeline):
    spec = default_spec(resource=books, pipeline=new_pipeline())

    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey("bookshop_books")]


@pytest.mark.parametrize("name", ["short", "shorter"])
def test_a_transformer_depends_on_the_root_of_its_chain(name, new_pipeline):
    @dlt.source
    def shelf():
        titles = dlt.resource([{"title": "Emma"}], name="titles")
        short = dlt.transformer(lambda page: page, data_from=titles, name="short")
        return titles, short, dlt.transformer(lambda page: page, data_from=short, name="shorter")

    spec = default_spec(resource=shelf().resources[name], pipeline=new_pipeline())

    assert spec.key == dg.AssetKey(f"dlt_shelf_{name}")
    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey("shelf_titles")]


def test_the_description_is_the_resource_functions_docstring(books, new_pipeline):
    spec = default_spec(resource=books, pipeline=new_pipeline())

    assert spec.description == "Every title on the shelves."


@pytest.mark.parametrize(
    "resource",
    [bookshop().resources["returns"], dlt.resource([{"id": 1}], name="returns")],
    ids=["of a function without docstring", "of data"],
)
def test_a_resource_without_docstring_has_no_description(resource, new_pipeline):
    spec = default_spec(resource=resource, pipeline=new_pipeline())

    assert spec.description is None


def test_the_kinds_are_dlt_and_the_destination(books, new_pipeline):
    spec = default_spec(resource=books, pipeline=new_pipeline())

    assert spec.kinds == {"dlt", "duckdb"}


def test_a_named_destination_is_a_kind_by_its_name(books):
    pipeline = dlt.pipeline("named", destination=dlt.destinations.duckdb(destination_name="lake"))

    assert default_spec(resource=books, pipeline=pipeline).kinds == {"dlt", "lake"}


def test_metadata_names_the_table_and_the_storage(books, new_pipeline):
    spec = default_spec(resource=books, pipeline=new_pipeline())

    assert spec.metadata == {
        "dagster/storage_kind": "duckdb",
        "dagster/table_name": "warehouse.raw.books",
    }


def test_a_pipeline_may_have_a_name_that_is_no_identifier(books, new_pipeline):
    spec = default_spec(resource=books, pipeline=new_pipeline("nightly-load"))

    assert spec.metadata["dagster/table_name"] == "warehouse.raw.books"


def test_without_credentials_the_table_name_has_no_database(books):
    pipeline = dlt.pipeline("secret", destination="snowflake", dataset_name="raw")

    assert default_spec(resource=books, pipeline=pipeline).metadata == {
        "dagster/storage_kind": "snowflake",
        "dagster/table_name": "RAW.BOOKS",  # as Snowflake has it
    }


def test_there_are_no_other_tags_no_group_no_owners_and_no_automation(books, new_pipeline):
    spec = default_spec(resource=books, pipeline=new_pipeline())

    assert {tag for tag in spec.tags if not tag.startswith("dagster/kind/")} == set()
    assert spec.group_name is None
    assert list(spec.owners) == []
    assert spec.automation_condition is None


def test_without_a_pipeline_what_the_destination_decides_is_left_out(books):
    data = DltResourceTranslatorData(resource=books, pipeline=None)

    spec = DagsterDltTranslator().get_asset_spec(data)

    assert data.destination is None
    assert spec.key == dg.AssetKey("dlt_bookshop_books")
    assert spec.kinds == {"dlt"}
    assert spec.metadata == {}


def test_the_pipelines_destination_is_the_datas(books, new_pipeline):
    pipeline = new_pipeline()

    data = DltResourceTranslatorData(resource=books, pipeline=pipeline)

    assert data.resource is books
    assert data.pipeline is pipeline
    assert data.destination is pipeline.destination


def test_the_older_form_takes_a_destination_instead_of_a_pipeline(books):
    destination = duckdb()
    data = DltResourceTranslatorData(resource=books, destination=destination)

    spec = DagsterDltTranslator().get_asset_spec(data)

    assert data.destination is destination
    assert data.pipeline is None
    assert spec.kinds == {"dlt", "duckdb"}
    assert spec.metadata["dagster/storage_kind"] == "duckdb"


class Curated(DagsterDltTranslator):
    """Changes the default spec in both documented ways."""

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        replaced = spec.replace_attributes(
            key=dg.AssetKey(data.resource.name), deps=[dg.AssetKey("publisher")]
        )
        return replaced.merge_attributes(
            tags={"tier": "gold"}, metadata={"pipeline": data.pipeline.pipeline_name}
        )


def test_an_override_changes_the_default_spec(new_pipeline):
    (spec, *_) = build_dlt_asset_specs(bookshop(), new_pipeline("nightly"), Curated())

    assert spec.key == dg.AssetKey("books")
    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey("publisher")]
    assert spec.tags["tier"] == "gold"
    assert spec.kinds == {"dlt", "duckdb"}
    assert spec.metadata["pipeline"] == "nightly"
    assert spec.metadata["dagster/storage_kind"] == "duckdb"


def test_events_carry_the_keys_that_the_override_chose(new_pipeline):
    @dlt_assets(
        dlt_source=bookshop(), dlt_pipeline=new_pipeline(), dagster_dlt_translator=Curated()
    )
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        yield from dlt.run(context=context)

    found = events_of(materialize(load))

    assert found.keys() == {"books", "sales", "reviews", "returns"}
    assert found["sales"]["rows_loaded"] == 3


def test_the_key_of_a_resource_can_be_asked_of_the_translator(books):
    data = DltResourceTranslatorData(resource=books, pipeline=None)

    @dg.asset(deps=[DagsterDltTranslator().get_asset_spec(data).key])
    def report(): ...

    assert report.dependency_keys == {dg.AssetKey("dlt_bookshop_books")}
