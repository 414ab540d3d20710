"""A Dagster project that loads the world, in a process of its own that may be killed.

What to do is said by the variable `KILLS`, so that a worker process of a step knows it as well.
"""

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import dlt
from dlt.pipeline.pipeline import Pipeline
from world import STAMPED

from dagster_dlt import DagsterDltResource, dlt_assets
from ends import End
from journal import Journal
from moments import Moments

PIPELINE, DATASET = "shop", "raw"

#: How a process comes about: a new run; a re-execution from failure of the last one, which was
#: killed; a new run whose step is tried again by Dagster, which survives when the step's process
#: is killed; or without Dagster and without the library.
How = Literal["new", "again", "retry", "plain"]


@dataclass(frozen=True)
class Orders:
    """What one process is to do.

    Attributes:
        number: Its number in the history.
        how: How it comes about.
        destination: URL of a PostgreSQL database, or path of a DuckDB file.
        options: Options of the destination.
        ends: When it dies; one moment for each attempt.
        loses_disk: Each attempt but the first begins without the working directory.
        monitored: Dagster's monitoring finds out that a killed run is dead; this process is on
            another machine.
    """

    number: int
    how: How
    destination: str
    options: dict[str, Any] = field(default_factory=dict)
    ends: list[dict[str, Any]] = field(default_factory=list)
    loses_disk: bool = False
    monitored: bool = False


ORDERS = Orders(**json.loads(os.environ["KILLS"]))
PIPELINES = Path("pipelines").resolve()
JOURNAL = Journal(Path("journal").resolve(), number=ORDERS.number, pid=os.getpid())


def _deaths() -> int:
    """Return how many attempts of this run have died."""
    lines = Path("journal").read_text(encoding="utf-8").splitlines()
    died = [line for line in map(json.loads, lines) if line["what"] == "died"]
    return sum(1 for line in died if line["number"] == ORDERS.number)


ATTEMPT = _deaths()
MOMENTS = Moments(JOURNAL, End(**ORDERS.ends[ATTEMPT]) if len(ORDERS.ends) > ATTEMPT else None)


@dlt.source(name="shop")
def shop() -> Any:
    """Return one resource for each way of loading."""

    @dlt.resource
    def log() -> Iterator[Any]:
        yield from _offered("log")

    @dlt.resource
    def events(at: Any = dlt.sources.incremental("at")) -> Iterator[Any]:
        yield from _offered("events")

    @dlt.resource(primary_key="id", write_disposition="merge")
    def accounts() -> Iterator[Any]:
        yield from _offered("accounts")

    @dlt.resource(
        primary_key="id", write_disposition={"disposition": "merge", "strategy": "upsert"}
    )
    def profiles() -> Iterator[Any]:
        yield from _offered("profiles")

    @dlt.resource(primary_key="id", write_disposition="merge")
    def tickets(changed: Any = dlt.sources.incremental("changed")) -> Iterator[Any]:
        yield from _offered("tickets")

    @dlt.resource(write_disposition="merge")
    def notes() -> Iterator[Any]:
        yield from _offered("notes")

    @dlt.resource(write_disposition="replace")
    def prices() -> Iterator[Any]:
        yield from _offered("prices")

    return log, events, accounts, profiles, tickets, notes, prices


def _offered(resource: str) -> Iterator[list[dict[str, Any]]]:
    """Give what there is, in pages, and write down that it was asked for."""
    rows = json.loads(Path("world.json").read_text(encoding="utf-8"))[resource]
    offer = uuid.uuid4().hex
    JOURNAL.write("called", resource=resource, offer=offer)
    stamp = {"offer": offer} if resource in STAMPED else {}
    for start in range(0, len(rows), 3):
        MOMENTS.passed("item", resource)
        yield [{**row, **stamp} for row in rows[start : start + 3]]
    MOMENTS.passed("item", f"{resource}, the end")


def pipeline() -> Pipeline:
    """Describe where the data goes."""
    url = ORDERS.destination.startswith("postgresql:")
    kind = dlt.destinations.postgres if url else dlt.destinations.duckdb
    return dlt.pipeline(
        PIPELINE,
        pipelines_dir=str(PIPELINES),
        destination=kind(ORDERS.destination, **ORDERS.options),
        dataset_name=DATASET,
    )


