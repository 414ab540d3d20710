"""`DltLoadCollectionComponent`: dlt loads, declared in YAML, as Dagster assets."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import dagster as dg
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.translation import TranslationFn, TranslatorResolvingInfo
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline
from pydantic import BaseModel
from typing_extensions import Self

from dagster_dlt import _dlt
from dagster_dlt.asset_decorator import dlt_assets
from dagster_dlt.components.dlt_load_collection.at_run_time import (
    at_run_time,
    described_pipeline,
    described_source,
)
from dagster_dlt.components.dlt_load_collection.inline.environment import settled
from dagster_dlt.components.dlt_load_collection.inline.form import DescribedBy
from dagster_dlt.components.dlt_load_collection.inline.pipeline import InlinePipeline, PipelineForm
from dagster_dlt.components.dlt_load_collection.inline.source import InlineSource, InlineSourceForm
from dagster_dlt.components.dlt_load_collection.op_settings import (
    RetryPolicyForm,
    as_text,
    config_type,
    retry_policy_of,
    run_config_of,
)
from dagster_dlt.components.dlt_load_collection.partitions import (
    BackfillForm,
    PartitionsForm,
    resolve_backfill_policy,
    resolve_partitions_def,
)
from dagster_dlt.components.dlt_load_collection.python_path import object_at
from dagster_dlt.components.dlt_load_collection.scaffolder import DltLoadCollectionScaffolder
from dagster_dlt.components.dlt_load_collection.schedules import (
    DltLoadSchedule,
    schedule_form,
    scheduled,
)
from dagster_dlt.constants import DAGSTER_TABLE_NAME, META_KEY_TABLE
from dagster_dlt.dlt_event_iterator import DltEventType
from dagster_dlt.errors import ConflictingLoadsError, DagsterDltError, LoadNameError
from dagster_dlt.resource import DagsterDltResource
from dagster_dlt.run_config import DltRunConfig
from dagster_dlt.translator import (
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltResourceTranslatorData,
)

T = TypeVar("T")

if TYPE_CHECKING:
    _RunConfig: TypeAlias = DltRunConfig
else:
    _RunConfig = object  # Dagster wants to know a class all the way down, and ours only to check

_KEY: Final = ["{dataset}", "{table}"]


def _resolve_source(context: dg.ResolutionContext, model: BaseModel) -> Any:  # noqa: ANN401 - a template may be of any type
    given, inside = model.source, context.at_path("source")  # type: ignore[attr-defined] # made by Dagster
    if not isinstance(given, str):
        return InlineSource(settled(inside, given, "source"), _spoken_of(context, model))
    path = inside.resolve_value(given)
    return _dlt.as_source(object_at(inside, "source", path)) if isinstance(path, str) else path


def _resolve_pipeline(context: dg.ResolutionContext, model: BaseModel) -> Any:  # noqa: ANN401 - as above
    given, inside = model.pipeline, context.at_path("pipeline")  # type: ignore[attr-defined] # as above
    if not isinstance(given, str):
        return InlinePipeline(settled(inside, given, "pipeline"), _spoken_of(context, model))
    path = inside.resolve_value(given)
    return _dlt.as_pipeline(object_at(inside, "pipeline", path)) if isinstance(path, str) else path


def _resolver_of(
    field: str,
    check: Callable[[object, str], T],
    form: type[BaseModel],
    description: str,
    examples: list[Any],
) -> Any:  # noqa: ANN401 - a `Resolver`, which has no types itself
    """Return a resolver of a block that has a form of ours."""

    def resolve(context: dg.ResolutionContext, model: BaseModel) -> T | None:
        given = context.at_path(field).resolve_value(getattr(model, field))
        return None if given is None else check(given, _spoken_of(context, model))

    block = str | Annotated[dict[str, Any], DescribedBy(form)] | None
    return dg.Resolver.from_model(
        resolve, model_field_type=block, description=description, examples=examples
    )


def _spoken_of(context: dg.ResolutionContext, model: BaseModel) -> str:
    """Return how errors speak of a load: by its place in the list, and its name."""
    place = next((step + 1 for step in reversed(context.path) if isinstance(step, int)), None)
    name = getattr(model, "name", None)
    load = f"load {place}" if place else "the load"
    return f"{load} ({name!r})" if name else load


def _resolve_translation(
    context: dg.ResolutionContext, attributes: str | BaseModel
) -> TranslationFn[DltResourceTranslatorData]:
    info = TranslatorResolvingInfo(attributes, context, model_key="translation")

    def translate(spec: dg.AssetSpec, data: DltResourceTranslatorData) -> dg.AssetSpec:
        scope = {"resource": data.resource, "pipeline": data.pipeline, "spec": spec}
        return info.get_asset_spec(spec, scope)

    return translate


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
            _resolve_source,
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
            _resolve_pipeline,
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
        _resolver_of(
            "retry_policy",
            retry_policy_of,
            RetryPolicyForm,
            description="When a failed op is tried again. A retry loads only what failed.",
            examples=[{"max_retries": 3, "delay": 30, "backoff": "exponential"}],
        ),
    ] = None
    run_config: Annotated[
        _RunConfig | None,
        _resolver_of(
            "run_config",
            run_config_of,
            DltRunConfig,
            description="What runs of the load do by default. What the launchpad says wins.",
            examples=[{"decompose": "parallel", "max_workers": 2}],
        ),
    ] = None
    schedule: Annotated[
        DltLoadSchedule | None,
        _resolver_of(
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
            _resolve_translation,
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
        dict[str, Any] | None,
        dg.Resolver.default(
            description=(
                "Attributes of single resources' assets, by the resource's name: description, "
                "group_name, owners, tags, kinds, metadata, code_version, window, "
                "automation_condition, freshness_policy. The translation has the last word."
            ),
            examples=[{"orders": {"owners": ["team:sales"], "automation_condition": "eager"}}],
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
        self._given = (self.source, self.pipeline)
        # A source of its own is how a load is recognized by its resources.
        self.source = _dlt.as_source(described_source(self.source)).clone()
        self.pipeline = _dlt.as_pipeline(described_pipeline(self.pipeline))

    @property
    def settings(self) -> DagsterDltTranslatorSettings:
        """Return what the translator is to know of the load."""
        return DagsterDltTranslatorSettings(key=_KEY, resources=self.resources or {})

    def run_by(self, own: DagsterDltResource) -> DagsterDltResource:
        """Return `own`, for a run that loads what was described inline as it really is."""
        return at_run_time(own, *self._given)

    def __str__(self) -> str:
        route = f"pipeline {self.pipeline.pipeline_name!r} into {self.pipeline.dataset_name!r}"
        return f"source {self.source.name!r} with {route}"

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


@dg.scaffold_with(DltLoadCollectionScaffolder)
@dataclass
class DltLoadCollectionComponent(dg.Component, dg.Resolvable):
    """Loads dlt sources as assets: one asset for each resource, one op for each load.

    Example:
        .. code-block:: yaml

            type: dagster_dlt.DltLoadCollectionComponent

            attributes:
              loads:
                - source: .loads.my_load_source
                  pipeline: .loads.my_load_pipeline
                  translation:
                    key: "{{ pipeline.dataset_name }}/{{ resource.name }}"
                    group_name: shop
                    owners:
                      - team:shop
                  partitions_def:
                    type: daily
                    start_date: "2024-01-01"
                  backfill_policy:
                    type: single_run

    In a subclass, override `get_asset_spec` to change the assets, or `execute` to change what a
    run does.

    `source` and `pipeline` may also be blocks of YAML: `docs/guides/component.md` has loads without
    Python, and `docs/reference/component.md` all fields.
    """

    loads: Annotated[
        Sequence[DltLoadSpecModel],
        dg.Resolver.default(
            description="The loads. Each is one op, which materializes one asset per resource.",
            examples=[
                [{"source": ".loads.my_load_source", "pipeline": ".loads.my_load_pipeline"}],
            ],
        ),
    ]
    dlt_resource_key: Annotated[
        str | None,
        dg.Resolver.default(
            description=(
                "Key of the project's own DagsterDltResource. By default the component brings "
                "one itself, with default settings."
            ),
            examples=["dlt_resource"],
        ),
    ] = None

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """Return the component that the YAML describes.

        Raises:
            DagsterDltError: a path leads to nothing, or to no dlt source or pipeline.
        """
        try:
            component: Self = super().resolve_from_model(context, model)
        except ResolutionException as error:
            # Dagster turns whatever a resolver raises into text. Ours has a type and a cause.
            ours = error.__context__
            if isinstance(ours, DagsterDltError):
                raise ours  # noqa: B904 - its cause is set, and Dagster's text is its context
            raise
        return component

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        """Return the asset spec of one dlt resource.

        Args:
            data: The resource, its pipeline and its source.

        Returns:
            The default spec, with key `[dataset, table]`, as the translation of the resource's
            load changes it. What an override returns is used as it is.
        """
        load = self._load_of(data)
        settings = load.settings if load else DagsterDltTranslatorSettings(key=_KEY)
        spec = DagsterDltTranslator(settings).get_asset_spec(data)
        if load and load.group_name and not spec.group_name:
            spec = spec.replace_attributes(group_name=load.group_name)
        return load.translation(spec, data) if load and load.translation else spec

    def execute(
        self, context: dg.AssetExecutionContext, dlt_pipeline_resource: DagsterDltResource
    ) -> Iterator[DltEventType]:
        """Load the selected assets of one load.

        Args:
            context: Context of the load's op.
            dlt_pipeline_resource: Runs the pipeline.
        """
        yield from dlt_pipeline_resource.run(context=context)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the assets of all loads, and the schedules of those that have one.

        Raises:
            ComponentError: loads are in each other's way, or one of them cannot be right.
        """
        del context
        _check_names(self.loads)
        tables: dict[object, dg.AssetKey] = {}
        assets = [self._assets(load, tables) for load in self.loads]
        _check_keys(self.loads, assets)
        timed = [
            scheduled(definition, load.schedule, _numbered(number, load))
            for number, (load, definition) in enumerate(zip(self.loads, assets, strict=True), 1)
            if load.schedule
        ]
        return dg.Definitions(
            assets=assets,
            jobs=[job for job, _ in timed],
            schedules=[schedule for _, schedule in timed],
        )

    def _load_of(self, data: DltResourceTranslatorData) -> DltLoadSpecModel | None:
        own = (load for load in self.loads if load.owns(data.resource))
        # Users ask with resources of the source that they gave, of which a load has a copy.
        alike = (load for load in self.loads if load.resembles(data))
        return next(own, None) or next(alike, None)

    def _assets(
        self, load: DltLoadSpecModel, tables: dict[object, dg.AssetKey]
    ) -> dg.AssetsDefinition:
        own_key = self.dlt_resource_key

        def assets(context: dg.AssetExecutionContext, config: DltRunConfig) -> Iterator[Any]:
            del config  # offers the fields in the launchpad; run() finds what was chosen
            own = getattr(context.resources, own_key) if own_key else DagsterDltResource()
            yield from self.execute(context, load.run_by(own))

        assets.__annotations__["config"] = config_type(load.run_config)
        return dlt_assets(
            dlt_source=load.source,
            dlt_pipeline=load.pipeline,
            name=load.name or self._op_name(load),
            dagster_dlt_translator=_ComponentTranslator(load.settings, self.get_asset_spec, tables),
            partitions_def=load.partitions_def,
            backfill_policy=load.backfill_policy,
            op_tags=load.op_tags,
            pool=load.pool,
            retry_policy=load.retry_policy,
            code_version=load.code_version,
            required_resource_keys={own_key} if own_key else None,
        )(assets)

    def _op_name(self, load: DltLoadSpecModel) -> str:
        """Return a name that stays the same, and that no other load of the project has.

        Asset keys are unique in a project, so the first one tells loads of one source apart.
        """
        source, pipeline = load.source, load.pipeline
        parts = [source.name, pipeline.pipeline_name, pipeline.dataset_name or ""]
        for resource in list(_dlt.selected_resources(source).values())[:1]:
            data = DltResourceTranslatorData(resource, pipeline, source=source)
            parts.append(self.get_asset_spec(data).key.to_user_string())
        digest = sha256("\n".join(parts).encode()).hexdigest()[:8]
        return "__".join(re.sub(r"\W", "_", part, flags=re.ASCII) for part in [*parts[:3], digest])


