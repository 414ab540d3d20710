"""`DagsterDltResource`: runs a dlt pipeline and reports what it loaded."""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import dagster as dg
from dlt.common.pipeline import LoadInfo
from dlt.extract import DltResource
from dlt.pipeline.pipeline import Pipeline
from pydantic import Field, PositiveInt, PrivateAttr
from typing_extensions import Unpack, override

from dagster_dlt import _dagster, _dlt, metadata
from dagster_dlt._binding import Binding, check_context
from dagster_dlt._calls import Call
from dagster_dlt._factories import AnyPipeline, AnySource, RunContext
from dagster_dlt._facts import LoadFacts, ResourceFacts
from dagster_dlt._nested import narrowed
from dagster_dlt._redaction import RedactedLog, redacted, redacted_error, shielded
from dagster_dlt.checks.check import Check
from dagster_dlt.checks.step import StepChecks
from dagster_dlt.constants import (
    META_KEY_DRY_RUN,
    META_KEY_FAILED_RESOURCES,
    META_KEY_INSPECT,
    META_KEY_PARKED,
    META_KEY_PIPELINES_DIR,
)
from dagster_dlt.dlt_event_iterator import DltEventIterator, DltEventType
from dagster_dlt.environment import Environment
from dagster_dlt.errors import ResourcesFailedError, RunConfigError
from dagster_dlt.loading.branch import TEMPLATE
from dagster_dlt.loading.entry import Loader
from dagster_dlt.loading.outcome import Outcome, Report
from dagster_dlt.loading.parking import Parking
from dagster_dlt.loading.partitions import check_partition, is_apart, told_by
from dagster_dlt.loading.plan import Decompose, OnPending, Plan, RunOptions, check_options
from dagster_dlt.loading.preview import preview
from dagster_dlt.loading.run import run as run_load
from dagster_dlt.loading.worker import stream
from dagster_dlt.run_config import (
    DltRunConfig,
    chosen_in,
    description_of,
    merged,
    refuse_unsafe,
    with_options,
)
from dagster_dlt.translator import DagsterDltTranslator

#: Seconds without progress after which the log says so.
QUIET: Final = 60.0


