"""`make demo` and `make ui`: the example as a person sees it, in a terminal and in Dagster's UI."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import dagster as dg
import pytest

PROJECT = Path(__file__).parents[2] / "examples" / "flights"
ROWS = {"airlines": 16, "airports": 1_458, "planes": 3_322, "flights": 336_776, "weather": 26_115}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

#: Loads the reference data once more, on a day on which the registry of planes cannot be reached.
BAD_DAY = """
import demo
from flights import sources

read_csv = sources.read_csv

def read_or_fail(name, key=None):
    if name == "planes.csv":
        raise ConnectionError("registry.example.gov: connection refused")
    yield from read_csv(name, key)

sources.read_csv = read_or_fail
with demo.dagster_instance() as instance:
    try:
        demo.load(demo.reference_data_assets, instance, title="A bad day")
    except Exception as error:
        print(error)
"""


def run(home, *command):
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "FLIGHTS_HOME": str(home), "PYTHONPATH": str(PROJECT)},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """A home of the example, and what the demo printed when it ran there twice."""
    home = tmp_path_factory.mktemp("demo")
    return home, [run(home, str(PROJECT / "demo.py")) for _ in range(2)]


def test_the_demo_ends_with_the_rows_of_the_data_set_however_often_it_runs(demos):
    for demo in demos[1]:
        _, _, table = demo.stdout.partition("\nasset ")
        counts = re.findall(r"^dlt_[a-z_]+_([a-z]+) +([\d,]+) +[\d.]+$", table, re.MULTILINE)

        assert demo.returncode == 0, demo.stderr
        assert {name: int(rows.replace(",", "")) for name, rows in counts} == ROWS
        assert "make ui" in table
        # The marts, by dbt.
        assert "PASS=11 WARN=0 ERROR=0" in demo.stdout
        assert re.search(r"JFK-LAX +11262 +-0\.5", demo.stdout)
        assert re.search(r"rain or snow +23002 +30\.9", demo.stdout)
        # What is wrong with the data set is told, and holds nothing back.
        told = re.findall(r"^  dlt_operations_flights: (.+)$", demo.stdout, re.MULTILINE)
        assert told == [
            f"{found} of 336,776 with a {column} that {table} lacks, {values} different values; "
            f"{without} more without one."
            for found, column, table, values, without in (
                ("7,602 rows", "dest", "airports", 4, "0"),
                ("50,094 rows", "tailnum", "planes", 721, "2,512"),
            )
        ]


# --- the UI --------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def failed_run(demos):
    """Id of a run that could not load all."""
    home, _ = demos
    done = run(home, "-c", BAD_DAY)
    assert "planes" in done.stdout, done.stderr
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        [failed] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        return failed.run_id


@pytest.fixture(scope="module")
def ui(demos, failed_run):
    """Address of `dg dev` on the example, as `make ui` starts it."""
    home, _ = demos
    port, scripts = free_port(), str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "FLIGHTS_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
    }
    server = subprocess.Popen(
        [f"{scripts}/dg", "dev", "--host", "127.0.0.1", "--port", str(port)],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said, serves = [], Event()

    def listen():
        for line in server.stdout:
            said.append(line)
            if "Serving dagster-webserver" in line:
                serves.set()

    listener = Thread(target=listen)
    listener.start()
    try:
        assert serves.wait(90), "".join(said)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(30)
        # What has not stopped has nothing left to lose.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)
        listener.join(30)
        server.stdout.close()


@pytest.fixture(scope="module")
def browser(ui):
    """A page of a browser at the UI."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1400, "height": 1000}, base_url=ui)
        page.set_default_timeout(60_000)
        yield page
        chromium.close()


def opened(browser, path, *texts):
    """Open a page, and wait until it says all this."""
    from playwright.sync_api import expect

    browser.goto(path)
    for text in texts:
        expect(browser.get_by_text(text, exact=True).first).to_be_visible(timeout=60_000)
    return browser


def test_the_page_of_an_asset_says_what_is_in_its_table_and_where(browser):
    page = opened(
        browser,
        "/assets/dlt_reference_data_airports?view=overview",
        "flights.nyc.airports",
        "1,458",
        "Altitude in feet.",
        "primary_key",
    )
    if path := os.environ.get("SCREENSHOT"):
        page.screenshot(path=path)


def test_numbers_of_each_load_are_plotted_over_time(browser):
    page = opened(browser, "/assets/dlt_reference_data_airports?view=overview", "Plots")

    page.get_by_role("button", name="Plots").click()

    for name in ("rows_loaded", "dagster/row_count", "dagster_dlt/bytes_loaded"):
        page.get_by_text(name, exact=True).first.wait_for()
    assert page.locator("canvas").count() >= 3


def test_the_events_of_an_asset_begin_with_what_was_loaded(browser):
    page = opened(browser, "/assets/dlt_reference_data_airports?view=events", "rows_loaded")

    keys = page.locator("table tr td:first-child").all_inner_texts()

    assert keys.index("dagster/row_count") < keys.index("rows_loaded") < keys.index("jobs")


def test_each_month_shows_its_own_rows(browser):
    opened(
        browser,
        "/assets/dlt_operations_flights?view=partitions&partition=2013-03-01",
        "dagster/partition_row_count",
        "28834",
    )


def test_the_graph_has_an_asset_for_each_resource(browser):
    opened(
        browser,
        "/asset-groups?expanded=flights.definitions%3Aoperations",
        "operations",
        "reference_data",
    )


def test_the_models_of_dbt_hang_from_the_tables_that_dlt_loads(browser):
    opened(
        browser,
        "/assets/stg_flights?view=lineage&lineageScope=neighbors",
        "dlt_operations_flights",
        "busiest_routes",
    )


def test_the_checks_of_an_asset_say_what_is_wrong_with_its_rows(browser):
    page = opened(
        browser,
        "/assets/dlt_operations_flights?view=checks",
        "dlt_references_airports_by_dest",
    )

    page.get_by_text("dlt_references_airports_by_dest", exact=True).first.click()

    page.get_by_text("7,602 rows of 336,776").first.wait_for()


def test_the_page_of_a_failed_run_says_which_resource_failed_and_why(browser, failed_run):
    page = opened(browser, f"/runs/{failed_run}", "STEP_FAILURE", "dagster_dlt/failed_resources")

    said = page.inner_text("body")
    assert "resource 'planes' failed in extract" in said
    assert "registry.example.gov: connection refused" in said


def test_what_did_not_fail_is_materialized_by_the_failed_run(browser, failed_run):
    page = opened(
        browser, "/assets/dlt_reference_data_planes?view=overview", "Latest materialization"
    )
    page.get_by_text("Failed in").first.wait_for()

    opened(browser, "/assets/dlt_reference_data_airports?view=events", failed_run[:8])
