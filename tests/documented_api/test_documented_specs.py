"""`build_dlt_asset_specs` as documented: one spec per resource, usable in any multi-asset."""

import inspect

import dagster as dg
from bookshop import assets_of, bookshop, events_of, materialize

from dagster_dlt import DagsterDltResource, DagsterDltTranslator, build_dlt_asset_specs
from dagster_dlt.constants import META_KEY_PIPELINE, META_KEY_SOURCE, META_KEY_TRANSLATOR


class Shouting(DagsterDltTranslator):
    """Writes resource names in capitals."""

    def get_asset_spec(self, data):
        return super().get_asset_spec(data).replace_attributes(key=data.resource.name.upper())


def test_the_arguments_are_the_documented_ones():
    parameters = inspect.signature(build_dlt_asset_specs).parameters

    documented = ["dlt_source", "dlt_pipeline", "dagster_dlt_translator"]
    assert list(parameters)[:3] == documented
    # What is added cannot be given by position.
    assert all(each.kind is each.KEYWORD_ONLY for each in list(parameters.values())[3:])
    assert parameters["dagster_dlt_translator"].default is None


def test_there_is_a_spec_for_each_resource_in_its_order(new_pipeline):
    specs = build_dlt_asset_specs(bookshop(), new_pipeline())

    assert [spec.key.to_user_string() for spec in specs] == [
        "dlt_bookshop_books",
        "dlt_bookshop_sales",
        "dlt_bookshop_reviews",
        "dlt_bookshop_returns",
    ]


def test_only_selected_resources_have_a_spec(new_pipeline):
    specs = build_dlt_asset_specs(bookshop().with_resources("sales"), new_pipeline())

    assert [spec.key.to_user_string() for spec in specs] == ["dlt_bookshop_sales"]


def test_the_translator_decides(new_pipeline):
    specs = build_dlt_asset_specs(
        dlt_source=bookshop(), dlt_pipeline=new_pipeline(), dagster_dlt_translator=Shouting()
    )

    assert specs[0].key == dg.AssetKey("BOOKS")


def test_the_decorator_makes_the_same_specs(new_pipeline):
    pipeline = new_pipeline()

    built = build_dlt_asset_specs(bookshop(), pipeline)
    decorated = assets_of(bookshop(), pipeline).specs

    # Dagster itself adds the default group and its own metadata.
    for attribute in ("key", "deps", "description", "kinds", "owners"):
        assert [getattr(spec, attribute) for spec in decorated] == [
            getattr(spec, attribute) for spec in built
        ]
    for ours, theirs in zip(built, decorated, strict=True):
        assert ours.metadata.items() <= theirs.metadata.items()


def test_the_three_keys_read_as_text(new_pipeline):
    (spec, *_) = build_dlt_asset_specs(bookshop(), new_pipeline("nightly"), Shouting())

    assert isinstance(spec.metadata[META_KEY_SOURCE], str)
    assert spec.metadata[META_KEY_SOURCE] == "bookshop"
    assert spec.metadata[META_KEY_PIPELINE] == "nightly → duckdb/raw"
    assert spec.metadata[META_KEY_TRANSLATOR] == "Shouting"


def test_a_multi_asset_of_these_specs_runs_without_being_told_what_to_load(new_pipeline):
    @dg.multi_asset(
        specs=build_dlt_asset_specs(bookshop(), new_pipeline(), Shouting()), can_subset=True
    )
    def load(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
        yield from dlt.run(context)

    found = events_of(materialize(load))

    assert {key: event["rows_loaded"] for key, event in found.items()} == {
        "BOOKS": 2,
        "SALES": 3,
        "REVIEWS": 2,
        "RETURNS": 0,
    }


def test_a_pipeline_may_have_a_name_that_is_no_identifier(new_pipeline):
    (spec, *_) = build_dlt_asset_specs(bookshop(), new_pipeline("nightly-load"))

    assert spec.metadata["dagster/table_name"] == "warehouse.raw.books"
    assert spec.metadata[META_KEY_PIPELINE] == "nightly-load → duckdb/raw"