class DagsterDltResource(dg.ConfigurableResource[Any], DltRunConfig):
    """Runs dlt pipelines for assets and ops.

    It has the fields of `DltRunConfig` too, so that they can be chosen in the launchpad for
    functions that take no config. `docs/guides/run-config.md` says what each does, and which wins.

    Attributes:
        workspace_dir: Directory for the working directories of loads. By default `.dagster`
            below the pipeline's own `pipelines_dir`. Where that is lost with the machine, give a
            persistent volume, or a URL that fsspec opens, such as `s3://bucket/prefix`: loads
            then work in the default directory, and what a failed load leaves is parked behind
            the URL, so that any machine can finish it. Credentials come from the environment,
            as fsspec takes them; none belong in the URL.
        on_pending: What to do with load packages that an earlier run left: finish them
            (`"resume"`), throw them away (`"abort"`), or stop (`"fail"`).
        decompose: How to divide a run: not at all (`"none"`), or into resources that feed each
            other or share a table, loaded one after the other (`"serialize"`) or side by side
            (`"parallel"`), each materialized as soon as it is in. A package takes about a quarter
            of a second, so this is for few and slow resources.
        max_workers: How many parts are loaded side by side, at most.
        destination: Name or reference of dlt's destination to load into, such as `"duckdb"`, in
            place of the pipeline's. `docs/guides/environments.md` has more on this field and on
            those below. All take a `dagster.EnvVar`.
        dataset_name: Dataset to load into, in place of the pipeline's.
        branch: Name of a branch whose loads are to be kept apart from production's. In a branch
            deployment of Dagster+ that is known without. Empty means none.
        branch_dataset: What the datasets of a branch are called. `{dataset}` stands for the name
            that it would be otherwise, `{branch}` for the branch, with a digest.
        config: dlt's configuration and credentials, by key: `"destination.postgres.credentials"`,
            `"sources.shop.api_key"`, or nested. It comes before the environment and the files in
            `.dlt`, and after what code passes to a source or a destination. A mapping
            `{"env": "NAME"}`, which a `dagster.EnvVar` is, stands for the variable's value.

    Example:
        >>> import dagster as dg
        >>> from dagster_dlt import DagsterDltResource
        >>> defs = dg.Definitions(resources={"dlt_resource": DagsterDltResource()})
    """

    workspace_dir: str | None = None
    on_pending: OnPending = Field(default="resume", description=description_of("on_pending"))
    decompose: Decompose = Field(default="none", description=description_of("decompose"))
    max_workers: PositiveInt = Field(default=4, description=description_of("max_workers"))
    dry_run: bool = Field(default=False, description=description_of("dry_run"))
    destination: str | None = Field(
        default=None, description="Name or reference of dlt's destination to load into."
    )
    dataset_name: str | None = Field(default=None, description="Dataset to load into.")
    branch: str | None = Field(
        default=None, description="Branch whose loads are to be kept apart from production's."
    )
    branch_dataset: str = Field(
        default=TEMPLATE,
        description="What the datasets of a branch are called, with {dataset} and {branch}.",
    )
    config: dict[str, Any] | None = Field(
        default=None,
        description=(
            "dlt's configuration and credentials by key, such as destination.postgres.credentials. "
            'For a value from the environment write {"env": "NAME"}.'
        ),
    )
    _at_launch: frozenset[str] = PrivateAttr(default=frozenset())

    @override
    def create_resource(self, context: dg.InitResourceContext) -> Any:
        """Return the resource with what was chosen for this run, and else with what the code says.

        Args:
            context: Context of the resource, which Dagster gives.
        """
        made = self.model_copy(update=_dagster.set_in_code(context, DagsterDltResource))
        made._at_launch = _dagster.chosen_at_launch(context)  # noqa: SLF001 - our own
        return made

    def configured(self) -> AbstractContextManager[None]:
        """Put `config` in front of dlt's own configuration, for what is called in a block.

        `run` does it by itself, also for a source function that it is given uncalled. This is for
        what a body calls before, such as a source function with arguments.

        Raises:
            EnvironmentSettingError: an environment variable is not set, or a key is twice there.

        Example:
            >>> import dlt
            >>> from dagster_dlt import DagsterDltResource
            >>> with DagsterDltResource(config={"sources.shop.page_size": 50}).configured():
            ...     dlt.config["sources.shop.page_size"]
            50
        """
        return self._environment().configured()

    def _environment(self) -> Environment:
        return Environment.of(dict(self), self._at_launch)

    def run(
        self,
        context: RunContext,
        dlt_source: AnySource | None = None,
        dlt_pipeline: AnyPipeline | None = None,
        dagster_dlt_translator: DagsterDltTranslator | None = None,
        config: DltRunConfig | None = None,
        **options: Unpack[RunOptions],
    ) -> DltEventIterator:
        """Load the selected assets of this step, or all resources of a source that is given.

        A `@dg.asset` of its own key stands for the whole source: it is materialized once, when all
        resources are loaded. The last op of a graph asset is like that asset. Any other op loads
        all resources.

        Several calls in one step may load the same assets, page after page: what they load adds
        up, and so do the rows that they report. A retry goes on with the call that failed, so its
        calls have to come in the same order.

        The pipeline given to the definition is not run itself: a fresh one with its name and
        settings is, which the returned iterator offers as `pipeline`.

        Args:
            context: Context of the asset or the op.
            dlt_source: Source to load instead of the definition's, for example one built for
                the partition, or a function that builds one. Required where the definition has
                none.
            dlt_pipeline: Pipeline to load with instead of the definition's, or a function that
                builds one. Required where the definition has none.
            dagster_dlt_translator: Translator to use instead of the definition's.
            config: What was chosen for this run. Found by itself where the function has an argument
                `config` of this type. It wins over the resource's fields, and those over options.
            **options: Options of `dlt.Pipeline.run`, such as `write_disposition` or `refresh`.

        Returns:
            An iterator of `MaterializeResult`, in an op of `AssetMaterialization`: one for each
            asset that was loaded, with what was loaded as metadata, and with the results of the
            asset checks that are derived from it. Results of derived checks whose assets are not
            loaded are an `AssetCheckResult` each. The function has to yield them, or return the
            iterator. `docs/how-a-load-runs.md` says what becomes of them in graph assets, and of
            those of further calls.

        Raises:
            RunError: the run cannot start; the subclass says why.
            dagster.Failure: some resources were not loaded; raised by the iterator, after the
                events of those that were.

        Example:
            >>> def body(context, dlt_resource):
            ...     yield from dlt_resource.run(context=context, write_disposition="replace")
        """
        check_context(context)
        check_options(options)

        def begin() -> DltEventIterator:
            environment = self._environment()
            with environment.configured():
                return bound(environment)

        def bound(environment: Environment) -> DltEventIterator:
            binding = Binding.of(context, dlt_source, dlt_pipeline, dagster_dlt_translator)
            chosen = self._chosen(context, config)
            # Without assets only asset checks are selected, and nothing is loaded.
            wanted = chosen.resources if binding.specs else None
            part = binding.narrowed(wanted) if wanted else binding
            kept = set() if chosen.dry_run else part.keys
            _refuse_gaps(_dagster.op_context(context), binding.keys - kept, chosen)
            binding = part
            execution = self._execution(context, binding, chosen, options, environment)
            events = execution.events()
            execution.call.begins(events)
            return DltEventIterator(
                events,
                context,
                execution.plan.given,
                execution.loaded,
                execution.executed,
                configured=environment.configured,
            )

        return shielded(begin)

    def _chosen(self, context: RunContext, config: DltRunConfig | None) -> DltRunConfig:
        values = _dagster.op_config(_dagster.op_context(context), DltRunConfig)
        found = [config] if config else [chosen_in(values)] if values else []
        return merged(*found, self)

    def _execution(
        self,
        context: RunContext,
        binding: Binding,
        chosen: DltRunConfig,
        options: RunOptions,
        environment: Environment,
    ) -> "_Execution":
        parking, directory = None, self.workspace_dir
        if directory and "://" in directory:
            parking, directory = Parking.at(directory), None
        op = _dagster.op_context(context)
        retry = _dagster.retry_number(op) > 0
        call = Call.of(op, binding.keys)
        if call.number > 1:
            # A refresh, or a replacement, takes away what the calls before have loaded.
            chosen = chosen.model_copy(update={"refresh": None, "write_disposition": None})
        options = with_options(options, chosen)
        left = [name for name in binding.specs if not call.has_made(binding.keys_of(name))]
        window = _dagster.window_of(op)
        plain = environment.plain(binding.pipeline, options)
        plan = Plan(
            given=environment.pipeline(plain),
            dataset=plain.dataset_name,
            # Resources keep what dlt does to them while it runs: the definition's stay as they are.
            source=binding.source.with_resources(*left),
            options=options,
            loader=Loader(
                run_id=op.run_id,
                step=call.step(_dagster.step_key(op)),
                attempt=_dagster.retry_number(op),
                partition=_dagster.partition_of(op),
                window=window if _dagster.is_nothing_but_time(op) else None,
            ),
            window=chosen.window.facts() if chosen.window else window,
            declared=binding.declared,
            covers_all=_dagster.covers_all_partitions(op),
            earlier_runs=call.resumed | {op.run_id},
            # Only asked for when it is to be known: a test's context makes an instance then.
            is_over=lambda run_id: _dagster.is_over(op.instance, run_id),
            base=Path(directory) if directory else None,
            parking=parking,
            on_pending=chosen.on_pending or "resume",
            decompose=chosen.decompose or "none",
            max_workers=chosen.max_workers or 4,
            is_retry=retry or bool(call.resumed),
            limit=chosen.limit.facts() if chosen.limit else None,
            workers=chosen.workers.facts() if chosen.workers else {},
        )
        alone = plan.covers_all or is_apart(plan)
        refuse_unsafe(chosen, plan.refresh, plan.loader.partition, alone=alone)
        check_partition(plan)
        kind = _DryRun if chosen.dry_run else _Execution
        return kind(context, binding, plan, call, environment, _checks(op, binding, environment))

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
        facts = _dlt.resource_facts(
            resource,
            schema,
            load_info,
            rows=_dlt.row_counts(dlt_pipeline),
            counts=_dlt.Counts(_dlt.rows_extracted(dlt_pipeline)),
        )
        return metadata.load_metadata(_dlt.load_facts(dlt_pipeline, load_info, schema), facts)


