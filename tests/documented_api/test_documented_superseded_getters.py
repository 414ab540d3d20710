"""The getter per attribute that `get_asset_spec` superseded: overridden, called, and extended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from bookshop import bookshop, events_of, materialize

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DltResourceTranslatorData,
    build_dlt_asset_specs,
    dlt_assets,
)

EAGER = dg.AutomationCondition.eager()


@dataclass(frozen=True)
class Getter:
    """A superseded getter: what it answers by default, and where its answer ends up."""

    name: str
    default: Any
    answer: Any
    in_spec: Callable[[dg.AssetSpec], Any]


def own_tags(spec: dg.AssetSpec) -> Mapping[str, str]:
    return {name: tag for name, tag in spec.tags.items() if not name.startswith("dagster/kind/")}


GETTERS = [
    Getter(
        "get_asset_key",
        dg.AssetKey("dlt_bookshop_books"),
        dg.AssetKey(["raw", "books"]),
        lambda spec: spec.key,
    ),
    Getter(
        "get_deps_asset_keys",
        [dg.AssetKey("bookshop_books")],
        [dg.AssetKey("publisher")],
        lambda spec: [dep.asset_key for dep in spec.deps],
    ),
    Getter(
        "get_description",
        "Every title on the shelves.",
        "Titles.",
        lambda spec: spec.description,
    ),
    Getter("get_group_name", None, "shelves", lambda spec: spec.group_name),
    Getter("get_owners", [], ["team:books"], lambda spec: list(spec.owners)),
    Getter("get_tags", {}, {"tier": "gold"}, own_tags),
    Getter(
        "get_metadata",
        {"dagster/table_name": "books"},
        {"shelf": 3, "dagster/storage_kind": "duckdb"},
        lambda spec: dict(spec.metadata),
    ),
    Getter("get_automation_condition", None, EAGER, lambda spec: spec.automation_condition),
]


@pytest.fixture
def books():
    return bookshop().resources["books"]


@pytest.fixture
def data(books, new_pipeline):
    return DltResourceTranslatorData(resource=books, pipeline=new_pipeline())


def translator_with(**getters: Any) -> DagsterDltTranslator:
    """Return a translator of a class that overrides these getters."""
    return type("Custom", (DagsterDltTranslator,), getters)()


@pytest.mark.parametrize("getter", GETTERS, ids=lambda getter: getter.name)
def test_an_overridden_getter_wins_with_a_warning_that_names_its_successor(getter, data):
    translator = translator_with(**{getter.name: lambda _self, _resource: getter.answer})

    with pytest.warns(dg.SupersessionWarning, match=rf"{getter.name}\b.*get_asset_spec"):
        spec = translator.get_asset_spec(data)

    assert getter.in_spec(spec) == getter.answer


@pytest.mark.parametrize("getter", GETTERS, ids=lambda getter: getter.name)
def test_an_overridden_getter_leaves_the_other_attributes_alone(getter, data):
    translator = translator_with(**{getter.name: lambda _self, _resource: getter.answer})
    default = DagsterDltTranslator().get_asset_spec(data)

    with pytest.warns(dg.SupersessionWarning):
        spec = translator.get_asset_spec(data)

    assert spec.kinds == {"dlt", "duckdb"}
    for other in GETTERS:
        if other is not getter:
            assert other.in_spec(spec) == other.in_spec(default)


@pytest.mark.parametrize(
    "getter",
    [getter for getter in GETTERS if getter.name != "get_metadata"],
    ids=lambda getter: getter.name,
)
def test_a_getter_that_is_called_answers_with_the_default(getter, books):
    assert getattr(DagsterDltTranslator(), getter.name)(books) == getter.default


def test_the_metadata_getter_answers_without_what_the_destination_decides(books):
    assert DagsterDltTranslator().get_metadata(books) == {}


@pytest.mark.parametrize("getter", GETTERS, ids=lambda getter: getter.name)
def test_an_override_can_call_its_parents_getter(getter, data, books):
    heard = []

    def override(self, resource):
        heard.append(getattr(DagsterDltTranslator, getter.name)(self, resource))
        return getter.answer

    with pytest.warns(dg.SupersessionWarning):
        spec = translator_with(**{getter.name: override}).get_asset_spec(data)

    assert getter.in_spec(spec) == getter.answer
    assert heard == [getattr(DagsterDltTranslator(), getter.name)(books)]


def test_super_extends_the_default_key(data):
    class Prefixed(DagsterDltTranslator):
        def get_asset_key(self, resource):
            return super().get_asset_key(resource).with_prefix("raw")

    with pytest.warns(dg.SupersessionWarning):
        spec = Prefixed().get_asset_spec(data)

    assert spec.key == dg.AssetKey(["raw", "dlt_bookshop_books"])


def test_kinds_are_asked_with_the_destination(data, books):
    class Kinds(DagsterDltTranslator):
        def get_kinds(self, resource, destination):
            return super().get_kinds(resource, destination) | {"books"}

    with pytest.warns(dg.SupersessionWarning, match="get_kinds.*get_asset_spec"):
        spec = Kinds().get_asset_spec(data)

    assert spec.kinds == {"dlt", "duckdb", "books"}
    assert DagsterDltTranslator().get_kinds(books, data.destination) == {"dlt", "duckdb"}


@pytest.mark.filterwarnings("ignore:.*AutoMaterializePolicy:DeprecationWarning")
def test_an_auto_materialize_policy_becomes_a_condition(data, books):
    policy = dg.AutoMaterializePolicy.eager()
    translator = translator_with(get_auto_materialize_policy=lambda _self, _resource: policy)

    with pytest.warns(dg.SupersessionWarning, match=r"get_auto_materialize_policy.*get_asset_spec"):
        spec = translator.get_asset_spec(data)

    assert spec.automation_condition == policy.to_automation_condition()
    assert translator.get_automation_condition(books) == policy.to_automation_condition()
    assert DagsterDltTranslator().get_auto_materialize_policy(books) is None


def test_metadata_replaces_the_default_but_for_the_storage_kind(data):
    translator = translator_with(get_metadata=lambda _self, _resource: {"shelf": 3})

    with pytest.warns(dg.SupersessionWarning):
        spec = translator.get_asset_spec(data)

    assert spec.metadata == {"shelf": 3, "dagster/storage_kind": "duckdb"}


def test_a_getter_of_a_parent_class_counts_as_overridden(data):
    class Team(DagsterDltTranslator):
        def get_owners(self, _resource):
            return ["team:books"]

    class Project(Team):
        pass

    with pytest.warns(dg.SupersessionWarning, match="get_owners"):
        spec = Project().get_asset_spec(data)

    assert list(spec.owners) == ["team:books"]


def test_get_asset_spec_and_getters_can_be_overridden_together(data):
    class Both(DagsterDltTranslator):
        def get_asset_key(self, resource):
            return dg.AssetKey(resource.name)

        def get_asset_spec(self, data):
            return super().get_asset_spec(data).replace_attributes(group_name="shelves")

    with pytest.warns(dg.SupersessionWarning):
        spec = Both().get_asset_spec(data)

    assert spec.key == dg.AssetKey("books")
    assert spec.group_name == "shelves"


def test_a_translator_without_getters_of_its_own_warns_of_nothing(new_pipeline, recwarn):
    build_dlt_asset_specs(bookshop(), new_pipeline())

    assert not [warning for warning in recwarn if warning.category is dg.SupersessionWarning]


def test_assets_under_keys_from_a_getter_are_loaded(new_pipeline):
    class Raw(DagsterDltTranslator):
        def get_asset_key(self, resource):
            return dg.AssetKey(["raw", resource.name])

        def get_deps_asset_keys(self, _resource):
            return []

    with pytest.warns(dg.SupersessionWarning):

        @dlt_assets(
            dlt_source=bookshop(), dlt_pipeline=new_pipeline(), dagster_dlt_translator=Raw()
        )
        def load(context, dlt: DagsterDltResource):
            yield from dlt.run(context=context)

    found = events_of(materialize(load, selection=["raw/books", "raw/sales"]))

    assert {key: event["rows_loaded"] for key, event in found.items()} == {
        "raw/books": 2,
        "raw/sales": 3,
    }
    assert load.dependency_keys == set()
