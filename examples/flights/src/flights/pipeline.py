"""Where this project loads to: DuckDB, or the destination that the environment names."""

import os
from pathlib import Path

import dlt


def home() -> Path:
    """Return the directory of everything that this project writes."""
    default = Path(__file__).resolve().parents[2] / "data"
    return Path(os.environ.get("FLIGHTS_HOME") or default).resolve()


def database() -> Path:
    """Return the DuckDB file that is loaded unless another destination is named."""
    return home() / "flights.duckdb"


def flights_pipeline() -> dlt.Pipeline:
    """Describe the pipeline; nothing is opened before it runs.

    `FLIGHTS_DESTINATION` names any destination of dlt, such as `postgres`, whose credentials
    dlt then looks for in its own places, such as `DESTINATION__POSTGRES__CREDENTIALS`.
    """
    return dlt.pipeline(
        "flights",
        pipelines_dir=str(home() / "dlt_pipelines"),
        destination=os.environ.get("FLIGHTS_DESTINATION")
        or dlt.destinations.duckdb(str(database())),
        dataset_name="nyc",
    )
