"""Plays the same runs at once and one by one, each in a process, and says what is different."""

import json
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import dagster as dg
from meeting import Meeting
from place import DATASET
from runs import CELLS, CONTESTED, MANY, Cell, Destination, Plan, Run

import journal
from contents import Contents, damage
from nursery import Nursery
from postgres import drop
from seeds import seeds

#: Seeds for each cell in the tests.
ROUNDS: Final = 2
LEDGER: Final = "_dlt_dagster_loads"
#: Dagster's instance, which starts no process beside each step to watch what it prints.
INSTANCE: Final = """
compute_logs: {module: dagster.core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
telemetry: {enabled: false}
"""


How = Literal["processes", "threads", "one by one"]


@dataclass
class Side:
    """One side of a game: the runs at once, or the same one by one.

    Attributes:
        plan: What happens.
        how: Which side it is; at once, runs are processes or threads of one.
        folder: Where its processes work, and write what they do to a journal.
        url: The destination.
        home: The directory of Dagster's instance.
        nursery: Where processes come from.
        problems: What went wrong.
    """

    plan: Plan
    how: How
    folder: Path
    url: str
    home: Path
    nursery: Nursery
    problems: list[str] = field(default_factory=list)

    def play(self) -> None:
        """Let all runs of the plan happen."""
        if self.how != "processes":
            self._judge(f"all {self.how}", self._process("all"))
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
            "how": self.how,
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

    def end(self) -> "End":
        """Return what is there in the end.

        Raises:
            RuntimeError: a run has failed.
        """
        if self.problems:
            raise RuntimeError(*self.problems)
        mine = [line for line in self.told("saw") if line["number"] == self.plan.after.number]
        cursors = {line["resource"]: line["cursor"] for line in mine}
        return End(Contents.read(self.url, DATASET), cursors)

    def told(self, what: str) -> list[dict[str, Any]]:
        """Return the lines of the journal that say one thing."""
        return [line for line in journal.read(self.folder / "journal") if line["what"] == what]

    def discard(self) -> None:
        """Remove the folder and the database: there are many games."""
        shutil.rmtree(self.folder)
        if self.url.startswith("postgresql:"):
            drop(self.url)


@dataclass(frozen=True)
class End:
    """What runs have left: all that is at the destination, and what the last one began with."""

    contents: Contents
    cursors: Mapping[str, Any]


def games_into(*destinations: Destination, killed: int = 1) -> list[tuple[Cell, str]]:
    """Return the games that the tests of a commit play there.

    The rounds of a cell have the same runs, which meet in another way. Runs are killed in so many
    cells, of all destinations: these are processes, which cost twice as much.
    """
    (seed,) = seeds(1)
    cells = [cell for cell in CELLS if cell.destination in destinations]
    games = [
        (cell, f"{seed}.{order}") for cell in cells if not cell.killed for order in range(ROUNDS)
    ]
    dice = random.Random(seed)  # noqa: S311 - draws a game, keeps no secret
    deadly = dice.sample([cell for cell in cells if cell.killed], killed)
    return games + [(cell, f"{seed}.killed") for cell in deadly]


class Field:
    """Makes folders and databases, and plays there, all with one instance of Dagster.

    Args:
        folder: Takes the folders.
        nursery: Where processes come from.
        database: Makes a database.
        threads: Whether runs at once are threads of one process, if none of them is killed. That
            costs half as much, and each has an instance in memory.
    """

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        database: Callable[..., str],
        *,
        threads: bool = False,
    ) -> None:
        self._folder = folder
        self._nursery = nursery
        self._database = database
        self._threads = threads
        self._ends: dict[object, End] = {}
        self._numbers = count(1)
        self._home = folder / "home"
        self._home.mkdir()
        (self._home / "dagster.yaml").write_text(INSTANCE, encoding="utf-8")
        # Its tables are not made by several processes at once.
        dg.DagsterInstance.from_config(str(self._home)).dispose()

    def _side(self, plan: Plan, how: How) -> Side:
        folder = self._folder / str(next(self._numbers))
        (folder / "meeting").mkdir(parents=True)
        kind = plan.cell.destination
        if kind == "postgres":
            url = self._database()
        else:
            url = str(folder / ("warehouse.duckdb" if kind == "duckdb" else "bucket"))
        return Side(plan, how, folder, url, self._home, self._nursery)

    def play(self, cell: Cell, seed: str) -> "Verdict":
        """Play the game that a seed stands for, and say what is different at its end."""
        plan = Plan.of(cell, seed)
        expected = self._one_by_one(plan)
        at_once = self._side(plan, "threads" if self._threads and not plan.kills else "processes")
        at_once.play()
        verdict = Verdict(plan, [*_problems(at_once, expected)], at_once.told("died"))
        if not verdict.problems:
            at_once.discard()
        return verdict

    def _one_by_one(self, plan: Plan) -> "End":
        """Return what the runs leave one by one, which is the same however they meet."""
        key = plan.cell.destination, plan.before, plan.runs, plan.after
        if key not in self._ends:
            side = self._side(plan, "one by one")
            side.play()
            self._ends[key] = side.end()
            side.discard()
        return self._ends[key]


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


def _problems(at_once: Side, expected: End) -> Iterator[str]:
    if at_once.problems:
        yield from at_once.problems
        return
    plan, end = at_once.plan, at_once.end()
    found = end.contents
    yield from damage(found, expected.contents, CONTESTED)
    if any(name in found.roots for name in CONTESTED):
        yield from _wrong_versions(plan, found, expected.contents)
    if end.cursors != expected.cursors:
        yield f"the next run starts from {end.cursors}, not from {expected.cursors}"
    if found.stored_schema != (schema := expected.contents.stored_schema):
        yield f"the stored schema is {found.stored_schema}, not {schema}"
    # The lease of a run that was killed goes when somebody else wants the same.
    over = {"committed", "replaced", *(["undone", "lease"] if plan.kills else [])}
    for entry in found.tables.get(LEDGER, []):
        # Whoever was killed when dlt had noted its load could not say so.
        if entry["status"] not in over and entry["load_id"] not in found.load_ids:
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
