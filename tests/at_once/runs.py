"""Which runs start at once, drawn from a seed, and what each of them has to load."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import dlt

from ends import NAMED

Destination = Literal["duckdb", "postgres", "files", "delta"]
Shape = Literal["partitions", "subsets", "same", "cold", "columns"]
Row = dict[str, Any]

#: Resources with a cursor: each has the same rows for every run, as many as there are by then.
LIVE: Final = ("events", "notes", "orders", "tickets")
#: Resources of which each partition has rows of its own, but for the last.
PARTED: Final = ("visits", "members", "shared")
#: Keyed rows that several runs have, each in its own version: whoever comes last is right.
CONTESTED: Final = ("shared",)
PARTITIONS: Final = tuple("abcdefghi")
#: Runs of a game.
MANY: Final = 8
#: About as many moments as a run has at which it may be killed, and seconds that it may be late.
MOMENTS: Final = 400
LATE: Final = 0.05


@dataclass(frozen=True)
class Cell:
    """Where the rows go, what the runs have to do with each other, and whether some are killed."""

    destination: Destination
    shape: Shape
    killed: bool = False

    def __str__(self) -> str:
        return f"{self.destination}-{self.shape}{'-killed' if self.killed else ''}"


@dataclass(frozen=True)
class Run:
    """A run of an asset definition, with what is selected.

    Attributes:
        number: Tells runs apart, in the order in which they go where they go one by one.
        resources: What is selected.
        partition: The partition, if it has one.
        until: The last row that there is when it reads.
        side: The name of a column and a table that are new with it.
    """

    number: int
    resources: tuple[str, ...]
    partition: str | None = None
    until: int = 3
    side: str | None = None

    @property
    def takes_turns_as(self) -> tuple[Any, ...]:
        """What is the same in runs that may not read at the same time."""
        return (self.partition, self.resources)

    @property
    def shared_keys(self) -> range:
        """Keys of contested rows: those of any two partitions overlap."""
        first = PARTITIONS.index(self.partition or "a") % 3
        return range(first, first + 3)

    def shared(self) -> list[Row]:
        """Return its version of contested rows, with the version in all that is nested."""
        return [_row(key, f"{self.partition}/{self.until}") for key in self.shared_keys]


@dataclass(frozen=True)
class Kill:
    """A run is killed, and tried again while the others go on.

    Attributes:
        end: When, as the fields of `ends.End`.
        then: It is tried again as a new run, or as a re-execution from failure.
        loses_disk: Its directory is gone by then.
    """

    end: Mapping[str, Any]
    then: Literal["new", "again"]
    loses_disk: bool

    @classmethod
    def drawn(cls, dice: random.Random, *, together: bool) -> "Kill":
        """Draw one; there may be no such moment, if it is said to be one of the last."""
        named = {"kind": dice.choice(list(NAMED)), "occurrence": dice.choice((1, 1, 2, 3))}
        any_moment = {"occurrence": dice.randint(1, MOMENTS), "delay": dice.uniform(0, LATE)}
        return cls(
            end=dice.choice((named, any_moment)),
            then=dice.choice(("new", "again")),
            loses_disk=dice.random() < 1 / 2 and not together,
        )

    def __str__(self) -> str:
        kind = self.end.get("kind") or "moment"
        disk = ", disk lost" if self.loses_disk else ""
        return f"{kind} {self.end['occurrence']}{disk}, then {self.then}"


@dataclass(frozen=True)
class Plan:
    """What happens in a game.

    Attributes:
        cell: Where it happens.
        seed: What it was drawn from.
        before: Runs before the others, one by one; none where the dataset is to be empty.
        runs: Those that start at once.
        after: One that comes when they are over, and starts from what they have left.
        order: The order in which runs are let go on once they have read, by their numbers.
        lag: How many runs may be on their way to the destination at once.
        together: Whether all work in the same directory.
        kills: How runs end when they are tried first, by their numbers.
        apart: Whether each process is on a machine of its own, and Dagster finds out who is dead.
    """

    cell: Cell
    seed: str
    before: tuple[Run, ...]
    runs: tuple[Run, ...]
    after: Run
    order: tuple[int, ...]
    lag: int
    together: bool
    kills: Mapping[int, Kill]
    apart: bool

    @classmethod
    def of(cls, cell: Cell, seed: str) -> "Plan":
        """Make the plan that a seed stands for.

        What comes after a dot in it is for how they meet and are killed: up to there it says what
        the runs are.
        """
        which = f"{cell.destination} {cell.shape} {seed.partition('.')[0]}"
        dice = random.Random(which)  # noqa: S311 - draws a plan, keeps no secret
        drawn = _SHAPES[cell.shape](dice)
        dice.shuffle(drawn)
        runs = tuple(replace(run, number=number) for number, run in enumerate(drawn, 1))
        resources = tuple(dict.fromkeys(name for run in runs for name in run.resources))
        live = tuple(name for name in resources if name in LIVE)
        parted = tuple(name for name in resources if name not in LIVE)
        after = Run(99, live, until=99) if live else Run(99, parted, "i", side="after")
        first = replace(after, number=0, until=1, partition="h" if after.partition else None)
        cold = cell.shape == "cold" or dice.random() < 1 / 3
        dice = random.Random(f"{cell} {seed}")  # noqa: S311 - as above
        together = dice.random() < 1 / 2
        killed = dice.sample(range(1, MANY + 1), dice.choice((1, 2))) if cell.killed else ()
        return cls(
            cell=cell,
            seed=seed,
            before=() if cold else (replace(first, side=None),),
            runs=runs,
            after=after,
            order=tuple(dice.sample([run.number for run in runs], len(runs))),
            lag=dice.choice((1, 2, MANY)),
            together=together,
            kills={number: Kill.drawn(dice, together=together) for number in killed},
            apart=dice.random() < 1 / 3 and not together,
        )

    def run(self, number: int) -> Run:
        """Return the run with a number."""
        return next(run for run in (*self.before, *self.runs, self.after) if run.number == number)

    def __str__(self) -> str:
        return (
            f"{self.cell}, {'warm' if self.before else 'cold'}, {self.lag} at a time, "
            f"{'one directory' if self.together else 'a directory each'}: "
            f"{', '.join(map(_told, self.runs))}; in the order {self.order}"
            f"{'; each on its own machine' if self.apart else ''}"
            f"{''.join(f'; {number} killed at {kill}' for number, kill in self.kills.items())}"
        )

    @property
    def command(self) -> str:
        """The command that plays the same plan."""
        return f"""make soak-at-once ARGS='--cell {self.cell} --seed "{self.seed}"'"""


def _told(run: Run) -> str:
    what = run.partition or f"{'+'.join(run.resources)} until {run.until}"
    return f"{run.number}: {what}{f' with {run.side}' if run.side else ''}"


def _partitions(dice: random.Random) -> list[Run]:
    """Six partitions, two of them twice."""
    keys = dice.sample(PARTITIONS[:7], 6)
    return [Run(0, PARTED, key) for key in keys] + [Run(0, PARTED, key, 4) for key in keys[:2]]


def _subsets(dice: random.Random) -> list[Run]:
    """Each resource by itself, as there is more and more of it, in any order."""
    return [Run(0, (name,), until=dice.randint(2, 9)) for name in LIVE for _ in range(2)]


def _same(dice: random.Random) -> list[Run]:
    return [Run(0, LIVE[:2], until=until) for until in dice.sample(range(2, 20), MANY)]


def _cold(dice: random.Random) -> list[Run]:
    parted = [Run(0, PARTED, key) for key in dice.sample(PARTITIONS[:7], 4)]
    return [*parted, *(Run(0, (name,), until=dice.randint(2, 9)) for name in LIVE)]


def _columns(dice: random.Random) -> list[Run]:
    keys = dice.sample(PARTITIONS[:7], 7)
    sides = ("left", "right", "left", "right", "left", "right", None)
    return [Run(0, PARTED[:2], key, side=side) for key, side in zip(keys, sides, strict=True)] + [
        Run(0, PARTED[:2], keys[0], side="left")
    ]


_SHAPES: Final[dict[Shape, Callable[[random.Random], list[Run]]]] = {
    "partitions": _partitions,
    "subsets": _subsets,
    "same": _same,
    "cold": _cold,
    "columns": _columns,
}

CELLS: Final = tuple(
    Cell(destination, shape, killed)
    for killed in (False, True)
    for destination in ("duckdb", "postgres", "files", "delta")
    for shape in _SHAPES
)


def cell_of(name: str) -> Cell:
    """Return the cell with a name."""
    return next(cell for cell in CELLS if str(cell) == name)


def _row(key: int, version: str = "", side: str | None = None) -> Row:
    """Return a row that is the same whoever asks, with two levels of nested ones."""
    lines = [
        {"line": line, "of": f"{key}{version}", "marks": [{"mark": f"{key}{version}"}]}
        for line in range(1 + key % 2)
    ]
    new = {side: key, f"{side}s": [{side: f"{key}"}]} if side else {}
    return {"id": key, "version": version, "lines": lines, **new}


@dlt.source(name="shop")
def shop(run: Run, *, delta: bool, saw: Callable[[str, Any], None], met: Callable[[], None]) -> Any:
    """Give what there is for a run.

    Args:
        run: The run.
        delta: Whether what is merged is kept in Delta tables.
        saw: Takes the name of a resource, and the cursor that it begins with.
        met: Called when the cursor has been read, and before the rows are on their way.
    """
    merge: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}
    if delta:
        merge |= {"write_disposition": {"disposition": "merge", "strategy": "upsert"}}
        merge |= {"table_format": "delta"}

    def live(name: str, options: dict[str, Any]) -> Any:
        def rows(at: Any = dlt.sources.incremental("at", initial_value=0)) -> Iterator[Any]:
            saw(name, at.last_value)
            met()
            yield [{**_row(each), "at": each} for each in range(at.last_value + 1, run.until + 1)]

        return dlt.resource(rows, name=name, **options)

    def parted(name: str, options: dict[str, Any]) -> Any:
        def rows() -> Iterator[Any]:
            met()
            if name in CONTESTED:
                yield run.shared()
            else:
                first = 10 * PARTITIONS.index(run.partition or "a")
                yield [_row(first + each, side=run.side) for each in range(3)]

        return dlt.resource(rows, name=name, **options)

    return (
        *(live(name, merge if name in LIVE[1::2] else {}) for name in LIVE),
        *(parted(name, {} if name == PARTED[0] else merge) for name in PARTED),
    )
