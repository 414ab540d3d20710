"""Programs that have DuckDB's file open and take no turns, such as a shell, are waited for."""

import logging
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

import dlt
import pytest

from dagster_dlt import _dlt
from dagster_dlt.errors import DestinationFileBusyError
from dagster_dlt.loading import turns
from places import Place, load

SHELL = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path):
    return Place("duckdb", str(tmp_path / "warehouse.duckdb"), tmp_path / "disk")


@pytest.fixture
def threads():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@contextmanager
def shell(place):
    """Have the file open in another process; the end of its input lets it go."""
    with subprocess.Popen(
        [sys.executable, "-c", SHELL, place.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.stdin.close()


def source():
    return dlt.source(lambda: dlt.resource([{"id": 1}, {"id": 2}], name="events"), name="shop")()


def test_a_load_goes_on_once_a_shell_has_closed_the_file(place, threads, caplog):
    caplog.set_level(logging.INFO)

    with shell(place) as process:
        loaded = threads.submit(load, place.pipeline(), source())
        while f"(PID {process.pid}) has open" not in caplog.text:
            threading.Event().wait(0.02)
        assert not loaded.done()
    loaded.result()

    assert caplog.text.count("has open") == 1
    assert place.column("select id from raw.events") == [1, 2]


def test_a_file_that_stays_open_is_an_error_that_names_who_has_it(place, monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 0.2)

    with shell(place) as process, pytest.raises(DestinationFileBusyError) as raised:
        load(place.pipeline(), source())

    assert f"(PID {process.pid})" in raised.value.holder
    assert place.url in str(raised.value)
    assert not place.disk.exists() or not any(place.disk.rglob("*.jsonl*"))


def test_a_load_that_waits_for_a_file_ends_when_it_is_asked_to_stop(place, threads, caplog):
    caplog.set_level(logging.INFO)
    stop = _dlt.Stop()

    def stoppable():
        stop.enter()
        load(place.pipeline(), source())

    with shell(place):
        loaded = threads.submit(copy_context().run, stoppable)
        while "has open" not in caplog.text:
            threading.Event().wait(0.02)
        stop.ask()
        with pytest.raises(CancelledError):
            loaded.result()
