"""One resource that fails neither fails nor hides the others."""

from collections import Counter

import dagster as dg
import dlt

from dagster_dlt import DagsterDltResource, dlt_assets
from sources import assets_of, metadata_by_asset, one, query

NAMES = ("a", "b", "c", "d", "e")


class Shop:
    """A source of five incremental resources that can be told to fail, and counts its calls."""

    def __init__(self, *, broken: str = "", refused: str = "") -> None:
        self.broken = broken
        self.refused = refused
        self.calls: Counter[str] = Counter()

    def source(self):
        def make(name):
            def rows(at=dlt.sources.incremental("at")):
                self.calls[name] += 1
                yield [{"at": 1}, {"at": 2}]
                if name == self.broken:
                    message = "the line is dead"
                    raise ConnectionError(message)
                yield {"at": 3, **({"surprise": True} if name == self.refused else {})}

            return dlt.resource(rows, name=name, schema_contract={"columns": "freeze"})

        def shop():
            return [make(name) for name in NAMES]

        return dlt.source(shop, name="shop")()


def run(assets):
    return dg.materialize(
        [assets], resources={"dlt_resource": DagsterDltResource()}, raise_on_error=False
    )


def failure_text(result) -> str:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    return event.step_failure_data.user_failure_data.description


def materialized(result) -> list[str]:
    return [
        event.asset_key.to_user_string().removeprefix("dlt_shop_")
        for event in result.get_asset_materialization_events()
    ]


def rows_of(pipeline) -> dict[str, int]:
    tables = query(pipeline, "select table_name from information_schema.tables")
    present = {table for (table,) in tables} & set(NAMES)
    return {name: query(pipeline, f"select count(*) from raw.{name}")[0][0] for name in present}


def cursors(pipeline) -> dict[str, int]:
    pipeline.sync_destination()
    resources = pipeline.state["sources"]["shop"]["resources"]
    return {
        name: state["incremental"]["at"]["last_value"] for name, state in sorted(resources.items())
    }


def test_a_resource_that_cannot_be_extracted_leaves_four_materialized(pipeline):
    shop = Shop(broken="c")

    result = run(assets_of(shop.source(), pipeline))

    assert sorted(materialized(result)) == ["a", "b", "d", "e"]
    text = failure_text(result)
    assert "resource 'c' failed in extract" in text
    assert "ConnectionError: the line is dead" in text
    assert rows_of(pipeline) == dict.fromkeys("abde", 3)
    assert cursors(pipeline) == dict.fromkeys("abde", 3)


def test_a_resource_that_breaks_its_contract_leaves_four_materialized(pipeline):
    run(assets_of(Shop().source(), pipeline))
    shop = Shop(refused="c")
    source = shop.source()
    for resource in source.resources.values():
        resource.apply_hints(incremental=dlt.sources.incremental("at", initial_value=0, lag=9))

    result = run(assets_of(source, pipeline))

    assert sorted(materialized(result)) == ["a", "b", "d", "e"]
    text = failure_text(result)
    assert "resource 'c' failed in normalize, table 'c'" in text
    assert "surprise" in text
    assert rows_of(pipeline)["c"] == 3


def test_what_succeeded_is_extracted_at_most_twice_and_what_failed_once(pipeline):
    shop = Shop(broken="c")

    run(assets_of(shop.source(), pipeline))

    assert shop.calls["c"] == 1
    assert all(calls <= 2 for calls in shop.calls.values())


def test_a_retry_calls_only_the_resource_that_failed(pipeline):
    shop = Shop(broken="c")
    source = shop.source()
    before: list[Counter[str]] = []

    @dlt_assets(
        dlt_source=source, dlt_pipeline=pipeline, retry_policy=dg.RetryPolicy(max_retries=1)
    )
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        if context.retry_number:
            shop.broken = ""
            before.append(shop.calls.copy())
        yield from dlt_resource.run(context=context)

    result = run(load)

    assert result.success
    assert shop.calls - before[0] == Counter(c=1)
    assert sorted(materialized(result)) == list(NAMES)
    assert rows_of(pipeline) == dict.fromkeys(NAMES, 3)


def test_a_transformer_is_held_back_with_the_parent_that_failed(pipeline):
    @dlt.source(name="shop")
    def source():
        @dlt.resource
        def orders():
            yield {"id": 1}
            message = "the line is dead"
            raise ConnectionError(message)

        @dlt.transformer(data_from=orders)
        def parcels(row):
            yield row

        @dlt.resource
        def prices():
            yield {"id": 1}

        return orders, parcels, prices

    result = run(assets_of(source(), pipeline))

    assert materialized(result) == ["prices"]
    assert "Held back with it: 'parcels'" in failure_text(result)


