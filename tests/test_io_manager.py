"""What dlt has loaded is read back as assets downstream annotate it, from where it was loaded."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timezone
from decimal import Decimal
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from filelock import FileLock, Timeout

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltIOManager,
    _dlt,
    asset_key_for,
    build_dlt_asset_specs,
    dlt_assets,
)
from dagster_dlt._dlt import reading
from dagster_dlt.errors import (
    AmbiguousResourceError,
    FactoryParameterError,
    InputMetadataError,
    LibraryNotInstalledError,
    NotADltAssetError,
    NotReadableError,
    PartitionNotToldError,
    PipelineRequiredError,
    ReadOnlyError,
    UnknownColumnError,
    UnknownKindError,
    UnknownResourceError,
    UnknownTableError,
)
from places import Place

UTC = timezone.utc
DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-04")
START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
RANGE = {START: "2024-01-01", END: "2024-01-03"}

THING = {
    "id": 1,
    "price": Decimal("12.340000001"),
    "is_new": True,
    "weight": 1.5,
    "name": "tea",
    "at": datetime(2024, 1, 1, 12, tzinfo=UTC),
    "wall": datetime.fromisoformat("2024-01-01T12:00:00.000005"),
    "day": date(2024, 1, 1),
    "clock": time(1, 2, 3),
    "picture": b"ab",
}
#: More than a float can hold, and null in every other column.
BARE = {"id": 2**60 + 1}
HINTS = {
    "facts": {"data_type": "json"},
    "price": {"data_type": "decimal"},
    "wall": {"data_type": "timestamp", "timezone": False},
    "wei": {"data_type": "wei"},
}


def order(day: int, hour: int) -> dict[str, Any]:
    at, key = datetime(2024, 1, day, hour, tzinfo=UTC), f"{day}.{hour}"
    return {"key": key, "at": at, "day": f"2024-01-0{day}", "lines": [{"line": key}]}


ORDERS = [order(day, hour) for day in (1, 2, 3) for hour in (0, 23)]
ALL = sorted(each["key"] for each in ORDERS)

#: How the times of orders are written, by the name of a resource with a cursor of that kind.
CURSORS: dict[str, tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]] = {
    "instants": (lambda row: row["at"], {}),
    "walls": (lambda row: row["at"].replace(tzinfo=None), {"time": {"timezone": False}}),
    "texts": (lambda row: row["day"], {}),
    "dates": (lambda row: row["at"].date(), {}),
    "seconds": (lambda row: int(row["at"].timestamp()), {}),
}


def by_time(name: str) -> Any:
    written, columns = CURSORS[name]

    cursor = dlt.sources.incremental("time", initial_value=written(ORDERS[0]))

    def read(since=cursor):
        yield [{"key": row["key"], "time": written(row)} for row in ORDERS]

    hint = {"x-dagster": {"window": "seconds"}} if name == "seconds" else {}
    made = dlt.resource(read, name=name, columns=columns, primary_key="key")
    return made.apply_hints(write_disposition="merge", additional_table_hints=hint)


@dlt.source
def shop():
    things = [{**THING, "facts": {"a": [1]}, "wei": Decimal(10**20)}, BARE]
    parts = [{"part": "leaf", "bits": [{"bit": 1}]}, {"part": "bag"}]

    @dlt.resource(columns=HINTS, write_disposition="merge", primary_key="id")
    def things_(
        since=dlt.sources.incremental(
            "at", initial_value=datetime(2024, 1, 1, tzinfo=UTC), on_cursor_value_missing="include"
        ),
    ):
        yield [{**things[0], "parts": parts}, things[1]]

    return things_.with_name("things"), *(by_time(name) for name in CURSORS)


@dlt.source
def days():
    @dlt.resource(primary_key="key", write_disposition="merge")
    def orders(since=dlt.sources.incremental("at", initial_value=datetime(2024, 1, 1, tzinfo=UTC))):
        yield ORDERS

    return orders


#: What readers remember their runs in; closed when all tests are done.
INSTANCES: list[dg.DagsterInstance] = []


@dataclass(frozen=True)
class Reader:
    """Assets of one pipeline, and what somebody downstream gets."""

    assets: Any
    instance: dg.DagsterInstance
    resources: dict[str, Any]
    file: str = ""

    def load(self, **options: Any) -> None:
        assert dg.materialize(
            [self.assets], resources=self.resources, instance=self.instance, **options
        ).success

    def read(
        self,
        annotation: Any = pa.Table,
        metadata: dict[str, Any] | None = None,
        *,
        of: str = "dlt_days_orders",
        in_run: bool = False,
        **options: Any,
    ) -> Any:
        """Return what is read, without a run where nothing takes one."""
        if not in_run and options.keys() <= {"partition_key"}:
            defs = dg.Definitions([self.assets], resources=self.resources)
            # The name that Dagster wants in its place is not taken yet.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return defs.load_asset_value(
                    dg.AssetKey(of),
                    python_type=annotation,
                    metadata=metadata,
                    instance=self.instance,
                    **options,
                )
        return self.read_several({"table": (of, metadata)}, annotation, **options)["table"]

    def read_several(
        self,
        wanted: dict[str, tuple[str, dict[str, Any] | None]],
        annotation: Any = pa.Table,
        *,
        use: Callable[[Any], Any] = lambda value: value,
        partitions: dg.PartitionsDefinition | None = None,
        mapping: dg.PartitionMapping | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Return what an asset downstream makes of its parameters."""
        seen: dict[str, Any] = {}

        def report(**tables) -> None:
            seen.update({name: use(table) for name, table in tables.items()})

        ins = {
            name: dg.AssetIn(
                dg.AssetKey(key),
                input_manager_key="dlt_tables",
                metadata=metadata,
                partition_mapping=mapping,
            )
            for name, (key, metadata) in wanted.items()
        }
        kinds = {} if annotation is None else dict.fromkeys(ins, annotation)
        # Dagster asks functions for their parameters.
        report.__signature__ = Signature(
            [
                Parameter(
                    name,
                    Parameter.POSITIONAL_OR_KEYWORD,
                    annotation=kinds.get(name, Parameter.empty),
                )
                for name in ins
            ],
            return_annotation=None,
        )
        report.__annotations__ = {**kinds, "return": None}
        asset = dg.asset(ins=ins, partitions_def=partitions)(report)
        dg.materialize(
            [asset, self.assets],
            selection=[asset],
            resources=self.resources,
            instance=self.instance,
            **options,
        )
        return seen


