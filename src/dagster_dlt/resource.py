"""`DagsterDltResource`: runs a dlt pipeline and reports what it loaded."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dlt.common.pipeline import LoadInfo
from dlt.extract import DltResource
from dlt.pipeline.pipeline import Pipeline
from typing_extensions import Unpack

from dagster_dlt import _dagster, _dlt, metadata
from dagster_dlt._binding import Binding, RunContext, op_context
from dagster_dlt._facts import LoadFacts, ResourceFacts
from dagster_dlt.dlt_event_iterator import DltEventIterator, DltEventType
from dagster_dlt.loading import pipeline as loading_pipeline
from dagster_dlt.loading import run as loading_run
from dagster_dlt.loading.plan import RunOptions, check_options
from dagster_dlt.translator import DagsterDltTranslator


class DagsterDltResource(dg.ConfigurableResource[Any]):
    """Runs dlt pipelines for assets and ops.

    Example:
        >>> import dagster as dg
        >>> from dagster_dlt import DagsterDltResource
        >>> defs = dg.Definitions(resources={"dlt_resource": DagsterDltResource()})
    """

    def run(
        self,
        context: RunContext,
        dlt_source: _dlt.AnySource | None = None,
        dlt_pipeline: Pipeline | None = None,
        dagster_dlt_translator: DagsterDltTranslator | None = None,
        **options: Unpack[RunOptions],
    ) -> DltEventIterator:
        """Load the selected assets of this step, or in an op all resources of the source.

        The pipeline given to the definition is not run itself: a fresh one with its name and
        settings is, which the returned iterator offers as `pipeline`.

        Args:
            context: Context of the asset or the op.
            dlt_source: Source to load instead of the definition's, for example one built for
                the partition. In an op it is required.
            dlt_pipeline: Pipeline to load with instead of the definition's. In an op it is
                required.
            dagster_dlt_translator: Translator to use instead of the definition's.
            **options: Options of `dlt.Pipeline.run`, such as `write_disposition` or `refresh`.

        Returns:
            An iterator of `MaterializeResult`, in an op of `AssetMaterialization`: one for each
            resource that was loaded, with what was loaded as metadata.

        Raises:
            RunError: the run cannot start; the subclass says why.
            dlt.pipeline.exceptions.PipelineStepFailed: dlt failed; raised by the iterator.

        Example:
            >>> def body(context, dlt_resource):
            ...     yield from dlt_resource.run(context=context, write_disposition="replace")
        """
        check_options(options)
        binding = Binding.of(
            context,
            source=_dlt.as_source(dlt_source) if dlt_source is not None else None,
            pipeline=_dlt.as_pipeline(dlt_pipeline) if dlt_pipeline is not None else None,
            translator=dagster_dlt_translator,
        )
        pipeline = loading_pipeline.fresh(binding.pipeline, options)
        loaded: dict[dg.AssetKey, ResourceFacts] = {}
        events = _events(context, binding, pipeline, options, loaded)
        return DltEventIterator(events, context, pipeline, loaded)

    def extract_resource_metadata(
        self,
        context: RunContext,
        resource: DltResource,
        load_info: LoadInfo,
        dlt_pipeline: Pipeline,
    ) -> Mapping[str, Any]:
        """Return the metadata of a resource for a load that was run with dlt itself.

        Args:
            context: Context of the asset or the op.
            resource: The dlt resource.
            load_info: What `dlt_pipeline.run` returned.
            dlt_pipeline: The pipeline that was run.

        Returns:
            The metadata that `run` puts on the resource's event.
        """
        del context
        schema = _dlt.schema_of(resource, dlt_pipeline)
        facts = _dlt.resource_facts(resource, schema, load_info, rows=_dlt.row_counts(dlt_pipeline))
        return metadata.load_metadata(_dlt.load_facts(dlt_pipeline, load_info), facts)


def _events(
    context: RunContext,
    binding: Binding,
    pipeline: Pipeline,
    options: RunOptions,
    loaded: dict[dg.AssetKey, ResourceFacts],
) -> Iterator[DltEventType]:
    if not binding.specs:
        # Only asset checks are selected: nothing is to be loaded.
        return
    outcome = loading_run.run(
        pipeline,
        # Resources keep what dlt does to them while it runs: the definition's must stay as it is.
        binding.source.with_resources(*binding.specs),
        options,
        is_retry=_dagster.retry_number(op_context(context)) > 0,
        log=context.log,
    )
    for name, spec in binding.specs.items():
        facts = outcome.resources[name]
        loaded[spec.key] = facts
        yield _event(context, spec, outcome.load, facts)


def _event(
    context: RunContext, spec: dg.AssetSpec, load: LoadFacts, facts: ResourceFacts
) -> DltEventType:
    found = metadata.load_metadata(load, facts, spec.metadata)
    if op_context(context).has_assets_def:
        return dg.MaterializeResult(asset_key=spec.key, metadata=found)
    return dg.AssetMaterialization(asset_key=spec.key, metadata=found)