def test_rows_of_a_generator_are_never_lost_by_asking_it_twice(pipeline):
    @dlt.source(name="shop")
    def source():
        def broken():
            yield {"id": 1}
            message = "the line is dead"
            raise ConnectionError(message)

        return (
            dlt.resource(({"id": number} for number in range(100)), name="once"),
            dlt.resource(broken, name="broken"),
            dlt.resource([{"id": 1}], name="again"),
        )

    result = run(assets_of(source(), pipeline))

    assert materialized(result) == ["again"]
    assert "Held back with it: 'once'" in failure_text(result)


def test_two_resources_that_fail_are_both_named(pipeline):
    shop = Shop(broken="b")
    source = shop.source()

    def broken_too():
        message = "no such table"
        raise LookupError(message)
        yield

    source.resources["d"] = dlt.resource(broken_too, name="d")

    result = run(assets_of(source, pipeline))

    assert sorted(materialized(result)) == ["a", "c", "e"]
    text = failure_text(result)
    assert "resource 'b' failed in extract" in text
    assert "resource 'd' failed in extract" in text
    assert "LookupError: no such table" in text


def refuse_long_ids(pipeline):
    """Give the destination a table `bad`, with a nested one, that takes short ids only."""
    with pipeline.sql_client() as client:
        client.execute_sql("create schema raw")
        client.execute_sql(
            'create table raw.bad (id varchar check (length(id) < 3), "at" bigint, '
            "_dlt_load_id varchar, _dlt_id varchar)"
        )


def test_a_failure_at_the_destination_is_named_and_its_package_kept(pipeline, tmp_path):
    refuse_long_ids(pipeline)

    result = run(assets_of(one("bad", [{"id": "x" * 10, "at": 1}]), pipeline))

    assert materialized(result) == []
    text = failure_text(result)
    assert "resource 'bad' failed in load, table 'bad'" in text
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    metadata = event.step_failure_data.user_failure_data.metadata
    folder = metadata["dagster_dlt/pipelines_dir"].value
    assert folder.startswith(str(tmp_path / "pipelines" / ".dagster"))
    assert (
        metadata["dagster_dlt/inspect"].value == f"dlt pipeline --pipelines-dir {folder} shop info"
    )


def test_a_resource_that_the_destination_refuses_does_not_hold_the_others(pipeline):
    refuse_long_ids(pipeline)
    extracted = []

    @dlt.source(name="shop")
    def source(length):
        @dlt.resource
        def fine(at=dlt.sources.incremental("at")):
            extracted.append("fine")
            yield [{"at": 1, "marks": [{"m": 1}]}]

        @dlt.resource
        def bad(at=dlt.sources.incremental("at")):
            extracted.append("bad")
            yield [{"id": "x" * length, "at": 7, "parts": [{"p": 1}, {"p": 2}]}]

        return fine, bad

    refused = run(assets_of(source(10), pipeline))

    assert materialized(refused) == ["fine"]
    assert "resource 'bad' failed in load, table 'bad'" in failure_text(refused)
    assert extracted == ["fine", "bad"]
    assert query(pipeline, "select * from raw.bad__parts") == []

    taken = run(assets_of(source(2), pipeline))

    # Its cursor had not advanced, the other's had.
    assert taken.success
    assert query(pipeline, 'select id, "at" from raw.bad') == [("xx", 7)]
    assert query(pipeline, "select p from raw.bad__parts order by p") == [(1,), (2,)]
    assert query(pipeline, 'select "at" from raw.fine') == [(1,)]
    assert query(pipeline, "select count(*), count(distinct load_id) from raw._dlt_loads") == [
        (2, 2)
    ]


def test_a_package_that_can_never_be_loaded_does_not_fail_the_runs_after_it(pipeline):
    with pipeline.sql_client() as client:
        client.execute_sql("create schema raw")
        client.execute_sql(
            "create table raw.orders (id varchar check (length(id) < 3), _dlt_load_id varchar, "
            "_dlt_id varchar)"
        )
    text = {"columns": {"id": {"data_type": "text"}}}

    refused = run(assets_of(one("orders", [{"id": "too long"}], **text), pipeline))
    after = run(assets_of(one("orders", [{"id": "ok"}], **text), pipeline))

    assert not refused.success
    assert after.success
    assert query(pipeline, "select id from raw.orders") == [("ok",)]


def test_rows_of_a_committed_package_are_reported_while_another_is_extracted(pipeline):
    """Resources loaded apart are yielded one by one, not at the end."""
    seen: list[str] = []
    shop = Shop(broken="a")

    @dlt_assets(dlt_source=shop.source(), dlt_pipeline=pipeline)
    def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
        for event in dlt_resource.run(context=context):
            seen.append(event.asset_key.to_user_string())
            yield event

    result = run(load)

    assert len(seen) == 4
    found = metadata_by_asset(result, "load")
    starts = [found[key]["started_at"] for key in seen]
    assert starts == sorted(starts)
    assert len(set(starts)) == 4
