"""Plays the same runs at once and one by one, and says what is different."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import dagster as dg
import dlt
from runs import CONTESTED, LIVE, PARTED, PARTITIONS, Cell, Destination, Plan, Run, shop

from contents import Contents, damage
from dagster_dlt import DagsterDltResource, dlt_assets

DATASET: Final = "raw"
PIPELINE: Final = "shop"
LEDGER: Final = "_dlt_dagster_loads"


class Meeting:
    """Where runs meet: all have read what they load before one of them sends it.

    Then they go on in the order of the plan, each once there are few enough before it. Nobody waits
    for one that is not here: it may wait itself, for something that one of those who are here has.
    """

    def __init__(self, plan: Plan) -> None:
        self._rank = {number: rank for rank, number in enumerate(plan.order)}
        self._lag = plan.lag
        self._awaited = len({run.takes_turns_as for run in plan.runs})
        self._came: set[int] = set()
        self._there: set[int] = set()
        self._changed = threading.Condition()

    def arrive(self, run: Run) -> None:
        with self._changed:
            if run.number in self._came:
                return
            self._came.add(run.number)
            self._there.add(run.number)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._came) >= self._awaited)
            mine = self._rank[run.number] - self._lag
            self._changed.wait_for(lambda: all(self._rank[other] > mine for other in self._there))

    def leave(self, run: Run) -> None:
        """Take note that a run is over, whether or not it ever came."""
        with self._changed:
            self._came.add(run.number)
            self._there.discard(run.number)
            self._changed.notify_all()


@dataclass
class Place:
    """An empty destination, a disk, and what is known of the runs that load there."""

    destination: Destination
    url: str
    disk: Path
    together: bool = True
    #: The cursors that each run began with, by its number.
    seen: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: `dlt.pipeline()` makes its directory, and fails where another one does so at that moment.
    defining: threading.Lock = field(default_factory=threading.Lock)
    #: What went wrong.
    problems: list[str] = field(default_factory=list)

    def run(self, run: Run, meeting: Meeting | None = None) -> None:
        """Materialize what a run has selected, in an instance of its own."""
        try:
            with _left(meeting, run):
                with self.defining:
                    assets = self._assets(run, meeting)
                result = dg.materialize(
                    [assets],
                    selection=[dg.AssetKey(f"dlt_shop_{name}") for name in run.resources],
                    partition_key=run.partition,
                    resources={"dlt_resource": DagsterDltResource()},
                    raise_on_error=False,
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, the verdict says it
            self.problems.append(f"run {run.number}: {error!r}")
            return
        self.problems += [
            f"run {run.number}: {event.message} {event.event_specific_data.error_display_string}"
            for event in result.get_step_failure_events()
        ]

    def _assets(self, run: Run, meeting: Meeting | None) -> dg.AssetsDefinition:
        def met() -> None:
            if meeting:
                meeting.arrive(run)

        seen = self.seen.setdefault(run.number, {})
        source = shop(run, delta=self.destination == "delta", seen=seen, met=met)
        disk = self.disk if self.together else self.disk / str(run.number)

        @dlt_assets(
            dlt_source=source.with_resources(*(PARTED if run.partition else LIVE)),
            dlt_pipeline=dlt.pipeline(
                PIPELINE,
                pipelines_dir=str(disk),
                destination=self._dlt_destination(),
                dataset_name=DATASET,
            ),
            name="load_parted" if run.partition else "load_live",
            partitions_def=dg.StaticPartitionsDefinition(PARTITIONS) if run.partition else None,
        )
        def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource) -> Any:
            yield from dlt_resource.run(context)

        return load

    def _dlt_destination(self) -> Any:
        if self.destination == "duckdb":
            return dlt.destinations.duckdb(self.url)
        if self.destination == "postgres":
            return dlt.destinations.postgres(self.url)
        return dlt.destinations.filesystem(self.url)

    def contents(self) -> Contents:
        return Contents.read(self.url, DATASET)


@contextmanager
def _left(meeting: Meeting | None, run: Run) -> Iterator[None]:
    try:
        yield
    finally:
        if meeting:
            meeting.leave(run)


class Field:
    """Makes places, and plays there."""

    def __init__(self, folder: Path, database: Callable[..., str]) -> None:
        self._folder = folder
        self._database = database
        self._numbers = count(1)

    def _place(self, plan: Plan) -> Place:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        kind = plan.cell.destination
        if kind == "postgres":
            url = self._database()
        else:
            url = str(folder / ("warehouse.duckdb" if kind == "duckdb" else "bucket"))
        return Place(kind, url, folder / "pipelines", plan.together)

    def play(self, cell: Cell, seed: str) -> "Verdict":
        """Play the game that a seed stands for, and say what is different at its end."""
        plan = Plan.of(cell, seed)
        at_once, serial = self._place(plan), self._place(plan)
        for place in (at_once, serial):
            for run in plan.before:
                place.run(run)
        meeting = Meeting(plan)
        with ThreadPoolExecutor(len(plan.runs)) as threads:
            list(threads.map(lambda run: at_once.run(run, meeting), plan.runs))
        for run in plan.runs:
            serial.run(run)
        for place in (at_once, serial):
            place.run(plan.after)
        return Verdict(plan, [*_problems(plan, at_once, serial)])


@dataclass(frozen=True)
class Verdict:
    """What came of a plan: nothing wrong, if all is well."""

    plan: Plan
    problems: list[str]

    def __str__(self) -> str:
        return "\n  ".join([str(self.plan), *self.problems, self.plan.command])


def _problems(plan: Plan, at_once: Place, serial: Place) -> Iterator[str]:
    yield from (f"at once, {problem}" for problem in at_once.problems)
    yield from (f"one by one, {problem}" for problem in serial.problems)
    if at_once.problems or serial.problems:
        return
    found, expected = at_once.contents(), serial.contents()
    yield from damage(found, expected, CONTESTED)
    if any(name in found.roots for name in CONTESTED):
        yield from _wrong_versions(plan, found, expected)
    ours, theirs = at_once.seen[plan.after.number], serial.seen[plan.after.number]
    if ours != theirs:
        yield f"the next run starts from {ours}, not from {theirs}"
    if found.stored_schema != expected.stored_schema:
        yield f"the stored schema is {found.stored_schema}, not {expected.stored_schema}"
    for entry in found.tables.get(LEDGER, []):
        if entry["status"] not in {"committed", "replaced"}:
            yield f"the ledger has {entry['status']} {entry['load_id']}"


def _wrong_versions(plan: Plan, found: Contents, expected: Contents) -> Iterator[str]:
    """Look at rows that several runs have: there is one for each key, as some run had it."""
    given = [row for run in (*plan.before, *plan.runs, plan.after) for row in run.shared()]
    for name in CONTESTED:
        rows = found.documents(name)
        if strange := [row for row in rows if row not in given]:
            yield f"{name}: {len(strange)} rows that no run has, such as {strange[0]}"
        have, want = (
            Counter(row["id"] for row in each) for each in (rows, expected.documents(name))
        )
        if have != want:
            yield f"{name}: keys {dict(have)}, not {dict(want)}"
