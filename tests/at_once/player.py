"""A process of a game: one of the runs that are at once, or all of them in threads or one by one.

What to do is said by the variable `PLAYER`; what happens then is drawn from the seed of the game.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from filelock import FileLock
from meeting import Meeting
from place import Place
from runs import MANY, Kill, Plan, Run, cell_of

from dagster_dlt.loading import leases
from ends import End
from journal import Journal

ORDERS: Mapping[str, Any] = json.loads(os.environ["PLAYER"])
PLAN = Plan.of(cell_of(ORDERS["cell"]), ORDERS["seed"])
DISK = Path("pipelines").resolve()
MEETING = Meeting(PLAN, Path("meeting").resolve())


@cache
def build(number: int) -> dg.JobDefinition:
    """Return the job of a run, for which Dagster asks several times in a process."""
    run = PLAN.run(number)
    journal = Journal(Path("journal").resolve(), number=number)
    meets = ORDERS["how"] != "one by one" and run in PLAN.runs
    kill = PLAN.kills.get(number) if meets and ORDERS.get("attempt") == 0 else None
    passed = _watched(journal, kill) if kill else bool

    def saw(resource: str, cursor: Any) -> None:
        journal.write("saw", resource=resource, cursor=cursor)

    def met() -> None:
        passed("item")
        if meets:
            MEETING.arrive(number)

    disk = DISK if PLAN.together else DISK / str(number)
    # `dlt.pipeline()` makes its directory, and fails where another process does so at that moment.
    with FileLock("defining.lock"):
        return Place(PLAN.cell.destination, ORDERS["url"], disk).job(run, saw, met)


def _watched(journal: Journal, kill: Kill) -> Callable[[str], object]:
    """Have this process killed; return what counts a moment of ours."""
    from moments import Moments  # with the clients of destinations, which take long to import

    moments = Moments(journal, End(**kill.end))
    moments.watch(DISK)
    return moments.passed


def _run(run: Run) -> bool:
    """Run a job in Dagster's instance; tell whether it succeeded."""
    instance = dg.DagsterInstance.get()
    tags = {"player": f"{Path.cwd()} {run.number}"}
    if run.partition:
        tags["dagster/partition"] = run.partition
    options = None
    for killed in instance.get_runs(dg.RunsFilter(tags=tags)) if ORDERS["attempt"] else ():
        if PLAN.apart or PLAN.kills[run.number].then == "again":
            # As Dagster's monitoring does.
            instance.report_run_failed(killed)
        if PLAN.kills[run.number].then == "again":
            if instance.get_run_stats(killed.run_id).steps_succeeded:
                return True  # its only step was over, so that Dagster has nothing to go on with
            options = dg.ReexecutionOptions.from_failure(killed.run_id, instance)
    job = dg.build_reconstructable_job("player", "build", (run.number,))
    with dg.execute_job(job, instance, tags=tags, reexecution_options=options) as result:
        return result.success


def _run_in_memory(run: Run) -> bool:
    """Run a job in an instance of its own; tell whether it succeeded."""
    try:
        job = build(run.number)
        return job.execute_in_process(partition_key=run.partition, raise_on_error=False).success
    finally:
        MEETING.leave(run.number)


def _run_all(many: int) -> bool:
    """Run all jobs, so many at a time; tell whether they succeeded."""
    succeeded = []
    for runs in (PLAN.before, PLAN.runs, [PLAN.after]):
        for run in runs:
            build(run.number)  # not in the threads: dlt makes the directory of the pipeline
        with ThreadPoolExecutor(many) as threads:
            succeeded += threads.map(_run_in_memory, runs)
    return all(succeeded)


def main() -> None:
    """Do as ordered; the exit code says whether it succeeded."""
    leases.LOOK = 0.5  # type: ignore[misc] - what is waited for here takes less than a second
    if ORDERS["how"] == "processes":
        succeeded = _run(PLAN.run(ORDERS["number"]))
    else:
        succeeded = _run_all(MANY if ORDERS["how"] == "threads" else 1)
    sys.exit(not succeeded)
