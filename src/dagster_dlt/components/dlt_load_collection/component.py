"""`DltLoadCollectionComponent`: dlt loads, declared in YAML, as Dagster assets."""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar

import dagster as dg
from dagster.components import DefsStateConfig, DefsStateConfigArgs
from dagster.components.resolved.errors import ResolutionException
from pydantic import BaseModel
from typing_extensions import Self

from dagster_dlt import _dlt
from dagster_dlt.asset_decorator import dlt_assets
from dagster_dlt.components.dlt_load_collection.load import KEY, DltLoadSpecModel
from dagster_dlt.components.dlt_load_collection.op_settings import (
    config_type,
)
from dagster_dlt.components.dlt_load_collection.scaffolder import DltLoadCollectionScaffolder
from dagster_dlt.components.dlt_load_collection.schedules import (
    scheduled,
)
from dagster_dlt.components.dlt_load_collection.state import (
    read_state,
    write_state,
)
from dagster_dlt.constants import DAGSTER_TABLE_NAME, META_KEY_TABLE
from dagster_dlt.dlt_event_iterator import DltEventType
from dagster_dlt.errors import (
    ConflictingLoadsError,
    DagsterDltError,
    LoadNameError,
    SnapshotError,
    SnapshotWarning,
)
from dagster_dlt.resource import DagsterDltResource
from dagster_dlt.run_config import DltRunConfig
from dagster_dlt.translator import (
    DagsterDltTranslator,
    DagsterDltTranslatorSettings,
    DltResourceTranslatorData,
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
        settings = load.settings if load else DagsterDltTranslatorSettings(key=KEY)
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
