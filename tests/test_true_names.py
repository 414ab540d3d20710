"""A table is called in Dagster what a query calls it, whatever its shape, wherever it is."""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import dlt
import duckdb
import psycopg2
import pytest
from dlt.common.schema import Schema
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import DagsterDltResource
from places import Place
from sources import assets_of, rows_by_table

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05")
LONG = "what_was_found_in_the_third_drawer_from_the_left_of_the_cupboard_in_the_hall"


def rows(count: int, **values: Any) -> list[dict[str, Any]]:
    return [{"id": number, **values} for number in range(count)]


@dlt.source(name="shapes")
def shapes() -> Any:
    """Give one resource for each shape, each with a number of rows that no other one has."""
    deep = {"boxes": [{"bags": [{"beans": [{"weight": 1}, {"weight": 2}]}]}]}
    yield dlt.resource(rows(1), name="plain")
    yield dlt.resource(rows(2, lines=[{"sku": "tea"}] * 3), name="orders")
    yield dlt.resource(rows(3, reason="x"), name="orders__audit")
    yield dlt.resource(rows(4), name="orders__lines__more")
    yield dlt.resource(rows(5), name="camelCase")
    yield dlt.resource(rows(6, order=1, select=2), name="order")
    yield dlt.resource(rows(7, group=1), name="select")
    yield dlt.resource(rows(8), name="group")
    yield dlt.resource(rows(9, at="x"), name="user")
    yield dlt.resource(rows(10), name="web", table_name="sold")
    yield dlt.resource(rows(11), name="till", table_name="sold")
    yield dlt.resource(rows(12, **deep), name="sacks")
    yield dlt.resource(rows(13), name="2024 sales")
    yield dlt.resource(rows(14), name="order-lines.v2")
    yield dlt.resource(rows(15), name="größe €")
    yield dlt.resource(rows(16), name=LONG)
    yield dlt.resource(rows(17), name="ids", table_name="ÜberName")
    yield dlt.resource(
        [*rows(2, kind="click"), *rows(3, kind="view")],
        name="by_row",
        table_name=lambda row: f"seen_{row['kind']}",
    )
    yield dlt.resource(rows(18), name="one_by_row", table_name=lambda _: "Seen One")
    yield dlt.resource(
        [dlt.mark.materialize_table_schema()], name="empty", columns={"id": {"data_type": "bigint"}}
    )


@dlt.source(name="others")
def others() -> Any:
    """Give a second schema for the same pipeline, and in it a name of the first one's."""
    yield dlt.resource(rows(21), name="customers")
    yield dlt.resource(rows(22), name="camels", table_name="plainToo")


def cased() -> Any:
    """Return a source that leaves its names as they are."""
    schema = Schema("cased", normalizers={"names": "direct"})
    given = [
        dlt.resource(rows(31), name="OrderLines"),
        dlt.resource(rows(32), name="lower"),
        dlt.resource(rows(33), name="Order Lines"),
        dlt.resource(rows(34), name="Select"),
        dlt.resource(rows(35), name="größe"),
    ]
    return dlt.source(lambda: given, schema=schema)()


@dlt.source(name="timed")
def timed() -> Any:
    """Give two resources for partitions: each day has as many rows as its number."""

    def found(at: Any) -> Iterator[Any]:
        zone = dt.timezone.utc
        for day in range(1, 5):
            at_noon = dt.datetime(2024, 1, day, 12, tzinfo=zone)
            yield [{"id": day * 10 + number, "at": at_noon} for number in range(day)]

    @dlt.resource(write_disposition="append")
    def days(
        at: Any = dlt.sources.incremental(
            "at", initial_value=dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)
        ),
    ) -> Iterator[Any]:
        yield from found(at)

    @dlt.resource(write_disposition="merge", primary_key="id")
    def Weeks(  # noqa: N802 - is what is tested
        at: Any = dlt.sources.incremental(
            "at", initial_value=dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)
        ),
    ) -> Iterator[Any]:
        yield from found(at)

    return days, Weeks