def reader_of(source: Any, pipeline: Any, **options: Any) -> Reader:
    given = {"dlt_resource": DagsterDltResource(), "dlt_tables": DltIOManager()}
    provided = {**given, **options.pop("provided", {})}

    options.setdefault("io_manager_key", "dlt_tables")

    @dlt_assets(dlt_source=source, dlt_pipeline=pipeline, name="loads", **options)
    def loads(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)

    instance = dg.DagsterInstance.ephemeral()
    INSTANCES.append(instance)
    return Reader(loads, instance, provided)


@pytest.fixture(scope="module", autouse=True)
def _quiet(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        patch.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("dlt")))
        yield
    while INSTANCES:
        INSTANCES.pop().dispose()


@pytest.fixture(params=["duckdb", "sqlite", "postgres", "files"], scope="module")
def things(request, tmp_path_factory, _quiet):
    """One source in a destination of each kind."""
    folder = tmp_path_factory.mktemp(request.param)
    url = str(folder / f"warehouse.{request.param}")
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")()
    place = Place(request.param, url, folder / "disk")
    found = reader_of(shop(), place.pipeline(), partitions_def=DAILY)
    found.load(tags=RANGE)
    return found


@pytest.fixture(scope="module")
def orders(tmp_path_factory, _quiet):
    """Orders of three days, and what is nested in them."""
    folder = tmp_path_factory.mktemp("orders")
    place = Place("duckdb", str(folder / "orders.duckdb"), folder / "disk")
    found = reader_of(days(), place.pipeline(), partitions_def=DAILY)
    found.load(tags=RANGE)
    return replace(found, file=place.url)


def keys(table: Any, column: str = "key") -> list[str]:
    return sorted(table.column(column).to_pylist())


def rows(table: Any) -> list[dict[str, Any]]:
    """Return the rows without nulls, and without what dlt has added."""
    plain = table.to_dicts() if isinstance(table, pl.DataFrame) else table.to_pylist()
    found = [
        {name: v for name, v in row.items() if v is not None and not name.startswith("_dlt")}
        for row in plain
    ]
    return sorted(found, key=lambda row: row["id"])


