"""`DltLoadCollectionComponent`: dlt loads, declared in YAML, as Dagster assets."""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeAlias, TypeVar

import dagster as dg
from dagster.components import DefsStateConfig, DefsStateConfigArgs
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.translation import TranslationFn, TranslatorResolvingInfo
from dlt.extract import DltResource, DltSource
from dlt.pipeline.pipeline import Pipeline
from pydantic import BaseModel
from typing_extensions import Self

from dagster_dlt import _dlt
from dagster_dlt._contents import Content, code_of
from dagster_dlt._factories import Factory
from dagster_dlt._origins import Origin, built_source, pipeline_origin, source_origin
from dagster_dlt.asset_decorator import dlt_assets
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
from dagster_dlt.components.dlt_load_collection.state import (
    COMMAND,
    place_of,
    read_state,
    write_state,
)
from dagster_dlt.constants import DAGSTER_TABLE_NAME, META_KEY_TABLE
from dagster_dlt.dlt_event_iterator import DltEventType
from dagster_dlt.errors import (
    ConflictingLoadsError,
    DagsterDltError,
    InvalidLoadError,
    LoadNameError,
    SnapshotError,
    SnapshotWarning,
    UnknownSourceError,
)
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
    return object_at(inside, "source", path) if isinstance(path, str) else path


def _resolve_pipeline(context: dg.ResolutionContext, model: BaseModel) -> Any:  # noqa: ANN401 - as above
    given, inside = model.pipeline, context.at_path("pipeline")  # type: ignore[attr-defined] # as above
    if not isinstance(given, str):
        return InlinePipeline(settled(inside, given, "pipeline"), _spoken_of(context, model))
    path = inside.resolve_value(given)
    return object_at(inside, "pipeline", path) if isinstance(path, str) else path


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
        dict[str, Any] | list[str] | None,
        dg.Resolver.default(
            description=(
                "The resources, by name: those of a function, which is then called by runs only; "
                "of a source that is given, the ones to load. Or attributes of single resources' "
                "assets, by the resource's name: description, "
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
        self._factory = _source_factory(given)
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
        return place_of(self.identity).build(self._factory, code_of(self._factory))

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
        given: object = self.source
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
        return DagsterDltTranslatorSettings(key=_KEY, resources=attributes)

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


@dg.scaffold_with(DltLoadCollectionScaffolder)
@dataclass
class DltLoadCollectionComponent(dg.StateBackedComponent, dg.Resolvable):
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
    defs_state: Annotated[
        DefsStateConfigArgs,
        dg.Resolver.default(
            description=(
                "Where Dagster keeps what sources have that only building them tells: functions "
                "and databases whose resources are not listed."
            ),
            examples=[{"management_type": "VERSIONED_STATE_STORAGE"}],
        ),
    ] = field(default_factory=DefsStateConfigArgs.local_filesystem)

    #: Its definitions are loaded, rather than its state refreshed on purpose.
    _is_loading: ClassVar[bool] = False

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Return the component that Dagster has read.

        Args:
            attributes: What the YAML says.
            context: Where it stands.
        """
        component: Self = dg.Component.load.__func__(cls, attributes, context)  # type: ignore[attr-defined] # a class method
        if component._open_loads:
            return super().load(attributes, context)
        # Dagster is not to keep a state that nobody needs, nor to look for its key.
        return component

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where Dagster keeps what only building the sources tells; few loads need that."""
        digest = sha256("\n".join(self._open_loads).encode()).hexdigest()[:8]
        key = f"{type(self).__name__}[{digest}]"
        return DefsStateConfig.from_args(self.defs_state, default_key=key)

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

    def write_state_to_path(self, state_path: Path) -> None:
        """Build the sources of which nothing else tells what they have, and write it.

        While Dagster loads definitions in development, what cannot be built keeps what is known of
        it, with a warning.

        Raises:
            SnapshotError: a source cannot be built.
        """
        before = read_state(state_path) if self._is_loading else {}
        found = {
            name: self._said_of(load, before.get(name)) for name, load in self._open_loads.items()
        }
        write_state(state_path, {name: said for name, said in found.items() if said is not None})

    def _said_of(self, load: DltLoadSpecModel, before: Any) -> Any:  # noqa: ANN401 - JSON
        try:
            return load.content().said()
        except SnapshotError as error:
            if not self._is_loading:
                raise
            warnings.warn(str(error), SnapshotWarning, stacklevel=2)
            return before

    @property
    def _open_loads(self) -> dict[str, DltLoadSpecModel]:
        """The loads that need state, by what tells them apart in it."""
        found: dict[str, DltLoadSpecModel] = {}
        for load in self.loads:
            if load.needs_state:
                alike = sum(each.identity == load.identity for each in found.values())
                found[f"{load.identity} ({alike + 1})" if alike else load.identity] = load
        return found

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the assets of all loads, and the schedules of those that have one.

        Raises:
            ComponentError: loads are in each other's way, or one of them cannot be right.
        """
        if self._open_loads and _has_state(context):
            self._is_loading = True  # type: ignore[misc] # of this object
            try:
                return super().build_defs(context)
            finally:
                self._is_loading = False  # type: ignore[misc] # as above
        # Nothing is to be kept, nor looked for.
        return self.build_defs_from_state(context, None)

    def build_defs_from_state(
        self, context: dg.ComponentLoadContext, state_path: Path | None
    ) -> dg.Definitions:
        """Return the definitions, from what Dagster has kept of the sources.

        Raises:
            SnapshotError: that cannot be read.
        """
        del context
        said = read_state(state_path)
        for name, load in self._open_loads.items():
            load.learn(said.get(name))
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
            yield from self.execute(context, own)

        assets.__annotations__["config"] = config_type(load.run_config)
        return dlt_assets(
            dlt_source=load.source_origin,  # type: ignore[arg-type] # for callers like this one
            dlt_pipeline=load.pipeline_origin,  # type: ignore[arg-type] # as above
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
        source, pipeline = load.source, load.pipeline_origin.known
        dataset = pipeline.dataset_name if pipeline else None
        parts = [source.name, load.pipeline_origin.name, dataset or ""]
        for resource in list(_dlt.selected_resources(source).values())[:1]:
            data = DltResourceTranslatorData(resource, pipeline, source=source)
            parts.append(self.get_asset_spec(data).key.to_user_string())
        digest = sha256("\n".join(parts).encode()).hexdigest()[:8]
        return "__".join(re.sub(r"\W", "_", part, flags=re.ASCII) for part in [*parts[:3], digest])


def _has_state(context: dg.ComponentLoadContext) -> bool:
    """Tell whether there is a project to keep state in; in a test there may be none."""
    folder = Path(context.project_root)
    return any((folder / name).is_file() for name in ("dg.toml", "pyproject.toml"))


def _source_factory(source: object) -> Factory[DltSource]:
    origin = built_source(source)
    assert origin.factory is not None, "a source that is built is no function"  # noqa: S101
    origin.factory.check()
    return origin.factory


def _origin_of_pipeline(pipeline: object) -> Origin[Pipeline]:
    if isinstance(pipeline, InlinePipeline):
        return Origin(pipeline.described(), Factory(pipeline, Pipeline))
    return pipeline_origin(pipeline)


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