@dataclass(frozen=True)
class _Execution:
    """One call of `run`: hands the plan to the loading engine, and makes events of its reports."""

    context: RunContext
    binding: Binding
    plan: Plan
    call: Call
    environment: Environment
    checks: StepChecks
    #: What was loaded for each asset, filled as it is committed.
    loaded: dict[dg.AssetKey, list[ResourceFacts]] = field(default_factory=dict)
    #: The same as metadata, of assets that have to wait for further resources as well.
    parts: dict[dg.AssetKey, Mapping[str, Any]] = field(default_factory=dict)
    #: The pipelines that were executed.
    executed: list[Pipeline] = field(default_factory=list)

    def events(self) -> Generator[DltEventType, None, None]:
        """Yield the events of the load. An error that leaves it tells no secrets."""
        refused: Sequence[DltEventType] = ()
        try:
            yield from self._events()
        except ResourcesFailedError as error:
            refused = self.checks.of_failures(error.failures)
            problem: Exception = _failure(redacted_error(error))
        except Exception as error:  # noqa: BLE001 - raised again, below
            problem = redacted_error(error)
        else:
            return
        try:
            yield from refused
            # Out of the handlers: in them Python would keep the original as context of the copy.
            raise problem
        finally:
            del problem  # a frame that is in its own traceback would keep connections open

    def _events(self) -> Iterator[DltEventType]:
        made = sorted(key.to_user_string() for key in self.binding.keys if self.call.was_made(key))
        if made:
            call = f" by call {self.call.number}" if self.call.number > 1 else ""
            self.context.log.info("Loaded%s before the failure: %s.", call, ", ".join(made))
        for event in self.call.repeated:
            yield self._event(event.asset_key, event.metadata)
        if not self.plan.source.selected_resources:
            # Only asset checks are selected, or an earlier attempt has loaded everything.
            yield from self.checks.of_tables(self.plan.given, self.loaded)
            return
        op = _dagster.op_context(self.context)
        for report in stream(
            self._work,
            idle=QUIET,
            on_idle=self._warn,
            is_over=lambda: _dagster.has_failed(op),
        ):
            if isinstance(report, Outcome):
                yield from self._committed(report)
            else:
                self.context.log.info("%s", redacted(report))
        yield from self.checks.of_tables(self.plan.given, self.loaded)

    def _work(self, report: Callable[[Report], None]) -> None:
        try:
            with self.environment.configured():
                run_load(self.plan, report, RedactedLog(self.context.log))
        finally:
            # dlt notes them by thread, and this one ends.
            _dlt.remember_secrets()

    def _committed(self, outcome: Outcome) -> Iterator[DltEventType]:
        self.executed.append(outcome.pipeline)
        by_asset: dict[dg.AssetKey, list[ResourceFacts]] = defaultdict(list)
        plan = self.plan
        told = told_by(plan.source, plan.declared, outcome.columns_of) if plan.window else {}
        location = outcome.load.location.spelled(self.binding.translator.settings.table_names)
        load = replace(outcome.load, location=location)
        for name, facts in outcome.resources.items():
            of_asset = by_asset[self.binding.specs[name].key]
            of_asset.append(replace(facts, told_by=told.get(name)))
        for facts_of_asset in by_asset.values():
            spec = self.binding.specs[facts_of_asset[0].resource]
            self._note(load, spec, facts_of_asset)
            for table, nested in self.binding.nested.get(facts_of_asset[0].resource, {}).items():
                self._note(load, nested, [narrowed(facts_of_asset[0], table)])
        # All are known before the first one is reported: what is asked of them is asked at once.
        results = self.checks.of_load(outcome, by_asset)
        for key in by_asset:
            yield from self._if_complete(key, results.get(key))

    def _note(self, load: LoadFacts, spec: dg.AssetSpec, facts: Sequence[ResourceFacts]) -> None:
        above = [dep.asset_key for dep in spec.deps]
        upstream = above[0] if len(above) == 1 else None
        part = metadata.asset_metadata(load, facts, spec.metadata, upstream)
        before = self.parts.get(spec.key)
        self.parts[spec.key] = metadata.together(before, part) if before else part
        self.loaded.setdefault(spec.key, []).extend(facts)

    def _if_complete(
        self, key: dg.AssetKey, results: Sequence[dg.AssetCheckResult] | None
    ) -> Iterator[DltEventType]:
        """Report an asset once all resources that it stands for are loaded.

        A retry has no event to tell it what an incomplete one has loaded. What is not to be loaded
        again the load itself has to report: so it does with packages that it finishes.
        """
        waiting = self.binding.resources[key] - {facts.resource for facts in self.loaded[key]}
        if not waiting:
            yield self._event(key, self.call.total(key, self.parts[key]), results)
            for each in self._nested(key):
                yield self._event(each, self.call.total(each, self.parts[each]))
            return
        self.context.log.info(
            "%s is not materialized before %s is loaded as well.",
            key.to_user_string(),
            ", ".join(sorted(waiting)),
        )

    def _nested(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        """Return the keys of the tables nested in what an asset has loaded."""
        names = sorted(self.binding.resources[key])
        nested = [self.binding.nested.get(name, {}).values() for name in names]
        return [spec.key for spec in chain(*nested) if spec.key in self.parts]

    def _event(
        self,
        key: dg.AssetKey,
        found: Mapping[str, Any],
        results: Sequence[dg.AssetCheckResult] | None = None,
    ) -> DltEventType:
        if self.binding.in_op:
            return dg.AssetMaterialization(asset_key=key, metadata=found)
        return dg.MaterializeResult(asset_key=key, metadata=found, check_results=results)

    def _warn(self, seconds: float) -> None:
        self.context.log.warning("Nothing has moved for %.0f seconds.", seconds)


@dataclass(frozen=True)
class _DryRun(_Execution):
    """One call of `run` that is only to say what it would do."""

    @override
    def _events(self) -> Iterator[DltEventType]:
        try:
            with self.environment.configured():
                found = preview(self.plan, RedactedLog(self.context.log)).told(self.plan)
        finally:
            _dlt.remember_secrets()
        lines = "\n".join(f"- {name}: {value}" for name, value in found.items())
        self.context.log.info(
            "Dry run: nothing is loaded, written or materialized. The run would load:\n%s",
            redacted(lines),
        )
        for key, names in self.binding.resources.items():
            self.context.log_event(
                dg.AssetObservation(
                    asset_key=key,
                    partition=_dagster.single_partition_of(_dagster.op_context(self.context)),
                    description="Dry run: nothing was loaded.",
                    metadata={META_KEY_DRY_RUN: {**found, "resources": sorted(names)}},
                )
            )
        yield from ()


def _checks(op: dg.OpExecutionContext, binding: Binding, environment: Environment) -> StepChecks:
    """Return the derived checks of a call: those that are selected, of its source's assets."""
    keys = {spec.key for spec in binding.known.values()}
    found = {spec.key: Check.of(spec) for spec in _dagster.selected_checks(op)}
    return StepChecks(
        {key: check for key, check in found.items() if check and key.asset_key in keys},
        binding.source,
        lambda: op.instance,
        op.run_id,
        environment.configured,
    )


def _refuse_gaps(
    context: dg.OpExecutionContext, left_out: AbstractSet[dg.AssetKey], chosen: DltRunConfig
) -> None:
    """Refuse to leave out assets that Dagster materializes, or misses, if nothing is yielded.

    Raises:
        RunConfigError: names the first one.
    """
    for key, output in _dagster.asset_outputs(context).items():
        if output.is_required and key in left_out:
            raise RunConfigError(
                "dry_run" if chosen.dry_run else "resources",
                f"would leave out asset {key.to_user_string()!r}, which Dagster takes for "
                "materialized whenever its function succeeds",
                "Define it with @dlt_assets, with output_required=False, or as a spec with "
                "skippable=True",
            )


def _failure(error: ResourcesFailedError) -> dg.Failure:
    failure = dg.Failure(redacted(error), metadata=_failure_metadata(error))
    failure.__cause__ = error
    return failure


def _failure_metadata(error: ResourcesFailedError) -> dict[str, Any]:
    """Return what the page of the failed step shows, with the command to look further."""
    found: dict[str, Any] = {
        META_KEY_FAILED_RESOURCES: ", ".join(each.resource or "?" for each in error.failures),
    }
    if error.parked:
        found[META_KEY_PARKED] = list(error.parked)
    for failure in error.failures:
        if failure.pipelines_dir:
            found[META_KEY_PIPELINES_DIR] = dg.MetadataValue.path(failure.pipelines_dir)
            found[META_KEY_INSPECT] = (
                f"dlt pipeline --pipelines-dir {failure.pipelines_dir} {error.pipeline_name} info"
            )
    return found
