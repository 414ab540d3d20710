"""What tables are called in warehouses that nobody is connected to, by what is configured."""

from collections.abc import Mapping
from typing import Any

import dlt
import pytest

from dagster_dlt import build_dlt_asset_specs
from sources import one

#: What is configured of the credentials of each destination besides the database.
COMPLETE = {
    "snowflake": {"host": "h", "username": "u", "password": "p", "warehouse": "w"},
    "bigquery": {"client_email": "u@p", "private_key": "k"},
    "databricks": {"server_hostname": "h", "http_path": "/sql", "access_token": "t"},
    "redshift": {"host": "h", "username": "u", "password": "p"},
    "postgres": {"host": "h", "username": "u", "password": "p"},
    "clickhouse": {"host": "h", "username": "u", "password": "p"},
    "motherduck": {"password": "t"},
    "mssql": {"host": "h", "username": "u", "password": "p"},
}
#: What each calls its database, and a table in it.
NAMES = [
    ("snowflake", {"database": "ware"}, "WARE.RAW.ORDER_LINES"),
    ("bigquery", {"project_id": "ware"}, "ware.raw.order_lines"),
    ("databricks", {"catalog": "ware"}, "ware.raw.order_lines"),
    ("redshift", {"database": "Ware"}, "Ware.raw.order_lines"),
    ("postgres", {"database": "Ware"}, "Ware.raw.order_lines"),
    ("clickhouse", {"database": "ware"}, "ware.raw___order_lines"),
    ("motherduck", {"database": "ware"}, "ware.raw.order_lines"),
    ("mssql", {"database": "Ware"}, "Ware.raw.order_lines"),
]


def name_of(destination: Any, tmp_path: Any) -> str:
    pipeline = dlt.pipeline(
        "shop", destination=destination, dataset_name="Raw", pipelines_dir=str(tmp_path)
    )
    (spec,) = build_dlt_asset_specs(one("OrderLines", [{"id": 1}]), pipeline)
    return str(spec.metadata["dagster/table_name"])


@pytest.fixture
def configure(monkeypatch):
    def configure(destination: str, credentials: Mapping[str, str]) -> None:
        for name, value in credentials.items():
            key = f"DESTINATION__{destination}__CREDENTIALS__{name}".upper()
            monkeypatch.setenv(key, value)

    return configure


@pytest.mark.parametrize("complete", [False, True], ids=["database alone", "all credentials"])
@pytest.mark.parametrize("known", NAMES, ids=list(COMPLETE))
def test_a_table_is_named_by_the_database_that_is_configured(tmp_path, configure, known, complete):
    destination, database, name = known
    configure(destination, {**database, **(COMPLETE[destination] if complete else {})})

    assert name_of(destination, tmp_path) == name


@pytest.mark.parametrize("destination", [*COMPLETE, "athena", "synapse", "dremio", "ducklake"])
def test_a_database_that_is_not_configured_is_not_guessed(tmp_path, destination):
    name = "RAW.ORDER_LINES" if destination == "snowflake" else "raw.order_lines"
    name = "raw___order_lines" if destination == "clickhouse" else name

    assert name_of(destination, tmp_path) == name


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: dlt.destinations.duckdb("/data/ware.house.duckdb"), "ware.raw.order_lines"),
        (lambda: dlt.destinations.snowflake("snowflake://u:p@h/ware"), "WARE.RAW.ORDER_LINES"),
        (lambda: dlt.destinations.postgres("postgresql://u:p@h/Ware"), "Ware.raw.order_lines"),
        (lambda: dlt.destinations.postgres("postgresql://u@h/Ware"), "Ware.raw.order_lines"),
        (lambda: dlt.destinations.sqlalchemy("sqlite:////data/ware.db"), "raw.order_lines"),
    ],
    ids=["DuckDB", "Snowflake", "PostgreSQL", "PostgreSQL without a password", "SQLite"],
)
def test_a_table_is_named_by_the_database_of_a_connection_string(tmp_path, make, name):
    assert name_of(make(), tmp_path) == name
