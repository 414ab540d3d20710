"""`DltLoadCollectionComponent`: dlt loads, declared in YAML, as Dagster assets."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final

import dagster as dg
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.translation import TranslationFn, TranslatorResolvingInfo
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline
from pydantic import BaseModel
from typing_extensions import Self

from dagster_dlt import _dlt
from dagster_dlt.asset_decorator import dlt_assets
from dagster_dlt.components.dlt_load_collection.partitions import (
    BackfillForm,
    PartitionsForm,
    resolve_backfill_policy,
    resolve_partitions_def,
)
from dagster_dlt.components.dlt_load_collection.python_path import object_at
from dagster_dlt.components.dlt_load_collection.scaffolder import DltLoadCollectionScaffolder
from dagster_dlt.dlt_event_iterator import DltEventType
from dagster_dlt.errors import ConflictingLoadsError, DagsterDltError
from dagster_dlt.resource import DagsterDltResource
from dagster_dlt.run_config import DltRunConfig
from dagster_dlt.translator import (
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltResourceTranslatorData,
)

_SETTINGS: Final = DagsterDltTranslatorSettings(key=["{dataset}", "{table}"])


def _resolve_source(context: dg.ResolutionContext, path: str) -> DltSource:
    return _dlt.as_source(object_at(context, "source", path))


def _resolve_pipeline(context: dg.ResolutionContext, path: str) -> Pipeline:
    return _dlt.as_pipeline(object_at(context, "pipeline", path))


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
        dg.Resolver(
            _resolve_source,
            model_field_type=str,
            description=(
                "Python path of the dlt source: `.module.name` beside the YAML file, "
                "or `package.module.name`."
            ),
            examples=[".loads.my_load_source", "my_package.sources.github"],
        ),
    ]
    pipeline: Annotated[
        Pipeline,
        dg.Resolver(
            _resolve_pipeline,
            model_field_type=str,
            description=(
                "Python path of the dlt pipeline: `.module.name` beside the YAML file, "
                "or `package.module.name`."
            ),
            examples=[".loads.my_load_pipeline", "my_package.pipelines.github"],
        ),
    ]
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
        # A source of its own is how a load is recognized by its resources.
        self.source = _dlt.as_source(self.source).clone()
        self.pipeline = _dlt.as_pipeline(self.pipeline)

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
        spec = DagsterDltTranslator(_SETTINGS).get_asset_spec(data)
        load = self._load_of(data)
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
        """Return the assets of all loads."""
        del context
        assets = [self._assets(load) for load in self.loads]
        _check_keys(self.loads, assets)
        return dg.Definitions(assets=assets)

    def _load_of(self, data: DltResourceTranslatorData) -> DltLoadSpecModel | None:
        own = (load for load in self.loads if load.owns(data.resource))
        # Users ask with resources of the source that they gave, of which a load has a copy.
        alike = (load for load in self.loads if load.resembles(data))
        return next(own, None) or next(alike, None)

    def _assets(self, load: DltLoadSpecModel) -> dg.AssetsDefinition:
        own_key = self.dlt_resource_key

        @dlt_assets(
            dlt_source=load.source,
            dlt_pipeline=load.pipeline,
            name=self._op_name(load),
            dagster_dlt_translator=_ComponentTranslator(self.get_asset_spec),
            partitions_def=load.partitions_def,
            backfill_policy=load.backfill_policy,
            required_resource_keys={own_key} if own_key else None,
        )
        def assets(context: dg.AssetExecutionContext, config: DltRunConfig) -> Iterator[Any]:
            del config  # offers the fields in the launchpad; run() finds what was chosen
            own = getattr(context.resources, own_key) if own_key else DagsterDltResource()
            yield from self.execute(context, own)

        return assets

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
    """Asks the component, so that a subclass of it has the last word."""

    def __init__(self, get_asset_spec: Callable[[DltResourceTranslatorData], dg.AssetSpec]) -> None:
        super().__init__()
        self._get_asset_spec = get_asset_spec

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        return self._get_asset_spec(data)


def _check_keys(loads: Sequence[DltLoadSpecModel], assets: Sequence[dg.AssetsDefinition]) -> None:
    """Refuse an asset of two loads, which Dagster would speak of without naming them."""
    owners: dict[dg.AssetKey, list[str]] = defaultdict(list)
    for number, (load, definition) in enumerate(zip(loads, assets, strict=True), start=1):
        for key in sorted(definition.keys, key=dg.AssetKey.to_user_string):
            owners[key].append(f"load {number} ({load})")
    for key, names in owners.items():
        if len(names) > 1:
            raise ConflictingLoadsError(key.to_user_string(), names)
