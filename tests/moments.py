"""Counts what happens in a process, and ends the process with SIGKILL at a chosen moment.

A moment is something with a before and an after: a row leaves a generator, a statement is sent, a
transaction is committed, a file is renamed, dlt notes that a job is done, Dagster stores an event.
A run that nobody interrupts tells how many moments of each kind there are; since whatever a load
does shows up as some of them, a process can be killed at any point of it.
"""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import dagster as dg
from dlt.common.destination.client import RunnableLoadJob
from dlt.common.storages.load_package import PackageStorage
from dlt.common.storages.load_storage import LoadStorage
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.destinations.impl.postgres.sql_client import Psycopg2SqlClient
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.extract.storage import ExtractStorage
from dlt.pipeline.pipeline import Pipeline

from ends import End
from journal import Journal


class Moments:
    """Counts the moments of this process."""

    def __init__(self, journal: Journal, end: End | None) -> None:
        self.counts: Counter[str] = Counter()
        #: What dlt is doing.
        self.stage = "before"
        self._journal = journal
        self._end = end
        self._lock = threading.RLock()

    def passed(self, kind: str, detail: str = "") -> None:
        """Count a moment; do not return if it is the last one."""
        with self._lock:
            self.counts[kind] += 1
            if (end := self._end) is None:
                return
            number = self.counts[kind] if end.kind else self.counts.total()
            if number != end.occurrence or kind != (end.kind or kind):
                return
            if not end.delay:
                self._die(kind, detail)
            timer = threading.Timer(end.delay, self._die, (kind, detail, end.delay))
            timer.daemon = True
            timer.start()

    def _die(self, kind: str, detail: str, delay: float = 0.0) -> None:
        self._journal.write("died", kind=kind, detail=detail, stage=self.stage, delay=delay)
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, folder: Path) -> None:
        """Count from now on what dlt and Dagster do in this process, and files below `folder`."""
        self._watch_stages()
        self._watch_packages()
        self._watch_sql()
        self._watch_events()
        self._watch_files(str(folder))

    def _watch_stages(self) -> None:
        stages = {
            "sync_destination": ("sync", "synced"),
            "extract": ("extract", "extracted"),
            "normalize": ("normalize", "normalized"),
            "load": ("load", "loaded"),
        }
        for method, (during, after) in stages.items():
            self._around(
                Pipeline,
                method,
                before=lambda *_, during=during: self._enter(during),
                after=lambda *_, after=after: self._enter(after, after),
            )

    def _enter(self, stage: str, moment: str | None = None) -> None:
        self.stage = stage
        self.passed(moment or f"{stage} begins")

    def _watch_packages(self) -> None:
        def noting(what: str) -> Callable[..., None]:
            def note(_: object, load_id: str, *_rest: object) -> None:
                self._journal.write(what, load_id=load_id)
                self.passed(what)

            return note

        def named(kind: str) -> Callable[..., None]:
            return lambda *args: self.passed(kind, str(args[2]) if len(args) > 2 else "")

        def started(job: RunnableLoadJob, *_: object) -> None:
            self.passed("job started", job.file_name())

        def completed(*args: Any) -> None:
            self.stage = "completed"
            noting("completed")(*args)

        self._around(
            ExtractStorage,
            "commit_new_load_package",
            before=noting("packing"),
            after=noting("packed"),
        )
        self._around(RunnableLoadJob, "run_managed", before=started)
        self._around(
            PackageStorage,
            "save_pending_transition",
            before=named("job committed"),
            after=named("job noted"),
        )
        self._around(PackageStorage, "complete_job", after=named("job moved"))
        self._around(PackageStorage, "clear_pending_transition", after=named("job forgotten"))
        self._around(PackageStorage, "complete_loading_package", after=named("marked"))
        self._around(LoadStorage, "complete_load_package", after=named("moved"))
        self._around(
            SqlJobClientBase, "complete_load", before=noting("completing"), after=completed
        )

    def _watch_sql(self) -> None:
        for client in (DuckDbSqlClient, Psycopg2SqlClient):
            self._around(
                client,
                "commit_transaction",
                before=lambda *_: self.passed("committing"),
                after=lambda *_: self.passed("committed"),
            )
            client.execute_query = self._statement(client.execute_query)  # type: ignore[method-assign]

    def _statement(self, whole: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        @wraps(whole)
        def execute_query(
            client: object, query: object, *args: Any, **kwargs: Any
        ) -> Iterator[Any]:
            text = str(query)[:200]
            self.passed("sending", text)
            with whole(client, query, *args, **kwargs) as cursor:
                self.passed("sent", text)
                yield cursor

        return execute_query

    def _watch_events(self) -> None:
        def passing(materialization: str, other: str) -> Callable[..., None]:
            def stored(_: object, event: dg.EventLogEntry, *_rest: object) -> None:
                kind = event.dagster_event_type if event.is_dagster_event else None
                if kind == dg.DagsterEventType.ASSET_MATERIALIZATION:
                    self.passed(materialization)
                elif kind:
                    self.passed(other, kind.value)

            return stored

        self._around(
            dg.DagsterInstance,
            "handle_new_event",
            before=passing("reporting", "storing"),
            after=passing("reported", "stored"),
        )

    def _watch_files(self, folder: str) -> None:
        changes = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

        def heard(event: str, args: tuple[Any, ...]) -> None:
            if event == "open":
                path, _, flags = args
                if isinstance(flags, int) and flags & writing and str(path).startswith(folder):
                    self.passed("file", f"write {path}")
            elif event in changes and (
                # Within a directory that is open the names are relative: a tree is removed so.
                any(str(arg).startswith(folder) for arg in args[:2])
                or (isinstance(args[-1], int) and args[-1] >= 0)
            ):
                self.passed("file", f"{event} {args[0]}")

        sys.addaudithook(heard)

    @staticmethod
    def _around(
        owner: type,
        method: str,
        *,
        before: Callable[..., None] | None = None,
        after: Callable[..., None] | None = None,
    ) -> None:
        whole = getattr(owner, method)

        @wraps(whole)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before:
                before(*args)
            result = whole(*args, **kwargs)
            if after:
                after(*args)
            return result

        setattr(owner, method, wrapped)
