"""`DltLoadSpecModel`: one load of a component, and what is known of its source."""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import dagster as dg
from dagster.components.utils.translation import TranslationFn
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline

from dagster_dlt import _dlt
from dagster_dlt._contents import Content, code_of
from dagster_dlt._factories import Factory
from dagster_dlt._origins import Origin, pipeline_origin, source_factory, source_origin
from dagster_dlt.checks.settings import DltChecks
from dagster_dlt.components.dlt_load_collection.inline.form import DescribedBy
from dagster_dlt.components.dlt_load_collection.inline.pipeline import InlinePipeline, PipelineForm
from dagster_dlt.components.dlt_load_collection.inline.source import InlineSource, InlineSourceForm
from dagster_dlt.components.dlt_load_collection.op_settings import (
    RetryPolicyForm,
    as_text,
    retry_policy_of,
    run_config_of,
)
from dagster_dlt.components.dlt_load_collection.partitions import (
    BackfillForm,
    PartitionsForm,
    resolve_backfill_policy,
    resolve_partitions_def,
)
from dagster_dlt.components.dlt_load_collection.resolvers import (
    resolve_pipeline,
    resolve_source,
    resolve_translation,
    resolver_of,
)
from dagster_dlt.components.dlt_load_collection.schedules import (
    DltLoadSchedule,
    schedule_form,
)
from dagster_dlt.components.dlt_load_collection.state import (
    COMMAND,
    place_of,
)
from dagster_dlt.errors import (
    InvalidChecksError,
    InvalidLoadError,
    SnapshotWarning,
    UnknownSourceError,
)
from dagster_dlt.run_config import DltRunConfig
from dagster_dlt.translator import (
    DagsterDltTranslatorSettings,
    DltResourceTranslatorData,
)

if TYPE_CHECKING:
    _RunConfig: TypeAlias = DltRunConfig
else:
    _RunConfig = object  # Dagster wants to know a class all the way down, and ours only to check

#: How assets are called where nothing else is said.
KEY: Final = ["{dataset}", "{table}"]


