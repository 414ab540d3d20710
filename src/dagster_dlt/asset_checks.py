"""`build_dlt_asset_checks`: the derived checks as definitions of their own, which load nothing."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_dlt._binding import derived_checks, specs_by_resource
from dagster_dlt._factories import AnyPipeline, AnySource
from dagster_dlt._origins import Declared, pipeline_origin, source_origin
from dagster_dlt._redaction import shielded
from dagster_dlt.checks.check import Check
from dagster_dlt.checks.settings import DltChecks
from dagster_dlt.checks.step import StepChecks
from dagster_dlt.environment import Environment
from dagster_dlt.errors import UnknownResourceError
from dagster_dlt.snapshot import DltSourceSnapshot
from dagster_dlt.translator import DagsterDltTranslator


def build_dlt_asset_checks(
    dlt_source: AnySource,
    dlt_pipeline: AnyPipeline,
    dagster_dlt_translator: DagsterDltTranslator | None = None,
    *,
    resources: Declared | None = None,
    snapshot: DltSourceSnapshot | str | Path | None = None,
    checks: DltChecks | bool | Mapping[str, Any] = True,
    name: str | None = None,
    resource_key: str | None = None,
) -> Sequence[dg.AssetChecksDefinition]:
    """Return the checks that are derived from a dlt source, apart from the assets that it loads.

    They ask the destination about whole tables: on a schedule, in another code location, or for
    assets whose definition has no checks of its own. What only a load tells, such as the rows that
    a schema contract has discarded, is not among them.

    Args:
        dlt_source: The source, or a function that builds it, as for `@dlt_assets`.
        dlt_pipeline: The pipeline that loads it, or a function that builds it.
        dagster_dlt_translator: Gives the resources their asset keys, and says which checks they
            have.
        resources: The resources, as for `@dlt_assets`.
        snapshot: File with what the source has, as for `@dlt_assets`.
        checks: The checks of resources of which the translator says nothing.
        name: Name of the op that evaluates them, by default `dlt_checks_<source>`.
        resource_key: Key of the `DagsterDltResource` whose destination, dataset and configuration
            are to be used.

    Returns:
        One definition, whose checks can be selected one by one; none if nothing is to be checked.

    Raises:
        DefinitionError: what was given cannot be right; the subclass says what.

    Example:
        >>> import dlt
        >>> from dagster_dlt import build_dlt_asset_checks
        >>> @dlt.source
        ... def shop():
        ...     return dlt.resource([{"id": 1}], name="orders", primary_key="id")
        >>> pipeline = dlt.pipeline("shop", destination="duckdb", dataset_name="raw")
        >>> [built] = build_dlt_asset_checks(shop(), pipeline)
        >>> sorted(key.name for key in built.check_keys)
        ['dlt_drift', 'dlt_primary_key']
    """
    origin, to = source_origin(dlt_source, resources, snapshot), pipeline_origin(dlt_pipeline)
    translator = dagster_dlt_translator or DagsterDltTranslator()
    source = origin.known
    assert source is not None, "definitions know the resources of their source"  # noqa: S101
    for configured in translator.settings.resources:
        if configured not in source.resources:
            raise UnknownResourceError(source.name, configured, list(source.resources))
    keys = {k: spec.key for k, spec in specs_by_resource(source, to.known, translator).items()}
    specs = derived_checks(source, keys, translator, DltChecks.of(checks))
    asked = {spec.key: check for spec in specs if (check := Check.of(spec))}
    asked = {key: check for key, check in asked.items() if not check.needs_a_load}
    if not asked:
        return []

    @dg.multi_asset_check(
        name=name or f"dlt_checks_{source.name}",
        specs=[spec for spec in specs if spec.key in asked],
        can_subset=True,
        required_resource_keys={
            *filter(None, [resource_key]),
            *(to.factory.dagster_resources if to.factory else ()),
        },
    )
    def evaluated(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        def results() -> list[dg.AssetCheckResult]:
            environment = Environment()
            if resource_key:
                environment = Environment.of(dict(getattr(context.resources, resource_key)))
            with environment.configured():
                built = to.built(context.op_execution_context)
                pipeline = environment.pipeline(environment.plain(built, {}))
            selected = context.selected_asset_check_keys
            return StepChecks(
                {key: check for key, check in asked.items() if key in selected},
                source,
                lambda: context.instance,
                context.op_execution_context.run_id,
                environment.configured,
            ).of_tables(pipeline, ())

        yield from shielded(results)

    return [evaluated]