# --- kinds ---------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_loaded(things):
    first, second = rows(things.read(of="dlt_shop_things"))

    assert first.pop("facts").replace(" ", "") == '{"a":[1]}'
    assert first.pop("wei") == 10**20
    assert (first, second) == (THING, BARE)


@pytest.mark.parametrize("things", ["postgres"], indirect=True)
def test_integers_stay_integers_beside_nulls_in_pandas(things):
    frame = things.read(pd.DataFrame, {"columns": ["id", "is_new"]}, of="dlt_shop_things")

    assert sorted(frame["id"]) == [1, 2**60 + 1]
    assert [str(kind) for kind in frame.dtypes] == ["int64", "boolean"]


@pytest.mark.parametrize("things", ["postgres"], indirect=True)
def test_polars_has_the_types_of_the_table(things):
    frame = things.read(pl.DataFrame, of="dlt_shop_things")
    only = things.read(
        pl.LazyFrame, of="dlt_shop_things", use=lambda read: read.filter(id=1).collect()
    )

    assert frame.schema["price"] == pl.Decimal(38, 9)
    assert frame.schema["at"] == pl.Datetime("us", "UTC")
    assert rows(only) == rows(frame)[:1]


def test_a_reader_gives_batch_after_batch(things, monkeypatch):
    monkeypatch.setattr(reading, "_AT_ONCE", 1)
    read = things.read(
        pa.RecordBatchReader,
        {"columns": ["id"]},
        of="dlt_shop_things",
        use=lambda reader: [batch.to_pylist() for batch in reader],
    )

    assert sorted(row["id"] for batch in read for row in batch) == [1, 2**60 + 1]


def test_a_relation_can_be_queried_on(things):
    def names(relation):
        return relation.filter("id = 1").project('name, CAST("at" AS VARCHAR)').fetchall()

    read = things.read(duckdb.DuckDBPyRelation, of="dlt_shop_things", use=names)

    assert read == [("tea", "2024-01-01 12:00:00+00")]


def test_nested_tables_are_read_by_their_names(things):
    bits = things.read(metadata={"table": "things__parts__bits"}, of="dlt_shop_things")

    assert keys(bits, "bit") == [1]


def test_all_tables_of_an_asset_are_read_as_a_dict(orders):
    read = orders.read(dict[str, pa.Table], partitions=DAILY, partition_key="2024-01-03")

    assert keys(read["orders"]) == keys(read["orders__lines"], "line") == ["3.0", "3.23"]


def test_rows_of_partitions_are_told_by_cursors_of_each_kind(things):
    wanted = {name: (f"dlt_shop_{name}", None) for name in CURSORS}
    read = things.read_several(wanted, use=keys, partitions=DAILY, partition_key="2024-01-02")

    assert read == {name: ["2.0", "2.23"] for name in CURSORS}


@pytest.mark.parametrize("annotation", [None, Any, pd.DataFrame | None])
def test_what_is_not_annotated_is_a_data_frame_of_pandas(orders, annotation):
    assert isinstance(orders.read(annotation), pd.DataFrame)


def test_an_annotation_that_is_no_table_is_refused(orders):
    with pytest.raises(UnknownKindError, match=r"'pyarrow.RecordBatch'. Did you mean"):
        orders.read(pa.RecordBatch)


def test_a_library_that_is_not_there_is_named(orders, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)

    with pytest.raises(LibraryNotInstalledError, match="pip install polars"):
        orders.read(pl.DataFrame)


def test_other_programs_can_open_the_file_while_a_reader_is_read(orders):
    code = "import sys, duckdb; duckdb.connect(sys.argv[1])"

    def elsewhere(_reader):
        return subprocess.run([sys.executable, "-c", code, orders.file], check=False).returncode

    assert orders.read(pa.RecordBatchReader, use=elsewhere) == 0


def test_reading_takes_its_turn_at_a_destination_that_is_one_file(orders, monkeypatch):
    ask, asked = reading.stored_schema, []

    def while_asked(*about):
        with pytest.raises(Timeout):
            FileLock(f"{orders.file}.dagster-dlt.lock").acquire(timeout=0)
        asked.append(about)
        return ask(*about)

    monkeypatch.setattr(_dlt, "stored_schema", while_asked)
    orders.read()

    assert asked


# --- columns -------------------------------------------------------------------------------------


