"""`@dlt_assets` as documented: its arguments, and the assets definition it returns."""

import inspect

import dagster as dg
import dlt
import pytest
from bookshop import assets_of, bookshop, events_of, materialize, rows

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DltResourceTranslatorData,
    dlt_assets,
)

REQUIRED = ("dlt_source", "dlt_pipeline")
OPTIONAL = (
    "name",
    "group_name",
    "dagster_dlt_translator",
    "partitions_def",
    "backfill_policy",
    "hooks",
    "op_tags",
    "pool",
)

BOOKS = dg.AssetKey("dlt_bookshop_books")


class Prefixed(DagsterDltTranslator):
    """Puts a word before each resource's name."""

    def __init__(self, word: str) -> None:
        self.word = word

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(key=[self.word, data.resource.name])


class Grouped(DagsterDltTranslator):
    """Gives every resource a group."""

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        return super().get_asset_spec(data).replace_attributes(group_name="own")


@pytest.mark.parametrize("name", REQUIRED)
def test_source_and_pipeline_are_required_by_keyword(name):
    parameter = inspect.signature(dlt_assets).parameters[name]

    assert parameter.kind is parameter.KEYWORD_ONLY
    assert parameter.default is parameter.empty


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_documented_option_is_keyword_only_and_none_by_default(name):
    parameter = inspect.signature(dlt_assets).parameters[name]

    assert parameter.kind is parameter.KEYWORD_ONLY
    assert parameter.default is None


def test_no_further_argument_is_required():
    parameters = inspect.signature(dlt_assets).parameters
    further = [parameters[name] for name in parameters.keys() - {*REQUIRED, *OPTIONAL}]

    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in further)
    assert all(parameter.default is None for parameter in further)


def test_the_definition_can_be_asked_what_it_holds(new_pipeline):
    assets = assets_of(bookshop(), new_pipeline())

    assert isinstance(assets, dg.AssetsDefinition)
    assert assets.keys == {
        dg.AssetKey(f"dlt_bookshop_{name}") for name in ("books", "sales", "reviews", "returns")
    }
    assert {spec.key for spec in assets.specs} == assets.keys
    assert assets.asset_deps[BOOKS] == {dg.AssetKey("bookshop_books")}
    assert assets.metadata_by_key[BOOKS]["dagster/storage_kind"] == "duckdb"
    assert assets.op.name == "load"
    assert assets.can_subset
    assert assets.partitions_def is None
    assert assets.backfill_policy is None


def test_the_op_is_named_after_the_function_unless_a_name_is_given(new_pipeline):
    @dlt_assets(dlt_source=bookshop(), dlt_pipeline=new_pipeline())
    def every_book(context: dg.AssetExecutionContext): ...

    @dlt_assets(dlt_source=bookshop(), dlt_pipeline=new_pipeline(), name="library")
    def again(context: dg.AssetExecutionContext): ...

    assert every_book.op.name == "every_book"
    assert again.op.name == "library"


def test_the_group_is_that_of_all_assets(new_pipeline):
    assets = assets_of(bookshop(), new_pipeline(), group_name="shelves")

    assert {spec.group_name for spec in assets.specs} == {"shelves"}


def test_a_group_beside_a_translator_that_sets_groups_is_refused(new_pipeline):
    with pytest.raises(dg.DagsterInvariantViolationError) as refusal:
        assets_of(
            bookshop(),
            new_pipeline("nightly"),
            group_name="shelves",
            dagster_dlt_translator=Grouped(),
        )

    text = str(refusal.value)
    assert text.startswith("Cannot set group_name parameter on dlt_assets")
    assert "bookshop" in text
    assert "nightly" in text


def test_a_translator_that_sets_groups_needs_no_parameter(new_pipeline):
    assets = assets_of(bookshop(), new_pipeline(), dagster_dlt_translator=Grouped())

    assert {spec.group_name for spec in assets.specs} == {"own"}


def test_tags_and_pool_are_the_ops(new_pipeline):
    assets = assets_of(bookshop(), new_pipeline(), op_tags={"team": "books"}, pool="warehouse")

    assert assets.op.tags["team"] == "books"
    assert assets.op.pool == "warehouse"


def test_a_hook_is_called_and_config_reaches_the_body(new_pipeline):
    called: list[str] = []

    @dg.success_hook
    def note(context: dg.HookContext):
        called.append(context.op.name)

    class Limits(dg.Config):
        rows: int = 1

    @dlt_assets(dlt_source=bookshop(), dlt_pipeline=new_pipeline(), hooks={note})
    def load(context: dg.AssetExecutionContext, config: Limits, dlt: DagsterDltResource):
        source = rows("books", *[{"isbn": str(n)} for n in range(config.rows)])
        yield from dlt.run(context=context, dlt_source=source)

    config = dg.RunConfig(ops={"load": Limits(rows=3)})
    found = events_of(materialize(load, selection=[BOOKS], run_config=config))

    assert found["dlt_bookshop_books"]["rows_loaded"] == 3
    assert called == ["load"]


def test_a_narrowed_source_gives_the_assets_that_are_left(new_pipeline):
    assets = assets_of(bookshop().with_resources("books"), new_pipeline())

    assert assets.keys == {BOOKS}


def test_two_definitions_share_a_source_under_names_and_keys_of_their_own(new_pipeline):
    source = dlt.source(lambda: dlt.resource([{"id": 1}], name="books"), name="shop")()
    morning = assets_of(
        source, new_pipeline("a"), name="morning", dagster_dlt_translator=Prefixed("am")
    )
    evening = assets_of(
        source, new_pipeline("b"), name="evening", dagster_dlt_translator=Prefixed("pm")
    )

    found = events_of(materialize(morning, evening))

    assert found.keys() == {"am/books", "pm/books"}
    assert {event["rows_loaded"] for event in found.values()} == {1}
