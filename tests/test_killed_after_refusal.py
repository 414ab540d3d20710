"""A resource that the destination refuses, and a process that is killed while it is taken out."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest

from places import Place, load, retry

#: What the process is about to do when it is killed, in the order of time.
MOMENTS = {
    "put the cursor back": "delivery, 'put_back'",
    "take the jobs out": "Package, 'take_out'",
    "commit the others": "DuckDbClient, 'complete_load'",
}
GAMES = [*((moment, "kept") for moment in MOMENTS), ("take the jobs out", "lost")]

KILLED = """
import os, signal, sys
from pathlib import Path
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dagster_dlt.loading import delivery
from dagster_dlt.loading.package import Package

sys.path.insert(0, {tests!r})
from places import load
from test_killed_after_refusal import place_in, source

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr({moment}, die)
load(place_in(Path.cwd()).pipeline(), source("too long"))
"""


def source(text: str) -> Any:
    @dlt.resource
    def fine(at: Any = dlt.sources.incremental("at")) -> Iterator[Any]:
        yield [{"at": 1, "marks": [{"mark": 1}]}]

    @dlt.resource
    def bad(at: Any = dlt.sources.incremental("at")) -> Iterator[Any]:
        yield [{"id": text, "at": 7, "parts": [{"part": 1}, {"part": 2}]}]

    return dlt.source(lambda: (fine, bad), name="shop")()


def place_in(folder: Path) -> Place:
    return Place("duckdb", str(folder / "warehouse.duckdb"), folder / "pipelines")


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> Iterator[dict[Any, tuple[Path, subprocess.Popen[bytes]]]]:
    """Start all processes at once: most of their time is that of imports."""
    started = {}
    for moment, disk in GAMES:
        folder = tmp_path_factory.mktemp("killed")
        with place_in(folder).pipeline().sql_client() as client:
            client.execute_sql("create schema raw")
            client.execute_sql(
                'create table raw.bad (id varchar check (length(id) < 3), "at" bigint, '
                "_dlt_load_id varchar, _dlt_id varchar)"
            )
        code = KILLED.format(tests=str(Path(__file__).parent), moment=MOMENTS[moment])
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            stderr=subprocess.DEVNULL,  # dlt tells of the refusal
        )
        started[moment, disk] = folder, process
    yield started
    for _, process in started.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("game", GAMES, ids=lambda game: f"{game[0]}, disk {game[1]}")
def test_the_next_attempt_ends_with_the_right_rows_and_cursors(game, processes):
    folder, process = processes[game]
    place = place_in(folder)
    assert process.wait() == -signal.SIGKILL
    if game[1] == "lost":
        place.lose_disk()

    assert retry(place.pipeline(), source("ok")).keys() == {"fine", "bad"}
    assert load(place.pipeline(), source("ok"), run_id="next").keys() == {"fine", "bad"}

    # Each once, although both are appended and asked for again: by the cursors.
    assert place.query('select "at" from raw.fine') == [(1,)]
    assert place.query('select id, "at" from raw.bad') == [("ok", 7)]
    assert place.column("select mark from raw.fine__marks") == [1]
    assert place.column("select part from raw.bad__parts") == [1, 2]
