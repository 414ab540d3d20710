"""Asset checks that are derived from hints, contracts and loads."""

import re
import shutil
from datetime import datetime, timedelta, timezone

import dagster as dg
import dlt
import pytest
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from dagster_dlt import (
    DagsterDltResource,
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltChecks,
    DltFreshness,
    DltResourceSpec,
    DltRowCount,
    DltSourceSnapshot,
    build_dlt_asset_checks,
    build_dlt_asset_specs,
    dlt_assets,
    errors,
)
from dagster_dlt.checks.measures import Measure, answers, statements
from sources import assets_of, one, query

NOW = datetime.now(timezone.utc)
ROWS = [
    {"ID": 1, "Email": "ada@example.org", "code": "a", "customerId": 1, "v": 1},
    {"ID": 1, "Email": "bo@example.org", "code": "a", "customerId": 9, "v": 2},
    {"ID": 2, "Email": "cy@example.org", "code": "b", "customerId": 9, "v": "no number"},
    {"ID": 3, "Email": "di@example.org", "code": "c", "customerId": None, "v": 3},
    {"ID": 4, "Email": "di@example.org", "code": "d", "customerId": 8, "v": 4},
]


ALL = DltChecks()
ELSEWHERE = {"referenced_table": "elsewhere", "columns": ["ID"], "referenced_columns": ["ID"]}


def translator(checks=ALL, **resources) -> DagsterDltTranslator:
    settings = DagsterDltTranslatorSettings(
        checks=checks, resources={name: {"checks": each} for name, each in resources.items()}
    )
    return DagsterDltTranslator(settings)


@dlt.source
def shop(*, unique=True):
    @dlt.resource(
        primary_key="ID",
        columns={
            "Email": {"x-annotation-pii": True, "unique": unique},
            "code": {"unique": unique},
            "v": {"data_type": "bigint"},
        },
        references=[
            {
                "referenced_table": "Customers",
                "columns": ["customerId"],
                "referenced_columns": ["ID"],
            }
        ],
        schema_contract={"data_type": "discard_row"},
    )
    def orders():
        yield [{**row, "at": NOW} for row in ROWS]

    @dlt.resource(primary_key="ID", write_disposition="replace")
    def Customers():  # noqa: N802 - the name that it has at its source
        yield [{"ID": 1}, {"ID": 2}]

    return orders, Customers