@dataclass(frozen=True)
class Loaded:
    """What was loaded into one destination: specs, and events in their order, by resource."""

    place: Place
    specs: Mapping[str, dg.AssetSpec]
    events: Mapping[str, list[Mapping[str, Any]]]

    def event(self, resource: str) -> Mapping[str, Any]:
        return self.events[resource][-1]

    def count(self, name: str, schema: str = "shapes") -> int:
        """Count rows by a name in Dagster's metadata, as somebody does who knows nothing else."""
        return int(self._ask(f"select count(*) from {_as_in_a_query(name)}", schema))

    def _ask(self, sql: str, schema: str) -> Any:
        if self.place.kind == "duckdb":
            with duckdb.connect(self.place.url, read_only=True) as connection:
                return connection.execute(sql).fetchall()[0][0]
        if self.place.kind == "postgres":
            with closing(psycopg2.connect(self.place.url)) as connection:
                cursor = connection.cursor()
                cursor.execute(sql)
                return cursor.fetchall()[0][0]
        with self.views.sql_client(schema) as client:
            return (client.execute_sql(sql) or [])[0][0]

    @cached_property
    def views(self) -> Pipeline:
        """The pipeline through which files are asked: dlt makes tables of them."""
        found = self.place.pipeline("shapes", pipelines_dir=f"{self.place.disk}-to-look")
        found.sync_destination()
        return found


def _as_in_a_query(name: str) -> str:
    """Quote the parts of a name that are no identifiers."""
    # Databases take reserved words after a dot; what dlt asks files with takes all but this.
    plain = "(?!select$)[a-z_][a-z0-9_]*"
    return ".".join(p if re.fullmatch(plain, p) else f'"{p}"' for p in name.split("."))


