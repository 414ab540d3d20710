"""Fixtures for all tests: pipelines that live below the test's own folder, and tiny sources."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import dlt
import fsspec
import pytest
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import DagsterDltResource
from places import Place
from postgres import server


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep dlt off the network and away from the configuration of whoever runs the tests."""
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")
    # dlt reads the level once in a process, and a command of ours may have been the first.
    logging.getLogger("dlt").setLevel(logging.CRITICAL)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_pipeline(tmp_path: Path) -> Callable[..., Pipeline]:
    """Return a factory of pipelines into one DuckDB file, `warehouse.duckdb`, dataset `raw`."""

    def make(name: str = "shop", **options: object) -> Pipeline:
        defaults = {
            "pipelines_dir": str(tmp_path / "pipelines"),
            "destination": dlt.destinations.duckdb(str(tmp_path / "warehouse.duckdb")),
            "dataset_name": "raw",
        }
        return dlt.pipeline(name, **{**defaults, **options})

    return make


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    return make_pipeline()


@pytest.fixture
def materialize() -> Callable[..., dg.ExecuteInProcessResult]:
    """Return `dg.materialize` with the dlt resource provided under both its usual names."""

    def run(*assets: dg.AssetsDefinition, **options: object) -> dg.ExecuteInProcessResult:
        provided = {"dlt_resource": DagsterDltResource()}
        return dg.materialize(list(assets), resources=provided, **options)

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[..., str]]:
    """Return a function that makes a PostgreSQL database and returns its URL."""
    with server() as make:
        yield make


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server that speaks S3, on the loopback interface, with one bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # One that is remembered asks the server of another module.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").makedirs("bucket", exist_ok=True)  # moto keeps what it has had
        yield "s3://bucket"
    server.stop()


@pytest.fixture(params=["duckdb", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty destination of each kind that takes SQL; `files` and `s3` take none."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")()
    elif request.param == "files":
        url = str(tmp_path / "bucket")
    elif request.param == "s3":
        url = f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    else:
        url = str(tmp_path / f"warehouse.{request.param}")
    return Place(request.param, url, tmp_path / "pipelines")
