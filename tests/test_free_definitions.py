"""Definitions are free: they need no secret and no network, and leave no trace."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from postgres import for_sqlalchemy, sessions

# --- a project whose sources cannot be built where its definitions are loaded --------------------

PROJECT = """
import os
from functools import partial
from pathlib import Path

import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, DltSourceSnapshot, dlt_assets
from dlt.sources.rest_api import rest_api_source
from dlt.sources.sql_database import sql_database

HERE = Path(__file__).parent
FILE = os.environ.get("WAREHOUSE", "warehouse.duckdb")


def snapshot(name):
    return DltSourceSnapshot(HERE / "snapshots" / f"{name}.json")


def into(name):
    return partial(dlt.pipeline, name, destination=dlt.destinations.duckdb(FILE), dataset_name=name)


def loads(source, name, **known):
    @dlt_assets(dlt_source=source, dlt_pipeline=into(f"{name}_data"), name=name, **known)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)

    return load


@dlt.source
def secretive(token: str = dlt.secrets.value):
    return dlt.resource([{"id": 1, "length": len(token)}], name="tokens")


@dlt.source
def eager():
    import a_client_that_connects_when_it_is_imported as client

    return dlt.resource(client.ROWS, name="rows")


def api():
    return rest_api_source(
        {
            "client": {
                "base_url": os.environ["API_URL"],
                "auth": {"type": "bearer", "token": dlt.secrets["api_token"]},
            },
            "resources": [{"name": "cities", "endpoint": {"path": "cities.json"}}],
        },
        name="api",
    )


def database():
    # Reads the columns of all tables at once: it connects when it is called.
    return sql_database(dlt.secrets["database_url"], schema="public").with_resources("items")


defs = dg.Definitions(
    assets=[
        loads(secretive, "secretive", resources=["tokens"]),
        loads(eager, "eager", resources=["rows"]),
        loads(api, "api", snapshot=snapshot("api")),
        loads(database, "database", snapshot=snapshot("database")),
    ],
    resources={"dlt_resource": DagsterDltResource()},
)
"""

#: Looked for at the start of each interpreter. What drivers do in C it cannot see: of PostgreSQL
#: the server tells.
GUARD = """
import os, sys

def guard(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple) and "NO_NETWORK" in os.environ:
        raise PermissionError(f"{args[1]} is not to be connected to")
    if event in ("socket.getaddrinfo",) and "NO_NETWORK" in os.environ:
        raise PermissionError(f"{args[0]} is not to be looked up")

sys.addaudithook(guard)
"""

CLIENT = """
import os
if "CLIENT_KEY" not in os.environ:
    raise ConnectionError("the service refuses whoever has no key")
ROWS = [{"id": 1}]
"""

CITIES = [{"id": 1, "name": "Ghent"}, {"id": 2, "name": "Porto"}]


@pytest.fixture
def items(postgres):
    """Return the URL of a database with a table."""
    url = postgres()
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("create table items (id int primary key, name text not null)")
        cursor.execute("insert into items values (1, 'tea'), (2, 'jam')")
    return url


@pytest.fixture
def project(tmp_path):
    """Return a function that runs a Python program in a project, with some environment."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "definitions.py").write_text(PROJECT)
    (folder / "sitecustomize.py").write_text(GUARD)
    (folder / "a_client_that_connects_when_it_is_imported.py").write_text(CLIENT)

    def run(*command, **environment):
        known = {name: os.environ[name] for name in ("PATH", "DLT_DATA_DIR")}
        known |= {
            "PYTHONPATH": str(folder),
            "HOME": str(tmp_path / "home"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [str(each) for each in command],
            cwd=folder,
            env={**known, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def script(name):
    return Path(sys.executable).with_name(name)


def files_below(folder):
    return {str(each.relative_to(folder)) for each in folder.rglob("*")}


KEYS = """
import json
from definitions import defs
keys = [spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()]
print(json.dumps(sorted(key for key in keys if key.startswith("dlt_"))))
"""

#: Materializes everything, and says what is there.
LOAD = """
import json, os
import dagster as dg, duckdb
from definitions import defs
result = defs.resolve_implicit_global_asset_job_def().execute_in_process()
with duckdb.connect(os.environ["WAREHOUSE"]) as connection:
    tables = ("secretive_data.tokens", "eager_data.rows", "api_data.cities", "database_data.items")
    print(json.dumps({
        table: connection.sql(f"select count(*) from {table}").fetchone()[0] for table in tables
    }))
"""


@pytest.fixture
def cities(tmp_path):
    """Serve cities to whoever has the token; yield the server's URL."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers.get("Authorization") == "Bearer known"
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(CITIES if allowed else {}).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def secrets(cities, items, tmp_path):
    """Return the environment that the sources need."""
    return {
        "SOURCES__DEFINITIONS__TOKEN": "known",
        "CLIENT_KEY": "known",
        "API_URL": cities,
        "API_TOKEN": "known",
        "DATABASE_URL": for_sqlalchemy(items),
        "WAREHOUSE": str(tmp_path / "warehouse.duckdb"),
    }


def test_definitions_load_where_nothing_can_be_reached_and_runs_load_data(
    project, secrets, items, tmp_path
):
    python, folder = sys.executable, tmp_path / "project"
    written = project(script("dagster-dlt"), "-m", "definitions", "snapshots", "refresh", **secrets)
    assert "items" in written + (folder / "snapshots" / "database.json").read_text()
    before, asked = files_below(tmp_path), sessions(items)

    for _ in range(2):
        keys = json.loads(project(python, "-c", KEYS, NO_NETWORK="1"))

    assert keys == [
        *("dlt_api_cities", "dlt_eager_rows", "dlt_secretive_tokens", "dlt_sql_database_items")
    ]
    assert files_below(tmp_path) == before
    assert sessions(items) == asked

    loaded = json.loads(project(python, "-c", LOAD, **secrets).splitlines()[-1])

    assert loaded == {
        "secretive_data.tokens": 1,
        "eager_data.rows": 1,
        "api_data.cities": 2,
        "database_data.items": 2,
    }
    assert sessions(items) > asked


def test_dagster_finds_the_definitions_of_such_a_project_in_order(project, secrets):
    project(script("dagster-dlt"), "-m", "definitions", "snapshots", "refresh", **secrets)

    # Dagster reaches its own code server by an address.
    project(script("dagster"), "definitions", "validate", "-m", "definitions")