def test_columns_are_read_in_the_order_in_which_they_are_named(orders):
    assert orders.read(metadata={"columns": ["day", "key"]}).column_names == ["day", "key"]


def test_a_column_that_is_not_there_is_an_error_with_the_nearest_name(orders):
    with pytest.raises(UnknownColumnError, match=r"no column 'dya'\. Did you mean 'day'"):
        orders.read(metadata={"columns": ["dya"]})


def test_a_table_that_is_not_there_is_an_error_with_the_nearest_name(orders):
    with pytest.raises(UnknownTableError, match="Did you mean 'orders__lines'"):
        orders.read(metadata={"table": "orders__line"})


@pytest.mark.parametrize("metadata", [{"columns": "key"}, {"table": 1}, {"partition_expr": 1}])
def test_metadata_that_say_nothing_useful_are_refused(orders, metadata):
    with pytest.raises(InputMetadataError, match=next(iter(metadata))):
        orders.read(metadata=metadata)


def test_what_dlt_has_added_can_be_left_out(orders):
    manager = DltIOManager(dlt_columns=False)
    without = replace(orders, resources={**orders.resources, "dlt_tables": manager})

    assert set(orders.read().column_names) == {"key", "at", "day", "_dlt_id", "_dlt_load_id"}
    assert set(without.read().column_names) == {"key", "at", "day"}
    assert without.read(metadata={"columns": ["_dlt_id"]}).column_names == ["_dlt_id"]


# --- partitions ----------------------------------------------------------------------------------


def test_an_asset_without_partitions_gets_all_rows(orders):
    assert keys(orders.read()) == ALL


def test_a_range_of_partitions_is_read_at_once(orders):
    read = orders.read(partitions=DAILY, tags={**RANGE, START: "2024-01-02"})

    assert keys(read) == ["2.0", "2.23", "3.0", "3.23"]


def test_a_source_that_is_declared_by_names_has_the_cursors_that_its_loads_have_noted(orders):
    there = Place("duckdb", orders.file, Path(f"{orders.file}.disk")).pipeline()
    found = reader_of(days, there, resources=["orders"], partitions_def=DAILY)

    assert keys(found.read(partition_key="2024-01-02")) == ["2.0", "2.23"]


def test_nested_rows_are_those_of_the_partition(orders):
    metadata = {"table": "orders__lines"}
    read = orders.read(metadata=metadata, partition_key="2024-01-03")

    assert keys(read, "line") == ["3.0", "3.23"]


def test_a_relation_has_the_rows_of_the_partition(orders):
    read = orders.read(
        duckdb.DuckDBPyRelation,
        use=lambda relation: relation.project("key").fetchall(),
        partitions=DAILY,
        partition_key="2024-01-02",
    )

    assert sorted(read) == [("2.0",), ("2.23",)]


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (dg.LastPartitionMapping(), ["3.0", "3.23"]),
        (dg.AllPartitionMapping(), ALL),
        (dg.SpecificPartitionsPartitionMapping(["2024-01-01", "2024-01-03"]), [*ALL[:2], *ALL[4:]]),
    ],
    ids=["last", "all", "specific"],
)
def test_a_partition_mapping_says_which_rows_an_asset_gets(orders, mapping, expected):
    assert keys(orders.read(mapping=mapping)) == expected


@pytest.mark.parametrize("expression", ["at", "CAST(day AS TIMESTAMP)"])
def test_partition_expr_tells_the_time_of_rows_in_place_of_the_cursor(orders, expression):
    metadata = {"partition_expr": expression}
    read = orders.read(metadata=metadata, partition_key="2024-01-02")

    assert keys(read) == ["2.0", "2.23"]


def test_a_column_that_tells_no_time_is_refused_rather_than_all_rows_read(orders):
    metadata = {"partition_expr": "key"}

    with pytest.raises(PartitionNotToldError, match="'key' does not say how it tells time"):
        orders.read(metadata=metadata, partition_key="2024-01-02")


SHOPS = dg.StaticPartitionsDefinition(["eu", "us", "uk", "fr", "de"])


@dlt.source
def sales(partition_key: str = "eu"):
    @dlt.resource
    def tills():
        yield [{"shop": partition_key, "till": f"{partition_key}{n}"} for n in (1, 2)]

    return tills


