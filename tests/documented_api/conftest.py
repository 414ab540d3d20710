"""Fixtures of the documented API's tests: quiet dlt, and pipelines in folders of their own."""

from collections.abc import Callable, Iterator

import dlt
import pytest
from dlt.pipeline.pipeline import Pipeline

NewPipeline = Callable[..., Pipeline]


@pytest.fixture(scope="session", autouse=True)
def _quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Do for fixtures that outlive a test what `_alone` does for each test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        patch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")
        patch.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("dlt")))
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        yield


@pytest.fixture(scope="module")
def new_pipeline(tmp_path_factory: pytest.TempPathFactory) -> NewPipeline:
    """Return a factory of pipelines into dataset `raw` of a new DuckDB file `warehouse`."""

    def make(name: str = "books", **options: object) -> Pipeline:
        folder = tmp_path_factory.mktemp("load")
        defaults = {
            "pipelines_dir": str(folder / "pipelines"),
            "destination": dlt.destinations.duckdb(str(folder / "warehouse.duckdb")),
            "dataset_name": "raw",
        }
        return dlt.pipeline(name, **{**defaults, **options})

    return make