class _ComponentTranslator(DagsterDltTranslator):
    """Asks the component, so that a subclass of it has the last word.

    A table that several loads share has the first asset's name alone, as one of a single source
    has: Dagster refuses a location with two.
    """

    def __init__(
        self,
        settings: DagsterDltTranslatorSettings,
        get_asset_spec: Callable[[DltResourceTranslatorData], dg.AssetSpec],
        tables: dict[object, dg.AssetKey],
    ) -> None:
        super().__init__(settings)
        self._get_asset_spec = get_asset_spec
        self._tables = tables

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        spec = self._get_asset_spec(data)
        table = spec.metadata.get(DAGSTER_TABLE_NAME)
        if table is None or self._tables.setdefault(table, spec.key) == spec.key:
            return spec
        metadata = {k: v for k, v in spec.metadata.items() if k != DAGSTER_TABLE_NAME}
        return spec.replace_attributes(metadata={**metadata, META_KEY_TABLE: table})


def _numbered(number: int, load: DltLoadSpecModel) -> str:
    return f"load {number} ({load})"


def _check_names(loads: Sequence[DltLoadSpecModel]) -> None:
    """Refuse names that Dagster would, without saying whose they are."""
    owners: dict[str, list[str]] = defaultdict(list)
    for number, load in enumerate(loads, start=1):
        if load.name is not None:
            owners[load.name].append(_numbered(number, load))
    for name, names in owners.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            problem = f"of {names[0]} has characters that the name of an op cannot have"
            raise LoadNameError(name, problem, "Use letters, digits and '_'")
        if len(names) > 1:
            raise LoadNameError(name, f"is given to {' and to '.join(names)}", "Rename one of them")


def _check_keys(loads: Sequence[DltLoadSpecModel], assets: Sequence[dg.AssetsDefinition]) -> None:
    """Refuse an asset of two loads, which Dagster would speak of without naming them."""
    owners: dict[dg.AssetKey, list[str]] = defaultdict(list)
    for number, (load, definition) in enumerate(zip(loads, assets, strict=True), start=1):
        for key in sorted(definition.keys, key=dg.AssetKey.to_user_string):
            owners[key].append(_numbered(number, load))
    for key, names in owners.items():
        if len(names) > 1:
            raise ConflictingLoadsError(key.to_user_string(), names)
