"""Has Dagster's own daemon load the flights of all months at once, as a backfill from its UI does.

Each month is a run in a process of its own. The daemon starts one after the other, up to eight: how
many are at once in the end is a matter of how fast the machine is.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg
import duckdb

PROJECT: Final = Path(__file__).parents[2] / "examples" / "flights"
BIN: Final = Path(sys.executable).parent
LOCATION: Final = ("-f", str(Path(__file__).with_name("months.py")))
MANY: Final = 8
ROWS: Final = {"flights": 336_776, "weather": 26_115}
MONTHS: Final = [f"2013-{month:02}-01" for month in range(1, 13)]
#: Seconds that all of it may take.
PATIENCE: Final = 900
SETTINGS: Final = f"""
concurrency: {{runs: {{max_concurrent_runs: {MANY}}}}}
telemetry: {{enabled: false}}
"""
BACKFILL: Final = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""


def backfill(folder: Path) -> tuple[int, list[str]]:
    """Load all months in a folder; return how many runs were at once, and what is wrong."""
    home = folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(SETTINGS, encoding="utf-8")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "FLIGHTS_HOME": str(folder),
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), *sys.path]),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    with dg.DagsterInstance.from_config(str(home)) as instance, _daemon(folder, environment):
        _ask(environment)
        runs = _finished(instance)
    statuses = [record.dagster_run.status.value for record in runs]
    problems = [] if statuses == ["SUCCESS"] * len(MONTHS) else [f"the runs ended as {statuses}"]
    with duckdb.connect(str(folder / "flights.duckdb"), read_only=True) as connection:
        for table, rows in ROWS.items():
            ((found,),) = connection.execute(f"select count(*) from nyc.{table}").fetchall()
            if found != rows:
                problems.append(f"{found} {table}, not {rows}")
    return _most_at_once(runs), problems


@contextmanager
def _daemon(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    command = [str(BIN / "dagster-daemon"), "run", *LOCATION]
    with (folder / "daemon.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _ask(environment: Mapping[str, str]) -> None:
    """Request the backfill, by what the UI sends for it."""
    keys = [{"path": [f"dlt_operations_{table}"]} for table in ROWS]
    variables = {"params": {"assetSelection": keys, "partitionNames": MONTHS}}
    command = [str(BIN / "dagster-graphql"), *LOCATION]
    answer = subprocess.run(
        [*command, "-t", BACKFILL, "-v", json.dumps(variables)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "LaunchBackfillSuccess" not in answer.stdout:
        raise RuntimeError(answer.stdout + answer.stderr)


def _finished(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """Wait until the runs have ended; return them, or what there is when it takes too long."""
    over = time.monotonic() + PATIENCE
    while time.monotonic() < over:
        runs = list(instance.get_run_records())
        if len(runs) == len(MONTHS) and all(each.dagster_run.is_finished for each in runs):
            break
        time.sleep(1)
    return runs


def _most_at_once(runs: list[dg.RunRecord]) -> int:
    times = [(each.start_time or 0.0, each.end_time or 0.0) for each in runs]
    return max(sum(start <= now < end for start, end in times) for now, _ in times)
