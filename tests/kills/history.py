"""A history of processes, some of which are killed, and what is wrong when it has ended.

It goes: a tick of the world, perhaps; a tick in which processes are killed, up to three, and others
go on where they stopped, until one is let through; perhaps one more tick. The same ticks without a
kill are what its end is compared with.
"""

import json
import re
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

from doings import Doings
from plan import Cell, Destination, Disk, Plan
from world import STAMPED, TICKS, world

from contents import Contents, damage
from nursery import Nursery
from postgres import drop

#: As in `project`, which is imported in the processes that may be killed only.
PIPELINE: Final = "shop"
DATASET: Final = "raw"


@dataclass
class History:
    """The processes of one history, which share a folder and a destination."""

    folder: Path
    nursery: Nursery
    destination: str
    options: Mapping[str, Any]
    workers: int = 20
    moves: bool = False
    tick: int = 0
    #: The tick of each process, by its number.
    ticks: dict[int, int] = field(default_factory=dict)

    @property
    def pipelines(self) -> Path:
        return self.folder / "pipelines"

    def advance(self) -> None:
        """Let the world go on."""
        self.tick += 1
        text = json.dumps(world(self.tick))
        (self.folder / "world.json").write_text(text, encoding="utf-8")

    def run(self, how: str, *ends: Mapping[str, Any], loses_disk: bool = False) -> int:
        """Run a process; return its exit code, negative for a signal."""
        number = len(self.ticks) + 1
        self.ticks[number] = self.tick
        orders = {
            "number": number,
            "how": how,
            "destination": self.destination,
            "options": dict(self.options),
            "ends": ends,
            "loses_disk": loses_disk,
            "monitored": self.moves,
        }
        # Processes know each other's locks by this directory: without it they are far apart.
        machine = self.folder / f"machine-{number if self.moves else 0}"
        machine.mkdir(exist_ok=True)
        environment = {
            "KILLS": json.dumps(orders),
            "DAGSTER_HOME": str(self.folder / "home"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "TMPDIR": str(machine),
            "DLT_DATA_DIR": str(self.folder / "dlt"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "CRITICAL",
            "LOAD__WORKERS": str(self.workers),
            # Several files for a table, and so several jobs.
            "DATA_WRITER__BUFFER_MAX_ITEMS": "5",
            "DATA_WRITER__FILE_MAX_ITEMS": "5",
        }
        return self.nursery.run(self.folder, environment, self.log(number))

    def log(self, number: int) -> Path:
        """Return the file with the output of a process."""
        return self.folder / f"{number}.log"

    def lose_disk(self) -> None:
        shutil.rmtree(self.pipelines, ignore_errors=True)

    def contents(self) -> Contents:
        return Contents.read(self.destination, DATASET)

    def journal(self) -> list[dict[str, Any]]:
        lines = (self.folder / "journal").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def doings(self, disk: Disk) -> Doings:
        return Doings(self.journal(), self.ticks, disk)

    def failure(self) -> str:
        """Say why the last process failed, and whether a new run heals it."""
        number = len(self.ticks)
        log = self.log(number).read_text(encoding="utf-8")
        errors = list(
            dict.fromkeys(re.findall(r"^(?!dagster)(?:\w+\.)*[A-Z]\w+: .+", log, re.MULTILINE))
        )
        healed = "a new run succeeds" if self.run("new") == 0 else "so does a new run"
        return f"process {number} fails, {healed}: {' <- '.join(errors[-2:]) or log[-2000:]}"

    def discard(self) -> None:
        """Remove the folder and the database: there are many histories."""
        shutil.rmtree(self.folder)
        if self.destination.startswith("postgresql:"):
            drop(self.destination)

    def left_behind(self) -> list[str]:
        """Return the names of workspaces that are there still."""
        workspaces = self.pipelines / ".dagster" / PIPELINE
        return [path.name for path in workspaces.iterdir()] if workspaces.is_dir() else []


class Places:
    """Makes folders and databases, and knows the histories in which nobody is killed."""

    def __init__(
        self, folder: Path, nursery: Nursery, database: Callable[..., str], *, plain: bool = False
    ) -> None:
        self.nursery = nursery
        #: How a first process comes about here.
        self.first: Literal["new", "plain"] = "plain" if plain else "new"
        self._folder = folder
        self._database = database
        self._numbers = count(1)
        self._references: dict[tuple[Destination, str], Reference] = {}
        self._locks: dict[tuple[Destination, str], Lock] = defaultdict(Lock)

    def history(self, destination: Destination, strategy: str, like: History | None) -> History:
        """Return a history that begins as another one is now, or with nothing at all."""
        folder = self._folder / f"{destination}-{next(self._numbers)}"
        if like is None:
            (folder / "home").mkdir(parents=True)
            (folder / "journal").touch()
        else:
            shutil.copytree(like.folder, folder)
        if destination == "duckdb":
            url = str(folder / "warehouse.duckdb")
        else:
            url = self._database(like.destination) if like else self._database()
        return History(
            folder,
            self.nursery,
            url,
            {"replace_strategy": strategy},
            tick=like.tick if like else 0,
            ticks=dict(like.ticks) if like else {},
        )

    def reference(self, destination: Destination, strategy: str) -> "Reference":
        """Return the uninterrupted history, which is played when it is asked for first."""
        key = destination, strategy
        with self._locks[key]:
            if key not in self._references:
                self._references[key] = Reference(self, destination, strategy)
        return self._references[key]

    def play(self, cell: Cell, seed: str) -> "Verdict":
        """Play the history that a seed stands for, and say what is wrong at its end."""

        def moments_of(destination: Destination, strategy: str) -> Mapping[int, Counter[str]]:
            return self.reference(destination, strategy).moments

        return _played(Plan.of(cell, seed, moments_of, self.first), self)


class Reference:
    """All ticks, one after the other, without a kill."""

    def __init__(self, places: Places, destination: Destination, strategy: str) -> None:
        #: How things are before each tick, for others to begin from.
        self.before: dict[int, History] = {}
        #: What is at the destination after each tick.
        self.after: dict[int, Contents] = {}
        #: How many moments there are in each tick, by kind.
        self.moments: dict[int, Counter[str]] = {}
        self.history = history = places.history(destination, strategy, None)
        for tick in TICKS:
            self.before[tick] = places.history(destination, strategy, history)
            history.advance()
            if history.run(places.first):
                raise AssertionError(history.failure())
            self.after[tick] = history.contents()
            self.moments[tick] = Counter(history.journal()[-1]["moments"])


@dataclass(frozen=True)
class Verdict:
    """What came of a plan.

    Attributes:
        plan: The plan.
        problems: What is wrong; nothing, if all is well.
        died: Where processes were killed; fewer than planned if some had no such moment.
    """

    plan: Plan
    problems: list[str]
    died: list[dict[str, Any]]

    def __str__(self) -> str:
        died = "; ".join(
            f"process {line['number']} in {line['stage']} at {line['kind']} ({line['detail'][:80]})"
            for line in self.died
        )
        return "\n  ".join(
            [str(self.plan), f"died: {died or 'nowhere'}", *self.problems, self.plan.command]
        )


def _played(plan: Plan, places: Places) -> Verdict:
    cell = plan.cell
    reference = places.reference(cell.destination, plan.strategy)
    history = places.history(cell.destination, plan.strategy, reference.before[plan.tick])
    history.workers, history.moves = plan.workers, plan.moves
    history.advance()
    problems = [*_interrupted(plan, history)]
    while not problems and history.tick < plan.last:
        history.advance()
        if history.run(places.first):
            problems.append(history.failure())
    if not problems:
        found, expected = history.contents(), reference.after[plan.last]
        doings = history.doings(cell.disk)
        problems += damage(found, expected, STAMPED)
        problems += doings.problems(found, expected)
        if places.first != "plain":
            problems += doings.unreported()
            if left := history.left_behind():
                problems.append(f"left in the directory of workspaces: {left}")
    died = [line for line in history.journal() if line["what"] == "died"]
    if not problems:
        history.discard()
    return Verdict(plan, problems, died)


def _interrupted(plan: Plan, history: History) -> Iterator[str]:
    """Play the tick in which processes are killed, until one of them comes through."""
    how: str = plan.first
    if how == "retry":
        ends = [kill.end for kill in plan.kills]
        if history.run(how, *ends, loses_disk=plan.cell.disk == "lost"):
            yield history.failure()
        return
    for kill in (*plan.kills, None):
        code = history.run(how, *([kill.end] if kill else []))
        if code == 0:
            return
        if kill is None or code != -signal.SIGKILL:
            yield history.failure()
            return
        if plan.cell.disk == "lost":
            history.lose_disk()
        how = "plain" if plan.first == "plain" else kill.then
