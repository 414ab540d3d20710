"""Plays the same runs at once and one by one, each in a process, and says what is different."""

import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import dagster as dg
from meeting import Meeting
from place import DATASET
from runs import CONTESTED, MANY, Cell, Plan, Run

import journal
from contents import Contents, damage
from nursery import Nursery
from postgres import drop

LEDGER: Final = "_dlt_dagster_loads"
#: Dagster's instance, which starts no process beside each step to watch what it prints.
INSTANCE: Final = """
compute_logs: {module: dagster.core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
telemetry: {enabled: false}
"""


@dataclass
class Side:
    """One side of a game: the runs at once, or the same one by one.

    Attributes:
        plan: What happens.
        at_once: Which side it is.
        folder: Where its processes work, and write what they do to a journal.
        url: The destination.
        home: The directory of Dagster's instance.
        nursery: Where processes come from.
        problems: What went wrong.
    """

    plan: Plan
    at_once: bool
    folder: Path
    url: str
    home: Path
    nursery: Nursery
    problems: list[str] = field(default_factory=list)

    def play(self) -> None:
        """Let all runs of the plan happen."""
        if not self.at_once:
            self._judge("all runs", self._process("all"))
            return
        for runs in (self.plan.before, self.plan.runs, [self.plan.after]):
            with ThreadPoolExecutor(MANY) as threads:
                list(threads.map(self._to_its_end, runs))

    def _to_its_end(self, run: Run) -> None:
        """Play a run, and again if it is killed, while the others go on."""
        code = self._process(f"{run.number}-0", number=run.number, attempt=0)
        Meeting(self.plan, self.folder / "meeting").leave(run.number)
        if code == -signal.SIGKILL and run.number in self.plan.kills:
            if self.plan.kills[run.number].loses_disk:
                shutil.rmtree(self.folder / "pipelines" / str(run.number), ignore_errors=True)
            code = self._process(f"{run.number}-1", number=run.number, attempt=1)
        self._judge(f"run {run.number}", code)

    def _judge(self, what: str, code: int) -> None:
        if code:
            self.problems.append(f"{what} ended with {code}, see {self.folder}")

    def _process(self, name: str, **orders: int) -> int:
        told = {
            "cell": str(self.plan.cell),
            "seed": self.plan.seed,
            "at_once": self.at_once,
            "url": self.url,
            **orders,
        }
        # Processes know each other's locks by this directory: without it they are far apart.
        machine = self.folder / f"machine-{name if self.plan.apart else ''}"
        machine.mkdir(exist_ok=True)
        environment = {
            "PLAYER": json.dumps(told),
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "TMPDIR": str(machine),
            "DLT_DATA_DIR": str(self.folder / "dlt"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "CRITICAL",
        }
        return self.nursery.run(self.folder, environment, self.folder / f"{name}.log")

    def contents(self) -> Contents:
        return Contents.read(self.url, DATASET)

    def told(self, what: str) -> list[dict[str, Any]]:
        """Return the lines of the journal that say one thing."""
        return [line for line in journal.read(self.folder / "journal") if line["what"] == what]

    @property
    def seen_after(self) -> dict[str, Any]:
        """The cursors that the last run began with."""
        mine = [line for line in self.told("saw") if line["number"] == self.plan.after.number]
        return {line["resource"]: line["cursor"] for line in mine}

    def discard(self) -> None:
        """Remove the folder and the database: there are many games."""
        shutil.rmtree(self.folder)
        if self.url.startswith("postgresql:"):
            drop(self.url)


class Field:
    """Makes folders and databases, and plays there, all with one instance of Dagster."""

    def __init__(self, folder: Path, nursery: Nursery, database: Callable[..., str]) -> None:
        self._folder = folder
        self._nursery = nursery
        self._database = database
        self._numbers = count(1)
        self._home = folder / "home"
        self._home.mkdir()
        (self._home / "dagster.yaml").write_text(INSTANCE, encoding="utf-8")
        # Its tables are not made by several processes at once.
        dg.DagsterInstance.from_config(str(self._home)).dispose()

    def _side(self, plan: Plan, *, at_once: bool) -> Side:
        folder = self._folder / str(next(self._numbers))
        (folder / "meeting").mkdir(parents=True)
        kind = plan.cell.destination
        if kind == "postgres":
            url = self._database()
        else:
            url = str(folder / ("warehouse.duckdb" if kind == "duckdb" else "bucket"))
        return Side(plan, at_once, folder, url, self._home, self._nursery)

    def play(self, cell: Cell, seed: str) -> "Verdict":
        """Play the game that a seed stands for, and say what is different at its end."""
        plan = Plan.of(cell, seed)
        at_once, serial = (self._side(plan, at_once=each) for each in (True, False))
        for side in (at_once, serial):
            side.play()
        verdict = Verdict(plan, [*_problems(plan, at_once, serial)], at_once.told("died"))
        if not verdict.problems:
            at_once.discard()
            serial.discard()
        return verdict


@dataclass(frozen=True)
class Verdict:
    """What came of a plan: nothing wrong, if all is well.

    Attributes:
        plan: The plan.
        problems: What is wrong.
        died: What processes have written when they were killed.
    """

    plan: Plan
    problems: list[str]
    died: list[dict[str, Any]]

    def __str__(self) -> str:
        died = (
            f"{line['number']} died in {line['stage']} at {line['kind']} ({line['detail'][:80]})"
            for line in self.died
        )
        return "\n  ".join([str(self.plan), *died, *self.problems, self.plan.command])


def _problems(plan: Plan, at_once: Side, serial: Side) -> Iterator[str]:
    if problems := [*at_once.problems, *serial.problems]:
        yield from problems
        return
    found, expected = at_once.contents(), serial.contents()
    yield from damage(found, expected, CONTESTED)
    if any(name in found.roots for name in CONTESTED):
        yield from _wrong_versions(plan, found, expected)
    if at_once.seen_after != serial.seen_after:
        yield f"the next run starts from {at_once.seen_after}, not from {serial.seen_after}"
    if found.stored_schema != expected.stored_schema:
        yield f"the stored schema is {found.stored_schema}, not {expected.stored_schema}"
    over = {"committed", "replaced", *(["undone"] if plan.kills else [])}
    for entry in found.tables.get(LEDGER, []):
        if entry["status"] not in over:
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
