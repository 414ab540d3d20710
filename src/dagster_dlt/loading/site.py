"""A pipeline as an operator finds it: its destination, its ledger, and what waits on this disk."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from dlt.common.runtime.collector import NULL_COLLECTOR
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import Home
from dagster_dlt.loading.entry import Entry
from dagster_dlt.loading.ledger import Ledger, ledger_of
from dagster_dlt.loading.pipeline import directed, fresh
from dagster_dlt.loading.plan import RunOptions
from dagster_dlt.loading.rows import Rows
from dagster_dlt.loading.turns import Turn, turn_of
from dagster_dlt.loading.workspace import FOLDER, Scope


@dataclass(frozen=True)
class Site:
    """One pipeline at its destination. Nothing in it runs or changes the pipeline it was given."""

    given: Pipeline
    #: Directory of the workspaces.
    base: Path
    home: Home
    #: The right to open the destination.
    turn: Turn
    ledger: Ledger | None
    log: logging.Logger

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.given.pipeline_name

    @property
    def scope(self) -> Scope:
        """What all loads of the pipeline into this destination and dataset have in common."""
        return Scope(self.name, self.home.destination, self.given.dataset_name, step="")

    @property
    def own_dir(self) -> Path:
        """The `pipelines_dir` that the pipeline was made with."""
        return Path(self.given.pipelines_dir)

    @property
    def state_dir(self) -> Path | None:
        """The directory that keeps the state, where only a disk does."""
        if self.home.restores_state:
            return None
        if self.home.in_working_dir:
            return self.own_dir
        return self.base / self.name / self.scope.state_folder

    @cached_property
    def entries(self) -> list[Entry]:
        """What the ledger knows, oldest first; read once."""
        return self.ledger.entries() if self.ledger else []

    @property
    def rows(self) -> Rows | None:
        """What can be taken back of rows that were sent, where they can be told apart."""
        return self.ledger.rows if self.ledger else None

    @property
    def alive(self) -> list[Entry]:
        """Loads that go on, or may go on, at this moment."""
        return [entry for entry in self.entries if entry.status == "loading" and self._lives(entry)]

    @property
    def leases(self) -> list[Entry]:
        """What loads have for themselves at this moment, or wait for."""
        held = self.ledger.leases() if self.ledger else []
        return [each for each in held if each.pipeline == self.name and self._lives(each)]

    def _lives(self, entry: Entry) -> bool:
        return self.ledger is not None and self.ledger.cause_of_death(entry) is None

    def sharing(self, entry: Entry) -> list[Entry]:
        """Return the loads that may be alive and load a table that `entry` does, itself included.

        While they do, rows whose parent is yet to come look like what a dead load has left.
        """
        tables = {name for chain in entry.chains for name in chain.names}
        return [
            each
            for each in self.alive
            if each is entry or tables & {name for chain in each.chains for name in chain.names}
        ]

    @contextmanager
    def quiet(self, options: RunOptions | None = None) -> Iterator[Pipeline]:
        """Yield a pipeline like the given one in a directory of its own, which says nothing."""
        with TemporaryDirectory(prefix="dagster-dlt-") as elsewhere:
            pipeline = fresh(directed(self.given, options or {}), Path(elsewhere))
            pipeline.collector = NULL_COLLECTOR
            yield pipeline


def site_of(
    given: Pipeline,
    log: logging.Logger,
    *,
    base: Path | None = None,
    is_over: Callable[[str], bool] = lambda _run: False,
) -> Site:
    """Return the site of a pipeline.

    Args:
        given: The pipeline.
        log: Where to say what happens.
        base: Directory of the workspaces; by default below the pipeline's own.
        is_over: Tells whether a Dagster run has ended, by its id.
    """
    turn = turn_of(
        given, lambda file, holder: log.warning("Waiting for %s, which %s has open.", file, holder)
    )
    return Site(
        given=given,
        base=base or Path(given.pipelines_dir) / FOLDER,
        home=_dlt.home_of(given),
        turn=turn,
        ledger=ledger_of(given, turn, is_over=is_over),
        log=log,
    )
