"""dlt sources as Dagster assets."""

from dagster_dlt._dagster import register_library as _register_library
from dagster_dlt.asset_checks import build_dlt_asset_checks
from dagster_dlt.asset_decorator import (
    asset_key_for,
    build_dlt_asset_specs,
    dlt_assets,
    source_code_version,
)
from dagster_dlt.checks.settings import DltChecks, DltFreshness, DltRowCount
from dagster_dlt.components.dlt_load_collection.component import DltLoadCollectionComponent
from dagster_dlt.components.dlt_load_collection.load import DltLoadSpecModel
from dagster_dlt.components.dlt_load_collection.schedules import DltLoadSchedule
from dagster_dlt.dlt_event_iterator import DltEventIterator, DltEventType
from dagster_dlt.errors import DagsterDltError
from dagster_dlt.io_manager import DltIOManager
from dagster_dlt.loading.plan import RunOptions
from dagster_dlt.resource import DagsterDltResource
from dagster_dlt.resource_spec import DltResourceSpec
from dagster_dlt.run_config import DltLimit, DltRunConfig, DltWindow, DltWorkers
from dagster_dlt.snapshot import DltSourceSnapshot
from dagster_dlt.table_links import check_table_links
from dagster_dlt.translator import (
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltResourceTranslatorData,
    ResourceAttributes,
)
from dagster_dlt.version import __version__

__all__ = [
    "DagsterDltError",
    "DagsterDltResource",
    "DagsterDltTranslator",
    "DagsterDltTranslatorSettings",
    "DltChecks",
    "DltEventIterator",
    "DltEventType",
    "DltFreshness",
    "DltIOManager",
    "DltLimit",
    "DltLoadCollectionComponent",
    "DltLoadSchedule",
    "DltLoadSpecModel",
    "DltResourceSpec",
    "DltResourceTranslatorData",
    "DltRowCount",
    "DltRunConfig",
    "DltSourceSnapshot",
    "DltWindow",
    "DltWorkers",
    "ResourceAttributes",
    "RunOptions",
    "__version__",
    "asset_key_for",
    "build_dlt_asset_checks",
    "build_dlt_asset_specs",
    "check_table_links",
    "dlt_assets",
    "source_code_version",
]

_register_library("dagster-dlt", __version__)