@pytest.fixture(scope="module")
def tills(tmp_path_factory, _quiet):
    """Rows that do not say of which partition they are."""
    folder = tmp_path_factory.mktemp("tills")
    pipeline = Place("duckdb", str(folder / "tills.duckdb"), folder / "disk").pipeline()
    found = reader_of(sales, pipeline, partitions_def=SHOPS)
    for key in ("eu", "us"):
        found.load(partition_key=key)
    found.load(tags={START: "fr", END: "de"})
    return found


def test_rows_of_keys_are_those_that_their_loads_have_brought(tills):
    read = tills.read(of="dlt_sales_tills", partitions=SHOPS, partition_key="us")

    assert keys(read, "till") == ["us1", "us2"]
    with pytest.raises(PartitionNotToldError, match="no load of uk is known"):
        tills.read(of="dlt_sales_tills", partition_key="uk")


def test_partition_expr_tells_the_keys_of_rows(tills):
    metadata = {"partition_expr": "shop"}
    of = "dlt_sales_tills"
    read = tills.read(metadata=metadata, of=of, partition_key="us")
    none = tills.read(metadata=metadata, of=of, partition_key="uk")

    assert (keys(read, "till"), keys(none, "till")) == (["us1", "us2"], [])


def test_loads_that_brought_several_keys_together_do_not_tell_them_apart(tills):
    with pytest.raises(PartitionNotToldError, match=r"brought those of fr\.\.\.de together"):
        tills.read(of="dlt_sales_tills", partition_key="de")


BOTH = dg.MultiPartitionsDefinition({"day": DAILY, "shop": SHOPS})


def test_parts_of_a_key_are_told_by_the_cursor_and_by_partition_expr(pipeline):
    @dlt.source(name="days")
    def source():
        @dlt.resource(primary_key="key", write_disposition="merge")
        def orders(
            since=dlt.sources.incremental("at", initial_value=datetime(2024, 1, 1, tzinfo=UTC)),
        ):
            both = [("eu", each) for each in ORDERS] + [("us", each) for each in ORDERS]
            yield [{**each, "key": f"{of}{each['key']}", "shop": of} for of, each in both]

        return orders

    found = reader_of(source(), pipeline, partitions_def=BOTH)
    key = dg.MultiPartitionKey({"day": "2024-01-02", "shop": "us"})
    found.load(partition_key=key)
    read = found.read(
        metadata={"partition_expr": {"shop": "shop"}}, partitions=BOTH, partition_key=key
    )

    assert keys(read) == ["us2.0", "us2.23"]


# --- where the load went -------------------------------------------------------------------------


def test_reading_goes_where_the_loads_of_an_environment_go(pipeline):
    loads = DagsterDltResource(dataset_name="elsewhere", branch="fix/1")
    found = reader_of(days(), pipeline, provided={"dlt_resource": loads})
    found.load()

    def with_(**resources):
        return replace(found, resources={**found.resources, **resources})

    assert keys(found.read(in_run=True)) == ALL
    with pytest.raises(NotReadableError, match="nothing of source 'days' is loaded into"):
        with_(dlt_resource=DagsterDltResource()).read(in_run=True)
    with pytest.raises(NotReadableError, match="is configured at launch"):
        with_(other=DagsterDltResource.configure_at_launch()).read(in_run=True)
    chosen = {"resources": {"dlt_resource": {"config": {"branch": "fix/2"}}}}
    with pytest.raises(NotReadableError, match="dataset 'elsewhere_fix_2"):
        found.read(in_run=True, run_config=chosen)
    several = with_(other=DagsterDltResource(dataset_name="other"))
    with pytest.raises(NotReadableError, match="several DagsterDltResources"):
        several.read(in_run=True)
    given = replace(
        several, resources={**several.resources, "dlt_tables": DltIOManager(dlt_resource=loads)}
    )
    assert keys(given.read(in_run=True)) == ALL


def test_tables_of_pipelines_that_functions_build_are_read(orders, make_pipeline):
    def built(partition_key: str = "all"):
        return make_pipeline(destination=Place("duckdb", orders.file, Path()).destination)

    assert keys(reader_of(days(), built).read()) == ALL


