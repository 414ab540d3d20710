"""Starts processes that have Dagster and dlt imported already, which takes a second or two.

A process of its own imports them once, and forks a child for each run. It is forked before there
are threads or connections; the nursery refuses to work when that is not so.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Final

HERE: Final = Path(__file__).parent
#: What takes long to import and starts no threads. `duckdb` itself does: it opens a database.
PRELOADED: Final = (
    "numpy",
    "_duckdb",
    "pandas",  # DuckDB looks for it when a statement has arguments
    "psycopg2",
    "dagster",
    "dlt.destinations.impl.postgres.postgres",
    "dlt.destinations.job_client_impl",
    "dlt.extract.storage",
    "dlt.load.load",
    "dlt.normalize.normalize",
    "dlt.pipeline.pipeline",
    "dlt.sources.helpers.requests",
    "dagster_dlt",
)
#: Threads that numpy and pyarrow would start, and that a child would not have.
WITHOUT_THREADS: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
#: Seconds after which a child is ended.
PATIENCE: Final = 120


class Nursery:
    """Forks processes of `project.py`; several threads may ask for one, `size` at a time."""

    def __init__(self, size: int = 1) -> None:
        self._free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        self._all = [self._start() for _ in range(size)]
        for process in self._all:
            self._free.put(process)

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **WITHOUT_THREADS},
        )

    def run(self, folder: Path, environment: dict[str, str], log: Path) -> int:
        """Run the project in `folder`; return the exit code, negative for a signal."""
        order = {"folder": str(folder), "environment": environment, "log": str(log)}
        process = self._free.get()
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())
        finally:
            self._free.put(process)

    def close(self) -> None:
        """End the processes that fork; their children have ended."""
        for process in self._all:
            process.stdin.close()
            process.wait()
            process.stdout.close()


def serve() -> None:
    """Fork a child for each line of stdin, and answer with its exit code."""
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    # Dagster imports the parts of an instance when there is one.
    with sys.modules["dagster"].DagsterInstance.ephemeral():
        pass
    for line in sys.stdin:
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads > 1:
            message = f"{threads} threads: a fork would not be sound"
            raise RuntimeError(message)
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _live(**order)
        _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):
            # What it started itself and left behind.
            os.killpg(child, signal.SIGKILL)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _live(folder: str, environment: dict[str, str], log: str) -> None:
    os.setpgid(0, 0)
    signal.alarm(PATIENCE)
    os.chdir(folder)
    # The first entry is what Dagster takes out again where a worker of a step imports the project.
    sys.path.insert(0, folder)
    os.environ.update(environment)
    tempfile.tempdir = None  # it was found out for the nursery
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    code = 1
    try:
        import project

        project.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - whatever it is, it is in the log
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Without the handlers for exit, which are the nursery's.
        os._exit(code)


if __name__ == "__main__":
    serve()
