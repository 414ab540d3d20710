"""`DagsterDltResource`: runs a dlt pipeline and reports what it loaded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dagster as dg
from dlt.common.pipeline import LoadInfo
from dlt.extract import DltResource
from dlt.pipeline.pipeline import Pipeline
from typing_extensions import Unpack

from dagster_dlt import _dagster, _dlt, metadata
from dagster_dlt._binding import Binding, RunContext, op_context
from dagster_dlt._facts import ResourceFacts
from dagster_dlt.constants import (
    META_KEY_FAILED_RESOURCES,
    META_KEY_INSPECT,
    META_KEY_PIPELINES_DIR,
)
from dagster_dlt.dlt_event_iterator import DltEventIterator, DltEventType
from dagster_dlt.errors import ResourcesFailedError
from dagster_dlt.loading.plan import OnPending, Plan, RunOptions, check_options
from dagster_dlt.loading.run import Outcome, Report
from dagster_dlt.loading.run import run as run_load
from dagster_dlt.loading.worker import stream
from dagster_dlt.translator import DagsterDltTranslator

#: Seconds without progress after which the log says so.
QUIET: Final = 60.0


class DagsterDltResource(dg.ConfigurableResource[Any]):
    """Runs dlt pipelines for assets and ops.

    Attributes:
        workspace_dir: Directory for the working directories of loads. By default `.dagster`
            below the pipeline's own `pipelines_dir`. Give a persistent volume where the default
            is lost with the machine, so that a failed load can be finished.
        on_pending: What to do with load packages that an earlier run left: finish them
            (`"resume"`), throw them away (`"abort"`), or stop (`"fail"`).

    Example:
        >>> import dagster as dg
        >>> from dagster_dlt import DagsterDltResource
        >>> defs = dg.Definitions(resources={"dlt_resource": DagsterDltResource()})
    """

    workspace_dir: str | None = None
    on_pending: OnPending = "resume"

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
            dagster.Failure: some resources were not loaded; raised by the iterator, after the
                events of those that were.

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
        execution = self._execution(context, binding, options)
        return DltEventIterator(
            execution.events(), context, binding.pipeline, execution.loaded, execution.executed
        )

    def _execution(
        self, context: RunContext, binding: Binding, options: RunOptions
    ) -> "_Execution":
        op = op_context(context)
        retry = _dagster.retry_number(op) > 0
        parent = _dagster.resumed_run(op)
        done = _dagster.materialized_in(op, op.run_id) if retry else {}
        again = _dagster.materialized_in(op, parent) if parent else {}
        loaded = done.keys() | again.keys()
        left = [name for name, spec in binding.specs.items() if spec.key not in loaded]
        plan = Plan(
            given=binding.pipeline,
            # Resources keep what dlt does to them while it runs: the definition's stay as they are.
            source=binding.source.with_resources(*left),
            options=options,
            step=_dagster.step_key(op),
            partition=_dagster.partition_of(op),
            base=Path(self.workspace_dir) if self.workspace_dir else None,
            on_pending=self.on_pending,
            is_retry=retry or parent is not None,
        )
        selected = {spec.key for spec in binding.specs.values()}
        repeated = [event for key, event in again.items() if key in selected - done.keys()]
        return _Execution(context, binding, plan, repeated)

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


@dataclass(frozen=True)
class _Execution:
    """One call of `run`: hands the plan to the loading engine, and makes events of its reports."""

    context: RunContext
    binding: Binding
    plan: Plan
    #: What the run that this one goes on with has loaded.
    repeated: Sequence[dg.AssetMaterialization]
    #: What was loaded for each asset, filled as it is committed.
    loaded: dict[dg.AssetKey, ResourceFacts] = field(default_factory=dict)
    #: The pipelines that were executed.
    executed: list[Pipeline] = field(default_factory=list)

    def events(self) -> Iterator[DltEventType]:
        for event in self.repeated:
            # Not loaded again. Without the event Dagster would skip what is downstream of it.
            self.context.log.info("%s was loaded by the failed run.", event.asset_key)
            yield _event(self.context, event.asset_key, event.metadata)
        if not self.plan.source.selected_resources:
            # Only asset checks are selected, or an earlier attempt has loaded everything.
            return
        try:
            for report in stream(self._work, idle=QUIET, on_idle=self._warn):
                if isinstance(report, Outcome):
                    yield from self._committed(report)
                else:
                    self.context.log.info(report)
        except ResourcesFailedError as error:
            raise dg.Failure(str(error), metadata=_failure_metadata(error)) from error

    def _work(self, report: Callable[[Report], None]) -> None:
        run_load(self.plan, report, self.context.log)

    def _committed(self, outcome: Outcome) -> Iterator[DltEventType]:
        self.executed.append(outcome.pipeline)
        for name, facts in outcome.resources.items():
            spec = self.binding.specs[name]
            self.loaded[spec.key] = facts
            found = metadata.load_metadata(outcome.load, facts, spec.metadata)
            yield _event(self.context, spec.key, found)

    def _warn(self, seconds: float) -> None:
        self.context.log.warning("Nothing has moved for %.0f seconds.", seconds)


def _failure_metadata(error: ResourcesFailedError) -> dict[str, Any]:
    """Return what the page of the failed step shows, with the command to look further."""
    found: dict[str, Any] = {
        META_KEY_FAILED_RESOURCES: [each.resource or "?" for each in error.failures],
    }
    for failure in error.failures:
        if failure.pipelines_dir:
            found[META_KEY_PIPELINES_DIR] = dg.MetadataValue.path(failure.pipelines_dir)
            found[META_KEY_INSPECT] = (
                f"dlt pipeline --pipelines-dir {failure.pipelines_dir} {error.pipeline_name} info"
            )
    return found


def _event(context: RunContext, key: dg.AssetKey, found: Mapping[str, Any]) -> DltEventType:
    if op_context(context).has_assets_def:
        return dg.MaterializeResult(asset_key=key, metadata=found)
    return dg.AssetMaterialization(asset_key=key, metadata=found)