@dataclass(kw_only=True)
class DltLoadSpecModel(dg.Resolvable):
    """One load: a dlt source, and the pipeline that loads it.

    Example:
        >>> import dlt
        >>> from dagster_dlt import DltLoadSpecModel
        >>> @dlt.source
        ... def shop():
        ...     return dlt.resource([{"id": 1}], name="orders")
        >>> load = DltLoadSpecModel(
        ...     source=shop(),
        ...     pipeline=dlt.pipeline("shop", destination="duckdb", dataset_name="raw"),
        ...     translation=lambda spec, data: spec.replace_attributes(group_name="shop"),
        ... )
    """

    source: Annotated[
        DltSource,
        dg.Resolver.from_model(
            resolve_source,
            model_field_type=str | Annotated[dict[str, Any], DescribedBy(InlineSourceForm)],
            description=(
                "Python path of the dlt source: `.module.name` beside the YAML file, "
                "or `package.module.name`. Or a source without Python: a mapping with one of "
                "rest_api, sql_database, filesystem and type."
            ),
            examples=[
                ".loads.my_load_source",
                {"sql_database": {"credentials": "{{ env.SHOP_URL }}", "tables": ["orders"]}},
            ],
        ),
    ]
    pipeline: Annotated[
        Pipeline,
        dg.Resolver.from_model(
            resolve_pipeline,
            model_field_type=str | Annotated[dict[str, Any], DescribedBy(PipelineForm)],
            description=(
                "Python path of the dlt pipeline: `.module.name` beside the YAML file, "
                "or `package.module.name`. Or a pipeline without Python: a mapping with the "
                "arguments of `dlt.pipeline`."
            ),
            examples=[
                ".loads.my_load_pipeline",
                {"pipeline_name": "shop", "destination": "duckdb", "dataset_name": "raw"},
            ],
        ),
    ]
    name: Annotated[
        str | None,
        dg.Resolver(
            as_text,
            model_field_type=str | None,
            inject_before_resolve=False,
            description="Name of the op. By default it follows from source, pipeline and dataset.",
            examples=["load_shop"],
        ),
    ] = None
    group_name: Annotated[
        str | None,
        dg.Resolver(
            as_text,
            model_field_type=str | None,
            inject_before_resolve=False,
            description="Group of the assets to which the translation gives none.",
            examples=["shop"],
        ),
    ] = None
    pool: Annotated[
        str | None,
        dg.Resolver(
            as_text,
            model_field_type=str | None,
            inject_before_resolve=False,
            description="Concurrency pool of the op. dlt needs none; an API with limits may.",
            examples=["shop_api"],
        ),
    ] = None
    op_tags: Annotated[
        dict[str, Any] | None,
        dg.Resolver.default(
            description="Tags of the op, such as those of an executor.",
            examples=[{"team": "shop"}],
        ),
    ] = None
    code_version: Annotated[
        str | None,
        dg.Resolver(
            as_text,
            model_field_type=str | None,
            inject_before_resolve=False,
            description="Version of the code behind all assets.",
            examples=["3"],
        ),
    ] = None
    retry_policy: Annotated[
        dg.RetryPolicy | None,
        resolver_of(
            "retry_policy",
            retry_policy_of,
            RetryPolicyForm,
            description="When a failed op is tried again. A retry loads only what failed.",
            examples=[{"max_retries": 3, "delay": 30, "backoff": "exponential"}],
        ),
    ] = None
    run_config: Annotated[
        _RunConfig | None,
        resolver_of(
            "run_config",
            run_config_of,
            DltRunConfig,
            description="What runs of the load do by default. What the launchpad says wins.",
            examples=[{"decompose": "parallel", "max_workers": 2}],
        ),
    ] = None
    schedule: Annotated[
        DltLoadSchedule | None,
        resolver_of(
            "schedule",
            schedule_form,
            DltLoadSchedule,
            description=(
                "When the assets are materialized: a cron expression, or a mapping with cron, "
                "timezone and status. Without cron, time partitions say when."
            ),
            examples=["0 6 * * *", {"cron": "0 6 * * *", "timezone": "Europe/Paris"}],
        ),
    ] = None
    translation: Annotated[
        TranslationFn[DltResourceTranslatorData] | None,
        dg.Resolver(
            resolve_translation,
            model_field_type=str | dg.AssetAttributesModel,
            inject_before_resolve=False,
            description=(
                "Attributes of the assets, evaluated for each dlt resource. Templates may use "
                "`resource`, `pipeline` and `spec`, the asset spec without the translation."
            ),
            examples=[{"key": "raw/{{ resource.name }}", "group_name": "raw"}],
        ),
    ] = None
    resources: Annotated[
        dict[str, Any] | list[str] | None,
        dg.Resolver.default(
            description=(
                "The resources, by name: those of a function, which is then called by runs only; "
                "of a source that is given, the ones to load. Or attributes of single resources' "
                "assets, by the resource's name: description, "
                "group_name, owners, tags, kinds, metadata, code_version, window, "
                "automation_condition, freshness_policy, checks. The translation has the last word."
            ),
            examples=[{"orders": {"owners": ["team:sales"], "automation_condition": "eager"}}],
        ),
    ] = None
    checks: Annotated[
        bool | dict[str, Any] | None,
        dg.Resolver.default(
            description=(
                "Asset checks that are derived from all resources: true, or the fields of "
                "DltChecks that are to be different from their defaults. By default none."
            ),
            examples=[{"blocking": ["primary_key"], "row_count": {"min": 1}}],
        ),
    ] = None
    partitions_def: Annotated[
        dg.PartitionsDefinition[str] | None,
        dg.Resolver(
            resolve_partitions_def,
            model_field_type=PartitionsForm | None,
            description="Partitions of the assets.",
            examples=[{"type": "daily", "start_date": "2024-01-01"}],
        ),
    ] = None
    backfill_policy: Annotated[
        dg.BackfillPolicy | None,
        dg.Resolver(
            resolve_backfill_policy,
            model_field_type=BackfillForm | None,
            description=(
                "How backfills are cut into runs. For time windows the default is one run "
                "for the whole range."
            ),
            examples=[
                {"type": "single_run"},
                {"type": "multi_run", "max_partitions_per_run": 10},
            ],
        ),
    ] = None

    def __post_init__(self) -> None:
        self.pipeline_origin = _origin_of_pipeline(self.pipeline)
        # Of a function that is called by the run alone nothing is known yet.
        self.pipeline = self.pipeline_origin.known  # type: ignore[assignment]
        self.source_origin: Origin[DltSource] | None = None
        self._factory: Factory[DltSource] | None = None
        self.needs_state = False
        given: object = self.source
        if isinstance(given, DltSource):
            selected = list(self.resources) if isinstance(self.resources, list) else None
            self._is(source_origin(given, selected))
            return
        self._factory = source_factory(given)
        if not isinstance(given, InlineSource):
            if self.resources is not None:
                self._is(source_origin(given, list(self.resources)))
        elif (described := given.described()) is not None:
            self._is(Origin(described, self._factory))
        # Only building the source tells which resources it has.
        self.needs_state = self.source_origin is None

    def _is(self, origin: Origin[DltSource]) -> None:
        """Take what is known of the source, which definitions are made of."""
        assert origin.known is not None, "all that comes here is known"  # noqa: S101
        # A source of its own is how a load is recognized by its resources.
        self.source = origin.known.clone()
        self.source_origin = replace(origin, known=self.source)

    @property
    def identity(self) -> str:
        """What tells the load from others, in the state of the component."""
        name = self._factory.name if self._factory else self.source.name
        pipeline = self.pipeline_origin.known
        return f"{name} → {pipeline.pipeline_name}/{pipeline.dataset_name}" if pipeline else name

    def content(self) -> Content:
        """Build the source, and return what it has.

        Raises:
            SnapshotError: it cannot be built.
        """
        assert self._factory is not None, "what is built already is known"  # noqa: S101
        return place_of(self.identity).build(self._factory, code_of(self._factory.inner))

    def learn(self, said: object) -> None:
        """Take over what the state of the component says of the source, if it says something.

        Raises:
            SnapshotError: it cannot be read.
            InvalidLoadError: nothing tells which resources the source has.
        """
        factory = self._factory
        assert factory is not None, "what is built already is known"  # noqa: S101
        place = place_of(self.identity)
        if said is None:
            self._is(self._found_out(factory))
            return
        content = place.read(said)
        if not content.is_of(factory):
            text = f"The {place.name} was written for other code. {place.remedy}."
            warnings.warn(text, SnapshotWarning, stacklevel=2)
        known = _dlt.stand_in_source(content.source, content.resources)
        self._is(Origin(known, factory, place.remedy))

    def _found_out(self, factory: Factory[DltSource]) -> Origin[DltSource]:
        # Not the source, which may be what was found out before.
        given = factory.function
        if isinstance(given, InlineSource):
            load, problem = given.load, "only a connection could tell"
            listed = "tables under sql_database, or resources under type"
        else:
            load, listed = f"the load of {factory.name!r}", "them under resources"
            try:
                return source_origin(given)
            except UnknownSourceError as error:
                problem = error.problem
        text = (
            f"does not say what it has: {problem}. List {listed}, or have Dagster find out with "
            f"`{COMMAND}`, where the source can be built"
        )
        raise InvalidLoadError(load, "source", text)

    @property
    def settings(self) -> DagsterDltTranslatorSettings:
        """Return what the translator is to know of the load."""
        attributes = self.resources if isinstance(self.resources, dict) else {}
        try:
            checks = DltChecks.of(self.checks)
        except InvalidChecksError as error:
            problem = f"{error.problem}. {error.remedy}"
            load = f"the load of {self}"
            raise InvalidLoadError(load, "checks", problem) from error
        return DagsterDltTranslatorSettings(key=KEY, resources=attributes, checks=checks)

    def __str__(self) -> str:
        name = self.pipeline_origin.name
        into = f" into {self.pipeline.dataset_name!r}" if self.pipeline_origin.known else ""
        return f"source {self.source.name!r} with pipeline {name!r}{into}"

    def owns(self, resource: DltResource) -> bool:
        """Tell whether `resource` is one of this load's own source."""
        return self.source.resources.get(resource.name) is resource

    def resembles(self, data: DltResourceTranslatorData) -> bool:
        """Tell whether `data` describes a resource that this load has a copy of."""
        return (
            data.resource.source_name == self.source.name
            and data.resource.name in self.source.resources
            and (data.pipeline is None or data.pipeline is self.pipeline)
        )


def _origin_of_pipeline(pipeline: object) -> Origin[Pipeline]:
    if isinstance(pipeline, InlinePipeline):
        return Origin(pipeline.described(), Factory(pipeline, Pipeline))
    return pipeline_origin(pipeline)