def load(place: Place) -> Loaded:
    pipeline = place.pipeline("shapes")
    everything = [
        assets_of(shapes(), pipeline, name="shapes"),
        assets_of(others(), pipeline, name="others"),
    ]
    if place.kind != "files":  # whose names are those of folders
        apart = place.pipeline("cased", dataset_name="Cased")
        everything.append(assets_of(cased(), apart, name="cased"))
    by_day = assets_of(
        timed(),
        pipeline,
        name="timed",
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    resources = {"dlt_resource": DagsterDltResource()}
    first_range = {
        "dagster/asset_partition_range_start": "2024-01-01",
        "dagster/asset_partition_range_end": "2024-01-02",
    }
    runs = [
        dg.materialize(everything, resources=resources),
        dg.materialize([by_day], resources=resources, tags=first_range),
        dg.materialize([by_day], resources=resources, partition_key="2024-01-04"),
    ]
    events: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        for event in run.get_asset_materialization_events():
            found = event.materialization.metadata
            plain = {name: value.value for name, value in found.items()}
            events.setdefault(plain["dagster_dlt/resource"], []).append(plain)
    specs = [spec for each in (*everything, by_day) for spec in each.specs]
    return Loaded(place, {spec.metadata["dagster_dlt/resource"]: spec for spec in specs}, events)


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, postgres: Callable[..., str]
) -> Iterator[Callable[[str], Loaded]]:
    """Return what was loaded into a kind of place; it is loaded when the first test asks."""
    known: dict[str, Loaded] = {}
    folder = tmp_path_factory.mktemp("names")

    def loaded(kind: str) -> Loaded:
        if kind not in known:
            urls = {"duckdb": f"{folder}/ware.house.duckdb", "files": f"{folder}/bucket"}
            url = postgres() if kind == "postgres" else urls[kind]
            known[kind] = load(Place(kind, url, folder / kind))
        return known[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        patch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")
        patch.setenv("DLT_DATA_DIR", str(folder / "dlt"))
        yield loaded


KINDS = ("duckdb", "postgres", "files")
SHAPES = {
    "plain": ("plain", 1),
    "with a nested table": ("orders", 2),
    "sibling of a nested table": ("orders__audit", 3),
    "as if nested in a nested table": ("orders__lines__more", 4),
    "camel case": ("camelCase", 5),
    "order": ("order", 6),
    "select": ("select", 7),
    "group": ("group", 8),
    "user": ("user", 9),
    "shared table": ("web", 21),
    "shared table, the other one": ("till", 21),
    "nested three deep": ("sacks", 12),
    "begins with a digit": ("2024 sales", 13),
    "hyphen and dot": ("order-lines.v2", 14),
    "no ASCII": ("größe €", 15),
    "longer than PostgreSQL's names": (LONG, 16),
    "named apart from its table": ("ids", 17),
    "table by row, of which there is one": ("one_by_row", 18),
    "empty": ("empty", 0),
}
#: In a dataset of that name, in the letters in which they are written.
CASED = {"OrderLines": 31, "lower": 32, "Order Lines": 33, "Select": 34, "größe": 35}


def table_of(found: Mapping[str, Any]) -> str:
    """Return a table's name by the key that it has, also where several assets have the table."""
    return str(found.get("dagster/table_name") or found["dagster_dlt/table"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_rows_under_the_name_of_a_table_are_those_that_are_reported(places, kind, shape):
    loaded, (resource, rows) = places(kind), SHAPES[shape]
    event = loaded.event(resource)

    assert loaded.count(table_of(event)) == event["dagster/row_count"] == rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resource", ["customers", "camels"])
def test_the_rows_of_a_second_schema_are_under_their_name_too(places, kind, resource):
    loaded = places(kind)
    event = loaded.event(resource)

    assert loaded.count(table_of(event), "others") == event["dagster/row_count"] > 20


@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
@pytest.mark.parametrize("resource", CASED)
def test_the_rows_of_a_source_with_names_of_its_own_kind_are_under_their_name(
    places, kind, resource
):
    loaded = places(kind)
    event = loaded.event(resource)

    assert table_of(event).endswith(f".Cased.{resource}")
    assert loaded.count(table_of(event)) == event["dagster/row_count"] == CASED[resource]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resource", ["days", "Weeks"])
def test_the_rows_of_partitions_add_up_to_those_under_the_name(places, kind, resource):
    loaded = places(kind)
    events = loaded.events[resource]

    assert [event["dagster/partition_row_count"] for event in events] == [1, 2, 4]
    assert {loaded.count(table_of(event)) for event in events} == {1 + 2 + 4}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_tables_that_rows_decide_are_counted_together(places, kind):
    loaded = places(kind)
    event = loaded.event("by_row")
    front = table_of(loaded.event("plain")).removesuffix("plain")

    assert "dagster/table_name" not in event
    assert sum(loaded.count(f"{front}{name}") for name in rows_by_table(event)) == 5
    assert event["dagster/row_count"] == 5


@pytest.mark.parametrize("kind", KINDS)
def test_nested_tables_are_those_below_a_table_and_none_beside_it(places, kind):
    loaded = places(kind)
    deep = ["sacks__boxes", "sacks__boxes__bags", "sacks__boxes__bags__beans"]
    beside = ["orders__audit", "orders__lines__more"]

    assert rows_by_table(loaded.event("orders")) == {"orders": 2, "orders__lines": 6}
    assert rows_by_table(loaded.event("sacks")) == {
        "sacks": 12,
        **dict(zip(deep, (12, 12, 24), strict=True)),
    }
    assert [len(rows_by_table(loaded.event(name))) for name in beside] == [1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_has_its_name_before_it_is_loaded(places, kind):
    loaded = places(kind)
    known = {name for name in loaded.events if name not in {"by_row", "one_by_row"}}

    assert {name: table_of(plain(loaded.specs[name].metadata)) for name in known} == {
        name: table_of(loaded.event(name)) for name in known
    }


def test_the_files_of_a_table_are_where_its_uri_says(places):
    loaded = places("files")
    uris = {name: urlsplit(event["dagster/uri"]) for name, event in loaded_tables(loaded)}

    assert {uri.scheme for uri in uris.values()} == {"file"}
    assert [name for name, uri in uris.items() if not any(Path(uri.path).iterdir())] == []


@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
def test_a_table_in_a_database_has_no_uri(places, kind):
    assert {event.get("dagster/uri") for _, event in loaded_tables(places(kind))} == {None}


def loaded_tables(loaded: Loaded) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, events[-1]) for name, events in loaded.events.items() if name != "by_row"]


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in metadata.items()}
