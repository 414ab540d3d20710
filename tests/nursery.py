"""Starts processes that have Dagster and dlt imported already, which takes a second or two.

A process of its own imports them once, and forks a child for each run. It is forked before there
are threads or connections; the nursery refuses to work when that is not so. Between the two is a
nurse, which waits for the child while the nursery takes the next order.
"""

import gc
import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

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
PATIENCE: Final = 240


class Nursery:
    """Forks processes of a project, as many at a time as there are threads that ask for one.

    Args:
        project: A file with a function `main`.
    """

    def __init__(self, project: Path) -> None:
        # Each order is a message, which has the pipe for its answer with it.
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(project), str(theirs.fileno())],
                env={**os.environ, **WITHOUT_THREADS},
                pass_fds=[theirs.fileno()],
            )

    def run(self, folder: Path, environment: dict[str, str], log: Path) -> int:
        """Run the project in `folder`; return the exit code, negative for a signal."""
        order = {"folder": str(folder), "environment": environment, "log": str(log)}
        reading, writing = os.pipe()
        with open(reading, encoding="utf-8") as answer:  # noqa: PTH123 - is open already
            socket.send_fds(self._orders, [json.dumps(order).encode()], [writing])
            os.close(writing)
            return int(answer.readline())

    def close(self) -> None:
        """End the process that forks; its children have ended."""
        self._orders.close()
        self._process.wait()


def serve(project: Path, orders: socket.socket) -> None:
    """Fork a child for each order, as long as there is somebody to give them."""
    sys.path.insert(0, str(project.parent))
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    _run_once()
    # What the collector has marked, each child would have to copy.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a nurse
    while True:
        message, (*answers,), _, _ = socket.recv_fds(orders, 1 << 16, 1)
        if not message:
            return
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads > 1:
            error = f"{threads} threads: a fork would not be sound"
            raise RuntimeError(error)
        (answer,) = answers
        if os.fork() == 0:
            orders.close()
            _nurse(project.stem, json.loads(message), answer)
        os.close(answer)


def _run_once() -> None:
    """Let Dagster import what it imports when there is a run."""
    import dagster as dg

    @dg.asset
    def nothing() -> None: ...

    logging.disable(logging.CRITICAL)
    with dg.DagsterInstance.local_temp() as instance:
        dg.materialize([nothing], instance=instance)
    logging.disable(logging.NOTSET)


def _nurse(project: str, order: dict[str, Any], answer: int) -> None:
    """Fork a child, and answer with its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.close(answer)
        _live(project, **order)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        # What it started itself and left behind.
        os.killpg(child, signal.SIGKILL)
    os.write(answer, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _live(project: str, folder: str, environment: dict[str, str], log: str) -> None:
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
        importlib.import_module(project).main()
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
    serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
