"""A re-execution from failure goes on where the failed run stopped."""

import importlib.util
import sys

import dagster as dg
import pytest

PROJECT = """
import os
from pathlib import Path

import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, dlt_assets

def called(name):
    with Path("calls").open("a") as calls:
        calls.write(name + " ")

@dlt.source
def shop():
    @dlt.resource
    def customers():
        called("customers")
        yield {"id": 1}

    @dlt.resource
    def orders():
        called("orders")
        if Path("broken").exists():
            raise ConnectionError("the line is dead")
        yield {"id": 1}

    return customers, orders

@dlt_assets(
    dlt_source=shop(),
    dlt_pipeline=dlt.pipeline("shop", destination="duckdb", dataset_name="raw"),
)
def load(context: dg.AssetExecutionContext, dlt_resource: DagsterDltResource):
    if Path("dies at once").exists():
        raise SystemError("the machine is gone")
    if Path("dies unheard").exists():
        list(dlt_resource.run(context=context))
        raise SystemError("the machine is gone")
    yield from dlt_resource.run(context=context).fetch_row_count()

@dg.asset(deps=[dg.AssetKey("dlt_shop_customers"), dg.AssetKey("dlt_shop_orders")])
def report():
    called("report")

defs = dg.Definitions(
    assets=[load, report],
    jobs=[dg.define_asset_job("everything", executor_def=dg.in_process_executor)],
    resources={"dlt_resource": DagsterDltResource()},
)

def build():
    return defs.resolve_job_def("everything")
"""


@pytest.fixture
def job(tmp_path):
    file = tmp_path / "project.py"
    file.write_text(PROJECT, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("project", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["project"] = module
    spec.loader.exec_module(module)
    yield dg.reconstructable(module.build)
    del sys.modules["project"]


@pytest.fixture
def failed(job, tmp_path):
    """A run that loaded customers and failed on orders; yields its job, instance and result."""
    (tmp_path / "broken").touch()
    with dg.instance_for_test() as instance:
        with dg.execute_job(job, instance) as result:
            assert not result.success
            assert materialized(result) == ["dlt_shop_customers"]
        (tmp_path / "broken").unlink()
        (tmp_path / "calls").unlink()
        yield job, instance, result.run_id


def materialized(result) -> list[str]:
    events = result.filter_events(lambda event: event.is_step_materialization)
    return sorted(event.asset_key.to_user_string() for event in events)


def test_only_what_failed_is_loaded_and_everything_downstream_runs(failed, tmp_path):
    job, instance, run_id = failed
    options = dg.ReexecutionOptions.from_failure(run_id, instance)

    with dg.execute_job(job, instance, reexecution_options=options) as result:
        assert result.success

    assert materialized(result) == ["dlt_shop_customers", "dlt_shop_orders", "report"]
    assert (tmp_path / "calls").read_text(encoding="utf-8").split() == ["orders", "report"]


def test_what_is_reported_again_keeps_its_metadata(failed):
    job, instance, run_id = failed
    options = dg.ReexecutionOptions.from_failure(run_id, instance)

    with dg.execute_job(job, instance, reexecution_options=options) as result:
        (event,) = result.filter_events(
            lambda event: (
                event.is_step_materialization
                and event.asset_key == dg.AssetKey("dlt_shop_customers")
            )
        )

    metadata = event.materialization.metadata
    assert metadata["rows_loaded"].value == 1
    assert metadata["dagster/row_count"].value == 1


def test_a_re_execution_of_all_steps_loads_everything_again(failed, tmp_path):
    job, instance, run_id = failed

    with dg.execute_job(
        job, instance, reexecution_options=dg.ReexecutionOptions(parent_run_id=run_id)
    ) as result:
        assert result.success

    calls = (tmp_path / "calls").read_text(encoding="utf-8").split()
    assert sorted(calls) == ["customers", "orders", "report"]


# --- re-executions of re-executions --------------------------------------------------------------


@pytest.fixture
def execute(job, tmp_path):
    """Return a function that runs the job, in which something may go wrong, and returns a result.

    A result whose run does not end well is a parent for the next.
    """
    with dg.instance_for_test() as instance:

        def run(wrong=None, *, parent=None, all_steps=False):
            if parent is None:
                options = None
            elif all_steps:
                options = dg.ReexecutionOptions(parent_run_id=parent.run_id)
            else:
                options = dg.ReexecutionOptions.from_failure(parent.run_id, instance)
            (tmp_path / "calls").unlink(missing_ok=True)
            if wrong:
                (tmp_path / wrong).touch()
            with dg.execute_job(job, instance, reexecution_options=options) as result:
                assert result.success == (wrong is None)
            if wrong:
                (tmp_path / wrong).unlink()
            return result

        yield run


def calls(tmp_path) -> list[str]:
    file = tmp_path / "calls"
    return sorted(file.read_text(encoding="utf-8").split()) if file.exists() else []


def test_what_a_run_committed_and_could_not_report_is_reported_by_a_later_re_execution(
    execute, tmp_path
):
    first = execute("dies unheard")
    assert calls(tmp_path) == ["customers", "orders"]
    second = execute("dies at once", parent=first)
    third = execute("dies at once", parent=second)

    result = execute(parent=third)

    assert materialized(result) == ["dlt_shop_customers", "dlt_shop_orders", "report"]
    assert calls(tmp_path) == ["report"]


def test_what_a_run_reported_is_reported_by_a_later_re_execution_too(execute, tmp_path):
    first = execute("broken")
    second = execute("dies at once", parent=first)

    result = execute(parent=second)

    assert materialized(result) == ["dlt_shop_customers", "dlt_shop_orders", "report"]
    assert calls(tmp_path) == ["orders", "report"]


def test_a_re_execution_does_not_go_on_with_what_was_before_one_of_all_steps(execute, tmp_path):
    first = execute("dies unheard")
    second = execute("dies at once", parent=first, all_steps=True)

    execute(parent=second)

    assert calls(tmp_path) == ["customers", "orders", "report"]