def results_of(result) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the evaluations by `<resource>.<check>`."""
    return {
        f"{each.asset_key.path[-1].split('_')[-1]}.{each.check_name}": each
        for each in result.get_asset_check_evaluations()
    }


def numbers(evaluation) -> dict[str, object]:
    return {
        name.removeprefix("dagster_dlt/"): value.value
        for name, value in evaluation.metadata.items()
        if not isinstance(value, dg.TableMetadataValue)
    }


def sample(evaluation) -> list[dict]:
    found = evaluation.metadata.get("dagster_dlt/sample")
    return [dict(record.data) for record in found.records] if found else []


def run(*assets, **options):
    resources = {"dlt_resource": DagsterDltResource()}
    return dg.materialize(list(assets), resources=resources, raise_on_error=False, **options)


def only_checks(*names: str) -> dg.AssetSelection:
    return dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey(a), c) for a, c in names))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """One load of the shop with all checks, and then the checks alone, on another disk."""
    place = tmp_path_factory.mktemp("checks")
    statements: list[str] = []
    execute = DuckDbSqlClient.execute_query

    def counting(self, query, *args, **kwargs):
        statements.append(str(query))
        return execute(self, query, *args, **kwargs)

    def pipeline(disk):
        return dlt.pipeline(
            "shop",
            pipelines_dir=str(place / disk),
            destination=dlt.destinations.duckdb(str(place / "warehouse.duckdb")),
            dataset_name="raw",
        )

    asked = translator(orders={"freshness": {"hours": 1, "column": "at"}, "row_count": {"min": 9}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        patch.setenv("RUNTIME__LOG_LEVEL", "CRITICAL")
        patch.chdir(place)
        first = run(assets_of(shop(), pipeline("one"), dagster_dlt_translator=asked))
        patch.setattr(DuckDbSqlClient, "execute_query", counting)
        alone = run(
            assets_of(shop(), pipeline("two"), dagster_dlt_translator=asked),
            selection=dg.AssetSelection.checks_for_assets("dlt_shop_orders", "dlt_shop_Customers"),
        )
        yield first, alone, [*statements], pipeline("one")


# --- what is checked -----------------------------------------------------------------------------


def test_results_come_with_the_materialization_of_their_asset(loaded):
    first = loaded[0]

    assert first.success
    assert {name: each.passed for name, each in results_of(first).items()} == {
        "orders.dlt_contract": False,
        "orders.dlt_drift": True,
        "orders.dlt_primary_key": False,
        "orders.dlt_unique": False,
        "orders.dlt_references_Customers_by_customerId": False,
        "orders.dlt_freshness": True,
        "orders.dlt_row_count": False,
        "Customers.dlt_drift": True,
        "Customers.dlt_primary_key": True,
    }
    evaluations = first.get_asset_check_evaluations()
    assert len(evaluations) == len(results_of(first))
    assert all(each.target_materialization_data for each in evaluations)


def test_row_counts_are_fetched_for_assets_with_checks_too(loaded):
    found = loaded[0].asset_materializations_for_node("load")

    assert [event.metadata["dagster/row_count"].value for event in found] == [4, 2]


def test_a_key_that_is_there_twice_is_counted_and_shown(loaded):
    found = results_of(loaded[0])["orders.dlt_primary_key"]

    assert numbers(found)["failed_rows"] == 2
    assert numbers(found)["checked_rows"] == 4
    assert sample(found) == [{"ID": 1, "rows": 2}]
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert query(loaded[3], numbers(found)["query"]) == [(1, 2)]


def test_values_of_columns_that_tell_of_people_are_counted_and_not_shown(loaded):
    found = results_of(loaded[0])["orders.dlt_unique"]

    assert "1 value of Email more than once" in found.description
    assert "1 value of code more than once" in found.description
    assert sample(found) == [{"code": "a", "rows": 2}]
    assert "example.org" not in str(found)


def test_a_reference_to_nothing_is_a_warning_and_null_is_none(loaded):
    found = results_of(loaded[0])["orders.dlt_references_Customers_by_customerId"]

    assert found.severity is dg.AssetCheckSeverity.WARN
    assert numbers(found)["failed_rows"] == 2
    assert numbers(found)["failed_values"] == 2
    assert numbers(found)["rows_without"] == 1
    assert {record["customerId"] for record in sample(found)} == {8, 9}


def test_rows_that_a_contract_discards_are_counted(loaded):
    found = results_of(loaded[0])["orders.dlt_contract"]

    assert found.description == "1 row of 5 for orders discarded."
    assert numbers(found) == {"checked_rows": 5, "failed_rows": 1}


# --- alone ---------------------------------------------------------------------------------------


def test_checks_selected_alone_load_nothing_and_look_at_whole_tables(loaded):
    first, alone, _, _ = loaded

    assert alone.success
    assert alone.get_asset_materialization_events() == []
    # What a contract has discarded a table does not tell.
    expected = {k: v.passed for k, v in results_of(first).items() if not k.endswith("contract")}
    assert {name: each.passed for name, each in results_of(alone).items()} == expected
    assert "scope" in numbers(results_of(alone)["orders.dlt_primary_key"])


def test_all_checks_of_all_assets_are_asked_in_one_statement(loaded):
    counts = [each for each in loaded[2] if "CROSS JOIN" in each]
    others = [each for each in loaded[2] if "CROSS JOIN" not in each and "_dlt_version" not in each]

    assert len(counts) == 1
    # One sample for each check that has failed and has one that may be shown.
    assert len(others) == 3, others


def test_one_check_can_be_selected(loaded):
    _, _, _, pipeline = loaded
    assets = assets_of(shop(), pipeline, dagster_dlt_translator=translator())

    result = run(assets, selection=only_checks(("dlt_shop_Customers", "dlt_primary_key")))

    assert list(results_of(result)) == ["Customers.dlt_primary_key"]


def test_a_table_that_is_not_there_yet_has_no_rows(pipeline):
    assets = assets_of(
        shop(), pipeline, dagster_dlt_translator=translator(orders={"row_count": {"min": 1}})
    )

    result = run(assets, selection=dg.AssetSelection.checks_for_assets("dlt_shop_orders"))

    assert result.success
    for evaluation in result.get_asset_check_evaluations():
        # Nothing was ever loaded, so nobody knows the tables.
        assert not evaluation.passed
        assert evaluation.severity is dg.AssetCheckSeverity.WARN
        assert evaluation.description.startswith("Not evaluated: ")


# --- users' own checks ---------------------------------------------------------------------------


def test_checks_of_the_user_go_on_working_beside_the_derived_ones_and_alone(pipeline):
    @dlt_assets(
        dlt_source=one("orders", [{"id": 1}], primary_key="id"),
        dlt_pipeline=pipeline,
        dagster_dlt_translator=translator(),
        check_specs=[dg.AssetCheckSpec("mine", asset="dlt_shop_orders")],
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context=context)
        for key in context.selected_asset_check_keys:
            if key.name == "mine":
                yield dg.AssetCheckResult(passed=True, asset_key=key.asset_key, check_name=key.name)

    both = run(load)
    alone = run(load, selection=only_checks(("dlt_shop_orders", "mine")))

    assert set(results_of(both)) == {"orders.mine", "orders.dlt_drift", "orders.dlt_primary_key"}
    assert list(results_of(alone)) == ["orders.mine"]


def test_there_are_no_checks_unless_they_are_asked_for(pipeline):
    assert not assets_of(shop(), pipeline).check_keys
    assert not assets_of(
        shop(), pipeline, dagster_dlt_translator=translator(checks=False)
    ).check_keys


# --- blocking ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocking", "succeeds"), [(["primary_key"], False), (["unique"], True)])
def test_a_failed_check_holds_back_what_is_downstream_if_it_blocks(pipeline, blocking, succeeds):
    source = one("orders", [{"id": 1}, {"id": 1}], primary_key="id")
    checks = DltChecks(blocking=blocking)

    @dg.asset(deps=["dlt_shop_orders"])
    def report() -> None: ...

    result = run(assets_of(source, pipeline, dagster_dlt_translator=translator(checks)), report)

    assert result.success is succeeds
    keys = [event.asset_key for event in result.get_asset_materialization_events()]
    assert (dg.AssetKey("report") in keys) is succeeds
    assert dg.AssetKey("dlt_shop_orders") in keys


def test_a_retry_that_has_nothing_to_load_asks_a_blocking_check_again(pipeline):
    @dlt_assets(
        dlt_source=one("orders", [{"id": 1}, {"id": 1}], primary_key="id"),
        dlt_pipeline=pipeline,
        dagster_dlt_translator=translator({"drift": False, "blocking": True}),
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        yield from dlt_resource.run(context)
        if not context.retry_number:
            message = "something else"
            raise RuntimeError(message)

    result = run(load)

    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]
    assert not result.success
    assert [each.passed for each in result.get_asset_check_evaluations()] == [False, False]


def test_a_retry_asks_the_checks_of_what_was_loaded_before(pipeline):
    broken = [True]

    @dlt.source
    def shop():
        @dlt.resource(primary_key="id")
        def customers():
            yield [{"id": 1}, {"id": 1}]

        @dlt.resource(primary_key="id")
        def orders():
            if broken and broken.pop():
                message = "the line is dead"
                raise ConnectionError(message)
            yield [{"id": 1}]

        return customers, orders

    checks = translator({"drift": False, "blocking": True})
    retry = dg.RetryPolicy(max_retries=1)
    assets = assets_of(shop(), pipeline, dagster_dlt_translator=checks, retry_policy=retry)

    result = run(assets)

    assert not result.success
    assert [
        (*each.asset_key.path, each.passed) for each in result.get_asset_check_evaluations()
    ] == [
        ("dlt_shop_customers", False),
        ("dlt_shop_orders", True),
        ("dlt_shop_customers", False),
    ]


def test_the_calls_of_a_body_each_tell_of_their_own_load(pipeline):
    @dlt_assets(
        dlt_source=one("orders", [{"id": 1}], primary_key="id"),
        dlt_pipeline=pipeline,
        dagster_dlt_translator=translator({"drift": False}),
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for page in (1, 1):
            source = one("orders", [{"id": page}], primary_key="id")
            yield from dlt_resource.run(context, source, pipeline).fetch_row_count()

    result = run(load)

    assert result.success
    assert [each.passed for each in result.get_asset_check_evaluations()] == [True, False]
    alone = run(load, selection=dg.AssetSelection.checks_for_assets("dlt_shop_orders"))
    assert [each.passed for each in alone.get_asset_check_evaluations()] == [False, False]


# --- loads ---------------------------------------------------------------------------------------


def loads(pipeline, *pages, asked=None, **hints) -> list[dict]:
    """Load pages one after the other; return the evaluations of each, without the resource."""
    found = []
    with dg.DagsterInstance.ephemeral() as instance:
        for rows in pages:
            source = one("orders", rows, **hints)
            assets = assets_of(
                source, pipeline, dagster_dlt_translator=translator(asked or DltChecks())
            )
            result = run(assets, instance=instance)
            found.append(
                {k.removeprefix("orders."): each for k, each in results_of(result).items()}
            )
    return found


def test_new_columns_are_a_warning_and_values_of_another_type_an_error(pipeline):
    first, second, third = loads(
        pipeline,
        [{"id": 1, "v": 1}],
        [{"id": 2, "v": 2, "w": 1, "tags": ["new"]}],
        [{"id": 3, "v": "text", "w": "text"}],
        columns={"v": {"data_type": "bigint"}},
    )

    assert first["dlt_drift"].passed
    assert not second["dlt_drift"].passed
    assert second["dlt_drift"].severity is dg.AssetCheckSeverity.WARN
    assert numbers(second["dlt_drift"])["drift"] == [
        "new column orders.w",
        "new table orders__tags",
    ]
    assert not third["dlt_drift"].passed
    assert third["dlt_drift"].severity is dg.AssetCheckSeverity.ERROR
    assert numbers(third["dlt_drift"])["drift"] == [
        "orders.v has values of type text",
        "orders.w has values of type text",
    ]


def test_columns_with_reserved_names_and_quotes_are_asked_for(pipeline):
    [found] = loads(
        pipeline,
        [{"Select": 1, 'it"s': "o'clock"}, {"Select": 1, 'it"s': "o'clock"}],
        primary_key="Select",
        columns={'it"s': {"unique": True}},
    )

    assert sample(found["dlt_primary_key"]) == [{"Select": 1, "rows": 2}]
    assert sample(found["dlt_unique"]) == [{'it"s': "o'clock", "rows": 2}]


def test_a_load_that_a_contract_refuses_fails_the_check_and_the_step(pipeline):
    _, second = loads(
        pipeline, [{"id": 1}], [{"id": 2, "extra": 1}], schema_contract={"columns": "freeze"}
    )

    assert list(second) == ["dlt_contract"]
    assert second["dlt_contract"].description == (
        "The load was refused: columns of table orders, column extra are set to freeze."
    )


def test_nulls_are_looked_for_in_what_was_just_loaded(pipeline):
    # The column was nullable when it was made, so the database takes nulls.
    loads(pipeline, [{"id": 1, "name": None}, {"id": 2, "name": "Bo"}])
    hints = {"primary_key": "id", "columns": {"name": {"nullable": False}}}
    assets = assets_of(
        one("orders", [{"id": 3, "name": "Cy"}], **hints),
        pipeline,
        dagster_dlt_translator=translator(),
    )

    after_load = results_of(run(assets))["orders.dlt_not_null"]
    whole = results_of(run(assets, selection=only_checks(("dlt_shop_orders", "dlt_not_null"))))

    assert after_load.passed
    assert numbers(after_load)["checked_rows"] == 1
    assert not whole["orders.dlt_not_null"].passed
    assert whole["orders.dlt_not_null"].description == "Of 3 rows: 1 without name."
    assert sample(whole["orders.dlt_not_null"]) == [{"id": 1, "name": "null"}]


def test_earlier_versions_of_a_row_are_no_second_one(pipeline):
    hints = {
        "primary_key": "id",
        "write_disposition": {"disposition": "merge", "strategy": "scd2"},
    }

    *_, last = loads(pipeline, [{"id": 1, "v": 1}], [{"id": 1, "v": 2}], **hints)

    assert query(pipeline, "select count(*) from raw.orders") == [(2,)]
    assert last["dlt_primary_key"].passed


def test_a_load_with_far_fewer_rows_than_usual_is_told(pipeline):
    asked = translator(DltChecks(drift=False, row_count=DltRowCount(factor=2)))
    assets = assets_of(one("orders", [{"id": 1}]), pipeline, dagster_dlt_translator=asked)
    checks = dg.AssetSelection.checks_for_assets("dlt_shop_orders")
    with dg.DagsterInstance.ephemeral() as instance:
        first = run(assets, instance=instance)
        for rows in (4, 5, 6, 5):
            instance.report_runless_asset_event(
                dg.AssetMaterialization("dlt_shop_orders", metadata={"rows_loaded": rows})
            )
        usual = run(assets, instance=instance, selection=checks)
        fewer = run(assets, instance=instance)

    [first, usual, fewer] = [
        results_of(each)["orders.dlt_row_count"] for each in (first, usual, fewer)
    ]
    assert first.description == "1 row loaded; too few loads before to compare with."
    assert first.passed
    assert usual.description == "5 rows loaded, usually 4."
    assert usual.passed
    assert fewer.description == "1 row loaded, usually 5."
    assert not fewer.passed


def test_a_cursor_that_has_not_moved_for_long_is_told(pipeline):
    at = dlt.sources.incremental("at", initial_value=datetime(2020, 1, 1, tzinfo=timezone.utc))
    source = one("orders", [{"at": NOW - timedelta(hours=30)}], incremental=at)

    def freshness(age, **options):
        asked = translator({"drift": False, "freshness": age})
        result = run(assets_of(source, pipeline, dagster_dlt_translator=asked), **options)
        return results_of(result)["orders.dlt_freshness"]

    late = freshness(24)
    due = freshness(timedelta(hours=36), selection=dg.AssetSelection.all_asset_checks())

    assert not late.passed
    assert re.search(r"30\.\d hours ago\.$", late.description)
    assert due.passed


def test_several_references_each_have_a_check_and_a_name_that_stays():
    def names(*references):
        source = one("flights", [{}], references=list(references))
        assets = assets_of(
            source,
            dlt.pipeline("x", destination="duckdb"),
            dagster_dlt_translator=translator({"drift": False}),
        )
        return sorted(key.name for key in assets.check_keys)

    def refers(*columns):
        return {
            "referenced_table": "airports",
            "columns": list(columns),
            "referenced_columns": ["faa"] * len(columns),
        }

    assert names(refers("origin"), refers("dest")) == [
        "dlt_references_airports_by_dest",
        "dlt_references_airports_by_origin",
    ]
    assert names(refers("dest")) == ["dlt_references_airports_by_dest"]
    assert len(set(names(refers("a", "b"), refers("a_b"), refers("a-b")))) == 3


# --- what cannot be evaluated --------------------------------------------------------------------


def test_a_check_that_cannot_be_evaluated_warns_and_holds_nothing_back(pipeline):
    [found] = loads(
        pipeline,
        [{"id": 1}],
        asked=DltChecks(blocking=True, severity="error"),
        primary_key="id",
        references=[ELSEWHERE],
    )

    assert found["dlt_primary_key"].passed
    lost = found["dlt_references_elsewhere_by_ID"]
    assert not lost.passed
    assert lost.severity is dg.AssetCheckSeverity.WARN
    assert lost.description.startswith("Not evaluated: ")


def test_an_outage_after_the_load_leaves_it_loaded(pipeline, monkeypatch):
    def gone(*_args, **_kwargs):
        message = "postgresql://ada:hunter2@db.example.org went away"
        raise ConnectionError(message)

    monkeypatch.setattr("dagster_dlt.checks.evaluation._dlt.asked", gone)

    [found] = loads(pipeline, [{"id": 1}], primary_key="id")

    assert found["dlt_primary_key"].severity is dg.AssetCheckSeverity.WARN
    assert "went away" in found["dlt_primary_key"].description
    assert "hunter2" not in found["dlt_primary_key"].description


# --- destinations --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["sqlite", "postgres", "files"], indirect=True)
def test_checks_work_wherever_dlt_speaks_sql(place):
    asked = translator(orders={"freshness": {"hours": 1, "column": "at"}, "row_count": {"min": 9}})
    # PostgreSQL keeps what is said to be unique.
    source = shop(unique=False)
    source.resources["orders"].apply_hints(references=[ELSEWHERE])
    alone = dg.AssetSelection.checks_for_assets("dlt_shop_orders")

    by_load = run(assets_of(source, place.pipeline(), dagster_dlt_translator=asked))
    shutil.rmtree(place.disk)
    as_it_is = run(
        assets_of(source, place.pipeline(), dagster_dlt_translator=asked), selection=alone
    )

    assert not as_it_is.get_asset_materialization_events()
    for result in (by_load, as_it_is):
        found = results_of(result)
        key, lost = (
            found[f"orders.dlt_{name}"]
            for name in ("primary_key", "references_Customers_by_customerId")
        )
        assert numbers(key)["failed_rows"] == 2
        assert sample(key) == [{"ID": 1, "rows": 2}]
        assert numbers(lost)["failed_rows"] == 2
        # One that cannot be asked holds back no others.
        assert found["orders.dlt_references_elsewhere_by_ID"].description.startswith("Not eval")
        assert found["orders.dlt_drift"].passed
        assert found["orders.dlt_freshness"].passed
        assert found["orders.dlt_row_count"].description == "4 rows in the table."


# --- checks apart from assets --------------------------------------------------------------------


def test_checks_of_existing_assets_are_built_apart_from_them(loaded):
    pipeline = loaded[3]
    [built] = build_dlt_asset_checks(shop(), pipeline, checks={"drift": False})
    defs = dg.Definitions(
        assets=list(build_dlt_asset_specs(shop(), pipeline)), asset_checks=[built]
    )

    result = defs.resolve_implicit_global_asset_job_def().execute_in_process()

    assert {name: each.passed for name, each in results_of(result).items()} == {
        "orders.dlt_primary_key": False,
        "orders.dlt_unique": False,
        "orders.dlt_references_Customers_by_customerId": False,
        "Customers.dlt_primary_key": True,
    }


def test_checks_apart_ask_where_the_environment_loads(pipeline, tmp_path):
    elsewhere = DagsterDltResource(dataset_name="elsewhere")
    assets = assets_of(one("orders", [{"id": 1}, {"id": 1}], primary_key="id"), pipeline)
    dg.materialize([assets], resources={"dlt_resource": elsewhere})
    source = one("orders", [], primary_key="id")
    built = build_dlt_asset_checks(source, pipeline, resource_key="dlt_resource")
    defs = dg.Definitions(asset_checks=built, resources={"dlt_resource": elsewhere})

    result = defs.resolve_implicit_global_asset_job_def().execute_in_process()

    assert numbers(results_of(result)["orders.dlt_primary_key"])["failed_rows"] == 2


def test_nothing_is_built_where_there_is_nothing_to_check(pipeline):
    built = build_dlt_asset_checks(one("orders", [{}]), pipeline, checks={"drift": False})

    assert list(built) == []


def test_resources_that_are_declared_and_those_of_a_snapshot_have_the_checks_of_the_source(
    pipeline, tmp_path
):
    columns = {"name": {"nullable": False, "unique": True}}
    declared = DltResourceSpec(name="orders", primary_key="id", columns=columns)
    snapshot = DltSourceSnapshot(tmp_path / "shop.json")
    snapshot.write(shop)

    from_declared = assets_of(
        lambda_source, pipeline, resources=[declared], dagster_dlt_translator=translator()
    )
    from_snapshot = assets_of(
        shop, pipeline, snapshot=snapshot, dagster_dlt_translator=translator()
    )
    built = assets_of(shop(), pipeline, dagster_dlt_translator=translator())

    assert {key.name for key in from_declared.check_keys} == {
        "dlt_primary_key",
        "dlt_not_null",
        "dlt_unique",
        "dlt_drift",
    }
    assert from_snapshot.check_keys == built.check_keys


def lambda_source():
    raise AssertionError


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"uniqe": True}, "have the unknown field 'uniqe'. Did you mean 'unique'?"),
        ({"unique": "bad"}, "have unique='bad'. Give True, False, 'warn' or 'error'."),
        ({"severity": "info"}, "have severity='info'"),
        ({"sample": 1000}, "have sample=1000. Give a number of rows up to 50."),
        ({"freshness": -1}, "have freshness.hours=-1"),
        ({"freshness": {"days": 1}}, "the unknown field of freshness 'days'"),
        ({"row_count": {"min": 3, "max": 2}}, "have row_count.min=3"),
        ({"row_count": {"factor": 1}}, "have row_count.factor=1. Give a number above 1."),
        ({"row_count": {}}, "have a row_count without bounds"),
        ({"blocking": ["primarykey"]}, "Did you mean 'primary_key'?"),
        ("all", "are a str. Give True, False, a DltChecks, or a mapping of its fields."),
    ],
)
def test_settings_that_cannot_be_right_name_what_is_wrong(given, said):
    with pytest.raises(errors.InvalidChecksError) as caught:
        translator(orders=given)

    assert str(caught.value).startswith("Checks of resource 'orders' ")
    assert said in str(caught.value)


def test_a_hint_of_a_resource_wins_over_settings_for_all_and_changes_only_what_it_says(pipeline):
    hint = {"x-dagster": {"checks": {"unique": False, "row_count": {"min": 1}}}}
    orders = one("orders", [{}], columns={"a": {"unique": True, "nullable": False}})
    orders.resources["orders"].apply_hints(additional_table_hints=hint)

    asked = translator(DltChecks(severity="warn")).declared_checks(orders.resources["orders"])

    assert asked == DltChecks(severity="warn", unique=False, row_count=DltRowCount(min=1))


def test_checks_of_one_resource_may_be_the_only_ones_or_none(pipeline):
    only = assets_of(shop(), pipeline, dagster_dlt_translator=translator(None, orders=True))
    others = assets_of(shop(), pipeline, dagster_dlt_translator=translator(orders=False))

    assert {key.asset_key.path[0] for key in only.check_keys} == {"dlt_shop_orders"}
    assert {key.asset_key.path[0] for key in others.check_keys} == {"dlt_shop_Customers"}


def test_freshness_without_a_cursor_is_refused(pipeline):
    with pytest.raises(errors.InvalidChecksError, match="'Customers' ask for freshness") as caught:
        assets_of(shop(), pipeline, dagster_dlt_translator=translator(Customers={"freshness": 1}))

    assert '"column": "updated_at"' in str(caught.value)


def test_checks_for_a_resource_that_the_source_lacks_are_refused(pipeline):
    for define in (assets_of, build_dlt_asset_checks):
        with pytest.raises(errors.UnknownResourceError, match="orderz"):
            define(shop(), pipeline, dagster_dlt_translator=translator(orderz=True))


def test_settings_may_be_objects_or_mappings():
    plain = DltChecks.of({"freshness": {"hours": 2, "column": "at"}, "row_count": {"min": 1}})

    assert plain == DltChecks(freshness=DltFreshness(2, "at"), row_count=DltRowCount(min=1))
    assert DltChecks(freshness=timedelta(minutes=30)).freshness == DltFreshness(0.5)


# --- statements ----------------------------------------------------------------------------------


def test_rows_are_read_once_for_all_that_is_asked_of_them():
    [statement] = statements([Measure("a", "COUNT(*)"), Measure("b", "MAX(x)"), Measure("a", "1")])

    assert statement.sql == (
        "SELECT q0.c0, q0.c1, q1.c0 FROM (SELECT COUNT(*) AS c0, 1 AS c1 FROM a) q0 "
        "CROSS JOIN (SELECT MAX(x) AS c0 FROM b) q1"
    )


def test_a_statement_is_bounded_in_size():
    found = statements([Measure(f"t{n}", "COUNT(*)") for n in range(70)])

    assert [len(each.measures) for each in found] == [32, 32, 6]


def test_one_measure_that_cannot_be_had_does_not_hold_back_the_others():
    def execute(sql):
        if "broken" in sql:
            message = "no such table"
            raise LookupError(message)
        return [7]

    good, bad = Measure("fine", "COUNT(*)"), Measure("broken", "COUNT(*)")
    found = answers([good, bad], execute)

    assert found[good] == 7
    assert isinstance(found[bad], LookupError)