def build() -> dg.JobDefinition:
    """Return the job; Dagster asks for it several times in a process."""
    return _job()


@cache
def _job() -> dg.JobDefinition:
    """Define a job that loads everything, and an asset downstream of all of it."""
    retried = ORDERS.how == "retry"
    retries = dg.RetryPolicy(max_retries=len(ORDERS.ends)) if retried else None

    @dlt_assets(
        dlt_source=shop(),
        dlt_pipeline=pipeline(),
        retry_policy=retries,
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Iterator[Any]:
        root = context.run.root_run_id or context.run.run_id
        JOURNAL.write("began", run=context.run.run_id, root=root, attempt=context.retry_number)
        for event in dlt_resource.run(context=context):
            JOURNAL.write("yielded", key=event.asset_key.to_user_string(), root=root)
            yield event

    @dg.asset(deps=list(load.keys), retry_policy=retries)
    def report(context: dg.AssetExecutionContext) -> None:
        JOURNAL.write("report", run=context.run.run_id)

    executor = (
        dg.multiprocess_executor.configured(
            {"start_method": {"forkserver": {"preload_modules": ["dagster", "dlt"]}}}
        )
        if retried
        else dg.in_process_executor
    )
    definitions = dg.Definitions(
        assets=[load, report],
        jobs=[dg.define_asset_job("everything", executor_def=executor)],
        resources={"dlt_resource": DagsterDltResource()},
    )
    return definitions.resolve_job_def("everything")


def _killed_run(instance: dg.DagsterInstance) -> str | None:
    """Return the last run, if it was killed, with the status that Dagster's monitoring gives it."""
    for run in instance.get_runs(limit=1):
        if run.status == dg.DagsterRunStatus.SUCCESS:
            # Or it is the first, or death came after its last event.
            return None
        if run.status != dg.DagsterRunStatus.FAILURE:
            instance.report_run_failed(run)
        # Dagster refuses to go on with a run that has nothing left to do.
        return run.run_id if _steps_left(instance, run) else None
    return None


def _steps_left(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    if run.execution_plan_snapshot_id is None:
        return set()
    plan = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    done = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
    return set(plan.step_keys_to_execute) - {str(entry.step_key) for entry in done}


def with_dagster() -> bool:
    """Run the job as ordered; return whether it succeeded."""
    instance = dg.DagsterInstance.get()
    options = None
    if ORDERS.how == "again" or ORDERS.monitored:
        killed = _killed_run(instance)
        if killed and ORDERS.how == "again":
            options = dg.ReexecutionOptions.from_failure(killed, instance)
    job = dg.reconstructable(build)
    with dg.execute_job(job, instance, reexecution_options=options) as result:
        return result.success


def plainly() -> bool:
    """Do what a careful user of dlt alone does: finish what is pending, then run."""
    JOURNAL.write("began", run=f"plain {ORDERS.number}", root=f"plain {ORDERS.number}", attempt=0)
    again = pipeline()
    if again.has_pending_data:
        again.run()
    again.run(shop())
    return True


def main() -> None:
    """Do as ordered; the exit code says whether it succeeded."""
    if ORDERS.how != "retry":
        MOMENTS.watch(PIPELINES)
    succeeded = plainly() if ORDERS.how == "plain" else with_dagster()
    JOURNAL.write("ended", moments=MOMENTS.counts)
    sys.exit(not succeeded)


if multiprocessing.parent_process() is not None:
    # A worker of the step; the process that waits for it is not the one that dies.
    if ATTEMPT and ORDERS.loses_disk:
        shutil.rmtree(PIPELINES, ignore_errors=True)
    if ATTEMPT and ORDERS.monitored:
        os.environ["TMPDIR"] += f"-{ATTEMPT}"
        Path(os.environ["TMPDIR"]).mkdir(exist_ok=True)
        tempfile.tempdir = None
    MOMENTS.watch(PIPELINES)
