"""Destinations, loads into them, and loads that die there."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dlt
from dlt.extract import DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._facts import ResourceFacts
from dagster_dlt.loading.entry import Entry, Loader
from dagster_dlt.loading.ledger import Ledger, ledger_of
from dagster_dlt.loading.outcome import Outcome
from dagster_dlt.loading.pipeline import directed
from dagster_dlt.loading.plan import Plan
from dagster_dlt.loading.run import run
from dagster_dlt.loading.turns import turn_of
from sources import query

LOG = logging.getLogger("dagster_dlt.tests")


class Died(BaseException):
    """What a process ends with here; nothing in the library takes it for an error of its own."""


@dataclass(frozen=True)
class Place:
    """One destination, with a disk for the pipelines that load into it."""

    kind: str
    url: str
    disk: Path

    @property
    def destination(self) -> Any:
        if self.kind == "duckdb":
            return dlt.destinations.duckdb(self.url)
        if self.kind in {"files", "s3"}:
            return dlt.destinations.filesystem(self.url)
        if self.kind == "sqlite":
            return dlt.destinations.sqlalchemy(f"sqlite:///{self.url}")
        return dlt.destinations.postgres(self.url)

    @property
    def _elsewhere(self) -> str:
        return str(self.disk.with_name("questions"))

    def pipeline(self, name: str = "shop", **options: Any) -> Pipeline:
        defaults = {
            "pipelines_dir": str(self.disk),
            "destination": self.destination,
            "dataset_name": "raw",
        }
        return dlt.pipeline(name, **{**defaults, **options})

    def lose_disk(self) -> None:
        shutil.rmtree(self.disk)

    def ledger(self, source: DltSource | None = None, **options: Any) -> Ledger:
        pipeline = self.pipeline(**{"pipelines_dir": self._elsewhere, **options})
        schema = _dlt.schema_for(pipeline, source) if source else None
        ledger = ledger_of(pipeline, turn_of(pipeline), schema=schema)
        assert ledger is not None
        return ledger

    def entries(self, **options: Any) -> list[Entry]:
        return self.ledger(**options).entries()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        pipeline = self.pipeline(pipelines_dir=self._elsewhere)
        if self.kind in {"files", "s3"}:
            pipeline.sync_destination()  # queries are answered from the schema
        return query(pipeline, sql)

    def column(self, sql: str) -> list[Any]:
        return sorted(row[0] for row in self.query(sql))

    @contextmanager
    def dying(self, moment: str = "before commit", *, load: int = 1) -> Iterator[None]:
        """End a load in this block, the first or a later one, in place of its process."""
        client = self.destination.client_class
        commit, loads = client.complete_load, count(1)

        def complete_load(self: Any, load_id: str) -> None:
            dies = next(loads) == load
            if not dies or moment == "after commit":
                commit(self, load_id)
            if dies:
                raise Died

        with patch.object(client, "complete_load", complete_load), suppress(Died):
            yield
            message = "the load was not to survive"
            raise AssertionError(message)


def load(
    pipeline: Pipeline,
    source: DltSource,
    *,
    run_id: str = "run",
    attempt: int = 0,
    partition: str | None = None,
    **plan: Any,
) -> Mapping[str, ResourceFacts]:
    """Load as a step of a Dagster run does; return what is reported, by resource."""
    reported: dict[str, ResourceFacts] = {}

    def report(each: Outcome | str) -> None:
        if isinstance(each, Outcome):
            reported.update(each.resources)

    loader = Loader(run_id, plan.pop("step", "load"), attempt, partition, plan.get("window"))
    options = plan.pop("options", {})
    run(Plan(directed(pipeline, options), source, options, loader, **plan), report, LOG)
    return reported


def retry(pipeline: Pipeline, source: DltSource, **plan: Any) -> Mapping[str, ResourceFacts]:
    """Load as the next attempt of the same step does."""
    run_id = plan.pop("run_id", "run")
    return load(
        pipeline,
        source,
        run_id=run_id,
        attempt=1,
        is_retry=True,
        earlier_runs=frozenset({run_id}),
        **plan,
    )


@dlt.source(name="shop")
def shop(until: int = 3) -> Any:
    """Give one resource for each way of loading; what there is grows with `until`.

    Two of them add rows: what they load twice is there twice.
    """

    @dlt.resource
    def events(day: Any = dlt.sources.incremental("day", initial_value=0)) -> Iterator[Any]:
        yield [_event(number) for number in range(day.last_value + 1, until + 1)]

    @dlt.resource(write_disposition="merge")
    def notes(day: Any = dlt.sources.incremental("day", initial_value=0)) -> Iterator[Any]:
        yield [_event(number) for number in range(day.last_value + 1, until + 1)]

    @dlt.resource(primary_key="id", write_disposition="merge")
    def accounts() -> Iterator[Any]:
        yield [{"id": number, "seen": until, "lines": [{"line": 1}]} for number in (1, 2)]

    @dlt.resource(write_disposition="replace")
    def prices() -> Iterator[Any]:
        yield [{"sku": sku, "tags": [{"tag": until}]} for sku in ("tea", "jam")]

    return events, notes, accounts, prices


def _event(day: int) -> dict[str, Any]:
    marks = [{"mark": f"{day}/{mark}"} for mark in range(2)]
    return {"day": day, "items": [{"item": f"{day}-a", "marks": marks}, {"item": f"{day}-b"}]}


def contents(place: Place, *tables: str) -> dict[str, list[Any]]:
    """Return what is in some tables of the source above, or all, and what hangs from what."""
    found: dict[str, list[Any]] = {}
    for table in {"events", "notes"}.intersection(tables or ("events", "notes")):
        tree = (
            f"select e.day, i.item, m.mark from raw.{table} e "
            f"left join raw.{table}__items i on i._dlt_parent_id = e._dlt_id "
            f"left join raw.{table}__items__marks m on m._dlt_parent_id = i._dlt_id"
        )
        found[table] = sorted(map(repr, place.query(tree)))
        # Rows that hang from nothing would not be seen above.
        found[f"{table} items"] = place.column(f"select item from raw.{table}__items")
        found[f"{table} marks"] = place.column(f"select mark from raw.{table}__items__marks")
    if "accounts" in tables or not tables:
        found["accounts"] = sorted(place.query("select id, seen from raw.accounts"))
        found["accounts lines"] = place.column("select line from raw.accounts__lines")
    if "prices" in tables or not tables:
        found["prices"] = place.column("select sku from raw.prices")
        found["prices tags"] = place.column("select tag from raw.prices__tags")
    return found


def expected(until: int, *tables: str) -> dict[str, list[Any]]:
    """Return what `contents` is to be after loads that nobody disturbed, the last up to a day."""
    tree, items, marks = [], [], []
    for day in range(1, until + 1):
        tree += [
            (day, f"{day}-a", f"{day}/0"),
            (day, f"{day}-a", f"{day}/1"),
            (day, f"{day}-b", None),
        ]
        items += [f"{day}-a", f"{day}-b"]
        marks += [f"{day}/0", f"{day}/1"]
    both = {"": sorted(map(repr, tree)), " items": sorted(items), " marks": sorted(marks)}
    found = {
        **{f"{table}{part}": rows for table in ("events", "notes") for part, rows in both.items()},
        "accounts": [(1, until), (2, until)],
        "accounts lines": [1, 1],
        "prices": ["jam", "tea"],
        "prices tags": [until, until],
    }
    wanted = tables or ("events", "notes", "accounts", "prices")
    return {name: rows for name, rows in found.items() if name.split()[0] in wanted}
