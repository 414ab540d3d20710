"""What happens in a history, drawn from a seed."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Destination = Literal["duckdb", "postgres"]
Disk = Literal["kept", "lost"]
#: How many moments there are in each tick, by kind, with a way of replacing tables.
MomentsOf = Callable[[Destination, str], Mapping[int, Counter[str]]]

#: How dlt replaces tables, by destination.
STRATEGIES: Final[Mapping[Destination, Sequence[str]]] = {
    "duckdb": ("truncate-and-insert", "insert-from-staging"),
    "postgres": ("staging-optimized", "truncate-and-insert", "insert-from-staging"),
}

#: The seconds that death is late are at most these: the longest statements take less.
LATE: Final = 0.05

#: Kinds of moments that are many and alike; the others are drawn one kind as often as the other.
COMMON: Final = frozenset(
    {"file", "sending", "sent", "committing", "committed", "storing", "stored"}
)


#: The moments at which something is done and something that belongs to it is not, in their order.
POINTS: Final = (
    "item",
    "packed",
    "normalized",
    "job started",
    "job committed",
    "job noted",
    "job moved",
    "completing",
    "completed",
    "marked",
    "moved",
    "loaded",
    "reporting",
    "reported",
)


@dataclass(frozen=True)
class Cell:
    """Where the rows go, and what becomes of the working directory of a killed process."""

    destination: Destination
    disk: Disk

    def __str__(self) -> str:
        return f"{self.destination}-{self.disk}"


CELLS: Final = tuple(
    Cell(destination, disk) for destination in STRATEGIES for disk in ("kept", "lost")
)


@dataclass(frozen=True)
class Kill:
    """A process dies; the next one is a new run or a re-execution of the killed one.

    Attributes:
        end: When, as the fields of `ends.End`.
        then: The next process.
    """

    end: Mapping[str, Any]
    then: Literal["new", "again"]

    @classmethod
    def drawn(cls, dice: random.Random, moments: Counter[str], *, first: bool) -> "Kill":
        """Draw one, with the same throws whatever `moments` are: they differ a little each time."""
        then, named, kind, share, late = (
            dice.choice(("new", "again")),
            dice.random() < 1 / 2,
            dice.choice(sorted(moments.keys() - COMMON)),
            dice.random(),
            dice.random() < 1 / 2,
        )
        delay = round(dice.uniform(0, LATE), 4)
        if named:
            return cls({"kind": kind, "occurrence": 1 + int(share * moments[kind])}, then)
        # After a kill a process first deals with what it finds: the more often it is killed then.
        occurrence = 1 + int(share ** (1 if first else 3) * moments.total())
        return cls({"occurrence": occurrence, "delay": delay if late else 0.0}, then)

    def __str__(self) -> str:
        kind = self.end.get("kind") or "moment"
        late = f" and {1000 * delay:.0f} ms" if (delay := self.end.get("delay")) else ""
        return f"{kind} {self.end['occurrence']}{late}, then {self.then}"


@dataclass(frozen=True)
class Plan:
    """What happens in a history.

    Where the next process is on another machine, it finds no trace of the killed one there. Then
    Dagster's monitoring has found out that the run is dead; without it nobody could know.

    Attributes:
        cell: Where it happens.
        seed: What it was drawn from.
        strategy: How dlt replaces tables.
        kills: The kills, in their order.
        workers: Number of jobs that dlt runs at a time.
        moves: Each process is on another machine than the last.
        first: How the first process comes about. With `"retry"` all kills are in its step, which
            Dagster tries again by itself.
        tick: The tick in which processes are killed.
        last: The tick with which the history ends.
    """

    cell: Cell
    seed: str
    strategy: str
    kills: tuple[Kill, ...]
    workers: int = 20
    moves: bool = False
    first: Literal["new", "retry", "plain"] = "new"
    tick: int = 2
    last: int = 2

    @classmethod
    def of(
        cls, cell: Cell, seed: str, moments_of: MomentsOf, first: Literal["new", "plain"]
    ) -> "Plan":
        """Make the plan that a seed stands for.

        A seed may be any text: what happens is drawn from it. Or it names the kind of moment at
        which one process is killed, and what comes then: `job committed:again`.
        """
        kind, named, then = seed.partition(":")
        if not named:
            return cls._drawn(cell, seed, moments_of, first)
        strategy = STRATEGIES[cell.destination][0]
        # Somewhere in the middle, where some of it is done and some is not.
        occurrence = (moments_of(cell.destination, strategy)[2][kind] + 1) // 2
        return cls(
            cell=cell,
            seed=seed,
            strategy=strategy,
            kills=(
                Kill({"kind": kind, "occurrence": occurrence}, "new" if then == "new" else "again"),
            ),
            first="retry" if then == "retry" and first == "new" else first,
        )

    @classmethod
    def _drawn(
        cls, cell: Cell, seed: str, moments_of: MomentsOf, first: Literal["new", "plain"]
    ) -> "Plan":
        dice = random.Random(f"{cell} {seed}")  # noqa: S311 - draws a plan, keeps no secret
        strategy = dice.choice(STRATEGIES[cell.destination])
        workers, moves = dice.choice((1, 20, 20, 20)), dice.random() < 1 / 2
        retried = dice.random() < 1 / 8 and first == "new"
        tick = dice.choice((2, 2, 2, 1))
        moments = moments_of(cell.destination, strategy)[tick]
        return cls(
            cell=cell,
            seed=seed,
            strategy=strategy,
            kills=tuple(
                Kill.drawn(dice, moments, first=number == 0)
                for number in range(dice.choice((1, 1, 2, 3)))
            ),
            workers=workers,
            moves=moves,
            first="retry" if retried else first,
            tick=tick,
            last=tick + 1,
        )

    def __str__(self) -> str:
        kills = "; ".join(map(str, self.kills))
        moving = ", on another machine each" if self.moves else ""
        return (
            f"{self.cell}, tick {self.tick}, {self.first}, {self.strategy}, "
            f"{self.workers} workers{moving}: killed at {kills}"
        )

    @property
    def command(self) -> str:
        """The command that plays the same plan."""
        plain = " --plain" if self.first == "plain" else ""
        return f"""make soak ARGS='--cell {self.cell} --seed "{self.seed}"{plain}'"""
