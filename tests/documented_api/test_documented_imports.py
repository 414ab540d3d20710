"""Every documented import works, and the `dg` tool finds the library."""

import importlib
from pathlib import Path

import dagster as dg
import pytest
import tomlkit

import dagster_dlt

COMPONENT = "dagster_dlt.components.dlt_load_collection"

DOCUMENTED = [
    ("dagster_dlt", "DagsterDltResource"),
    ("dagster_dlt", "DagsterDltTranslator"),
    ("dagster_dlt", "DltLoadCollectionComponent"),
    ("dagster_dlt", "__version__"),
    ("dagster_dlt", "build_dlt_asset_specs"),
    ("dagster_dlt", "dlt_assets"),
    ("dagster_dlt.asset_decorator", "build_dlt_asset_specs"),
    ("dagster_dlt.asset_decorator", "dlt_assets"),
    ("dagster_dlt.constants", "META_KEY_PIPELINE"),
    ("dagster_dlt.constants", "META_KEY_SOURCE"),
    ("dagster_dlt.constants", "META_KEY_TRANSLATOR"),
    ("dagster_dlt.dlt_event_iterator", "DltEventIterator"),
    ("dagster_dlt.dlt_event_iterator", "DltEventType"),
    ("dagster_dlt.resource", "DagsterDltResource"),
    ("dagster_dlt.translator", "DagsterDltTranslator"),
    ("dagster_dlt.translator", "DltResourceTranslatorData"),
    (f"{COMPONENT}.component", "DltLoadCollectionComponent"),
    (f"{COMPONENT}.component", "DltLoadSpecModel"),
    (f"{COMPONENT}.scaffolder", "DltLoadCollectionScaffolder"),
]


@pytest.mark.parametrize(("module", "name"), DOCUMENTED)
def test_a_documented_name_can_be_imported(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (module, name)
        for module, name in DOCUMENTED
        if module != "dagster_dlt" and not name.startswith(("META_KEY", "DltLoadCollectionScaff"))
    ],
)
def test_a_name_from_a_submodule_is_offered_by_the_package_too(module, name):
    assert getattr(dagster_dlt, name) is getattr(importlib.import_module(module), name)
    assert name in dagster_dlt.__all__


def test_the_metadata_keys_have_the_documented_text():
    from dagster_dlt.constants import META_KEY_PIPELINE, META_KEY_SOURCE, META_KEY_TRANSLATOR

    assert META_KEY_SOURCE == "dagster_dlt/source"
    assert META_KEY_PIPELINE == "dagster_dlt/pipeline"
    assert META_KEY_TRANSLATOR == "dagster_dlt/translator"


def test_the_dg_tool_finds_the_library_through_its_entry_point(request):
    text = (Path(request.config.rootpath) / "pyproject.toml").read_text(encoding="utf-8")
    entry_points = tomlkit.parse(text).unwrap()["project"]["entry-points"]

    assert entry_points["dagster_dg_cli.registry_modules"] == {"dagster_dlt": "dagster_dlt"}
    assert issubclass(dagster_dlt.DltLoadCollectionComponent, dg.Component)


def test_the_library_registers_itself_with_dagster():
    assert dg.DagsterLibraryRegistry.get()["dagster-dlt"] == dagster_dlt.__version__