def test_a_pipeline_for_each_partition_is_read_as_a_whole(make_pipeline):
    def built(partition_key: str):
        return make_pipeline(f"shop_{partition_key}", dataset_name=f"raw_{partition_key}")

    found = reader_of(sales, built, partitions_def=SHOPS)
    found.load(partition_key="us")
    of = "dlt_sales_tills"

    read = found.read(of=of, partition_key="us")

    assert keys(read, "till") == ["us1", "us2"]
    with pytest.raises(FactoryParameterError, match="asks for partition_key"):
        found.read(of=of)


def test_a_code_location_reads_what_another_one_loads(orders, make_pipeline):
    there = Place("duckdb", orders.file, Path())
    specs = build_dlt_asset_specs(days(), make_pipeline(destination=there.destination))

    assert keys(replace(orders, assets=specs[0]).read(in_run=True)) == ALL


def test_a_value_is_loaded_without_a_run(orders):
    @dlt_assets(
        dlt_source=days(),
        dlt_pipeline=Place("duckdb", orders.file, Path(f"{orders.file}.disk")).pipeline(),
        partitions_def=DAILY,
        io_manager_key="dlt_tables",
    )
    def loads(context: dg.AssetExecutionContext): ...

    defs = dg.Definitions([loads], resources={"dlt_tables": DltIOManager()})
    key = asset_key_for(loads, "orders")

    assert keys(defs.load_asset_value(key, python_type=pa.Table)) == ALL
    one = defs.load_asset_value(key, python_type=pa.Table, partition_key="2024-01-03")
    assert keys(one) == ["3.0", "3.23"]


def test_assets_that_name_the_io_manager_need_nothing_downstream(pipeline):
    found = reader_of(days(), pipeline, io_manager_key="dlt_tables")

    @dg.asset
    def report(dlt_days_orders: pd.DataFrame) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"rows": len(dlt_days_orders)})

    result = dg.materialize([found.assets, report], resources=found.resources)

    (event,) = result.asset_materializations_for_node("report")
    assert event.metadata["rows"].value == len(ORDERS)


# --- what is no table of dlt ---------------------------------------------------------------------


def test_an_asset_that_is_not_dlts_cannot_be_read(orders):
    @dg.asset
    def other() -> None: ...

    with pytest.raises(NotADltAssetError, match="'other' is not known as a resource of dlt"):
        replace(orders, assets=other).read(of="other", in_run=True)


def test_a_value_is_not_stored(orders):
    @dg.asset(io_manager_key="dlt_tables")
    def table() -> int:
        return 1

    with pytest.raises(ReadOnlyError, match="'table' returns a value"):
        dg.materialize([table], resources=orders.resources)


def test_a_table_that_has_never_had_a_row_is_an_error(pipeline):
    @dlt.source(name="days")
    def nothing():
        return dlt.resource([], name="orders"), dlt.resource([{"id": 1}], name="others")

    found = reader_of(nothing(), pipeline)
    found.load()

    with pytest.raises(UnknownTableError, match="has never had a row"):
        found.read()


# --- keys ----------------------------------------------------------------------------------------


def test_the_key_of_a_resource_is_that_of_its_asset(pipeline):
    settings = DagsterDltTranslatorSettings(key=["{dataset}", "{table}"])
    translator = DagsterDltTranslator(settings)
    specs = build_dlt_asset_specs(days(), pipeline, translator)

    assert asset_key_for(specs, "orders") == specs[0].key
    assert translator.asset_key_for(days(), "orders", pipeline) == specs[0].key
    with pytest.raises(PipelineRequiredError, match="depends on its pipeline"):
        translator.asset_key_for(days(), "orders")


def test_a_resource_without_an_asset_has_no_key(orders, pipeline):
    with pytest.raises(UnknownResourceError, match=r"source 'days'\. Did you mean 'orders'"):
        asset_key_for(orders.assets, "order")
    with pytest.raises(UnknownResourceError, match="Did you mean 'orders'"):
        DagsterDltTranslator().asset_key_for(days(), "order")


def test_of_resources_of_one_name_the_source_tells_which(orders, pipeline):
    @dlt.source(name="nights")
    def nights():
        return dlt.resource([1], name="orders")

    both = [orders.assets, *build_dlt_asset_specs(nights(), pipeline)]

    assert asset_key_for(both, "orders", source="nights").to_user_string() == "dlt_nights_orders"
    with pytest.raises(AmbiguousResourceError, match="'days', 'nights'"):
        asset_key_for(both, "orders")
