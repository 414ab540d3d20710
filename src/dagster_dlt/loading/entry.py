"""What the ledger says of one load: who loads what, and what became of it."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from dlt.common.typing import TRefreshMode

from dagster_dlt._facts import Chain, CursorKind, Window

#: The columns of an entry, as texts and as numbers.
TEXTS: Final = (
    "load_id",
    "pipeline_name",
    "run_id",
    "step_key",
    "partition_key",
    "status",
    "facts",
)
NUMBERS: Final = ("attempt", "started_at", "beat_at")
COLUMNS: Final = (*TEXTS, *NUMBERS)
#: What stands between the first and the last key of a range of partitions.
RANGE: Final = "..."
#: `undoing`: rows are taken back, some may still be there, and none of the package counts any more.
#: `lease`: no load, but what a load has for itself, see `leases`.
#: `replaced`: its partition was loaded again, and none of its rows is left.
Status = Literal["loading", "committed", "replaced", "undoing", "undone", "lease"]
TAKEN_BACK: Final = frozenset({"undoing", "undone"})


@dataclass(frozen=True)
class Loader:
    """Who loads: a step of a Dagster run, in one of its attempts."""

    run_id: str
    step: str
    attempt: int = 0
    partition: str | None = None
    #: The time of the partition, or of a range of them, where they are nothing but time.
    window: Window | None = None


@dataclass(frozen=True)
class Entry:
    """One load package, as the ledger knows it."""

    load_id: str
    pipeline: str
    loader: Loader
    #: Resources whose rows are in the package.
    resources: tuple[str, ...]
    #: Name of the schema that it is loaded with.
    schema: str = ""
    #: The run that has built the package, which another one may have found and loaded.
    builder: str = ""
    #: Tables that a dead load's rows have to be taken out of.
    chains: tuple[Chain, ...] = ()
    #: Outermost tables that are written to staging tables first.
    staged: tuple[str, ...] = ()
    #: What the name of a staging dataset of its own ends with, if it has one.
    staging: str | None = None
    #: Rows of the package by table.
    rows: Mapping[str, int] = field(default_factory=dict)
    #: Resources that were taken out of the package because they cannot be loaded.
    failed: tuple[str, ...] = ()
    #: Earlier loads of the same partition, and the tables that their rows are removed from once
    #: this one is committed; none when that is done.
    replaces: tuple[str, ...] = ()
    renewed: tuple[Chain, ...] = ()
    #: Loads of a range that reaches beyond the window, of which the rows within it are removed, and
    #: the column that tells the time of a resource's rows, with how it does.
    replaces_within: tuple[str, ...] = ()
    told_by: Mapping[str, tuple[str, CursorKind]] = field(default_factory=dict)
    #: The place in the queue for a lease, once it is taken.
    ticket: int | None = None
    #: dlt's refresh mode, where loading the package drops or empties tables first.
    refresh: TRefreshMode | None = None
    status: Status = "loading"
    #: It is committed by dlt's own note, and its process has not come to say so, or not yet.
    unsaid: bool = False
    #: What tells machines apart, for the locks by which a load on the same one shows that it lives.
    machine: str = ""
    started_at: float = 0.0
    beat_at: float = 0.0

    def is_built_by(self, run_ids: Collection[str]) -> bool:
        """Tell whether one of some runs has built the package, or if nobody knows, loaded it."""
        return (self.builder or self.loader.run_id) in run_ids

    @property
    def is_taken_back(self) -> bool:
        """Whether its rows are gone, or about to be, so that it has to be loaded from the start."""
        return self.status in TAKEN_BACK

    @property
    def facts(self) -> str:
        """What is not asked for by itself, as JSON."""
        return json.dumps(
            {
                "resources": self.resources,
                "schema": self.schema,
                "builder": self.builder,
                "chains": _texts_of_chains(self.chains),
                "staged": self.staged,
                "staging": self.staging,
                "rows": dict(self.rows),
                "failed": self.failed,
                "replaces": self.replaces,
                "replaces_within": self.replaces_within,
                "told_by": dict(self.told_by),
                "renewed": _texts_of_chains(self.renewed),
                "window": _texts_of(self.loader.window),
                "ticket": self.ticket,
                "refresh": self.refresh,
                "machine": self.machine,
            }
        )

    def values(self) -> tuple[Any, ...]:
        """Return the values of the row, in the order of its columns."""
        return (
            self.load_id,
            self.pipeline,
            self.loader.run_id,
            self.loader.step,
            self.loader.partition or "",
            self.status,
            self.facts,
            self.loader.attempt,
            int(self.started_at * 1000),
            int(self.beat_at * 1000),
        )

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Entry":
        """Read an entry from the values of its row."""
        load_id, pipeline, run_id, step, partition, status, text, attempt, started, beat = row
        facts = json.loads(text)
        return cls(
            load_id=load_id,
            pipeline=pipeline,
            loader=Loader(
                run_id, step, int(attempt), partition or None, _window_of(facts["window"])
            ),
            resources=tuple(facts["resources"]),
            schema=facts.get("schema", ""),
            builder=facts.get("builder", ""),
            chains=_chains_of(facts["chains"]),
            staged=tuple(facts["staged"]),
            staging=facts["staging"],
            rows=facts["rows"],
            failed=tuple(facts["failed"]),
            replaces=tuple(facts["replaces"]),
            replaces_within=tuple(facts["replaces_within"]),
            told_by={name: tuple(told) for name, told in facts["told_by"].items()},
            renewed=_chains_of(facts["renewed"]),
            ticket=facts["ticket"],
            refresh=facts.get("refresh"),
            status=status,
            machine=facts["machine"],
            started_at=int(started) / 1000,
            beat_at=int(beat) / 1000,
        )


def _texts_of_chains(chains: Sequence[Chain]) -> list[Any]:
    return [[chain.resource, chain.tables] for chain in chains]


def _chains_of(texts: Sequence[Any]) -> tuple[Chain, ...]:
    return tuple(
        Chain(resource, tuple((name, parent) for name, parent in tables))
        for resource, tables in texts
    )


def _texts_of(window: Window | None) -> list[str] | None:
    return [window.start.isoformat(), window.end.isoformat()] if window else None


def _window_of(texts: Sequence[str] | None) -> Window | None:
    return Window(*map(datetime.fromisoformat, texts)) if texts else None


def overlapping(
    entries: Iterable[Entry], resources: Iterable[str], partition: str | None
) -> list[Entry]:
    """Return the entries that are about some of these resources, in the same partition."""
    wanted = set(resources)
    return [
        entry
        for entry in entries
        if entry.loader.partition == partition and wanted & set(entry.resources)
    ]


def owed_refresh(entries: Iterable[Entry], dead: Collection[str]) -> dict[str, TRefreshMode]:
    """Return the resources whose last refresh was begun and never committed, with its mode.

    Args:
        entries: Loads of one pipeline.
        dead: Ids of those that were not over, and never will be.
    """
    owed: dict[str, TRefreshMode] = {}
    for entry in sorted(entries, key=_moment):
        for name in entry.resources:
            committed = entry.status == "committed"
            if committed and (entry.refresh or name not in entry.failed):
                owed.pop(name, None)
            elif entry.refresh and (entry.load_id in dead or entry.status == "undone"):
                owed[name] = entry.refresh
    return owed


def _moment(entry: Entry) -> float:
    """Return when a load was committed; if it was not, when it began."""
    return entry.beat_at if entry.status == "committed" else entry.started_at
